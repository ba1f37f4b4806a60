//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

// #include "jobs.h"
import "C"

import (
	"fmt"
	"runtime"
	"unsafe"

	"darkroom/kernels"
	"darkroom/tensor"
)

// layout describes how a weight is packed: panels of nr rows of the checkpoint's matrix, the last one
// filled up with zeros, or no panels for what is only widened.
type layout struct {
	outs, channels, taps int
	panels               int
}

func (b *Backend) layout(role kernels.Role, s tensor.Shape) layout {
	nr := int(b.set.nr)
	l := layout{outs: s.Len(), channels: 1, taps: 1}
	if role == kernels.Vector || role == kernels.Table {
		return l
	}
	l.outs, l.channels = s[0], s[1]
	if role == kernels.Filter {
		l.taps = s[2] * s[3]
	}
	if l.panels = (l.outs + nr - 1) / nr; role == kernels.MatrixGEGLU {
		l.panels = 2 * ((l.outs/2 + nr - 1) / nr)
	}
	return l
}

// PackedBytes is of a weight in the type of the activations, the most that Load takes.
func (b *Backend) PackedBytes(w *kernels.Weight) int {
	l := b.layout(w.Role, w.Shape)
	if l.panels == 0 {
		return 4 * l.outs
	}
	depth := int(b.set.depth)
	k := (l.channels*l.taps + depth - 1) / depth * depth
	return b.dtype.Size() * l.panels * int(b.set.nr) * k
}

var types = map[tensor.DType]C.int32_t{tensor.F32: C.TYPE_F32, tensor.F16: C.TYPE_F16, tensor.BF16: C.TYPE_BF16, tensor.F64: C.TYPE_F64}

// Load packs the weight into memory of its own.
func (b *Backend) Load(w *kernels.Weight) error {
	bytes := b.PackedBytes(w)
	if b.narrow(w) {
		bytes = b.narrowBytes(w)
	}
	mem, err := b.memory.alloc(bytes)
	if err != nil {
		return fmt.Errorf("weight %s: %w", w.Name, err)
	}
	if err := b.pack(mem, w); err != nil {
		b.memory.free(mem)
		return err
	}
	b.Place(w, mem)
	return nil
}

// Fetch packs the weight into dst. It implements kernels.Streamer.
func (b *Backend) Fetch(dst kernels.Mem, w *kernels.Weight) {
	if err := b.pack(dst.(kernels.HostMem), w); err != nil {
		b.fail(err)
	}
	w.Host.Release()
}

// pack decodes into the packed layout, on all threads: from the checkpoint's bytes where they are plain. C reads a copy of
// them: a mapped file that is cut meanwhile would end the program.
func (b *Backend) pack(mem kernels.HostMem, w *kernels.Weight) error {
	t, plain := w.Host.Plain()
	if plain {
		own := b.scratch(len(t.Data))
		defer b.scratches.Put(&own)
		if err := tensor.Guard(func() error { copy(own, t.Data); return nil }); err != nil {
			var first [1]float32
			if named := w.Decode(first[:], w.Shape.Len()-1); named != nil { // it knows the file
				return named
			}
			return fmt.Errorf("weight %s: %w", w.Name, err)
		}
		t.Data = own
	} else {
		values := make([]float32, w.Shape.Len())
		if err := w.Decode(values, 0); err != nil {
			return err
		}
		t = tensor.Of(values, w.Shape...)
	}
	kind, ok := types[t.DType]
	if !ok {
		return fmt.Errorf("weight %s is of type %v, which is not a floating-point type that weights come in", w.Name, t.DType)
	}
	l := b.layout(w.Role, w.Shape)
	// The source may be Go memory, whose address may only be kept in memory that C reads while it is pinned.
	var pin runtime.Pinner
	defer pin.Unpin()
	src := unsafe.Pointer(unsafe.SliceData(t.Data))
	pin.Pin(src)
	job := &C.pack_job{src: src, dst: address(mem), outs: C.int64_t(l.outs), channels: C.int64_t(l.channels),
		taps: C.int64_t(l.taps), _type: kind, items: C.int64_t(l.panels)}
	if l.panels == 0 {
		job.flat, job.items = 1, C.int64_t((l.outs+flatBlock-1)/flatBlock)
	}
	if w.Role == kernels.MatrixGEGLU {
		job.geglu = 1
	}
	if b.narrow(w) {
		job.narrow = 1
	}
	b.run(C.RUN_PACK, unsafe.Pointer(job), job.items, 0, float64(w.Shape.Len()))
	if err := b.Sync(); err != nil {
		return err
	}
	if job.bad != 0 {
		return firstBad(w)
	}
	return nil
}

// scratch is memory for n bytes. What is put back is used again, until the garbage collector takes it.
func (b *Backend) scratch(n int) []byte {
	if p, ok := b.scratches.Get().(*[]byte); ok && cap(*p) >= n {
		return (*p)[:n]
	}
	return make([]byte, n)
}

// flatBlock is FLAT_BLOCK of pack.h.
const flatBlock = 65536

// firstBad finds the value that made Load refuse the weight.
func firstBad(w *kernels.Weight) error {
	values := make([]float32, min(w.Shape.Len(), flatBlock))
	for at := 0; at < w.Shape.Len(); at += len(values) {
		if err := w.Decode(values[:min(len(values), w.Shape.Len()-at)], at); err != nil {
			return err
		}
	}
	panic("cpu: a value was refused that Decode finds to be finite")
}

// Unload frees what Load made.
func (b *Backend) Unload(w *kernels.Weight) {
	if m := b.Packed(w); m != nil {
		b.memory.free(m.(kernels.HostMem))
		b.Place(w, nil)
	}
}
