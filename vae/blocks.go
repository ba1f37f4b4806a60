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
	up      bool       // resize doubles the picture first; in the encoder it has a stride of 2
}

func newStage(l nn.Loader, c Config, in, out, layers int) stage {
	var s stage
	for i := range layers {
		s.resnets = append(s.resnets, l.At("resnets", i).ResBlock(in, out, nil, c.NormNumGroups, normEps))
		in = out
	}
	return s
}

func (s stage) forward(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	for _, r := range s.resnets {
		x = r.Forward(g, x, nil, nn.Time{})
	}
	if s.resize == nil {
		return x
	}
	return s.resized(g, x)
}

func (s stage) resized(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	var o nn.Conv
	if s.up {
		o.Upsample = [2]int{2 * x.Shape[1], 2 * x.Shape[2]}
	}
	return s.resize.Forward(g, x, o)
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
		b.resnets[i] = l.At("resnets", i).ResBlock(width, width, nil, c.NormNumGroups, normEps)
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
	x = b.resnets[0].Forward(g, x, nil, nn.Time{})
	if b.attention != nil {
		x = b.attend(g, x)
	}
	return b.resnets[1].Forward(g, x, nil, nn.Time{})
}

// attend is x += attention(GN x), each pixel a token.
func (b midBlock) attend(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	n, h, w, c := x.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]
	tokens := g.Reshape(b.groupNorm.Forward(g, x, nil), n, h*w, c)
	y := b.attention.Forward(g, tokens, nil, g.Reshape(x, n, h*w, c))
	return g.Reshape(y, n, h, w, c)
}
