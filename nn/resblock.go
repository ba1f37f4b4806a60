package nn

import "darkroom/kernels"

// ResBlock is GN → SiLU → 3×3 → +time → GN → SiLU → 3×3 → +skip (Ho et al. 2020, app. B), the block
// of the U-Net and, without the time embedding, of the autoencoder.
type ResBlock struct {
	norm1, norm2 GroupNorm
	conv1, conv2 Conv2D
	time         int     // its number among the layers that read the time embedding; -1 in the autoencoder
	convShortcut *Conv2D // nil where the channels agree
}

// ResBlock loads a block from in to out channels. Its layer for the time embedding is loaded with the others of times, nil
// for none.
func (l Loader) ResBlock(in, out int, times *Times, groups int, eps float32) ResBlock {
	b := ResBlock{
		norm1: l.At("norm1").GroupNorm(in, groups, eps), conv1: l.At("conv1").Conv2D(in, out, 3),
		norm2: l.At("norm2").GroupNorm(out, groups, eps), conv2: l.At("conv2").Conv2D(out, out, 3),
		time: -1,
	}
	if times != nil {
		b.time = times.add(l.At("time_emb_proj").Tolerant(false), out)
	}
	if in != out {
		c := l.At("conv_shortcut").Conv2D(in, out, 1)
		b.convShortcut = &c
	}
	return b
}

// Forward runs the block on x, or on x and skip side by side.
func (b ResBlock) Forward(g *kernels.Graph, x, skip *kernels.Tensor, time Time) *kernels.Tensor {
	var add *kernels.Tensor
	if b.time >= 0 {
		add = time.block(g, b.time)
	}
	h := b.conv1.Forward(g, b.norm1.SiLU(g, x, skip), Conv{PerChannel: add})
	residual := x
	if b.convShortcut != nil {
		residual = b.convShortcut.Forward(g, x, Conv{In2: skip})
	} else if skip != nil {
		panic("nn: a block over two inputs has a shortcut: its output is narrower than both together")
	}
	return b.conv2.Forward(g, b.norm2.SiLU(g, h, nil), Conv{Residual: residual})
}
