//go:build cgo && (linux || darwin) && (amd64 || arm64)

package cpu

// #include <stdlib.h>
// #include <string.h>
// #include <sys/mman.h>
//
// // map_pages takes zeroed pages from the system, in huge ones where it has them: weights and
// // activations are hundreds of megabytes, and every page costs a place in the TLB.
// static void *map_pages(size_t n) {
// 	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
// 	if (p == MAP_FAILED) return NULL;
// #ifdef MADV_HUGEPAGE
// 	madvise(p, n, MADV_HUGEPAGE);
// #endif
// 	return p;
// }
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
	} else if C.posix_memalign(&p, 64, C.size_t(size)) != 0 {
		p = nil
	} else {
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
		C.munmap(p, C.size_t(size))
	} else {
		C.free(p)
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
