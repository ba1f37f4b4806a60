//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

// #include "jobs.h"
import "C"

import (
	"unsafe"

	"darkroom/kernels"
)

// narrow says whether a weight is packed in 8 bits.
func (b *Backend) narrow(w *kernels.Weight) bool {
	return b.int8 && w.Tolerant && (w.Role == kernels.Filter || w.Role == kernels.Matrix || w.Role == kernels.MatrixGEGLU)
}

// narrowBytes is the memory of a weight in 8 bits: panels, then scales and sums of all columns.
func (b *Backend) narrowBytes(w *kernels.Weight) int {
	l := b.layout(w.Role, w.Shape)
	return l.panels * int(b.set.nr) * (b.narrowDepth(l) + 8)
}

// narrowDepth is K of a packed panel in 8 bits.
func (b *Backend) narrowDepth(l layout) int {
	depth := 2 * int(b.set.depth)
	return (l.channels*l.taps + depth - 1) / depth * depth
}

// panels is a weight that was packed for matrix products.
func (b *Backend) panels(w *kernels.Weight) C.matrix {
	at := address(b.Packed(w).(kernels.HostMem))
	if !b.narrow(w) {
		return C.matrix{panels: at, _type: b.set._type}
	}
	l := b.layout(w.Role, w.Shape)
	columns := l.panels * int(b.set.nr)
	scales := unsafe.Add(at, columns*b.narrowDepth(l))
	return C.matrix{panels: at, _type: C.TYPE_I8, scales: (*C.float)(scales), sums: (*C.int32_t)(unsafe.Add(scales, 4*columns))}
}

// quantise rounds a product's inputs to 8 bits and has the job read those. Windows that overlap share one range for each
// of the images; otherwise each row has its own.
func (b *Backend) quantise(job *C.gemm_job, images int) error {
	pixels, channels := int(job.h*job.w), int(job.channels[0]+job.channels[1])
	rowwise := job.kh == 1 && job.kw == 1 && job.stride == 1 && job.read_h == job.h && job.read_w == job.w && job.pad == 0
	block := max(1, 16384/channels)
	blocks := (pixels + block - 1) / block
	ranges := images
	if rowwise {
		ranges = images * pixels
	}
	// In one stretch: q, the pixels outside, ranges, extremes.
	q, outside := align(images*pixels*channels), align(images*channels)
	n := q + outside + align(8*ranges) + 8*images*blocks
	if err := b.memory.grow(&b.bytes, n); err != nil {
		return err
	}
	at := address(b.bytes)
	pass := &C.quantise_job{
		in: job.in, channels: job.channels, images: C.int64_t(images), pixels: C.int64_t(pixels), block: C.int64_t(block), items: C.int64_t(images * blocks),
		dst: (*C.uint8_t)(at), zeros: (*C.uint8_t)(unsafe.Add(at, q)), ranges: (*C.step8)(unsafe.Add(at, q+outside)),
	}
	flops := 4 * float64(images*pixels*channels)
	if !rowwise {
		pass.extremes = (*C.float)(unsafe.Add(at, q+outside+align(8*ranges)))
		b.run(C.RUN_EXTREMES, unsafe.Pointer(pass), pass.items, 0, flops)
		pass.next = 0
	}
	b.run(C.RUN_QUANTISE, unsafe.Pointer(pass), pass.items, 0, flops)
	job.in[0], job.in[1] = at, nil
	job.channels[0], job.channels[1] = C.int64_t(channels), 0
	job.zeros, job.zeros_stride = unsafe.Pointer(pass.zeros), C.int64_t(channels)
	job.ranges, job.range_rows = pass.ranges, 1
	if !rowwise {
		job.range_rows = job.out_h * job.out_w
	}
	return nil
}

func align(n int) int { return (n + 63) &^ 63 }
