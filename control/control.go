// Package control steers a U-Net by pictures: ControlNets (Zhang et al. 2023, "Adding Conditional Control to Text-to-Image
// Diffusion Models"), by the names of diffusers' ControlNetModel. A ControlNet is a second way down the U that also
// sees the picture; what it leaves is added to what the U-Net's own leaves. Both are written into one graph.
package control

import (
	"fmt"
	"math"

	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/unet"
)

// Model is one ControlNet.
type Model struct {
	Config Config

	half       unet.Half
	hint       []nn.Conv2D // conv_in, then two a block, then conv_out
	downBlocks []nn.Conv2D // "zero convolutions", one a skip
	midBlock   nn.Conv2D
}

// New puts the network together; the error lists every weight that is missing or of another shape.
func New(c Config, l nn.Loader) (*Model, error) {
	half, err := unet.NewHalf(c.Config, l)
	if err != nil {
		return nil, err
	}
	m := &Model{Config: c, half: half}
	ch, hint := c.BlockOutChannels, l.At("controlnet_cond_embedding")
	m.hint = append(m.hint, hint.At("conv_in").Conv2D(c.HintChannels, c.HintWidths[0], 3))
	for i, width := range c.HintWidths[:len(c.HintWidths)-1] {
		down := hint.At("blocks", 2*i+1).Conv2D(width, c.HintWidths[i+1], 3)
		down.Stride = 2
		m.hint = append(m.hint, hint.At("blocks", 2*i).Conv2D(width, width, 3), down)
	}
	m.hint = append(m.hint, hint.At("conv_out").Conv2D(c.HintWidths[len(c.HintWidths)-1], ch[0], 3))

	zero := func(width int) {
		m.downBlocks = append(m.downBlocks, l.At("controlnet_down_blocks", len(m.downBlocks)).Conv2D(width, width, 1))
	}
	zero(ch[0])
	for level, width := range ch {
		for range c.LayersPerBlock[level] {
			zero(width)
		}
		if level < len(ch)-1 {
			zero(width)
		}
	}
	m.midBlock = l.At("controlnet_mid_block").Conv2D(ch[len(ch)-1], ch[len(ch)-1], 1)
	return m, l.Err()
}

// forward writes the net into g and returns what is to be added to each skip and, last, to the middle.
func (m *Model) forward(g *kernels.Graph, in unet.Inputs, picture *kernels.Tensor) []*kernels.Tensor {
	x := picture
	for _, conv := range m.hint[:len(m.hint)-1] {
		x = conv.Forward(g, x, nn.Conv{Act: kernels.SiLU})
	}
	d := m.half.Down(g, in, m.hint[len(m.hint)-1].Forward(g, x, nn.Conv{}))
	var out []*kernels.Tensor
	for i, skip := range d.Skips {
		out = append(out, m.downBlocks[i].Forward(g, skip, nn.Conv{}))
	}
	return append(out, m.midBlock.Forward(g, d.Middle, nn.Conv{}))
}

// Net is a ControlNet in use.
type Net struct {
	*Model
	// Guess weakens what is added the more, the nearer to the top: from 1 in the middle to 1/10.
	Guess bool
}

// Controlled is a U-Net with its ControlNets: a network that reads, besides what the U-Net reads, each net's picture and
// strength. It implements nn.Network.
type Controlled struct {
	UNet *unet.Model
	Nets []Net
}

// On puts nets on a U-Net. It fails if one belongs to another kind of model.
func On(u *unet.Model, nets ...Net) (*Controlled, error) {
	for i, n := range nets {
		if err := n.Config.fits(u.Config); err != nil {
			return nil, fmt.Errorf("control %d: %w", i+1, err)
		}
	}
	return &Controlled{u, nets}, nil
}

// Names are the inputs of net i: "hint" and "strength" for the first, "hint2" and "strength2" for the next, …
func Names(i int) (hint, strength string) {
	if i == 0 {
		return "hint", "strength"
	}
	return fmt.Sprint("hint", i+1), fmt.Sprint("strength", i+1)
}

// Write writes the U-Net and its nets into g. Each net reads its hint, [N,f·H,f·W,HintChannels] with values from 0 to 1,
// and its strength by row, [N,1]: 0 leaves the U-Net alone.
func (c *Controlled) Write(g *kernels.Graph, s nn.Sizes) {
	in := c.UNet.Inputs(g, s)
	d := c.UNet.Down(g, in, nil)
	for i, n := range c.Nets {
		f := n.Config.Factor()
		hint, strength := Names(i)
		picture := g.Input(hint, g.DType, s.Rows, f*s.H, f*s.W, n.Config.HintChannels)
		scale := g.Input(strength, g.DType, s.Rows, 1)
		residuals := n.forward(g, in, picture)
		for k, r := range residuals {
			to := &d.Middle
			if k < len(d.Skips) {
				to = &d.Skips[k]
			}
			var factor float32 // 1
			if last := len(residuals) - 1; n.Guess && last > 0 {
				factor = float32(math.Pow(10, float64(k)/float64(last)-1))
			}
			label := fmt.Sprintf("control %d, residual %d", i+1, k)
			*to = g.Add(label, &kernels.Pointwise{A: *to, B: r, Scale: scale, Factor: factor})
		}
	}
	g.Output("prediction", c.UNet.Up(g, in, d))
}
