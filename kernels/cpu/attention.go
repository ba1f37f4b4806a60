//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

// #include "jobs.h"
import "C"

import (
	"unsafe"

	"darkroom/kernels"
)

// Attention is flash attention: attention.h.
func (b *Backend) Attention(dst *kernels.Tensor, op *kernels.Attention) {
	s := op.Q.Shape
	job := &C.attention_job{
		q: b.pointer(op.Q), k: b.pointer(op.K), v: b.pointer(op.V), dst: b.pointer(dst),
		images: C.int64_t(s[0]), queries: C.int64_t(s[1]), keys: C.int64_t(op.K.Shape[1]), channels: C.int64_t(s[2]), heads: C.int64_t(op.Heads),
		shared: C.int64_t(op.Shared()), pitch: C.int64_t(op.Q.Row()), shared_channels: C.int64_t(op.K.Row()), lengths: (*C.int32_t)(other(op.Lengths)), bias: (*C.float)(other(op.Bias)),
		scale: C.float(op.Factor()),
	}
	if op.Causal {
		job.causal = 1
	}
	C.plan_attention(b.set, job, C.int64_t(b.Threads()))
	b.run(C.RUN_ATTENTION, unsafe.Pointer(job), job.items, C.attention_scratch(b.set, job), op.FLOPs())
}
