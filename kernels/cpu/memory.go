//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

// #include "alloc.h"
import "C"

import (
	"fmt"
	"sync"
	"unsafe"

	"darkroom/kernels"
)

// memory hands out stretches outside of Go's heap, which would keep what is freed and let the heap
// double. Large ones are mapped pages, returned to the system as soon as they are freed.
type memory struct {
	lock  sync.Mutex
	sizes map[unsafe.Pointer]int
	bytes int
}

const mapped = 1 << 20 // from this size on, pages of its own

func (m *memory) alloc(n int) (kernels.HostMem, error) {
	var p unsafe.Pointer
	size := max(n, 1)
	if size >= mapped {
		p = C.map_pages(C.size_t(size))
	} else if p = C.aligned(C.size_t(size)); p != nil {
		C.memset(p, 0, C.size_t(size))
	}
	if p == nil {
		return nil, fmt.Errorf("the system has no %d MiB of memory left: close other programs or make a smaller picture", n>>20)
	}
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.sizes == nil {
		m.sizes = map[unsafe.Pointer]int{}
	}
	m.sizes[p] = size
	m.bytes += size
	return kernels.HostMem(unsafe.Slice((*byte)(p), size)[:n:n]), nil
}

// grow makes memory that one operation uses hold n bytes; what was in it is lost.
func (m *memory) grow(b *kernels.HostMem, n int) error {
	if len(*b) >= n {
		return nil
	}
	more, err := m.alloc(n)
	if err != nil {
		return err
	}
	if *b != nil {
		m.free(*b)
	}
	*b = more
	return nil
}

func (m *memory) free(b kernels.HostMem) {
	p := unsafe.Pointer(unsafe.SliceData(b))
	m.lock.Lock()
	size, ok := m.sizes[p]
	delete(m.sizes, p)
	m.bytes -= size
	m.lock.Unlock()
	if !ok {
		panic("cpu: freed memory that this backend did not allocate, or twice")
	}
	release(p, size)
}

func release(p unsafe.Pointer, size int) {
	if size >= mapped {
		C.unmap_pages(p, C.size_t(size))
	} else {
		C.free_aligned(p)
	}
}

func (m *memory) freeAll() {
	m.lock.Lock()
	defer m.lock.Unlock()
	for p, size := range m.sizes {
		release(p, size)
	}
	m.sizes, m.bytes = nil, 0
}

func (m *memory) total() int {
	m.lock.Lock()
	defer m.lock.Unlock()
	return m.bytes
}
