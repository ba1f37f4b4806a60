//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"
	"unsafe"

	"gorgonia.org/cu"

	"darkroom/kernels"
	"darkroom/kernels/cuda/drv"
)

// mem is a stretch of device memory.
type mem struct {
	at    cu.DevicePtr
	bytes int
}

func (m mem) Bytes() int { return m.bytes }

// at is where a tensor lies; null for one that is not there.
func at(t *kernels.Tensor) cu.DevicePtr {
	if t == nil {
		return 0
	}
	return t.Mem.(mem).at
}

func (b *Backend) weightAt(w *kernels.Weight) cu.DevicePtr {
	if w == nil {
		return 0
	}
	return b.Packed(w).(mem).at
}

// Alloc returns n bytes of device memory, aligned to 256. An *OutOfMemoryError has the numbers.
func (b *Backend) Alloc(n int) (kernels.Mem, error) {
	defer b.enter()()
	m, err := b.alloc(n)
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (b *Backend) alloc(n int) (mem, error) {
	p, err := cu.MemAlloc(int64(max(n, 1)))
	if drv.Code(err) == codeOutOfMemory {
		free, total, _ := cu.MemInfo()
		return mem{}, &OutOfMemoryError{b.name, n, int(free), int(total)}
	}
	if err != nil {
		return mem{}, b.explain(fmt.Sprintf("allocating %d bytes", n), err)
	}
	return mem{p, n}, nil
}

// freeMemory is what the device could still give, in bytes, and whether it could be asked.
func (b *Backend) freeMemory() (bytes uint64, known bool) {
	defer b.enter()()
	free, _, err := cu.MemInfo()
	return uint64(free), err == nil
}

// Free gives memory back after the queued work is done.
func (b *Backend) Free(m kernels.Mem) {
	defer b.enter()()
	if err := cu.MemFree(m.(mem).at); err != nil {
		b.fail("freeing memory", err)
	}
}

func (b *Backend) Slice(m kernels.Mem, off, n int) kernels.Mem {
	whole := m.(mem)
	if off < 0 || n < 0 || off+n > whole.bytes {
		panic(fmt.Sprintf("cuda: slice of %d bytes at %d of %d", n, off, whole.bytes))
	}
	return mem{whole.at + cu.DevicePtr(off), n}
}

// Write copies to the device, after the queued work.
func (b *Backend) Write(dst kernels.Mem, src []byte) error {
	defer b.enter()()
	m := dst.(mem)
	if len(src) > m.bytes {
		panic(fmt.Sprintf("cuda: %d bytes written to %d", len(src), m.bytes))
	}
	if len(src) == 0 {
		return nil
	}
	if err := cu.MemcpyHtoDAsync(m.at, unsafe.Pointer(unsafe.SliceData(src)), int64(len(src)), b.stream); err != nil {
		return b.explain("copying to the device", err)
	}
	// src is Go's: it may move or be reused once we return.
	return b.wait("copying to the device")
}

// Read copies from the device, after the queued work.
func (b *Backend) Read(dst []byte, src kernels.Mem) error {
	defer b.enter()()
	m := src.(mem)
	if len(dst) > m.bytes {
		panic(fmt.Sprintf("cuda: %d bytes read from %d", len(dst), m.bytes))
	}
	if len(dst) == 0 {
		return nil
	}
	if err := b.wait("waiting for the kernels"); err != nil {
		return err
	}
	if err := cu.MemcpyDtoH(unsafe.Pointer(unsafe.SliceData(dst)), m.at, int64(len(dst))); err != nil {
		return b.explain("copying from the device", err)
	}
	return nil
}

func (b *Backend) wait(doing string) error {
	if err := b.stream.Synchronize(); err != nil {
		return b.explain(doing, err)
	}
	return nil
}

// scratch is memory that a kernel leaves partial results in for the next one. The queue is in order, so
// that all operations share it. What was outgrown is kept: recordings still refer to it.
type scratch struct {
	now mem
	old []mem
}

func (b *Backend) scratchFor(n int) (cu.DevicePtr, bool) { return b.roomIn(&b.scratch, n) }

func (b *Backend) roomIn(s *scratch, n int) (cu.DevicePtr, bool) {
	return b.grown(s, n, max(2*s.now.bytes, 1<<20))
}

// grown makes a scratch hold n bytes, and if it must grow then so many at the least.
func (b *Backend) grown(s *scratch, n, least int) (cu.DevicePtr, bool) {
	if n > s.now.bytes {
		m, err := b.alloc(max(n, least))
		if err != nil {
			if b.err == nil {
				b.err = err
			}
			return 0, false
		}
		if s.now.bytes > 0 {
			s.old = append(s.old, s.now)
		}
		s.now = m
	}
	return s.now.at, true
}

// counters are ticketCount zeros, made when they are first needed; false if there is no memory for them, which Sync
// reports. Each kernel that counts with them leaves zeros behind.
func (b *Backend) counters() (cu.DevicePtr, bool) {
	if b.tickets.bytes == 0 {
		m, err := b.alloc(4 * ticketCount)
		if err == nil {
			err = b.Write(m, make([]byte, m.bytes))
		}
		if err != nil {
			if b.err == nil {
				b.err = err
			}
			return 0, false
		}
		b.tickets = m
	}
	return b.tickets.at, true
}

func (s *scratch) free() {
	for _, m := range append(s.old, s.now) {
		if m.bytes > 0 {
			cu.MemFree(m.at)
		}
	}
	*s = scratch{}
}

// stage is a page-locked buffer for uploads, and the event after which it may be filled again.
type stage struct {
	host []byte
	done cu.Event
	busy bool
}

const stageBytes = 8 << 20

func (s *stage) free() {
	if s.host != nil {
		drv.FreePinned(s.host)
		cu.DestroyEvent(&s.done)
		*s = stage{}
	}
}

// ready returns the buffer with room for n bytes once its last upload is done.
func (s *stage) ready(n int) ([]byte, error) {
	if s.busy {
		if err := s.done.Synchronize(); err != nil {
			return nil, err
		}
		s.busy = false
	}
	if len(s.host) < n {
		s.free()
		host, err := drv.AllocPinned(max(n, stageBytes))
		if err != nil {
			return nil, err
		}
		s.host = host
		if s.done, err = cu.MakeEvent(cu.DisableTiming); err != nil {
			return nil, err
		}
	}
	return s.host, nil
}

// upload queues the copy of the first n bytes.
func (s *stage) upload(to cu.DevicePtr, n int, stream cu.Stream) error {
	if err := cu.MemcpyHtoDAsync(to, unsafe.Pointer(unsafe.SliceData(s.host)), int64(n), stream); err != nil {
		return err
	}
	s.busy = true
	return s.done.Record(stream)
}
