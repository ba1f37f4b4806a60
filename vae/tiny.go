package vae

import (
	"fmt"
	"slices"

	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/nn"
)

// TinyConfig is what the config.json of a small autoencoder says (TAESD, diffusers' AutoencoderTiny).
type TinyConfig struct {
	LatentChannels             int
	EncoderWidth, DecoderWidth int   // channels of every level
	EncoderRuns                []int // blocks by level, from the picture down
	DecoderRuns                []int // from the latents up
	ScalingFactor, ShiftFactor float64
}

// Factor is how many pixels a side make one latent pixel.
func (c TinyConfig) Factor() int { return 1 << (len(c.DecoderRuns) - 1) }

// ReadTinyConfig reads the config.json of an AutoencoderTiny. A value that this program does not support is an error that
// names file, key and value. Defaults are those of diffusers.
func ReadTinyConfig(c *checkpoint.Config) (TinyConfig, error) {
	// Magnitude and shift are of latents as bytes; block_out_channels repeats one of the lists.
	c.Ignore("force_upcast", "latent_magnitude", "latent_shift", "block_out_channels")
	c.Fixed("in_channels", 3)
	c.Fixed("out_channels", 3)
	c.Fixed("act_fn", "relu")
	c.Fixed("upsample_fn", "nearest")
	c.Fixed("upsampling_scaling_factor", 2)
	const wide = 1 << 16
	m := TinyConfig{LatentChannels: c.IntIn("latent_channels", 1, wide, 4), ScalingFactor: c.Float("scaling_factor", 1), ShiftFactor: c.Float("shift_factor", 0)}
	list := func(key string, most int, def ...int) []int {
		v := c.Ints(key, 0, def...)
		if len(v) == 0 || len(v) > maxLevels || slices.Min(v) < 1 || slices.Max(v) > most {
			c.Fail(key, fmt.Sprintf("1 to %d numbers from 1 to %d are supported", maxLevels, most))
			return def
		}
		return v
	}
	m.EncoderRuns, m.DecoderRuns = list("num_encoder_blocks", 64, 1, 3, 3, 3), list("num_decoder_blocks", 64, 3, 3, 3, 1)
	width := func(key string) int {
		v := list(key, wide, 64, 64, 64, 64)
		if len(v) != len(m.EncoderRuns) || slices.Min(v) != slices.Max(v) {
			c.Fail(key, fmt.Sprintf("one width for each of the %d levels of num_encoder_blocks is needed, all the same", len(m.EncoderRuns)))
		}
		return v[0]
	}
	m.EncoderWidth, m.DecoderWidth = width("encoder_block_out_channels"), width("decoder_block_out_channels")
	if len(m.DecoderRuns) != len(m.EncoderRuns) {
		c.Fail("num_decoder_blocks", fmt.Sprintf("num_encoder_blocks has %d levels: they must agree", len(m.EncoderRuns)))
	}
	if !(m.ScalingFactor > 0) {
		c.Fail("scaling_factor", "it must be positive")
	}
	return m, c.Done()
}

// tinyBlock is ReLU(3×3 → ReLU → 3×3 → ReLU → 3×3 + x).
type tinyBlock [3]nn.Conv2D

func newTinyBlock(l nn.Loader, width int) tinyBlock {
	return tinyBlock{l.At("conv.0").Conv2D(width, width, 3), l.At("conv.2").Conv2D(width, width, 3), l.At("conv.4").Conv2D(width, width, 3)}
}

func (b tinyBlock) forward(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	h := relu(g, b[0].Forward(g, x, nn.Conv{}))
	h = relu(g, b[1].Forward(g, h, nn.Conv{}))
	return relu(g, b[2].Forward(g, h, nn.Conv{Residual: x}))
}

func relu(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	return g.Add("", &kernels.Pointwise{A: x, Act: kernels.ReLU})
}

// tinyLevel is the blocks of one resolution and the convolution beside them.
type tinyLevel struct {
	conv   nn.Conv2D // in front of the blocks on the way down, after them on the way up
	blocks []tinyBlock
}

func (v tinyLevel) forward(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	for _, b := range v.blocks {
		x = b.forward(g, x)
	}
	return x
}

// TinyDecoder turns latents into pictures, in a fraction of the Decoder's time. It reads and gives what that does.
type TinyDecoder struct {
	Config   TinyConfig
	first    nn.Conv2D
	levels   []tinyLevel
	toSigned nn.Conv2D // from [0, 1] to [-1, 1]
}

// NewTinyDecoder puts the decoder together; the error lists every weight that is missing or of another shape.
func NewTinyDecoder(c TinyConfig, l nn.Loader) (*TinyDecoder, error) {
	width, at := c.DecoderWidth, 2 // after the first convolution and its ReLU
	d := &TinyDecoder{Config: c, toSigned: nn.Affine(3, 2, -1), first: l.At("decoder.layers.0").Conv2D(c.LatentChannels, width, 3)}
	for i, blocks := range c.DecoderRuns {
		var v tinyLevel
		for range blocks {
			v.blocks = append(v.blocks, newTinyBlock(l.At("decoder.layers", at), width))
			at++
		}
		out := 3
		if i < len(c.DecoderRuns)-1 {
			out = width
			at++ // the doubling
		}
		v.conv = l.At("decoder.layers", at).Conv2D(width, out, 3)
		at++
		d.levels = append(d.levels, v)
	}
	return d, l.Err()
}

// Forward writes the decoder into g, as Decoder.Forward.
func (d *TinyDecoder) Forward(g *kernels.Graph, z *kernels.Tensor) *kernels.Tensor {
	z = g.Add("", &kernels.Pointwise{A: z, Act: kernels.SoftClip})
	x := relu(g, d.first.Forward(g, z, nn.Conv{}))
	for i, v := range d.levels {
		x = v.forward(g, x)
		var o nn.Conv
		if i < len(d.levels)-1 {
			o.Upsample = [2]int{2 * x.Shape[1], 2 * x.Shape[2]}
		}
		x = v.conv.Forward(g, x, o)
	}
	return d.toSigned.Forward(g, x, nn.Conv{})
}

// Write writes the decoder into g, for Rows latents of H×W: "latent" to "image". It implements nn.Network.
func (d *TinyDecoder) Write(g *kernels.Graph, s nn.Sizes) {
	g.Output("image", d.Forward(g, g.Input("latent", g.DType, s.Rows, s.H, s.W, d.Config.LatentChannels)))
}

// TinyEncoder turns pictures into latents. They have no variance: what it gives is not the Encoder's moments.
type TinyEncoder struct {
	Config TinyConfig
	levels []tinyLevel
	last   nn.Conv2D
	toUnit nn.Conv2D // from [-1, 1] to [0, 1]
}

// NewTinyEncoder puts the encoder together; the error lists every weight that is missing or of another shape.
func NewTinyEncoder(c TinyConfig, l nn.Loader) (*TinyEncoder, error) {
	e, at, width, in := &TinyEncoder{Config: c, toUnit: nn.Affine(3, 0.5, 0.5)}, 0, c.EncoderWidth, 3
	for i, blocks := range c.EncoderRuns {
		v := tinyLevel{conv: l.At("encoder.layers", at).Conv2D(in, width, 3)}
		if i > 0 {
			v.conv.Stride = 2
		}
		at++
		for range blocks {
			v.blocks = append(v.blocks, newTinyBlock(l.At("encoder.layers", at), width))
			at++
		}
		e.levels = append(e.levels, v)
		in = width
	}
	e.last = l.At("encoder.layers", at).Conv2D(in, c.LatentChannels, 3)
	return e, l.Err()
}

// Forward writes the encoder into g: a picture [N,H,W,3] with values from -1 to 1 to [N,H/f,W/f,LatentChannels].
func (e *TinyEncoder) Forward(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	x = e.toUnit.Forward(g, x, nn.Conv{})
	for _, v := range e.levels {
		x = v.forward(g, v.conv.Forward(g, x, nn.Conv{}))
	}
	return e.last.Forward(g, x, nn.Conv{})
}

// Write writes the encoder into g, for Rows pictures of H×W pixels: "image" to "latent". It implements nn.Network.
func (e *TinyEncoder) Write(g *kernels.Graph, s nn.Sizes) {
	g.Output("latent", e.Forward(g, g.Input("image", g.DType, s.Rows, s.H, s.W, 3)))
}
