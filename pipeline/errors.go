package pipeline

import (
	"fmt"
	"runtime/debug"
	"slices"
)

// UsageError is a request that cannot be meant: the caller's mistake, found before any work.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

func usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// PanicError is a panic while pictures were made: a programmer's mistake that ends these pictures and not the program.
// The pipeline may be half broken by it and should be closed.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("rendering crashed: %v\n%s", e.Value, e.Stack)
}

// NewPanicError is for a deferred function, with what recover gave.
func NewPanicError(value any) *PanicError {
	const lines = 12 // the rest is of no use to anybody
	stack := debug.Stack()
	end := 0
	for n := 0; n < lines && end < len(stack); n++ {
		next := slices.Index(stack[end:], '\n')
		if next < 0 {
			end = len(stack)
			break
		}
		end += next + 1
	}
	return &PanicError{value, stack[:max(end-1, 0)]}
}
