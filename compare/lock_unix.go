//go:build unix

package compare

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFolder keeps a second process out until unlock, or until this process ends in whichever way.
func lockFolder(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
