package checkpoint

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// mapFile maps a whole file, read-only.
func mapFile(path string) (data []byte, mapped bool, err error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	if size == 0 { // a mapping of length 0 is refused; the parser says what is wrong
		return nil, false, nil
	}
	h, err := windows.CreateFileMapping(windows.Handle(f.Fd()), nil, windows.PAGE_READONLY, 0, 0, nil)
	if err != nil {
		return nil, false, fmt.Errorf("mapping %s: %w", path, err)
	}
	defer windows.CloseHandle(h) // the view keeps the mapping alive
	addr, err := windows.MapViewOfFile(h, windows.FILE_MAP_READ, 0, 0, uintptr(size))
	if err != nil {
		return nil, false, fmt.Errorf("mapping %s: %w", path, err)
	}
	// The address is not Go memory; going through a pointer to it is what vet accepts.
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&addr)), size), true, nil
}

func unmap(data []byte) error {
	return windows.UnmapViewOfFile(uintptr(unsafe.Pointer(unsafe.SliceData(data))))
}

// releasePages unlocks the pages of b that were never locked, which takes them out of the working set.
func releasePages(b []byte) {
	if len(b) > 0 {
		_ = windows.VirtualUnlock(uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	}
}
