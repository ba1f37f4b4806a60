package main

import (
	"fmt"
	"os"
	"sync"
)

// where is what the program is busy with, for the message of an interruption. Written by the command, read by run.
type status struct {
	mu    sync.Mutex
	doing string
	done  int // finished pictures
	of    int
	temp  map[string]bool // files that must not be left
}

// temporary names a file to be removed at the end, however that comes.
func (w *status) temporary(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.temp == nil {
		w.temp = map[string]bool{}
	}
	w.temp[path] = true
}

// remove removes one of them.
func (w *status) remove(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = os.Remove(path) // it may not have been written yet
	delete(w.temp, path)
}

// sweep removes all.
func (w *status) sweep() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for path := range w.temp {
		_ = os.Remove(path)
	}
	w.temp = nil
}

func (w *status) set(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.doing = fmt.Sprintf(format, args...)
}

func (w *status) finished(done, of int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done, w.of = done, of
}

// String continues the word "interrupted".
func (w *status) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := ""
	if w.doing != "" {
		s = " while " + w.doing
	}
	if w.of > 0 {
		s += fmt.Sprintf("; %d of %d pictures written, none left half done", w.done, w.of)
	}
	return s
}
