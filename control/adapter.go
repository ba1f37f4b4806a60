package control

import (
	"fmt"
	"slices"

	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/unet"
)

// AdapterConfig is what the config.json of a T2I-Adapter says.
type AdapterConfig struct {
	Kind     string // "full_adapter", "full_adapter_xl" or "light_adapter"
	Channels int    // of the hint
	Widths   []int  // of the features
	Layers   int    // ResBlocks of each
	Factor   int    // pixels of the hint a side that are put together first
}

// ReadAdapterConfig reads the config.json of a T2IAdapter. A value that this program does not support is an error that names
// file, key and value. Defaults are those of diffusers.
func ReadAdapterConfig(c *checkpoint.Config) (AdapterConfig, error) {
	m := AdapterConfig{
		Kind:     c.OneOf("adapter_type", "full_adapter", "full_adapter_xl", "light_adapter"),
		Channels: c.IntIn("in_channels", 1, 64, 3), Widths: c.Ints("channels", 0, 320, 640, 1280, 1280),
		Layers: c.IntIn("num_res_blocks", 1, 64, 2), Factor: c.IntIn("downscale_factor", 1, 64, 8),
	}
	if n := len(m.Widths); n == 0 || n > 8 || slices.Min(m.Widths) < 4 || slices.Max(m.Widths) > 1<<16 {
		c.Fail("channels", "1 to 8 widths from 4 to 65536 are supported")
	}
	return m, c.Done()
}

// Features is how many the adapter gives.
func (c AdapterConfig) Features() int {
	if c.Kind == "light_adapter" {
		return len(c.Widths) + 1
	}
	return len(c.Widths)
}

// halves says whether block i averages squares of 2×2 pixels first.
func (c AdapterConfig) halves(i int) bool {
	if c.Kind == "full_adapter_xl" {
		return i == 2
	}
	return i > 0
}

// Multiple is what the sides of the hint must be multiples of.
func (c AdapterConfig) Multiple() int {
	m := c.Factor
	for i := range c.Features() {
		if c.halves(i) {
			m *= 2
		}
	}
	return m
}

// Adapter is a T2I-Adapter (Mou et al. 2023, "T2I-Adapter: Learning Adapters to Dig out More Controllable Ability"), by the
// names of diffusers' T2IAdapter. It runs once a picture; a unet.Model.WithFeatures reads what it gives.
type Adapter struct {
	Config AdapterConfig

	unshuffle nn.Conv2D
	convIn    *nn.Conv2D // nil in a light one
	body      []adapterBlock
}

type adapterBlock struct {
	average         *nn.Conv2D
	inConv, outConv *nn.Conv2D
	layers          [][2]nn.Conv2D // x += conv(ReLU(conv x))
}

// NewAdapter puts the network together; the error lists every weight that is missing or of another shape.
func NewAdapter(c AdapterConfig, l nn.Loader) (*Adapter, error) {
	l = l.At("adapter")
	conv := func(name string, in, out, k int) *nn.Conv2D {
		y := l.At(name).Conv2D(in, out, k)
		return &y
	}
	a, in := &Adapter{Config: c, unshuffle: nn.PixelUnshuffle(c.Channels, c.Factor)}, c.Channels*c.Factor*c.Factor
	light := c.Kind == "light_adapter"
	if !light {
		a.convIn = conv("conv_in", in, c.Widths[0], 3)
		in = c.Widths[0]
	}
	for i := range c.Features() {
		out := c.Widths[min(i, len(c.Widths)-1)]
		var b adapterBlock
		if c.halves(i) {
			y := nn.Average2(in)
			b.average = &y
		}
		width, second, path := out, 1, fmt.Sprintf("body.%d.", i)
		if light { // narrower inside
			width, second = out/4, 3
			b.outConv = conv(path+"out_conv", width, out, 1)
		}
		if light || in != out {
			b.inConv = conv(path+"in_conv", in, width, 1)
		}
		for k := range c.Layers {
			layer := fmt.Sprintf("%sresnets.%d.", path, k)
			b.layers = append(b.layers, [2]nn.Conv2D{*conv(layer+"block1", width, width, 3), *conv(layer+"block2", width, width, second)})
		}
		a.body = append(a.body, b)
		in = out
	}
	return a, l.Err()
}

// Write writes the network into g, for Rows hints of H×W pixels, multiples of Multiple: "hint", [N,H,W,Channels] with values
// from 0 to 1, to unet.FeatureName of each feature. It implements nn.Network.
func (a *Adapter) Write(g *kernels.Graph, s nn.Sizes) {
	x := a.unshuffle.Forward(g, g.Input("hint", g.DType, s.Rows, s.H, s.W, a.Config.Channels), nn.Conv{})
	through := func(c *nn.Conv2D) {
		if c != nil {
			x = c.Forward(g, x, nn.Conv{})
		}
	}
	through(a.convIn)
	for i, b := range a.body {
		through(b.average)
		through(b.inConv)
		for _, l := range b.layers {
			h := g.Add("", &kernels.Pointwise{A: l[0].Forward(g, x, nn.Conv{}), Act: kernels.ReLU})
			x = l[1].Forward(g, h, nn.Conv{Residual: x})
		}
		through(b.outConv)
		g.Output(unet.FeatureName(i), x)
	}
}
