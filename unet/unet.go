// Package unet is the denoiser of Stable Diffusion 1.x, 2.x and XL: a U-Net with time embedding and
// cross-attention to the text (Rombach et al. 2022, "High-Resolution Image Synthesis with Latent
// Diffusion Models", sec. 3.3; Ho et al. 2020, app. B), by the names of diffusers'
// UNet2DConditionModel.
package unet

import (
	"fmt"
	"math"
	"slices"

	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// Model is the network put together from a checkpoint.
type Model struct {
	Half

	upBlocks    []upBlock
	times       *nn.Times // of the way up
	convNormOut nn.GroupNorm
	convOut     nn.Conv2D
	imageTokens []int // of each image prompt
}

// New puts the network together; the error lists every weight that is missing or of another shape.
func New(c Config, l nn.Loader) (*Model, error) {
	half, err := NewHalf(c, l)
	if err != nil {
		return nil, err
	}
	ch := c.BlockOutChannels
	times := l.Times(c.TimeEmbedDim())
	m := &Model{
		times:       times,
		Half:        half,
		convNormOut: l.At("conv_norm_out").GroupNorm(ch[0], c.NormNumGroups, c.NormEps),
		convOut:     l.At("conv_out").Conv2D(ch[0], c.OutChannels, c.ConvOutKernel),
	}
	last := len(ch) - 1
	for i, kind := range c.UpBlockTypes {
		level := last - i // the level of the down block on the other side of the U
		m.upBlocks = append(m.upBlocks, newUpBlock(l.At("up_blocks", i).Tolerant(true), times, c, level, kind, ch[min(level+1, last)], i < last))
	}
	times.Load()
	return m, l.Err()
}

// Half is the way down the U and its bottom, which a ControlNet has, too.
type Half struct {
	Config Config

	embedding  embedding
	times      *nn.Times
	convIn     nn.Conv2D
	downBlocks []downBlock
	midBlock   *midBlock // nil where config.json says null
	features   int       // of an adapter; 0 without one
	frames     int       // the most that a motion module knows; 0 without one
}

// NewHalf puts half a network together. What is missing stays with the loader; the error is of the configuration.
func NewHalf(c Config, l nn.Loader) (Half, error) {
	if c.AddedDim > 0 && c.PooledDim() <= 0 {
		return Half{}, fmt.Errorf("unet/config.json: projection_class_embeddings_input_dim is %d: that is no room for a text beside %d sinusoids of %d", c.AddedDim, c.TimeIDs, c.AddedTimeDim)
	}
	ch := c.BlockOutChannels
	h := Half{
		Config:    c,
		embedding: newEmbedding(l, c),
		times:     l.Times(c.TimeEmbedDim()),
		convIn:    l.At("conv_in").Conv2D(c.InChannels, ch[0], c.ConvInKernel),
	}
	last := len(ch) - 1
	for i, kind := range c.DownBlockTypes {
		h.downBlocks = append(h.downBlocks, newDownBlock(l.At("down_blocks", i).Tolerant(true), h.times, c, i, kind, ch[max(i-1, 0)], i < last))
	}
	if c.MidBlockType != "" {
		h.midBlock = newMidBlock(l.At("mid_block").Tolerant(true), h.times, c)
	}
	h.times.Load()
	return h, nil
}

// Down is what the way down leaves.
type Down struct {
	Skips  []*kernels.Tensor // from the top: after the first convolution, each layer and each downsampling
	Middle *kernels.Tensor
	temb   *kernels.Tensor
}

// Down writes the way down and the bottom into g. The tensor added joins the first convolution's result; nil for none.
func (h Half) Down(g *kernels.Graph, in Inputs, added *kernels.Tensor) Down {
	return h.DownTo(g, in, added, math.MaxInt)
}

// DownTo is Down as far as there are most skips. The bottom is there where the way is not cut off.
func (h Half) DownTo(g *kernels.Graph, in Inputs, added *kernels.Tensor, most int) Down {
	d := Down{temb: Each(g, h.embedding.forward(g, in), in.frames)}
	time := h.times.Forward(g, d.temb)
	x := h.convIn.Forward(g, in.Sample, nn.Conv{Residual: added})
	d.Skips = []*kernels.Tensor{x}
	join := h.joiner(g, in.Sample.Shape[0])
	for _, b := range h.downBlocks {
		x = b.forward(g, x, time, in.context(), join, in.filmed, &d.Skips, most)
	}
	if len(d.Skips) == most {
		return d
	}
	if h.midBlock != nil {
		x = h.midBlock.forward(g, x, time, in.context(), in.filmed)
	}
	d.Middle = join(x)
	return d
}

// joiner adds an adapter's features, one after the other, where the way down calls it, as long as there are any. They are
// inputs of the shape that they meet.
func (h Half) joiner(g *kernels.Graph, rows int) func(x *kernels.Tensor) *kernels.Tensor {
	next := 0
	var strength *kernels.Tensor
	return func(x *kernels.Tensor) *kernels.Tensor {
		if next == h.features {
			return x
		}
		if next == 0 {
			strength = g.Input("adapter_strength", g.DType, rows, 1)
		}
		name := FeatureName(next)
		next++
		return g.Add(name, &kernels.Pointwise{A: x, B: g.Input(name, g.DType, x.Shape...), Scale: strength})
	}
}

// FeatureName is what feature i of an adapter is called: its output, and the U-Net's input.
func FeatureName(i int) string { return fmt.Sprint("feature", i) }

// WithFeatures is the network with a T2I-Adapter on it (Mou et al. 2023), which also reads that adapter's features and
// their strength, "adapter_strength".
func (m *Model) WithFeatures(n int) (*Model, error) {
	if blocks := len(m.downBlocks); n < 1 || n > blocks+1 {
		return nil, fmt.Errorf("an adapter of %d features, but the U-Net has room for %d: the adapter belongs to another kind of model", n, blocks+1)
	}
	w := *m
	w.features = n
	return &w, nil
}

// Inputs are the tensors that the network reads, by the names of a graph's inputs.
type Inputs struct {
	Sample   *kernels.Tensor // "sample", [N,h,w,InChannels]: the scaled latents, and what an editing model reads beside them; of a film, [N·frames,…]
	Time     *kernels.Tensor // "time", [N,BlockOutChannels[0]]: TimeProj of the timestep
	Text     *kernels.Tensor // "text", [N,T,CrossAttentionDim]: the text encoder's hidden states
	Pooled   *kernels.Tensor // "pooled", [N,PooledDim]: the projected text of SDXL; nil for others
	TimeIDs  *kernels.Tensor // "time_ids", [N,TimeIDs·AddedTimeDim]: TimeIDsProj of SDXL's sizes; nil for others
	Guidance *kernels.Tensor // "guidance", [N,GuidanceDim]: GuidanceProj of LCM's scale; nil for others
	Extra    *kernels.Tensor // [N,TimeEmbedDim], what else is added to the time embedding; no input of its own
	images   []imagePrompt   // ImageNames: tokens, [N,t,CrossAttentionDim], and the strength, [N,1], of each image prompt
	merge    float64         // see nn.Sizes
	gate     *gate           // nil where cross-attention's results are nobody else's
	Class    *kernels.Tensor // "class", [N,ClassDim], or [N,1] of type I32 for a table; nil where Class is ""
	filmed
}

func (in Inputs) context() context { return context{in.Text, in.images, in.gate, in.merge} }

// Plain are the inputs for another network beside this one, which has all of its attention.
func (in Inputs) Plain() Inputs {
	in.gate, in.merge = nil, 0
	return in
}

// Inputs declares the inputs of the network in g, for Rows latents of H×W and a text of Tokens.
func (m *Model) Inputs(g *kernels.Graph, s nn.Sizes) Inputs {
	c, frames := m.Config, max(s.Frames, 1)
	in := Inputs{
		filmed: filmed{frames: frames},
		Sample: g.Input("sample", g.DType, s.Rows*frames, s.H, s.W, c.InChannels),
		Time:   g.Input("time", g.DType, s.Rows, c.BlockOutChannels[0]),
		Text:   g.SteadyInput("text", g.DType, s.Rows, s.Tokens, c.CrossAttentionDim[0]),
	}
	if m.frames > 0 {
		in.frame = g.SteadyInput(FrameName, tensor.I32, s.Rows*frames, 1)
	}
	for i, tokens := range m.imageTokens {
		image, strength := ImageNames(i)
		in.images = append(in.images, imagePrompt{g.SteadyInput(image, g.DType, s.Rows, tokens, c.CrossAttentionDim[0]), g.Input(strength, g.DType, s.Rows, 1)})
	}
	if c.AddedDim > 0 {
		in.Pooled = g.SteadyInput("pooled", g.DType, s.Rows, c.PooledDim())
		in.TimeIDs = g.SteadyInput("time_ids", g.DType, s.Rows, c.TimeIDs*c.AddedTimeDim)
	}
	if c.GuidanceDim > 0 {
		in.Guidance = g.Input("guidance", g.DType, s.Rows, c.GuidanceDim)
	}
	switch c.Class {
	case "":
	case "table":
		in.Class = g.Input("class", tensor.I32, s.Rows, 1)
	default:
		in.Class = g.Input("class", g.DType, s.Rows, c.ClassDim)
	}
	in.merge = s.Merge
	if f := s.Cut.Form; f == nn.KeepCross || f == nn.NoCross {
		in.gate = &gate{form: f}
	}
	return in
}

// Forward writes the network into g and returns its prediction, [N,h,w,OutChannels].
func (m *Model) Forward(g *kernels.Graph, in Inputs) *kernels.Tensor {
	return m.Up(g, in, m.Down(g, in, nil))
}

// Up writes the way up from what the way down left, which others may have changed in between.
func (m *Model) Up(g *kernels.Graph, in Inputs, d Down) *kernels.Tensor {
	return m.UpCut(g, in, d, nn.Cut{})
}

// UpCut is Up of a cut network: Keep writes what the outermost layers read, Outer begins with it.
func (m *Model) UpCut(g *kernels.Graph, in Inputs, d Down, cut nn.Cut) *kernels.Tensor {
	x, skips := d.Middle, slices.Clone(d.Skips)
	left := m.Layers()
	time := m.times.Forward(g, d.temb)
	for _, b := range m.upBlocks {
		for i := range b.resnets {
			if left == cut.Layers {
				switch cut.Form {
				case nn.Keep:
					g.Output("inner", x)
				case nn.Outer:
					at := skips[len(skips)-1].Shape
					x = g.Input("inner", g.DType, at[0], at[1], at[2], b.widths[i])
				}
			}
			left--
			if x != nil {
				x = b.layer(g, i, x, time, in.context(), in.filmed, &skips)
			}
		}
	}
	return m.convOut.Forward(g, m.convNormOut.SiLU(g, x, nil), nn.Conv{})
}

// Layers counts those of the way up. The outermost ones of a cut must be fewer.
func (m *Model) Layers() (n int) {
	for _, b := range m.upBlocks {
		n += len(b.resnets)
	}
	return n
}

// Write writes the network, or what a cut leaves of it, into g: Inputs to "prediction". It implements nn.Network.
func (m *Model) Write(g *kernels.Graph, s nn.Sizes) {
	in := m.Inputs(g, s)
	switch s.Cut.Form {
	case nn.First:
		g.Output("first", m.DownTo(g, in, nil, 2).Skips[1])
	case nn.Outer:
		g.Output("prediction", m.UpCut(g, in, m.DownTo(g, in, nil, s.Cut.Layers), s.Cut))
	default:
		d := m.Down(g, in, nil)
		if s.Cut.Form == nn.Keep {
			g.Output("first", d.Skips[1])
		}
		g.Output("prediction", m.UpCut(g, in, d, s.Cut))
	}
}
