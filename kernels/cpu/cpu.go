//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

// Package cpu is the backend for the host's processor: C with vector instructions, chosen at run time, on all
// cores: AVX-512, AVX2 with FMA or NEON in float32, AMX, AVX512-BF16 or arm64's BF16 in bfloat16. docs/kernels.md
// explains how the kernels work.
//
// In float32 all paths that have a fused multiply-add give the same bits. Every path gives the same bits on any
// number of threads.
package cpu

// // ISO C, in which GCC does not contract a·b + c on its own: where it is rounded once is said by fma_.
// #cgo CFLAGS: -std=c11 -D_GNU_SOURCE -O3 -Wall -Wno-psabi
// #cgo LDFLAGS: -lm
// #include <stdlib.h>
// #include "jobs.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
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
	set        *C.isa
	dtype      tensor.DType // of the activations
	int8       bool         // of tolerant weights
	pool       *pool
	memory     memory
	zeros      kernels.HostMem // a pixel outside the image; grows to the widest seen
	bytes      kernels.HostMem // of activations in 8 bits: one operation's
	normedRows kernels.HostMem // of normalised activations: one operation's
	err        error           // the first since the last Sync

	scratches sync.Pool // *[]byte: for copies of a checkpoint's bytes
}

var _ kernels.Streamer = (*Backend)(nil)

// New starts a backend. It fails for types and instructions that the processor lacks.
func New(o Options) (*Backend, error) {
	if o.Threads < 1 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	if o.Int8 && o.DType != tensor.BF16 {
		return nil, fmt.Errorf("int8 weights are for activations in %v, not %v", tensor.BF16, o.DType)
	}
	if o.Kernels != nil {
		return start((*C.isa)(o.Kernels), o), nil
	}
	names := Instructions(o.DType)
	if o.Int8 {
		names = present(bytes)
	}
	if o.Instructions != "" {
		if !slices.Contains(names, o.Instructions) {
			return nil, fmt.Errorf("this processor cannot run the %q kernels in %v; choose one of %v", o.Instructions, o.DType, names)
		}
		return start(find(o.Instructions), o), nil
	}
	var failed error
	for _, name := range names {
		if o.DType != tensor.F32 {
			if err := selfTest(name); err != nil {
				failed = errors.Join(failed, err)
				continue
			}
		}
		return start(find(name), o), nil
	}
	if failed != nil {
		return nil, failed
	}
	if o.Int8 {
		return nil, errors.New("this processor has no instructions for products of bytes: that takes AVX2, or DotProd on arm64. Use fp32")
	}
	return nil, fmt.Errorf("this processor does not compute in %v: that takes %s. Use fp32", o.DType, needs[o.DType])
}

// needs says what a processor must have for a type.
var needs = map[tensor.DType]string{tensor.BF16: "AVX512-BF16 or AMX-BF16 (Intel since 2020, AMD since Zen 4), or BF16 and I8MM on arm64 (Apple since M2, Neoverse since V1 and N2)", tensor.F16: "a GPU"}

func start(set *C.isa, o Options) *Backend {
	return &Backend{set: set, dtype: dtypes[set._type], int8: o.Int8, pool: newPool(o.Threads)}
}

var dtypes = map[C.int32_t]tensor.DType{C.TYPE_F32: tensor.F32, C.TYPE_BF16: tensor.BF16}

// sets are the names of jobs.h's tables, the fastest first.
var sets = map[tensor.DType][]string{
	tensor.F32:  {"avx512", "avx2", "base"},
	tensor.BF16: {"amx", "avx512bf16", "neonbf16"},
}

// bytes are those for weights of 8 bits. The last three keep activations in bfloat16 without computing in it: they are not
// worth it for weights that are not in 8 bits.
var bytes = []string{"amx", "avx512bf16", "neonbf16", "avxvnni", "avx2bf16", "neondot"}

// Instructions lists the sets of kernels for a type that this processor can run, the fastest first.
func Instructions(d tensor.DType) []string { return present(sets[d]) }

// Int8Instructions lists those for Options.Int8.
func Int8Instructions() []string { return present(bytes) }

func present(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return find(name) == nil })
}

func find(name string) *C.isa {
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	return C.cpu_isa(n)
}

// Info says that this is the host's processor, in the one type that it was opened for.
func (b *Backend) Info() kernels.Info {
	return kernels.Info{Kind: "cpu", Name: "cpu", Device: runtime.GOOS + "/" + runtime.GOARCH, DTypes: []tensor.DType{b.dtype}, Int8: b.int8, Winograd: b.set.winograd != nil, FullAt: kernels.HostFullAt,
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

// Peak runs nothing but multiply-adds in registers on every thread for about the given number of operations each, and
// returns how many operations a second all made together: what the kernels' speed is measured against. With weights of 8
// bits they are those of bytes, which most of the work is done with.
func (b *Backend) Peak(operations float64) float64 {
	each, int8 := float64(b.set.peak_flops), C.int(0)
	if b.int8 {
		each, int8 = 2*each, 1
	}
	rounds := C.int64_t(operations/each) + 1
	seconds := b.pool.timed(func(int) { C.cpu_peak(b.set, rounds, int8) })
	return float64(rounds) * each * float64(b.Threads()) / seconds
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
func (b *Backend) pixelOfZeros(channels int) (unsafe.Pointer, error) {
	if err := b.memory.grow(&b.zeros, channels*b.dtype.Size()); err != nil {
		return nil, err
	}
	return address(b.zeros), nil
}

func address(m kernels.HostMem) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(m)) }

// pointer is where a tensor's values lie; nil for an operand that is not there.
func (b *Backend) pointer(t *kernels.Tensor) unsafe.Pointer {
	if t == nil {
		return nil
	}
	if t.DType != b.dtype {
		panic(fmt.Sprintf("cpu: a tensor of %v on a backend that computes in %v", t.DType, b.dtype))
	}
	return address(t.Mem.(kernels.HostMem))
}

// other is where the values of a tensor lie that is not of the activations' type: lengths, angles. nil for one that is not there.
func other(t *kernels.Tensor) unsafe.Pointer {
	if t == nil {
		return nil
	}
	return address(t.Mem.(kernels.HostMem))
}

// vector is a weight that stays in float32; nil for one that is not there.
func (b *Backend) vector(w *kernels.Weight) *C.float {
	if w == nil {
		return nil
	}
	return (*C.float)(address(b.Packed(w).(kernels.HostMem)))
}
