// Package control steers a U-Net by pictures.
//
// ControlNets (Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models") are a second way down the U
// that also sees the picture; what it leaves is added to what the U-Net's own leaves. Both are written into one graph.
// T2I-Adapters and image prompts (IP-Adapter) run once a picture; the U-Net reads what they give.
package control

import (
	"fmt"
	"math"
	"slices"

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
	union      *union // nil for a net of one type of hints
	pool       []pool // of each residual; nil where they are not averaged
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
	if c.Types > 0 {
		m.union = newUnion(c, l)
	}
	if c.Pooled {
		for _, conv := range append(slices.Clone(m.downBlocks), m.midBlock) {
			m.pool = append(m.pool, newPool(ch[0], conv.Weight.Shape[0]))
		}
	}
	return m, l.Err()
}

// embed is the hint's convolutions.
func (m *Model) embed(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	last := len(m.hint) - 1
	for _, conv := range m.hint[:last] {
		x = conv.Forward(g, x, nn.Conv{Act: kernels.SiLU})
	}
	return m.hint[last].Forward(g, x, nn.Conv{})
}

// leaves writes the rest of the net and returns what is to be added to each skip and, last, to the middle; no more than most.
func (m *Model) leaves(g *kernels.Graph, in unet.Inputs, hint *kernels.Tensor, most int) []*kernels.Tensor {
	d := m.half.DownTo(g, in, hint, most)
	var out []*kernels.Tensor
	for i, skip := range d.Skips {
		out = append(out, m.downBlocks[i].Forward(g, skip, nn.Conv{}))
	}
	if d.Middle == nil {
		return out
	}
	return append(out, m.midBlock.Forward(g, d.Middle, nn.Conv{}))
}

// Net is a ControlNet in use.
type Net struct {
	*Model
	// Guess weakens what is added the more, the nearer to the top: from 1 in the middle to 1/10.
	Guess bool
	// Types are those of a Union's hints, one each; nil for other nets, which have one hint.
	Types []int
}

// hints is how many the net reads.
func (n Net) hints() int { return max(1, len(n.Types)) }

// Controlled is a U-Net with its ControlNets: a network that reads, besides what the U-Net reads, each hint and its
// strength. It implements nn.Network.
type Controlled struct {
	UNet *unet.Model
	Nets []Net
}

// On puts nets on a U-Net. It fails if one belongs to another kind of model.
func On(u *unet.Model, nets ...Net) (*Controlled, error) {
	for i, n := range nets {
		if err := n.Config.Fits(u.Config); err != nil {
			return nil, fmt.Errorf("control %d: %w", i+1, err)
		}
		if (n.Config.Types > 0) != (len(n.Types) > 0) {
			return nil, fmt.Errorf("control %d: a Union needs the types of its hints, and only it", i+1)
		}
		for k, t := range n.Types {
			if t < 0 || t >= n.Config.Types || slices.Contains(n.Types[:k], t) {
				return nil, fmt.Errorf("control %d: the types of its hints are %v: each once, from 0 to %d, is possible", i+1, n.Types, n.Config.Types-1)
			}
		}
	}
	return &Controlled{u, nets}, nil
}

// Names are the inputs of hint i, counted over all nets: "hint" and "strength" for the first, "hint2" and "strength2"
// for the next, …
func Names(i int) (hint, strength string) { return numbered("hint", i), numbered("strength", i) }

// SampleName is an input of nets that read the latents alone on an editing model: "sample" without what that reads beside.
const SampleName = "control_sample"

// TypesName is the input of net i, if it is a Union: Config.TypesProj of its types.
func TypesName(i int) string { return numbered("control_type", i) }

func numbered(name string, i int) string {
	if i == 0 {
		return name
	}
	return fmt.Sprint(name, i+1)
}

// Write writes the U-Net and its nets, or what a cut leaves of them, into g. Each hint is [N,f·H,f·W,HintChannels] with values from 0 to 1, its
// strength [N,1]: 0 leaves the U-Net alone.
func (c *Controlled) Write(g *kernels.Graph, s nn.Sizes) {
	most := math.MaxInt // skips
	switch s.Cut.Form {
	case nn.First: // the U-Net's own first layer tells how much changes
		c.UNet.Write(g, s)
		return
	case nn.Outer:
		most = s.Cut.Layers
	}
	in := c.UNet.Inputs(g, s)
	var sample *kernels.Tensor
	latents := func(s nn.Sizes) *kernels.Tensor {
		if sample == nil {
			sample = g.Input(SampleName, g.DType, s.Rows, s.H, s.W, c.UNet.Config.OutChannels)
		}
		return sample
	}
	d := c.UNet.DownTo(g, in, nil, most)
	if s.Cut.Form == nn.Keep {
		g.Output("first", d.Skips[1])
	}
	first := 0 // hint of the net
	for i, n := range c.Nets {
		f := n.Config.Factor()
		var hints, strengths []*kernels.Tensor
		for k := range n.hints() {
			hint, strength := Names(first + k)
			hints = append(hints, g.SteadyInput(hint, g.DType, s.Rows, f*s.H, f*s.W, n.Config.HintChannels))
			strengths = append(strengths, g.Input(strength, g.DType, s.Rows, 1))
		}
		first += len(hints)
		own := in.Plain()
		if n.Config.InChannels != c.UNet.Config.InChannels {
			own.Sample = latents(s)
		}
		residuals, strength := n.forward(g, i, own, hints, strengths, most)
		for k, r := range residuals {
			to := &d.Middle
			if k < len(d.Skips) {
				to = &d.Skips[k]
			}
			label := fmt.Sprintf("control %d, residual %d", i+1, k)
			if n.pool != nil {
				*to = n.pool[k].add(g, label, *to, r, in.Time, strength)
				continue
			}
			var factor float32 // 1
			if last := len(n.downBlocks); n.Guess && last > 0 {
				factor = float32(math.Pow(10, float64(k)/float64(last)-1))
			}
			*to = g.Add(label, &kernels.Pointwise{A: *to, B: r, Scale: strength, Factor: factor})
		}
	}
	g.Output("prediction", c.UNet.UpCut(g, in, d, s.Cut))
}

// forward writes net i and returns what it leaves, and how strong that is: nil where the hints' strengths are in it.
func (n Net) forward(g *kernels.Graph, i int, in unet.Inputs, hints, strengths []*kernels.Tensor, most int) (residuals []*kernels.Tensor, strength *kernels.Tensor) {
	if n.union == nil {
		return n.leaves(g, in, n.embed(g, hints[0]), most), strengths[0]
	}
	c := n.Config
	in.Extra = n.union.types(g, g.SteadyInput(TypesName(i), g.DType, in.Time.Shape[0], c.Types*c.AddedTimeDim))
	zero := g.Add("control zero", &kernels.Pointwise{A: in.Time, B: in.Time, Factor: -1}) // as wide as the first level
	var added *kernels.Tensor
	for k, hint := range hints {
		var inside *kernels.Tensor // several hints are weighed apart, before they meet
		if len(hints) > 1 {
			inside = strengths[k]
		}
		added = n.union.fuse(g, n.embed(g, hint), n.Types[k], c.UnionHeads, inside, zero, added)
	}
	if len(hints) == 1 {
		strength = strengths[0]
	}
	return n.leaves(g, in, added, most), strength
}
