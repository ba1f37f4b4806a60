//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

// #include "pointwise.h"
import "C"

import "darkroom/kernels"

// Pointwise hands ranges of pixels to the threads.
func (b *Backend) Pointwise(dst *kernels.Tensor, op *kernels.Pointwise) {
	channels := dst.Shape[len(dst.Shape)-1]
	pixels := dst.Shape.Len() / channels
	job := &C.pointwise_job{
		a: b.pointer(op.A), b: b.pointer(op.B), scale: b.pointer(op.Scale), slope: b.vector(op.Slope), dst: b.pointer(dst),
		channels: C.int64_t(channels), image: C.int64_t(pixels / dst.Shape[0]), factor: C.float(op.Weight()),
		act: C.int32_t(op.Act), _type: b.set._type,
	}
	if op.PerChannel() {
		job.per_channel = 1
	}
	b.rows(pixels, dst.Bytes(), func(start, end int) { C.pointwise(job, C.int64_t(start), C.int64_t(end)) })
}
