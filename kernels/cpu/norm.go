//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

// #include "jobs.h"
import "C"

import (
	"unsafe"

	"darkroom/kernels"
)

// GroupNorm takes sums over chunks of pixels, then normalises the chunks: norm.h. How the pixels are cut
// depends on their number alone, so that the sums do not depend on the threads.
func (b *Backend) GroupNorm(dst *kernels.Tensor, op *kernels.GroupNorm) {
	last := len(dst.Shape) - 1
	images, channels := dst.Shape[0], dst.Shape[last]
	pixels := dst.Shape.Len() / images / channels
	chunk := max(64, (pixels+63)/64)
	chunks := (pixels + chunk - 1) / chunk
	job := &C.groupnorm_job{
		gamma: b.vector(op.Gamma), beta: b.vector(op.Beta), dst: b.pointer(dst), images: C.int64_t(images), pixels: C.int64_t(pixels),
		groups: C.int64_t(op.Groups), chunks: C.int64_t(chunks), chunk: C.int64_t(chunk), eps: C.double(op.Eps), items: C.int64_t(images * chunks),
	}
	job.in[0], job.channels[0] = b.pointer(op.In), C.int64_t(op.In.Shape[last])
	if op.In2 != nil {
		job.in[1], job.channels[1] = b.pointer(op.In2), C.int64_t(op.In2.Shape[last])
	}
	if op.Act == kernels.SiLU {
		job.silu = 1
	}
	mem, err := b.memory.alloc(16 * images * chunks * op.Groups)
	if err != nil {
		b.fail(err)
		return
	}
	defer b.memory.free(mem)
	job.sums = (*C.double)(unsafe.Pointer(unsafe.SliceData(mem)))
	scratch := C.groupnorm_scratch(job)
	b.run(C.RUN_GROUPNORM_SUMS, unsafe.Pointer(job), job.items, scratch, op.FLOPs())
	job.next = 0
	b.run(C.RUN_GROUPNORM, unsafe.Pointer(job), job.items, scratch, op.FLOPs())
}

// LayerNorm: norm.h. An item is as many rows as make a few thousand values.
func (b *Backend) LayerNorm(dst *kernels.Tensor, op *kernels.LayerNorm) {
	channels := dst.Shape[len(dst.Shape)-1]
	rows := dst.Shape.Len() / channels
	block := max(1, 16384/channels)
	job := &C.layernorm_job{
		in: b.pointer(op.In), gamma: b.vector(op.Gamma), beta: b.vector(op.Beta), dst: b.pointer(dst),
		scale: b.pointer(op.Scale), shift: b.pointer(op.Shift), image: C.int64_t(rows / dst.Shape[0]),
		rows: C.int64_t(rows), channels: C.int64_t(channels), block: C.int64_t(block), eps: C.double(op.Eps), items: C.int64_t((rows + block - 1) / block),
	}
	if op.RMS {
		job.rms = 1
	}
	b.run(C.RUN_LAYERNORM, unsafe.Pointer(job), job.items, 4*job.channels, op.FLOPs())
}
