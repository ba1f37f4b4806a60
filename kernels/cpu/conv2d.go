//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

// #include "jobs.h"
import "C"

import (
	"unsafe"

	"darkroom/kernels"
)

// Conv2D is a matrix product whose rows are windows of the input, gemm.h, or many small ones: winograd.h.
func (b *Backend) Conv2D(dst *kernels.Tensor, op *kernels.Conv2D) {
	in, out, w := op.In.Shape, dst.Shape, op.W.Shape
	h, wd := op.InSize()
	job := &C.gemm_job{
		h: C.int64_t(in[1]), w: C.int64_t(in[2]), read_h: C.int64_t(h), read_w: C.int64_t(wd),
		out_h: C.int64_t(out[1]), out_w: C.int64_t(out[2]), rows: C.int64_t(out[0] * out[1] * out[2]), outs: C.int64_t(w[0]),
		kh: C.int64_t(w[2]), kw: C.int64_t(w[3]), stride: C.int64_t(op.Step()), pad: C.int64_t(op.Pad[0]),
		per_channel: b.pointer(op.PerChannel), residual: b.pointer(op.Residual), bias: b.vector(op.Bias), weights: b.panels(op.W), dst: b.pointer(dst),
		act: C.int32_t(op.Act),
	}
	job.in[0], job.channels[0] = b.pointer(op.In), C.int64_t(in[3])
	widest := in[3]
	if op.In2 != nil {
		job.in[1], job.channels[1] = b.pointer(op.In2), C.int64_t(op.In2.Shape[3])
		widest = max(widest, op.In2.Shape[3])
	}
	if op.PerChannel != nil {
		job.per_channel_pitch = C.int64_t(op.PerChannel.Row())
	}
	var err error
	if job.zeros, err = b.pixelOfZeros(widest); err != nil {
		b.fail(err)
		return
	}
	if b.winograd(op) {
		job.tiles = C.int64_t(in[0] * winogradTiles(out[1], out[2]))
		C.plan_winograd(b.set, job, C.int64_t(b.Threads()))
		b.run(C.RUN_WINOGRAD, unsafe.Pointer(job), job.items, C.winograd_scratch(b.set, job), op.FLOPs())
		return
	}
	b.gemm(job, in[0], op.FLOPs())
}

func (b *Backend) gemm(job *C.gemm_job, images int, flops float64) {
	if job.weights._type == C.TYPE_I8 {
		if err := b.quantise(job, images); err != nil {
			b.fail(err)
			return
		}
	}
	C.plan_gemm(b.set, job, C.int64_t(b.Threads()))
	b.run(C.RUN_GEMM, unsafe.Pointer(job), job.items, C.gemm_scratch(b.set, job), flops)
}
