//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

// #include "jobs.h"
import "C"

import (
	"unsafe"

	"darkroom/kernels"
	"darkroom/tensor"
)

var _ kernels.Merger = (*Backend)(nil)

// Match: merge.h.
func (b *Backend) Match(dst *kernels.Tensor, op *kernels.Match) {
	sources, targets := op.Sides()
	images, tokens, channels := op.In.Shape[0], op.In.Shape[1], op.In.Shape[2]
	nr := int(b.set.nr)
	panels := (len(targets) + nr - 1) / nr
	// In one stretch: the sides, the best of each source, the panels.
	sides, found := align(4*tokens), align(8*images*len(sources))
	mem, err := b.memory.alloc(sides + found + 4*images*panels*nr*channels)
	if err != nil {
		b.fail(err)
		return
	}
	defer b.memory.free(mem)
	both := mem[:4*tokens].Ints()
	copy(both, sources)
	copy(both[len(sources):], targets)
	best, at := mem[sides:][:4*images*len(sources)].Floats(), mem[sides:][4*images*len(sources):][:4*images*len(sources)].Ints()
	job := &C.match_job{
		in: b.pointer(op.In), images: C.int64_t(images), tokens: C.int64_t(tokens), channels: C.int64_t(channels),
		sources: C.int64_t(len(sources)), targets: C.int64_t(len(targets)),
		source: (*C.int32_t)(unsafe.Pointer(&both[0])), target: (*C.int32_t)(unsafe.Pointer(&both[len(sources)])),
		panels: (*C.float)(unsafe.Add(address(mem), sides+found)), best: (*C.float)(unsafe.Pointer(&best[0])), at: (*C.int32_t)(unsafe.Pointer(&at[0])),
		items: C.int64_t(images * panels),
	}
	scratch := C.match_scratch(b.set, job.channels)
	b.run(C.RUN_MATCH_PACK, unsafe.Pointer(job), job.items, scratch, op.FLOPs())
	job.next, job.items = 0, C.int64_t(images*((len(sources)+C.MATCH_BLOCK-1)/C.MATCH_BLOCK))
	b.run(C.RUN_MATCH, unsafe.Pointer(job), job.items, scratch, op.FLOPs())
	result := dst.Mem.(kernels.HostMem).Ints()
	for n := range images {
		op.Number(result[n*tokens:][:tokens], sources, best[n*len(sources):][:len(sources)], at[n*len(sources):][:len(sources)])
	}
}

// Merge is the contract's loop: most tokens are copied.
func (b *Backend) Merge(dst *kernels.Tensor, op *kernels.Merge) {
	in, out := op.In.Mem.(kernels.HostMem), dst.Mem.(kernels.HostMem)
	numbers := op.Numbers.Mem.(kernels.HostMem).Ints()
	tokens, c, d := op.In.Shape[1], op.In.Shape[2], dst.DType
	size := c * d.Size()
	for n := range op.In.Shape[0] {
		own := make([][]int, op.To) // tokens of each number
		for t, i := range numbers[n*tokens:][:tokens] {
			own[i] = append(own[i], n*tokens+t)
		}
		b.rows(op.To, dst.Bytes(), func(start, end int) {
			sum, x := make([]float32, c), make([]float32, c)
			for i := start; i < end; i++ {
				to := out[(n*op.To+i)*size:][:size]
				if len(own[i]) == 1 {
					copy(to, in[own[i][0]*size:])
					continue
				}
				clear(sum)
				for _, t := range own[i] {
					widen(x, in[t*size:][:size], d)
					for k, v := range x {
						sum[k] += v
					}
				}
				count := float32(len(own[i]))
				for k := range sum {
					sum[k] /= count
				}
				tensor.Encode(to, d, sum)
			}
		})
	}
}

// Spread is the contract's loop.
func (b *Backend) Spread(dst *kernels.Tensor, op *kernels.Spread) {
	in, residual, out := op.In.Mem.(kernels.HostMem), op.Residual.Mem.(kernels.HostMem), dst.Mem.(kernels.HostMem)
	numbers := op.Numbers.Mem.(kernels.HostMem).Ints()
	tokens, c, d := dst.Shape[1], dst.Shape[2], dst.DType
	size := c * d.Size()
	b.rows(len(numbers), dst.Bytes(), func(start, end int) {
		x, y := make([]float32, c), make([]float32, c)
		for t := start; t < end; t++ {
			widen(x, in[(t/tokens*op.In.Shape[1]+int(numbers[t]))*size:][:size], d)
			widen(y, residual[t*size:][:size], d)
			for k, v := range x {
				y[k] += v
			}
			tensor.Encode(out[t*size:][:size], d, y)
		}
	})
}

func widen(dst []float32, src []byte, d tensor.DType) {
	tensor.Tensor{DType: d, Shape: tensor.Shape{len(dst)}, Data: src}.Float32(dst)
}
