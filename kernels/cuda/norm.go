//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"

	"gorgonia.org/cu"

	"darkroom/kernels"
)

const normThreads = 256

// groupNorm, layerNorm and rotary are norm.cu's GroupNorm, LayerNorm and Rotary.
type groupNorm struct {
	a, a2, gamma, beta, d, chunk, scale cu.DevicePtr
	c1, c2, pixels, groups              int32
	chunkPixels, chunks, slab, act      int32
	eps                                 float32
	images                              int32
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

// wide is how many neighbouring channels a thread moves at once: 16 bytes, if all counts are multiples
// of that, else one element.
func (b *Backend) wide(counts ...int) int {
	n := 16 / b.dtype.Size()
	for _, c := range counts {
		if c%n != 0 {
			return 1
		}
	}
	return n
}

// GroupNorm takes three launches: norm.cu.
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
	p := planGroupNorm(channels, op.Groups, pixels, b.wide(c1, channels-c1))

	// scratch: chunk means and deviations, then scales and shifts: two float32 each. An even number of the
	// former keeps the latter aligned to 16 bytes.
	n := ceil(images*op.Groups*p.chunks, 2) * 2
	chunk, ok := b.scratchFor(8 * (n + images*channels))
	if !ok {
		return
	}
	g := groupNorm{
		a: at(op.In), a2: at(op.In2), gamma: b.weightAt(op.Gamma), beta: b.weightAt(op.Beta), d: at(dst),
		chunk: chunk, scale: chunk + cu.DevicePtr(8*n),
		c1: int32s(c1), c2: int32s(channels - c1), pixels: int32s(pixels), groups: int32s(op.Groups),
		chunkPixels: int32s(p.chunkPixels), chunks: int32s(p.chunks), slab: int32s(p.slab), act: int32(op.Act), eps: op.Eps, images: int32s(images),
	}
	run := func(name string, grid [3]int, shared int) {
		launch(b, kernel{"norm", name}, grid, normThreads, shared, &g)
	}
	suffix := fmt.Sprintf("_%s_%d", b.suffix(), p.wide)
	run("groupnorm_chunks"+suffix, [3]int{p.chunks, ceil(op.Groups, p.slab), images}, 4*(2*normThreads*p.wide+p.slab))
	run("groupnorm_scale", [3]int{ceil(images*op.Groups, normThreads/32), 1, 1}, 0)
	elements := b.wide(c1, channels-c1)
	run(fmt.Sprintf("groupnorm_apply_%s_%d", b.suffix(), elements), [3]int{ceil(s.Len()/elements, normThreads), 1, 1}, 0)
}

// groupNormPlan shares the reading of a GroupNorm between blocks. It depends on one image's shape
// alone, as does therefore the order of its sums.
type groupNormPlan struct {
	wide        int // channels a thread
	slab        int // groups a block
	chunkPixels int // pixels a block
	chunks      int
}

func planGroupNorm(channels, groups, pixels, wide int) groupNormPlan {
	size := channels / groups
	p := groupNormPlan{wide: wide}
	// A block has normThreads·wide channels at most, and whole groups that begin on a multiple of wide.
	for unit := 1; ; unit++ {
		if unit > groups || unit*size > normThreads*wide {
			if wide == 1 {
				panic(fmt.Sprintf("cuda: groupnorm with groups of %d channels; at most %d are supported", size, normThreads))
			}
			return planGroupNorm(channels, groups, pixels, 1)
		}
		if unit*size%wide == 0 {
			p.slab = min(groups, max(1, 1024/(unit*size))*unit)
			for p.slab*size > normThreads*wide {
				p.slab -= unit
			}
			break
		}
	}
	// About 16,384 values a block: they stay in the L1 cache for the second pass.
	p.chunkPixels = min(pixels, max(1, 16384/(p.slab*size)))
	p.chunks = ceil(pixels, p.chunkPixels)
	return p
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
