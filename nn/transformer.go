package nn

import (
	"darkroom/kernels"
)

// RMSNorm divides the last axis by its root mean square (Zhang & Sennrich 2019).
type RMSNorm struct {
	Gamma *kernels.Weight
	Eps   float32
}

// RMSNorm loads a scale.
func (l Loader) RMSNorm(channels int, eps float32) RMSNorm {
	return RMSNorm{l.Weight("weight", kernels.Vector, channels), eps}
}

// Forward normalises x, [N,…,C], and scales each image by 1 + scale, [N,C], unless that is nil.
func (n RMSNorm) Forward(g *kernels.Graph, x, scale *kernels.Tensor) *kernels.Tensor {
	return g.Add("", &kernels.LayerNorm{In: x, Gamma: n.Gamma, Scale: scale, Eps: n.Eps, RMS: true})
}

// Adaptive is a layer norm without weights, whose scale and shift the network computes for each image: y·(1 + scale) + shift
// (Peebles & Xie 2023). Each may be nil.
func Adaptive(g *kernels.Graph, label string, x, scale, shift *kernels.Tensor, eps float32) *kernels.Tensor {
	return g.Add(label, &kernels.LayerNorm{In: x, Scale: scale, Shift: shift, Eps: eps})
}

// Gated is x + gate·y, with a gate for each image and channel.
func Gated(g *kernels.Graph, label string, x, y, gate *kernels.Tensor) *kernels.Tensor {
	return g.Add(label, &kernels.Pointwise{A: x, B: y, Scale: gate})
}

// Chunks cuts the last axis into n equal parts.
func Chunks(g *kernels.Graph, label string, x *kernels.Tensor, n int) []*kernels.Tensor {
	axis := len(x.Shape) - 1
	width := x.Shape[axis] / n
	out := make([]*kernels.Tensor, n)
	for i := range out {
		out[i] = g.Add(label, &kernels.Cut{In: x, Axis: axis, From: i * width, To: (i + 1) * width})
	}
	return out
}

// Rotary turns queries or keys, [N,T,C], by their positions' angles, [N,T,C/heads], after QK-norm where there is one.
func (n RMSNorm) Rotary(g *kernels.Graph, label string, x, angles *kernels.Tensor, heads int, half bool) *kernels.Tensor {
	return g.Add(label, &kernels.Rotary{In: x, Angles: angles, Gamma: n.Gamma, Heads: heads, Eps: n.Eps, Half: half})
}
