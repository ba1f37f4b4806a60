package tensor

import (
	"errors"
	"runtime/debug"
)

// ErrFault says that mapped memory could not be read.
var ErrFault = errors.New("its bytes can no longer be read: the file was cut while it was in use, or its disk fails")

// Guard calls f, which reads memory that may be a mapped file. A fault there, which would end the program, is ErrFault. It
// holds for the calling goroutine and for Go code: C code must be given a copy.
func Guard(f func() error) (err error) {
	before := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(before)
	defer func() {
		switch v := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // as runtime.Error has it for faults
			err = ErrFault
		default:
			panic(v)
		}
	}()
	return f()
}
