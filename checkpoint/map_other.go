//go:build !unix && !windows

package checkpoint

import "os"

// mapFile reads the file: this platform has no mappings.
func mapFile(path string) (data []byte, mapped bool, err error) {
	data, err = os.ReadFile(path)
	return data, false, err
}

func unmap([]byte) error { return nil }

func releasePages([]byte) {}
