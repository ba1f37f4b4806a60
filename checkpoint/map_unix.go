//go:build unix

package checkpoint

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapFile maps a whole file, read-only.
func mapFile(path string) (data []byte, mapped bool, err error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	if size == 0 { // mmap refuses length 0; the parser says what is wrong
		return nil, false, nil
	}
	data, err = unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, false, fmt.Errorf("mapping %s: %w", path, err)
	}
	return data, true, nil
}

func unmap(data []byte) error { return unix.Munmap(data) }

// releasePages drops the pages that lie wholly inside b; they come back from the file when touched.
func releasePages(b []byte) {
	if len(b) == 0 {
		return
	}
	page := uintptr(os.Getpagesize())
	start := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	from := int((start+page-1)&^(page-1) - start)
	to := int((start+uintptr(len(b)))&^(page-1) - start)
	if from < to {
		_ = unix.Madvise(b[from:to], unix.MADV_DONTNEED) // advice: without it, only more memory is used
	}
}
