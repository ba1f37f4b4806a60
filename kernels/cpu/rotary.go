//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

// #include "jobs.h"
import "C"

import (
	"unsafe"

	"darkroom/kernels"
)

// Rotary: rotary.h. An item is as many tokens as make some ten thousand values.
func (b *Backend) Rotary(dst *kernels.Tensor, op *kernels.Rotary) {
	channels := dst.Shape[2]
	rows, d := dst.Shape.Len()/channels, channels/op.Heads
	block := max(1, 16384/channels)
	job := &C.rotary_job{
		in: b.pointer(op.In), angles: (*C.float)(other(op.Angles)), gamma: b.vector(op.Gamma), dst: b.pointer(dst),
		rows: C.int64_t(rows), heads: C.int64_t(op.Heads), d: C.int64_t(d), block: C.int64_t(block), eps: C.double(op.Eps), items: C.int64_t((rows + block - 1) / block),
	}
	if op.Half {
		job.half = 1
	}
	b.run(C.RUN_ROTARY, unsafe.Pointer(job), job.items, C.int64_t(8*(d+64)), op.FLOPs())
}
