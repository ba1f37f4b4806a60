//go:build cgo && (linux || darwin) && (amd64 || arm64)

// Package cpu is the backend for the host's processor: C with vector instructions, chosen at run time
// (AVX-512, AVX2 with FMA, NEON), on all cores. docs/kernels.md explains how the kernels work.
//
// All paths that have a fused multiply-add give the same bits, on any number of threads.
package cpu

// // ISO C, in which GCC does not contract a·b + c on its own: where it is rounded once is said by fma_.
// #cgo CFLAGS: -std=c11 -D_GNU_SOURCE -O3 -Wall -Wno-psabi
// #cgo LDFLAGS: -lm
// #include <stdlib.h>
// #include "jobs.h"
import "C"

import (
	"fmt"
	"runtime"
	"unsafe"

	"darkroom/kernels"
	"darkroom/tensor"
)

// Available says whether New can work in this build.
const Available = true

// Backend implements kernels.Backend. Everything that its kernels read or write lies in memory outside
// of Go's heap, which Alloc and Load take from the system and Free and Unload give back.
type Backend struct {
	kernels.HostMemory
	kernels.Loaded
	set    *C.isa
	pool   *pool
	memory memory
	zeros  kernels.HostMem // a pixel outside the image; grows to the widest seen
	err    error           // the first since the last Sync
}

var _ kernels.Streamer = (*Backend)(nil)

// New starts a backend. It fails for instructions that the processor lacks.
func New(o Options) (*Backend, error) {
	name := C.CString(o.Instructions)
	defer C.free(unsafe.Pointer(name))
	set := C.cpu_isa(name)
	if set == nil {
		return nil, fmt.Errorf("this processor cannot run the %q kernels; choose one of %v", o.Instructions, Instructions())
	}
	if o.Threads < 1 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	return &Backend{set: set, pool: newPool(o.Threads)}, nil
}

// Instructions lists the sets of kernels that this processor can run, the fastest first.
func Instructions() []string {
	var names []string
	for _, s := range []string{"avx512", "avx2", "base"} {
		name := C.CString(s)
		if C.cpu_isa(name) != nil {
			names = append(names, s)
		}
		C.free(unsafe.Pointer(name))
	}
	return names
}

// Info says that this is the host's processor.
func (b *Backend) Info() kernels.Info {
	return kernels.Info{Kind: "cpu", Name: "cpu", Device: runtime.GOOS + "/" + runtime.GOARCH, DTypes: []tensor.DType{tensor.F32}, FullAt: kernels.HostFullAt,
		Kernels: b.Instructions(), Threads: b.Threads(), Peak: b.Peak}
}

// Instructions is the name of the set in use.
func (b *Backend) Instructions() string { return C.GoString(b.set.name) }

// Threads is the number of threads in use.
func (b *Backend) Threads() int { return len(b.pool.workers) }

func (b *Backend) Sync() error {
	err := b.err
	b.err = nil
	return err
}

// Close stops the threads and frees all memory, weights and tensors included.
func (b *Backend) Close() error {
	b.pool.close()
	b.memory.freeAll()
	return b.Sync()
}

// Alloc returns zeroed memory from the system.
func (b *Backend) Alloc(n int) (kernels.Mem, error) {
	m, err := b.memory.alloc(n)
	if err != nil {
		return nil, err // not m: a nil HostMem is not a nil Mem
	}
	return m, nil
}

// Free gives back what Alloc returned, at once.
func (b *Backend) Free(m kernels.Mem) { b.memory.free(m.(kernels.HostMem)) }

// Allocated is the number of bytes in use by tensors and weights.
func (b *Backend) Allocated() int { return b.memory.total() }

// Peak runs nothing but multiply-adds in registers on every thread for about the given number of
// operations each, and returns how many floating-point operations a second all made together: what the
// kernels' speed is measured against.
func (b *Backend) Peak(flops float64) float64 {
	rounds := C.int64_t(flops/float64(b.set.fma_flops)) + 1
	seconds := b.pool.timed(func(int) { C.cpu_fma_peak(b.set, rounds) })
	return float64(rounds) * float64(b.set.fma_flops) * float64(b.Threads()) / seconds
}

// fail remembers an error for Sync.
func (b *Backend) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// run has workers take items from a job until there are none. Each gets scratch memory of the given
// size. A job of few operations is not worth waking the others for.
func (b *Backend) run(kind C.int, job unsafe.Pointer, items, scratch C.int64_t, flops float64) {
	workers := min(len(b.pool.workers), int(items))
	if flops < smallJob {
		workers = 1
	}
	if err := b.pool.reserve(workers, int(scratch)); err != nil {
		b.fail(err)
		return
	}
	b.pool.run(workers, func(i int) { C.cpu_run(b.set, kind, job, b.pool.workers[i].scratch) })
}

// smallJob is how many operations one thread makes in about 10 µs, which is what it costs to wake
// another.
const smallJob = 5e5

// pixelOfZeros is what convolutions read outside the image.
func (b *Backend) pixelOfZeros(channels int) (*C.float, error) {
	if len(b.zeros) < 4*channels {
		m, err := b.memory.alloc(4 * channels)
		if err != nil {
			return nil, err
		}
		if b.zeros != nil {
			b.memory.free(b.zeros)
		}
		b.zeros = m
	}
	return (*C.float)(unsafe.Pointer(unsafe.SliceData(b.zeros))), nil
}

// pointer is where a tensor's values lie; nil for an operand that is not there.
func pointer(t *kernels.Tensor) *C.float {
	if t == nil {
		return nil
	}
	if t.DType != tensor.F32 {
		panic("cpu: the activations must be F32, not " + t.DType.String())
	}
	return (*C.float)(unsafe.Pointer(unsafe.SliceData(t.Mem.(kernels.HostMem))))
}

func (b *Backend) packed(w *kernels.Weight) *C.float {
	if w == nil {
		return nil
	}
	return (*C.float)(unsafe.Pointer(unsafe.SliceData(b.Packed(w).(kernels.HostMem))))
}
