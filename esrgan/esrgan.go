// Package esrgan is the upscalers of Real-ESRGAN (Wang et al. 2021): RRDBNet, the generator of ESRGAN (Wang et al. 2018), and
// SRVGGNetCompact, by the names of its checkpoints.
package esrgan

import (
	"darkroom/kernels"
	"darkroom/nn"
)

// Model is the network put together from a checkpoint.
type Model struct {
	Config Config

	// RRDBNet's.
	convFirst, convBody, convHR, convLast nn.Conv2D
	body                                  []rrdb
	convUp                                []nn.Conv2D
	// SRVGGNetCompact's.
	chain  []nn.Conv2D
	slopes []*kernels.Weight // of each layer of the chain but the last

	unshuffle, same nn.Conv2D // made once, as their filters are weights
}

// New puts the network together; the error lists every weight that is missing or of another shape.
func New(c Config, l nn.Loader) (*Model, error) {
	m := &Model{Config: c, unshuffle: nn.PixelUnshuffle(3, max(c.Unshuffle, 1)), same: nn.Affine(3, 1, 0)}
	if c.Compact {
		in := 3
		for i := range c.Blocks + 1 {
			m.chain = append(m.chain, l.At("body", 2*i).Conv2D(in, c.Features, 3))
			m.slopes = append(m.slopes, l.At("body", 2*i+1).Weight("weight", kernels.Vector, c.Features))
			in = c.Features
		}
		m.chain = append(m.chain, l.At(c.lastName()).Conv2D(in, 3*c.Scale*c.Scale, 3))
		return m, l.Err()
	}
	f := c.Features
	m.convFirst = l.At("conv_first").Conv2D(3*c.Unshuffle*c.Unshuffle, f, 3)
	for i := range c.Blocks {
		var b rrdb
		for k := range b {
			b[k] = newDense(l.At("body", i, []string{"rdb1", "rdb2", "rdb3"}[k]), c)
		}
		m.body = append(m.body, b)
	}
	m.convBody = l.At("conv_body").Conv2D(f, f, 3)
	for _, name := range []string{"conv_up1", "conv_up2", "conv_up3", "conv_up4"}[:c.Ups] {
		m.convUp = append(m.convUp, l.At(name).Conv2D(f, f, 3))
	}
	m.convHR, m.convLast = l.At("conv_hr").Conv2D(f, f, 3), l.At("conv_last").Conv2D(f, 3, 3)
	return m, l.Err()
}

// dense is a residual dense block: x + 0.2·conv5(x ‖ x1 ‖ … ‖ x4), each xi made of all before it.
type dense [5]nn.Conv2D

func newDense(l nn.Loader, c Config) dense {
	var d dense
	for i := range d {
		out := c.Grow
		if i == len(d)-1 {
			out = c.Features
		}
		d[i] = l.At([]string{"conv1", "conv2", "conv3", "conv4", "conv5"}[i]).Conv2D(c.Features+i*c.Grow, out, 3)
	}
	return d
}

func (d dense) forward(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	all, latest := x, leaky(g, d[0].Forward(g, x, nn.Conv{}))
	for i, conv := range d[1:] {
		y := conv.Forward(g, all, nn.Conv{In2: latest})
		if i == len(d)-2 {
			return residual(g, x, y)
		}
		all = g.Add("", &kernels.Concat{Parts: []*kernels.Tensor{all, latest}, Axis: 3})
		latest = leaky(g, y)
	}
	panic("esrgan: a dense block ends with its last layer")
}

// rrdb is a residual of three residual dense blocks.
type rrdb [3]dense

func (b rrdb) forward(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	y := x
	for _, d := range b {
		y = d.forward(g, y)
	}
	return residual(g, x, y)
}

func leaky(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	return g.Add("", &kernels.Pointwise{A: x, Act: kernels.LeakyReLU})
}

func residual(g *kernels.Graph, x, y *kernels.Tensor) *kernels.Tensor {
	return g.Add("", &kernels.Pointwise{A: x, B: y, Factor: 0.2})
}

// Forward writes the network into g: pictures [N,H,W,3] with values from 0 to 1, whose sides are multiples of Unshuffle, to
// [N,Scale·H,Scale·W,3].
func (m *Model) Forward(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	if m.Config.Compact {
		return m.forwardCompact(g, x)
	}
	if m.Config.Unshuffle > 1 {
		x = m.unshuffle.Forward(g, x, nn.Conv{})
	}
	first := m.convFirst.Forward(g, x, nn.Conv{})
	y := first
	for _, b := range m.body {
		y = b.forward(g, y)
	}
	y = m.convBody.Forward(g, y, nn.Conv{Residual: first})
	for _, up := range m.convUp {
		y = leaky(g, up.Forward(g, y, nn.Conv{Upsample: [2]int{2 * y.Shape[1], 2 * y.Shape[2]}}))
	}
	return m.convLast.Forward(g, leaky(g, m.convHR.Forward(g, y, nn.Conv{})), nn.Conv{})
}

// forwardCompact adds what the chain makes of the picture to the picture, enlarged.
func (m *Model) forwardCompact(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	y, last := x, len(m.chain)-1
	for i, conv := range m.chain[:last] {
		y = g.Add("", &kernels.Pointwise{A: conv.Forward(g, y, nn.Conv{}), Act: kernels.PReLU, Slope: m.slopes[i]})
	}
	s := m.Config.Scale
	y = g.Add("", &kernels.PixelShuffle{In: m.chain[last].Forward(g, y, nn.Conv{}), Factor: s})
	return m.same.Forward(g, x, nn.Conv{Upsample: [2]int{s * x.Shape[1], s * x.Shape[2]}, Residual: y})
}

// Write writes the network into g, for Rows pictures of H×W pixels: "image" to "image", as Forward has them. It
// implements nn.Network.
func (m *Model) Write(g *kernels.Graph, s nn.Sizes) {
	g.Output("image", m.Forward(g, g.Input("image", g.DType, s.Rows, s.H, s.W, 3)))
}
