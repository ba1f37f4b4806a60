//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"

	"darkroom/kernels"
	"darkroom/kernels/cuda/drv"
	"darkroom/tensor"
)

// hopperAttention is attention_sm90.cuh's HopperAttention.
type hopperAttention struct {
	q, k, v             drv.TensorMap
	a                   attention
	tiles, heads, works int32
	byTiles, byHeads    divisor
	_                   [12]byte // to a multiple of 64
}

// hopperFlash is the tile for an attention, if Hopper's kernel can do it. What mma.sync cannot do it cannot do either.
func (b *Backend) hopperFlash(op *kernels.Attention) (t HopperHeads, ok bool) {
	size := op.Q.Shape[2] / op.Heads
	if !b.hopperAttention || b.simpleAttention || b.dtype == tensor.F32 || op.Bias != nil || op.Factor() <= 0 {
		return t, false
	}
	t, ok = HopperHeadsOf(size)
	return t, ok && t.Shared() <= b.sharedMost
}

// attendHopper queues an attention on blocks that stay, one a processor.
func (b *Backend) attendHopper(a attention, t HopperHeads, op *kernels.Attention) {
	images, heads := op.Q.Shape[0], op.Heads
	p := hopperAttention{a: a, heads: int32s(heads), tiles: ceil(a.queries, hopperQueries)}
	p.works = int32s(int(p.tiles) * heads * images)
	p.byTiles, p.byHeads = divide(p.tiles), divide(p.heads)
	var err error
	for _, m := range []struct {
		to                *drv.TensorMap
		t                 *kernels.Tensor
		heads, rows, each int
	}{{&p.q, op.Q, heads, int(a.queries), hopperQueries}, {&p.k, op.K, op.Shared(), int(a.keys), t.Keys}, {&p.v, op.V, op.Shared(), int(a.keys), t.Keys}} {
		if err == nil {
			*m.to, err = drv.Heads(b.element(), at(m.t), [4]int{int(a.size), m.heads, m.rows, images}, 2*m.t.Row(), m.each)
		}
	}
	if err != nil {
		b.fail("describing heads to TMA", err)
		return
	}
	k := kernel{"attention_sm90", fmt.Sprintf("attention_wgmma_%s_%d", b.suffix(), t.Size)}
	launch(b, k, [3]int{min(int(p.works), max(1, b.device.Processors)), 1, 1}, 384, t.Shared(), &p)
}
