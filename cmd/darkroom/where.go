package main

import (
	"fmt"
	"sync"
)

// where is what the program is busy with, for the message of an interruption. Written by the command, read by run.
type where struct {
	mu    sync.Mutex
	doing string
	done  int // finished pictures
	of    int
}

func (w *where) set(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.doing = fmt.Sprintf(format, args...)
}

func (w *where) finished(done, of int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done, w.of = done, of
}

// String continues the word "interrupted".
func (w *where) String() string {
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
