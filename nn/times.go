package nn

import (
	"strings"

	"darkroom/kernels"
	"darkroom/tensor"
)

// Times are the layers with which a network's ResBlocks read the time embedding. Once loaded they are one matrix, so that
// one product serves all blocks: each of its rows gives the same number as in a matrix of its own.
type Times struct {
	at     Loader
	width  int // of the time embedding
	blocks []timesBlock
	all    *Linear // nil where the layers stay apart
}

type timesBlock struct {
	at       Loader
	from, to int     // its columns of the product
	layer    *Linear // where the layers stay apart
}

// Times collects the layers of blocks that lie below l, for a time embedding of that width.
func (l Loader) Times(width int) *Times { return &Times{at: l, width: width} }

// add notes the layer of a block, and gives its number.
func (t *Times) add(at Loader, outs int) int {
	from := 0
	if n := len(t.blocks); n > 0 {
		from = t.blocks[n-1].to
	}
	t.blocks = append(t.blocks, timesBlock{at: at, from: from, to: from + outs})
	return len(t.blocks) - 1
}

// Load loads the layers of all blocks. They stay apart where a block has no bias, or columns that would not lie as vectors
// and GPUs read them.
func (t *Times) Load() {
	var weights, biases []Part
	together := len(t.blocks) > 1
	for _, b := range t.blocks {
		name := strings.TrimPrefix(strings.TrimPrefix(b.at.path, t.at.path), ".")
		weights = append(weights, Part{name + ".weight", tensor.Shape{b.to - b.from, t.width}})
		biases = append(biases, Part{name + ".bias", tensor.Shape{b.to - b.from}})
		together = together && b.at.Has("bias") && b.to%8 == 0
	}
	if !together {
		for i, b := range t.blocks {
			y := b.at.Linear(t.width, b.to-b.from)
			t.blocks[i].layer = &y
		}
		return
	}
	outs := t.blocks[len(t.blocks)-1].to
	stack := func(a []tensor.Array) tensor.Array { return tensor.Stack(a...) }
	t.all = &Linear{
		Weight: t.at.Made(" and other blocks'", kernels.Matrix, tensor.Shape{outs, t.width}, stack, weights...),
		Bias:   t.at.Made(" and other blocks'", kernels.Vector, tensor.Shape{outs}, stack, biases...),
	}
}

// Time is the time embedding as the blocks of one graph read it; the zero value is that of a network without one.
type Time struct {
	of        *Times
	temb, all *kernels.Tensor
}

// Forward writes the product for all blocks of a time embedding, [N,width], that has been through SiLU.
func (t *Times) Forward(g *kernels.Graph, temb *kernels.Tensor) Time {
	if t.all == nil {
		return Time{of: t, temb: temb}
	}
	return Time{of: t, all: t.all.Forward(g, temb, kernels.Identity, nil)}
}

// block is what block i adds to each channel.
func (t Time) block(g *kernels.Graph, i int) *kernels.Tensor {
	b := t.of.blocks[i]
	if t.all == nil {
		return b.layer.Forward(g, t.temb, kernels.Identity, nil)
	}
	return g.Columns(t.all, b.from, b.to)
}
