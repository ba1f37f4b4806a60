package nn

import (
	"strings"

	"darkroom/kernels"
	"darkroom/tensor"
)

// Linear is y = act(x·Wᵀ + b) + residual.
type Linear struct {
	Weight, Bias *kernels.Weight
}

// Linear loads weight [out, in] and, if there is one, bias [out].
func (l Loader) Linear(in, out int) Linear {
	return l.linear(kernels.Matrix, in, out)
}

// LinearGEGLU loads a layer of 2·out rows: values, then gates.
func (l Loader) LinearGEGLU(in, out int) Linear {
	return l.linear(kernels.MatrixGEGLU, in, 2*out)
}

func (l Loader) linear(role kernels.Role, in, rows int) Linear {
	y := Linear{Weight: l.Weight("weight", role, rows, in)}
	if l.Has("bias") {
		y.Bias = l.Weight("bias", kernels.Vector, rows)
	}
	return y
}

// After is the layer with a layer norm before it, as one operation. It changes the layer's weight.
func (y Linear) After(n LayerNorm) Linear {
	y.Weight.Norm = &kernels.RowNorm{Gamma: n.Gamma, Beta: n.Beta, Eps: n.Eps}
	return y
}

// Forward applies the layer to the last axis of x. The residual may be nil.
func (y Linear) Forward(g *kernels.Graph, x *kernels.Tensor, act kernels.Activation, residual *kernels.Tensor) *kernels.Tensor {
	return g.Add("", &kernels.Linear{In: x, W: y.Weight, Bias: y.Bias, Act: act, Residual: residual})
}

// Conv2D is a convolution over NHWC images.
type Conv2D struct {
	Weight, Bias *kernels.Weight
	// Stride 0 means 1. Pad is zeros before and after on both axes.
	Stride int
	Pad    [2]int
}

// Conv2D loads a k×k filter with padding that keeps the size.
func (l Loader) Conv2D(in, out, k int) Conv2D {
	c := Conv2D{Weight: l.Weight("weight", kernels.Filter, out, in, k, k), Pad: [2]int{(k - 1) / 2, (k - 1) / 2}}
	if l.Has("bias") {
		c.Bias = l.Weight("bias", kernels.Vector, out)
	}
	return c
}

// Conv is what a convolution can do besides, all in one pass: see kernels.Conv2D.
type Conv struct {
	In2        *kernels.Tensor
	PerChannel *kernels.Tensor
	Residual   *kernels.Tensor
	Upsample   [2]int
	Act        kernels.Activation
}

// Forward convolves x, [N,H,W,C].
func (c Conv2D) Forward(g *kernels.Graph, x *kernels.Tensor, o Conv) *kernels.Tensor {
	if g.Wrap != [2]bool{} && c.Pad != [2]int{} { // a border in place of the padding, which is of zeros
		around := func(x *kernels.Tensor) *kernels.Tensor {
			if x == nil {
				return nil
			}
			return g.Add(c.Weight.Name+" border", &kernels.Surround{In: x, Pad: c.Pad, Wrap: g.Wrap, Upsample: o.Upsample})
		}
		x, o.In2 = around(x), around(o.In2)
		c.Pad, o.Upsample = [2]int{}, [2]int{}
	}
	return g.Add("", &kernels.Conv2D{
		In: x, In2: o.In2, W: c.Weight, Bias: c.Bias, PerChannel: o.PerChannel, Residual: o.Residual,
		Act: o.Act, Stride: c.Stride, Pad: c.Pad, Upsample: o.Upsample, Winograd: g.Winograd,
	})
}

// GroupNorm normalises groups of channels.
type GroupNorm struct {
	Gamma, Beta *kernels.Weight
	Groups      int
	Eps         float32
}

// GroupNorm loads scale and shift of so many channels.
func (l Loader) GroupNorm(channels, groups int, eps float32) GroupNorm {
	if groups < 1 || channels%groups != 0 {
		l.fail("%d channels do not make %d groups: norm_num_groups and block_out_channels in config.json disagree", channels, groups)
		groups = 1
	}
	return GroupNorm{l.Weight("weight", kernels.Vector, channels), l.Weight("bias", kernels.Vector, channels), groups, eps}
}

// Forward normalises x, or x and x2 side by side if x2 is not nil.
func (n GroupNorm) Forward(g *kernels.Graph, x, x2 *kernels.Tensor) *kernels.Tensor {
	return n.add(g, x, x2, kernels.Identity)
}

// SiLU is Forward followed by SiLU.
func (n GroupNorm) SiLU(g *kernels.Graph, x, x2 *kernels.Tensor) *kernels.Tensor {
	return n.add(g, x, x2, kernels.SiLU)
}

func (n GroupNorm) add(g *kernels.Graph, x, x2 *kernels.Tensor, act kernels.Activation) *kernels.Tensor {
	return g.Add("", &kernels.GroupNorm{In: x, In2: x2, Gamma: n.Gamma, Beta: n.Beta, Groups: n.Groups, Eps: n.Eps, Act: act})
}

// LayerNorm normalises the last axis.
type LayerNorm struct {
	Gamma, Beta *kernels.Weight
	Eps         float32
}

// LayerNorm loads scale and shift.
func (l Loader) LayerNorm(channels int, eps float32) LayerNorm {
	return LayerNorm{l.Weight("weight", kernels.Vector, channels), l.Weight("bias", kernels.Vector, channels), eps}
}

// Forward normalises x.
func (n LayerNorm) Forward(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	return g.Add("", &kernels.LayerNorm{In: x, Gamma: n.Gamma, Beta: n.Beta, Eps: n.Eps})
}

// Attention is multi-head attention with its four projections (Vaswani et al. 2017).
type Attention struct {
	ToQ, ToK, ToV, ToOut Linear
	// ToQKV, of attention to itself alone, is the first three in one, which are not there then.
	ToQKV  *Linear
	Heads  int
	Causal bool
}

// AttentionNames are a checkpoint's names of the four projections.
type AttentionNames struct{ Q, K, V, Out string }

// Attention loads the projections: queries from width channels, keys and values from context channels.
func (l Loader) Attention(names AttentionNames, width, context, heads int) Attention {
	heads = l.heads(width, heads)
	return Attention{
		ToQ: l.At(names.Q).Linear(width, width), ToK: l.At(names.K).Linear(context, width),
		ToV: l.At(names.V).Linear(context, width), ToOut: l.At(names.Out).Linear(width, width), Heads: heads,
	}
}

// SelfAttention loads the projections of attention from width channels to themselves, the first three as one matrix: each
// row gives the same numbers as in a matrix of its own.
func (l Loader) SelfAttention(names AttentionNames, width, heads int) Attention {
	q, k, v := l.At(names.Q), l.At(names.K), l.At(names.V)
	if q.Has("bias") != k.Has("bias") || q.Has("bias") != v.Has("bias") {
		return l.Attention(names, width, width, heads)
	}
	part := func(name string, shape ...int) *kernels.Weight {
		role, all := kernels.Vector, tensor.Shape{3 * width}
		if len(shape) > 1 {
			role, all = kernels.Matrix, tensor.Shape{3 * width, width}
		}
		return l.Made(", k and v", role, all, func(a []tensor.Array) tensor.Array { return tensor.Stack(a...) },
			Part{names.Q + "." + name, shape}, Part{names.K + "." + name, shape}, Part{names.V + "." + name, shape})
	}
	fused := Linear{Weight: part("weight", width, width)}
	if q.Has("bias") {
		fused.Bias = part("bias", width)
	}
	return Attention{ToQKV: &fused, ToOut: l.At(names.Out).Linear(width, width), Heads: l.heads(width, heads)}
}

// After is the attention with a layer norm before the queries' product, or that of queries, keys and values in one.
func (a Attention) After(n LayerNorm) Attention {
	if a.ToQKV != nil {
		fused := a.ToQKV.After(n)
		a.ToQKV = &fused
		return a
	}
	a.ToQ = a.ToQ.After(n)
	return a
}

// heads is their number, 1 where it does not divide the width, which is noted.
func (l Loader) heads(width, heads int) int {
	if heads < 1 || width%heads != 0 {
		l.fail("%d channels do not make %d attention heads", width, heads)
		return 1
	}
	return heads
}

// Forward attends from x, [N,T,C], to context, [N,Tk,C'] (nil: to x itself), and adds the residual.
func (a Attention) Forward(g *kernels.Graph, x, context, residual *kernels.Tensor) *kernels.Tensor {
	if a.ToQKV != nil {
		all := a.ToQKV.Forward(g, x, kernels.Identity, nil)
		width := all.Shape[2] / 3
		y := a.Attend(g, g.Columns(all, 0, width), g.Columns(all, width, 2*width), g.Columns(all, 2*width, 3*width))
		return a.ToOut.Forward(g, y, kernels.Identity, residual)
	}
	if context == nil {
		context = x
	}
	q := a.ToQ.Forward(g, x, kernels.Identity, nil)
	k := a.ToK.Forward(g, context, kernels.Identity, nil)
	v := a.ToV.Forward(g, context, kernels.Identity, nil)
	return a.ToOut.Forward(g, a.Attend(g, q, k, v), kernels.Identity, residual)
}

// Attend is what lies between the projections.
func (a Attention) Attend(g *kernels.Graph, q, k, v *kernels.Tensor) *kernels.Tensor {
	label := a.label() + " attention"
	return g.Add(label, &kernels.Attention{Q: q, K: k, V: v, Heads: a.Heads, Causal: a.Causal})
}

// label names the layer after its first weight.
func (a Attention) label() string {
	w := a.ToQ.Weight
	if a.ToQKV != nil {
		w = a.ToQKV.Weight
	}
	return strings.TrimSuffix(strings.TrimSuffix(w.Name, ", k and v"), ".weight")
}
