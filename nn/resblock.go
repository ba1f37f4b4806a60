package nn

import "darkroom/kernels"

// ResBlock is GN → SiLU → 3×3 → +time → GN → SiLU → 3×3 → +skip (Ho et al. 2020, app. B), the block
// of the U-Net and, without the time embedding, of the autoencoder.
type ResBlock struct {
	norm1, norm2 GroupNorm
	conv1, conv2 Conv2D
	timeEmbProj  *Linear // nil in the autoencoder
	convShortcut *Conv2D // nil where the channels agree
}

// ResBlock loads a block from in to out channels; temb is the width of the time embedding, 0 for none.
func (l Loader) ResBlock(in, out, temb, groups int, eps float32) ResBlock {
	b := ResBlock{
		norm1: l.At("norm1").GroupNorm(in, groups, eps), conv1: l.At("conv1").Conv2D(in, out, 3),
		norm2: l.At("norm2").GroupNorm(out, groups, eps), conv2: l.At("conv2").Conv2D(out, out, 3),
	}
	if temb > 0 {
		p := l.At("time_emb_proj").Tolerant(false).Linear(temb, out)
		b.timeEmbProj = &p
	}
	if in != out {
		c := l.At("conv_shortcut").Conv2D(in, out, 1)
		b.convShortcut = &c
	}
	return b
}

// Forward runs the block on x, or on x and skip side by side; temb, [N,width], has been through SiLU.
func (b ResBlock) Forward(g *kernels.Graph, x, skip, temb *kernels.Tensor) *kernels.Tensor {
	var time *kernels.Tensor
	if b.timeEmbProj != nil {
		time = b.timeEmbProj.Forward(g, temb, kernels.Identity, nil)
	}
	h := b.conv1.Forward(g, b.norm1.SiLU(g, x, skip), Conv{PerChannel: time})
	residual := x
	if b.convShortcut != nil {
		residual = b.convShortcut.Forward(g, x, Conv{In2: skip})
	} else if skip != nil {
		panic("nn: a block over two inputs has a shortcut: its output is narrower than both together")
	}
	return b.conv2.Forward(g, b.norm2.SiLU(g, h, nil), Conv{Residual: residual})
}
