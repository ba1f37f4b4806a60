package pipeline

import (
	"fmt"
	"runtime/debug"
	"slices"
)

// UsageError reports an invalid request: the caller's mistake, found before any work.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

func usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// PanicError is a panic while pictures were being made: a bug that ends these pictures but not the program. The
// pipeline may be in a broken state and should be closed.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("rendering crashed: %v\n%s", e.Value, e.Stack)
}

// NewPanicError wraps the value that recover returned in a deferred function.
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
