//go:build unix

package main

import (
	"os/signal"
	"syscall"
)

// ignoreSizeSignal turns a file that grows beyond ulimit -f into an error of the write, which says so, where the signal
// would end the program.
func ignoreSizeSignal() { signal.Ignore(syscall.SIGXFSZ) }
