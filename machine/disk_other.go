//go:build !linux && !darwin && !freebsd

package machine

// FreeDisk is not known here.
func FreeDisk(string) (bytes uint64, known bool) { return 0, false }
