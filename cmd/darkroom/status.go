package main

import (
	"fmt"
	"sync"
)

// status is what the program is busy with, for the message of an interruption. Written by the command, read by run.
type status struct {
	mu    sync.Mutex
	doing string
	done  int // finished pictures
	of    int
	temp  map[temporary]bool // files that must not be left
}

// temporary is a file that must not be left behind, such as a preview.
type temporary interface{ Remove() }

// temporary names a file to be removed at the end, however that comes.
func (w *status) temporary(f temporary) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.temp == nil {
		w.temp = map[temporary]bool{}
	}
	w.temp[f] = true
}

// remove removes one of them.
func (w *status) remove(f temporary) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f.Remove()
	delete(w.temp, f)
}

// sweep removes all.
func (w *status) sweep() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for f := range w.temp {
		f.Remove()
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
		s += fmt.Sprintf("; %d of %d pictures written, none left half-written", w.done, w.of)
	}
	return s
}
