//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"

	"gorgonia.org/cu"

	"darkroom/kernels"
)

// attention is attention.cuh's Attention.
type attention struct {
	q, k, v, o             cu.DevicePtr
	lengths, bias          cu.DevicePtr
	queries, keys          int32
	channels, size, causal int32
	scale                  float32
	sharedChannels, group  int32
	pitch                  int32
}

// flashTile is one of attention.cuh's Flash: the queries of a block, and the keys that it takes at a time.
type flashTile struct{ size, queries, keys int }

var flashTiles = []flashTile{{16, 128, 64}, {32, 128, 64}, {40, 128, 64}, {48, 128, 64}, {64, 128, 32}, {80, 64, 32}, {128, 64, 32}, {160, 64, 32}}

// shared is of queries, and two tiles of keys and values each.
func (t flashTile) shared() int { return (t.queries + 4*t.keys) * t.size * 2 }

// Attention takes the tensor-core kernel of the smallest padded head size that holds the heads.
func (b *Backend) Attention(dst *kernels.Tensor, op *kernels.Attention) {
	defer b.enter()()
	b.want(dst, op.Q, op.K, op.V)
	q := op.Q.Shape
	size := q[2] / op.Heads
	a := attention{
		q: at(op.Q), k: at(op.K), v: at(op.V), o: at(dst), lengths: at(op.Lengths), bias: at(op.Bias), pitch: int32s(op.Q.Row()), sharedChannels: int32s(op.K.Row()), group: int32s(op.Heads / op.Shared()),
		queries: int32s(q[1]), keys: int32s(op.K.Shape[1]), channels: int32s(q[2]), size: int32s(size), scale: op.Factor(),
	}
	if op.Causal {
		a.causal = 1
	}
	if t, ok := b.hopperFlash(op); ok {
		b.attendHopper(a, t, op)
		return
	}
	k, threads, shared, queries := b.attentionKernel(size, op.Factor(), op.Bias != nil)
	const most = 65535 // of a grid's third axis; frames that attend to each other have an image a pixel
	for first := 0; first < q[0]; first += most {
		launch(b, k, [3]int{ceil(q[1], queries), op.Heads, min(q[0]-first, most)}, threads, shared, &a)
		a.q, a.o = a.q+cu.DevicePtr(most*q[1]*q[2]*dst.DType.Size()), a.o+cu.DevicePtr(most*q[1]*q[2]*dst.DType.Size())
		past := cu.DevicePtr(most * op.K.Shape[1] * op.K.Shape[2] * dst.DType.Size())
		a.k, a.v = a.k+past, a.v+past
		if op.Lengths != nil {
			a.lengths += 4 * most
		}
	}
}

// attentionKernel gives the kernel for a head size, its threads and shared memory, and the queries a
// block takes. The fast ones look for the largest score before it is scaled, want a positive scale, and add no bias: T5 alone
// has one, once a prompt.
func (b *Backend) attentionKernel(size int, scale float32, bias bool) (k kernel, threads, shared, queries int) {
	if !b.simpleAttention && !bias && size%8 == 0 && scale > 0 {
		for _, t := range flashTiles {
			if size <= t.size && t.shared() <= b.sharedMost {
				return kernel{"attention", fmt.Sprintf("attention_mma_%s_%d", b.suffix(), t.size)}, 128, t.shared(), t.queries
			}
		}
		const wide = (32*512+32*512+32*40)*2 + 32*40*4 + 2*32*4 // attention.cuh's WideTiles
		if size > 160 && size <= 512 && wide <= b.sharedMost {
			return kernel{"attention", "attention_wide_" + b.suffix()}, 256, wide, 32
		}
	}
	if size > 512 {
		panic(fmt.Sprintf("cuda: attention heads of %d channels; at most 512 are supported", size))
	}
	return kernel{"attention", "attention_simple_" + b.suffix()}, 128, 4 * size * 4, 4
}
