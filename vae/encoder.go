package vae

import (
	"darkroom/kernels"
	"darkroom/nn"
)

// Encoder turns pictures into the mean and log-variance of their latents.
type Encoder struct {
	Config Config

	convIn      nn.Conv2D
	downBlocks  []stage
	midBlock    midBlock
	convNormOut nn.GroupNorm
	convOut     nn.Conv2D
	quantConv   *nn.Conv2D // nil where config.json says use_quant_conv: false
}

// NewEncoder puts the encoder together; the error lists every weight that is missing or of another shape.
func NewEncoder(c Config, l nn.Loader) (*Encoder, error) {
	ch := c.BlockOutChannels
	last := len(ch) - 1
	enc := l.At("encoder")
	e := &Encoder{
		Config:      c,
		convIn:      enc.At("conv_in").Conv2D(c.InChannels, ch[0], 3),
		midBlock:    newMidBlock(enc.At("mid_block"), c),
		convNormOut: enc.At("conv_norm_out").GroupNorm(ch[last], c.NormNumGroups, normEps),
		convOut:     enc.At("conv_out").Conv2D(ch[last], 2*c.LatentChannels, 3),
	}
	if c.UseQuantConv {
		conv := l.At("quant_conv").Conv2D(2*c.LatentChannels, 2*c.LatentChannels, 1)
		e.quantConv = &conv
	}
	in := ch[0]
	for i, out := range ch {
		s := newStage(enc.At("down_blocks", i), c, in, out, c.LayersPerBlock)
		if i < last {
			conv := enc.At("down_blocks", i, "downsamplers.0.conv").Conv2D(out, out, 3)
			conv.Stride, conv.Pad = 2, [2]int{0, 1} // right and bottom only
			s.resize = &conv
		}
		e.downBlocks = append(e.downBlocks, s)
		in = out
	}
	return e, l.Err()
}

// Forward writes the encoder into g: a picture [N,H,W,InChannels] with values from -1 to 1 to
// [N,H/f,W/f,2·LatentChannels], means first, then log-variances.
func (e *Encoder) Forward(g *kernels.Graph, image *kernels.Tensor) *kernels.Tensor {
	x := e.convIn.Forward(g, image, nn.Conv{})
	for _, s := range e.downBlocks {
		x = s.forward(g, x)
	}
	x = e.midBlock.forward(g, x)
	x = e.convOut.Forward(g, e.convNormOut.SiLU(g, x, nil), nn.Conv{})
	if e.quantConv != nil {
		x = e.quantConv.Forward(g, x, nn.Conv{})
	}
	return x
}

// Write writes the encoder into g, for Rows pictures of H×W pixels: "image" to "moments". It implements nn.Network.
func (e *Encoder) Write(g *kernels.Graph, s nn.Sizes) {
	g.Output("moments", e.Forward(g, g.Input("image", g.DType, s.Rows, s.H, s.W, e.Config.InChannels)))
}
