package kernels

import (
	"fmt"

	"darkroom/tensor"
)

// GroupNorm normalises each image's groups of neighbouring channels (Wu & He 2018), then scales and
// shifts each channel and applies Act. In may be two tensors side by side in the channels.
//
//	for n, g { μ, σ² = mean and variance of in[n,:,:,group g] }
//	dst[n,y,x,c] = act((in[n,y,x,c] - μ) / √(σ² + Eps) · Gamma[c] + Beta[c])
//
// The variance is the biased one. Images are [N,H,W,C] or [N,T,C].
type GroupNorm struct {
	In, In2     *Tensor // In2 may be nil
	Gamma, Beta *Weight // Vector [C+C2]
	Groups      int
	Eps         float32
	Act         Activation // Identity or SiLU
}

func (op *GroupNorm) Kind() string { return "groupnorm" }

func (op *GroupNorm) OutShape() tensor.Shape {
	out := append(tensor.Shape{}, op.In.Shape...)
	last := len(out) - 1
	if op.In2 != nil {
		if !op.In2.Shape[:last].Equal(out[:last]) {
			panic(fmt.Sprintf("groupnorm %s: inputs %v and %v do not lie side by side", op.Gamma.Name, op.In.Shape, op.In2.Shape))
		}
		out[last] += op.In2.Shape[last]
	}
	if op.Groups < 1 || out[last]%op.Groups != 0 {
		panic(fmt.Sprintf("groupnorm %s: %d channels do not make %d groups", op.Gamma.Name, out[last], op.Groups))
	}
	if op.Act != Identity && op.Act != SiLU {
		panic("groupnorm " + op.Gamma.Name + ": activation must be Identity or SiLU")
	}
	mustShape("groupnorm", op.Gamma, "scale", weightShape(op.Gamma), tensor.Shape{out[last]})
	mustShape("groupnorm", op.Gamma, "shift", weightShape(op.Beta), tensor.Shape{out[last]})
	return out
}

func (op *GroupNorm) Inputs() []*Tensor          { return present(op.In, op.In2) }
func (op *GroupNorm) Weights() []*Weight         { return presentWeights(op.Gamma, op.Beta) }
func (op *GroupNorm) FLOPs() float64             { return 8 * float64(op.OutShape().Len()) }
func (op *GroupNorm) Run(b Backend, dst *Tensor) { b.GroupNorm(dst, op) }

// LayerNorm normalises each row of the last axis (Ba et al. 2016), and scales and shifts it, for each image otherwise
// where the network says so (adaptive normalisation, Peebles & Xie 2023).
//
//	y = (In[n,…,c] - μ) / √(σ² + Eps) · Gamma[c] + Beta[c]
//	dst[n,…,c] = y · (1 + Scale[n,c]) + Shift[n,c]
//
// With RMS, μ is 0 and σ² the mean square (Zhang & Sennrich 2019).
type LayerNorm struct {
	In           *Tensor // [N,…,C]
	Gamma, Beta  *Weight // Vector [C]; each may be nil, for 1 and 0
	Scale, Shift *Tensor // [N,C]; each may be nil, for 0
	Eps          float32
	RMS          bool
}

func (op *LayerNorm) Kind() string { return "layernorm" }

func (op *LayerNorm) OutShape() tensor.Shape {
	c := op.In.Shape[len(op.In.Shape)-1]
	mustShape("layernorm", op.Gamma, "scale", weightShape(op.Gamma), tensor.Shape{c})
	mustShape("layernorm", op.Gamma, "shift", weightShape(op.Beta), tensor.Shape{c})
	mustShape("layernorm", op.Gamma, "image's scale", tensorShape(op.Scale), tensor.Shape{op.In.Shape[0], c})
	mustShape("layernorm", op.Gamma, "image's shift", tensorShape(op.Shift), tensor.Shape{op.In.Shape[0], c})
	return append(tensor.Shape{}, op.In.Shape...)
}

func (op *LayerNorm) Inputs() []*Tensor          { return present(op.In, op.Scale, op.Shift) }
func (op *LayerNorm) Weights() []*Weight         { return presentWeights(op.Gamma, op.Beta) }
func (op *LayerNorm) FLOPs() float64             { return 8 * float64(op.In.Shape.Len()) }
func (op *LayerNorm) Run(b Backend, dst *Tensor) { b.LayerNorm(dst, op) }
