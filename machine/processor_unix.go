//go:build unix

package machine

import (
	"syscall"
	"time"
)

// ProcessorTime is the time that processors have spent on this process, in all threads; 0 where the system does not say.
func ProcessorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
