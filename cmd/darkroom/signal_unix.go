//go:build unix

package main

import (
	"os/signal"
	"syscall"
)

// ignoreSizeSignal makes writes beyond ulimit -f return an error that says so, instead of a signal that ends the program.
func ignoreSizeSignal() { signal.Ignore(syscall.SIGXFSZ) }
