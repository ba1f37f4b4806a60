//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

// #include "jobs.h"
import "C"

import "darkroom/kernels"

// Linear is a convolution with one tap over a picture that is one pixel high: gemm.h.
func (b *Backend) Linear(dst *kernels.Tensor, op *kernels.Linear) {
	outs, channels := dst.Shape[len(dst.Shape)-1], op.W.Shape[1]
	rows := C.int64_t(dst.Shape.Len() / outs)
	job := &C.gemm_job{
		h: 1, w: rows, read_h: 1, read_w: rows, out_h: 1, out_w: rows, rows: rows, outs: C.int64_t(outs), kh: 1, kw: 1, stride: 1,
		residual: b.pointer(op.Residual), bias: b.vector(op.Bias), weights: b.panels(op.W), dst: b.pointer(dst), act: C.int32_t(op.Act),
	}
	job.in[0], job.channels[0] = b.pointer(op.In), C.int64_t(channels)
	b.gemm(job, 1, op.FLOPs())
}
