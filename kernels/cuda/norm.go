//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"

	"gorgonia.org/cu"

	"darkroom/kernels"
)

// groupNorm, layerNorm and rotary are norm.cu's GroupNorm, LayerNorm and Rotary.
type groupNorm struct {
	a, a2, gamma, beta, d, chunk, scale, ticket cu.DevicePtr
	c1, c2, pixels, groups                      int32
	chunkPixels, chunks, slab, act              int32
	eps, each                                   float32
	images                                      int32
}

type layerNorm struct {
	a, gamma, beta, scale, shift, d cu.DevicePtr
	rows, channels                  int32
	eps                             float32
	image, rms                      int32
}

type rotary struct {
	a, angles, gamma, d     cu.DevicePtr
	rows, heads, size, half int32
	eps                     float32
}

func (b *Backend) wide(counts ...int) int { return wideOf(b.dtype, counts...) }

// GroupNorm takes one launch for a small image, two for a large one: norm.cu.
func (b *Backend) GroupNorm(dst *kernels.Tensor, op *kernels.GroupNorm) {
	defer b.enter()()
	b.want(dst, op.In, op.In2)
	s := dst.Shape
	images, channels := s[0], s[len(s)-1]
	pixels := s.Len() / images / channels
	if s.Len() == 0 {
		return
	}
	c1 := op.In.Shape[len(s)-1]
	ticket, ok := b.counters()
	if !ok {
		return
	}
	p := planGroupNorm(channels, op.Groups, pixels, b.wide(c1, channels-c1), b.dtype.Size())
	g := groupNorm{
		a: at(op.In), a2: at(op.In2), gamma: b.weightAt(op.Gamma), beta: b.weightAt(op.Beta), d: at(dst),
		c1: int32s(c1), c2: int32s(channels - c1), pixels: int32s(pixels), groups: int32s(op.Groups),
		chunkPixels: int32s(p.chunkPixels), chunks: int32s(p.chunks), slab: int32s(p.slab), act: int32(op.Act), eps: op.Eps, each: float32(1 / (float64(pixels) * float64(channels/op.Groups))), images: int32s(images), ticket: ticket,
	}
	run := func(name string, grid [3]int, shared int) {
		launch(b, kernel{"norm", fmt.Sprintf("groupnorm_%s_%s_%d", name, b.suffix(), p.wide)}, grid, normThreads, shared, &g)
	}
	slabs, sums := ceil(op.Groups, p.slab), 4*(2*normThreads*p.wide+2*p.slab)
	if p.whole {
		run("whole", [3]int{1, slabs, images}, sums)
		return
	}

	// scratch: chunk means and deviations, then scales and shifts: two float32 each. An even number of the
	// former keeps the latter aligned to 16 bytes.
	n := ceil(images*op.Groups*p.chunks, 2) * 2
	if g.chunk, ok = b.scratchFor(8 * (n + images*channels)); !ok {
		return
	}
	g.scale = g.chunk + cu.DevicePtr(8*n)
	run("chunks", [3]int{p.chunks, slabs, images}, sums)
	p.wide = b.wide(c1, channels-c1)
	run("apply", [3]int{ceil(s.Len()/p.wide, normThreads), 1, 1}, 0)
}

// LayerNorm is a warp a row.
func (b *Backend) LayerNorm(dst *kernels.Tensor, op *kernels.LayerNorm) {
	defer b.enter()()
	b.want(dst, op.In, op.Scale, op.Shift)
	channels := dst.Shape[len(dst.Shape)-1]
	rows := dst.Shape.Len() / channels
	n := layerNorm{
		a: at(op.In), gamma: b.weightAt(op.Gamma), beta: b.weightAt(op.Beta), scale: at(op.Scale), shift: at(op.Shift), d: at(dst),
		rows: int32s(rows), channels: int32s(channels), eps: op.Eps, image: int32s(rows / dst.Shape[0]),
	}
	if op.RMS {
		n.rms = 1
	}
	launch(b, kernel{"norm", fmt.Sprintf("layernorm_%s_%d", b.suffix(), b.wide(channels))},
		[3]int{ceil(rows, normThreads/32), 1, 1}, normThreads, 0, &n)
}

// Rotary is a warp a head.
func (b *Backend) Rotary(dst *kernels.Tensor, op *kernels.Rotary) {
	defer b.enter()()
	b.want(dst, op.In)
	s := dst.Shape
	r := rotary{
		a: at(op.In), angles: at(op.Angles), gamma: b.weightAt(op.Gamma), d: at(dst),
		rows: int32s(s[0] * s[1]), heads: int32s(op.Heads), size: int32s(s[2] / op.Heads), eps: op.Eps,
	}
	if op.Half {
		r.half = 1
	}
	launch(b, kernel{"norm", "rotary_" + b.suffix()}, [3]int{ceil(s[0]*s[1]*op.Heads, normThreads/32), 1, 1}, normThreads, 0, &r)
}

var _ kernels.Backend = (*Backend)(nil)
