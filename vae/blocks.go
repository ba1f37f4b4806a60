package vae

import (
	"darkroom/kernels"
	"darkroom/nn"
)

// stage is the ResBlocks of one resolution (a DownEncoderBlock2D or UpDecoderBlock2D) and the
// convolution that leads to the next.
type stage struct {
	resnets []nn.ResBlock
	resize  *nn.Conv2D // nil at the last
}

func newStage(l nn.Loader, c Config, in, out, layers int) stage {
	var s stage
	for i := range layers {
		s.resnets = append(s.resnets, l.At("resnets", i).ResBlock(in, out, 0, c.NormNumGroups, normEps))
		in = out
	}
	return s
}

func (s stage) resnetsForward(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	for _, r := range s.resnets {
		x = r.Forward(g, x, nil, nil)
	}
	return x
}

// midBlock is ResBlock → attention over all pixels → ResBlock.
type midBlock struct {
	resnets   [2]nn.ResBlock
	groupNorm nn.GroupNorm
	attention *nn.Attention // nil where config.json says mid_block_add_attention: false
}

func newMidBlock(l nn.Loader, c Config) midBlock {
	width := c.BlockOutChannels[len(c.BlockOutChannels)-1]
	var b midBlock
	for i := range b.resnets {
		b.resnets[i] = l.At("resnets", i).ResBlock(width, width, 0, c.NormNumGroups, normEps)
	}
	if c.MidBlockAddAttention {
		a := l.At("attentions", 0)
		b.groupNorm = a.At("group_norm").GroupNorm(width, c.NormNumGroups, normEps)
		names := nn.AttentionNames{Q: "to_q", K: "to_k", V: "to_v", Out: "to_out.0"}
		if !a.Has("to_q.weight") { // files from before diffusers 0.18, Stable Diffusion 1.5's among them
			names = nn.AttentionNames{Q: "query", K: "key", V: "value", Out: "proj_attn"}
		}
		attention := a.Attention(names, width, width, 1)
		b.attention = &attention
	}
	return b
}

func (b midBlock) forward(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	x = b.resnets[0].Forward(g, x, nil, nil)
	if b.attention != nil {
		n, h, w, c := x.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]
		tokens := g.Reshape(b.groupNorm.Forward(g, x, nil), n, h*w, c)
		y := b.attention.Forward(g, tokens, nil, g.Reshape(x, n, h*w, c))
		x = g.Reshape(y, n, h, w, c)
	}
	return b.resnets[1].Forward(g, x, nil, nil)
}
