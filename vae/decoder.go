// Package vae is the autoencoder between pictures and latents (Kingma & Welling 2013; Rombach et al.
// 2022, sec. 3.1), by the names of diffusers' AutoencoderKL.
package vae

import (
	"darkroom/kernels"
	"darkroom/nn"
)

// normEps is what diffusers fixes for every norm of the autoencoder.
const normEps = 1e-6

// Decoder turns latents into pictures.
type Decoder struct {
	Config Config

	postQuantConv *nn.Conv2D // nil where config.json says use_post_quant_conv: false
	convIn        nn.Conv2D
	midBlock      midBlock
	upBlocks      []stage
	convNormOut   nn.GroupNorm
	convOut       nn.Conv2D
}

// NewDecoder puts the decoder together; the error lists every weight that is missing or of another shape.
func NewDecoder(c Config, l nn.Loader) (*Decoder, error) {
	c = c.decoder()
	ch := c.BlockOutChannels
	last := len(ch) - 1
	dec := l.At("decoder")
	d := &Decoder{
		Config:      c,
		convIn:      dec.At("conv_in").Conv2D(c.LatentChannels, ch[last], 3),
		midBlock:    newMidBlock(dec.At("mid_block"), c),
		convNormOut: dec.At("conv_norm_out").GroupNorm(ch[0], c.NormNumGroups, normEps),
		convOut:     dec.At("conv_out").Conv2D(ch[0], c.OutChannels, 3),
	}
	if c.UsePostQuantConv {
		conv := l.At("post_quant_conv").Conv2D(c.LatentChannels, c.LatentChannels, 1)
		d.postQuantConv = &conv
	}
	in := ch[last]
	for i := range ch {
		out := ch[last-i]
		s := newStage(dec.At("up_blocks", i), c, in, out, c.LayersPerBlock+1)
		if i < last {
			conv := dec.At("up_blocks", i, "upsamplers.0.conv").Conv2D(out, out, 3)
			s.resize, s.up = &conv, true
		}
		d.upBlocks = append(d.upBlocks, s)
		in = out
	}
	return d, l.Err()
}

// Forward writes the decoder into g: z, [N,h,w,LatentChannels], as the encoder gave it (unscaled), to
// a picture [N,f·h,f·w,OutChannels] with values from -1 to 1.
func (d *Decoder) Forward(g *kernels.Graph, z *kernels.Tensor) *kernels.Tensor {
	if d.postQuantConv != nil {
		z = d.postQuantConv.Forward(g, z, nn.Conv{})
	}
	x := d.midBlock.forward(g, d.convIn.Forward(g, z, nn.Conv{}))
	for _, s := range d.upBlocks {
		x = s.forward(g, x)
	}
	return d.convOut.Forward(g, d.convNormOut.SiLU(g, x, nil), nn.Conv{})
}

// Write writes the decoder into g, for Rows latents of H×W: "latent" to "image". It implements nn.Network.
func (d *Decoder) Write(g *kernels.Graph, s nn.Sizes) {
	g.Output("image", d.Forward(g, g.Input("latent", g.DType, s.Rows, s.H, s.W, d.Config.LatentChannels)))
}
