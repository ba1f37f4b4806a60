//go:build unix

package manifest

import (
	"os"
	"syscall"
)

// lock is given back by the system however the program ends.
func lock(f *os.File) error {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == syscall.EWOULDBLOCK {
		return ErrLocked
	}
	return nil // a file system without locks
}
