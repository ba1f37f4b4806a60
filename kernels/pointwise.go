package kernels

import "darkroom/tensor"

// Pointwise computes dst = act(A + Factor·Scale·B), element by element.
//
//	for n, i, c { dst[n,i,c] = act(A[n,i,c] + Factor·Scale[n]·B[n,i,c], Slope[c]) } // or Scale[n,c]
//
// For what cannot ride on a convolution or a matrix product: sums whose weight is known only when the program runs, or
// whose activation comes after the sum.
type Pointwise struct {
	A, B   *Tensor // [N, …, C]; B may be nil
	Scale  *Tensor // [N,1], or [N,C] such as the gates of a transformer, or nil for 1
	Factor float32 // 0 means 1
	Act    Activation
	Slope  *Weight // Vector [C]: PReLU's; nil for the others
}

func (op *Pointwise) Kind() string { return "pointwise" }

// Weight is Factor with its default.
func (op *Pointwise) Weight() float32 {
	if op.Factor == 0 {
		return 1
	}
	return op.Factor
}

// PerChannel says that Scale has a number for each channel.
func (op *Pointwise) PerChannel() bool {
	s := op.A.Shape
	return op.Scale != nil && op.Scale.Shape.Equal(tensor.Shape{s[0], s[len(s)-1]})
}

func (op *Pointwise) OutShape() tensor.Shape {
	s := op.A.Shape
	mustShape("pointwise", op.Slope, "second operand", tensorShape(op.B), s)
	if !op.PerChannel() {
		mustShape("pointwise", op.Slope, "scale", tensorShape(op.Scale), tensor.Shape{s[0], 1})
	}
	mustShape("pointwise", op.Slope, "slope", weightShape(op.Slope), tensor.Shape{s[len(s)-1]})
	switch op.Act {
	case Identity, SiLU, ReLU, LeakyReLU, SoftClip, PReLU, Tanh:
	default:
		panic("pointwise: its activations are Identity, SiLU, ReLU, LeakyReLU, SoftClip, Tanh and PReLU")
	}
	if (op.Act == PReLU) != (op.Slope != nil) {
		panic("pointwise: PReLU needs slopes, and only it")
	}
	return append(tensor.Shape{}, s...)
}

func (op *Pointwise) Inputs() []*Tensor          { return present(op.A, op.B, op.Scale) }
func (op *Pointwise) Weights() []*Weight         { return presentWeights(op.Slope) }
func (op *Pointwise) FLOPs() float64             { return 3 * float64(op.A.Shape.Len()) }
func (op *Pointwise) Run(b Backend, dst *Tensor) { b.Pointwise(dst, op) }
