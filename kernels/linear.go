package kernels

import (
	"fmt"

	"darkroom/tensor"
)

// Linear computes dst = act(In · Wᵀ + Bias) + Residual over the last axis.
//
//	for m, o {
//		x := In[m], or LayerNorm(In[m]) if W.Norm
//		acc := Bias[o]
//		for c { acc += x[c] · W[o,c] }
//		dst[m,o] = act(acc) + Residual[m,o]
//	}
//
// With GEGLU, W is [2·O, C] and dst[m,o] = acc[o] · GELU(acc[O+o]); SwiGLU and TanhGEGLU have other functions in its place.
// Accumulates in float32.
type Linear struct {
	In       *Tensor // […, C]
	W        *Weight // Matrix [O, C], or MatrixGEGLU [2·O, C]; a 1×1 Filter [O, C, 1, 1] is read as [O, C]
	Bias     *Weight // Vector [O] (or [2·O]) or nil
	Residual *Tensor // dst's shape, or nil
	Act      Activation
}

// RowNorm is a LayerNorm of the rows that a matrix is multiplied with. A backend may pack W·Gamma in the matrix's place, and
// normalise the products instead:
//
//	LayerNorm(x) · w = (x · w' - μ·Σ w') / √(σ² + Eps) + Beta · w   with w' = Gamma·w
type RowNorm struct {
	Gamma, Beta *Weight // Vector [C]; Beta may be nil
	Eps         float32
}

// LayerNorm is what comes before the product; nil for none.
func (op *Linear) LayerNorm() *LayerNorm {
	n := op.W.Norm
	if n == nil {
		return nil
	}
	return &LayerNorm{In: op.In, Gamma: n.Gamma, Beta: n.Beta, Eps: n.Eps}
}

func (op *Linear) Kind() string { return "linear" }

func (op *Linear) OutShape() tensor.Shape {
	w := op.W.Shape
	c := op.In.Shape[len(op.In.Shape)-1]
	if len(w) < 2 || w.Len() != w[0]*w[1] || w[1] != c {
		panic(fmt.Sprintf("linear %s: input %v, matrix %v", op.W.Name, op.In.Shape, w))
	}
	if op.Act > TanhGEGLU {
		panic("linear " + op.W.Name + ": the activation is of other operations")
	}
	if op.Act.Gated() != (op.W.Role == MatrixGEGLU) {
		panic("linear " + op.W.Name + ": gated activations need a MatrixGEGLU, and only they")
	}
	if n := op.LayerNorm(); n != nil {
		n.OutShape() // its operands agree
	}
	o := w[0]
	mustShape("linear", op.W, "bias", weightShape(op.Bias), tensor.Shape{o})
	if op.Act.Gated() {
		o /= 2
	}
	out := append(append(tensor.Shape{}, op.In.Shape[:len(op.In.Shape)-1]...), o)
	mustShape("linear", op.W, "residual", tensorShape(op.Residual), out)
	return out
}

func (op *Linear) Inputs() []*Tensor { return present(op.In, op.Residual) }

func (op *Linear) Weights() []*Weight {
	if n := op.W.Norm; n != nil {
		return presentWeights(op.W, op.Bias, n.Gamma, n.Beta)
	}
	return presentWeights(op.W, op.Bias)
}

func (op *Linear) FLOPs() float64 {
	w := op.W.Shape
	return 2 * float64(op.In.Shape.Len()) * float64(w[0])
}

func (op *Linear) Run(b Backend, dst *Tensor) { b.Linear(dst, op) }
