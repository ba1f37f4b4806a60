//go:build unix

package machine

import (
	"os"
	"syscall"
)

// Lock locks a file for one program, or says ErrLocked. The lock is given back by the system however the program ends.
func Lock(f *os.File) error {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == syscall.EWOULDBLOCK {
		return ErrLocked
	}
	return nil // a file system without locks
}
