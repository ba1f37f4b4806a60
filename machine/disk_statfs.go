//go:build linux || darwin || freebsd

package machine

import "golang.org/x/sys/unix"

// FreeDisk is how many bytes this user can still write in a folder. It is not known for some file systems.
func FreeDisk(folder string) (bytes uint64, known bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(folder, &st); err != nil || st.Blocks == 0 {
		return 0, false
	}
	return uint64(st.Bavail) * uint64(st.Bsize), true //nolint:unconvert // it is signed on FreeBSD
}
