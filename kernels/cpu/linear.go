//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

// #include "jobs.h"
import "C"

import "darkroom/kernels"

// Linear is a convolution with one tap over a picture that is one pixel high: gemm.h.
//
// What is normalised before is a pass of its own: its bytes stay in the caches, and a row is normalised once, not for each
// block of columns.
func (b *Backend) Linear(dst *kernels.Tensor, op *kernels.Linear) {
	in := b.pointer(op.In)
	if n := op.LayerNorm(); n != nil {
		normed, err := b.normed(op.In)
		if err != nil {
			b.fail(err)
			return
		}
		b.LayerNorm(normed, n)
		in = b.pointer(normed)
	}
	outs, channels := dst.Shape[len(dst.Shape)-1], op.W.Shape[1]
	rows := C.int64_t(dst.Shape.Len() / outs)
	job := &C.gemm_job{
		h: 1, w: rows, read_h: 1, read_w: rows, out_h: 1, out_w: rows, rows: rows, outs: C.int64_t(outs), kh: 1, kw: 1, stride: 1,
		residual: b.pointer(op.Residual), bias: b.vector(op.Bias), weights: b.panels(op.W), dst: b.pointer(dst), act: C.int32_t(op.Act),
	}
	job.in[0], job.channels[0] = in, C.int64_t(channels)
	b.gemm(job, 1, op.FLOPs())
}

// normed is memory for the normalised rows of a tensor, which one operation uses.
func (b *Backend) normed(in *kernels.Tensor) (*kernels.Tensor, error) {
	if err := b.memory.grow(&b.normedRows, in.Bytes()); err != nil {
		return nil, err
	}
	return &kernels.Tensor{Shape: in.Shape, DType: in.DType, Mem: b.normedRows[:in.Bytes()]}, nil
}
