package unet

import (
	"math"
	"strings"

	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// embedding turns the timestep, and what a family adds to it, into the vector that every ResBlock reads:
//
//	SiLU(MLP(sin(t) + W·sin(guidance)) + MLP(pooled ‖ sin(ids)) + class)
type embedding struct {
	config     Config
	time       [2]nn.Linear
	condProj   *nn.Linear // of LCM's guidance
	classTable *kernels.Weight
	class      []nn.Linear // none of "identity"
	added      *added
	sum        nn.Conv2D // time's second layer as a convolution of one pixel, which can add a vector
}

// added is SDXL's embedding of the pooled text and the sizes. A convolution of one pixel reads both side by side.
type added struct {
	linear1 nn.Conv2D
	linear2 nn.Linear
}

func newEmbedding(l nn.Loader, c Config) embedding {
	width, temb := c.BlockOutChannels[0], c.TimeEmbedDim()
	e := embedding{config: c, time: mlp(l.At("time_embedding"), width, temb), sum: l.At("time_embedding.linear_2").Conv2D(temb, temb, 1)}
	if c.GuidanceDim > 0 {
		p := l.At("time_embedding.cond_proj").Linear(c.GuidanceDim, width)
		e.condProj = &p
	}
	switch at := l.At("class_embedding"); c.Class {
	case "table":
		e.classTable = at.Weight("weight", kernels.Table, c.ClassDim, temb)
	case "simple_projection":
		e.class = []nn.Linear{at.Linear(c.ClassDim, temb)}
	case "timestep", "projection":
		layers := mlp(at, c.ClassDim, temb)
		e.class = layers[:]
	}
	if c.AddedDim > 0 {
		at := l.At("add_embedding")
		e.added = &added{at.At("linear_1").Conv2D(c.AddedDim, temb, 1), at.At("linear_2").Linear(temb, temb)}
	}
	return e
}

func mlp(l nn.Loader, in, out int) [2]nn.Linear {
	return [2]nn.Linear{l.At("linear_1").Linear(in, out), l.At("linear_2").Linear(out, out)}
}

// forward gives [N,TimeEmbedDim]. Every block applies SiLU to it first: done here, once.
func (e embedding) forward(g *kernels.Graph, in Inputs) *kernels.Tensor {
	t := in.Time
	if e.condProj != nil {
		t = e.condProj.Forward(g, in.Guidance, kernels.Identity, t)
	}
	h := e.time[0].Forward(g, t, kernels.SiLU, nil)
	if in.Class == nil && e.added == nil && in.Extra == nil {
		return e.time[1].Forward(g, h, kernels.SiLU, nil)
	}
	extra := in.Extra
	if in.Class != nil {
		extra = e.classForward(g, in.Class, extra)
	}
	if e.added != nil {
		h := e.added.linear1.Forward(g, pixel(g, in.Pooled), nn.Conv{In2: pixel(g, in.TimeIDs), Act: kernels.SiLU})
		extra = e.added.linear2.Forward(g, vector(g, h), kernels.Identity, extra)
	}
	return vector(g, e.sum.Forward(g, pixel(g, h), nn.Conv{PerChannel: extra, Act: kernels.SiLU}))
}

func (e embedding) classForward(g *kernels.Graph, class, extra *kernels.Tensor) *kernels.Tensor {
	if e.classTable != nil {
		// A table alone is one with positions of 0.
		width := e.config.TimeEmbedDim()
		none := tensor.Tensor{DType: tensor.F32, Shape: tensor.Shape{1, width}, Data: make([]byte, 4*width)}
		zeros := kernels.NewWeight(strings.TrimSuffix(e.classTable.Name, "weight")+"none", kernels.Table, none)
		class = g.Reshape(g.Add("", &kernels.Embed{IDs: class, Tokens: e.classTable, Positions: zeros}), class.Shape[0], width)
	}
	for i, l := range e.class {
		if i == len(e.class)-1 {
			return l.Forward(g, class, kernels.Identity, extra)
		}
		class = l.Forward(g, class, kernels.SiLU, nil)
	}
	if extra == nil {
		return class
	}
	return g.Add("", &kernels.Pointwise{A: class, B: extra})
}

func pixel(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	return g.Reshape(x, x.Shape[0], 1, 1, x.Shape[1])
}

func vector(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	return g.Reshape(x, x.Shape[0], x.Shape[3])
}

// TimeProj is the sinusoid of a timestep that "time" holds.
func (c Config) TimeProj(t float64) []float32 {
	return sinusoid(t, c.BlockOutChannels[0], c.FreqShift, c.FlipSinToCos)
}

// TimeIDsProj is the sinusoids of SDXL's ids, one after the other, that "time_ids" holds: the original height and width,
// the crop's top and left, the target's height and width (or, in place of these two, the aesthetic score).
func (c Config) TimeIDsProj(ids []float64) []float32 {
	var out []float32
	for _, id := range ids {
		out = append(out, sinusoid(id, c.AddedTimeDim, c.FreqShift, c.FlipSinToCos)...)
	}
	return out
}

// ClassProj is the sinusoid of a number that "class" holds where Class is "timestep".
func (c Config) ClassProj(v float64) []float32 { return c.TimeProj(v) }

// GuidanceProj is the sinusoid of the guidance scale that "guidance" holds, by LCM's code (Luo et al. 2023): sines
// first, of 1000·(cfg - 1), whatever the time's are.
func (c Config) GuidanceProj(cfg float64) []float32 {
	return sinusoid(float64(float32(cfg-1)*1000), c.GuidanceDim, 1, false)
}

// sinusoid is the embedding of a number (Vaswani et al. 2017, sec. 3.5): sin(t·ω_i), cos(t·ω_i) with
// ω_i = 10000^(-i/(half-shift)), cosines first if flipped.
func sinusoid(t float64, width int, shift float64, cosinesFirst bool) []float32 {
	half := width / 2
	out := make([]float32, width)
	for i := range half {
		// In float32, as torch computes it: the angle reaches 1000, where its rounding is visible.
		exponent := float32(-math.Log(10000)) * float32(i) / (float32(half) - float32(shift))
		angle := float64(float32(t) * float32(math.Exp(float64(exponent))))
		sin, cos := float32(math.Sin(angle)), float32(math.Cos(angle))
		if cosinesFirst {
			sin, cos = cos, sin
		}
		out[i], out[half+i] = sin, cos
	}
	return out
}
