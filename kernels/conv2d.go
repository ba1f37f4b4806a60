package kernels

import (
	"fmt"

	"darkroom/tensor"
)

// Conv2D computes dst = act(in ⊛ W + Bias + PerChannel) + Residual, all NHWC.
//
//	in = In, or In and In2 side by side in the channels
//	if Upsample != {0, 0}: in[n,y,x,c] is read as in[n, ⌊y·H/Upsample[0]⌋, ⌊x·W/Upsample[1]⌋, c] (nearest)
//	for n, y, x, o {
//		acc := Bias[o] + PerChannel[n,o]
//		for i, j, c { acc += in[n, y·Stride+i-Pad[0], x·Stride+j-Pad[0], c] · W[o,c,i,j] } // outside the image: 0
//		dst[n,y,x,o] = act(acc) + Residual[n,y,x,o]
//	}
//
// Accumulates in float32. The result has (H + Pad[0] + Pad[1] - kH)/Stride + 1 rows, and columns alike.
type Conv2D struct {
	In, In2    *Tensor // [N,H,W,C], [N,H,W,C2] or nil
	W          *Weight // Filter [O, C+C2, kH, kW]
	Bias       *Weight // Vector [O] or nil
	PerChannel *Tensor // [N,O] or nil: the time embedding; may be columns, from a multiple of 8 on
	Residual   *Tensor // dst's shape, or nil
	Act        Activation
	Stride     int    // 0 means 1
	Pad        [2]int // zeros before and after, on both axes
	Upsample   [2]int // height and width to read the input at; zero: as it is
	// Winograd lets the backend multiply less, by a minimal filtering algorithm, where it has one for this shape and gains
	// by it. The result is the same sum, rounded differently. Backends choose by the shape of one image alone.
	Winograd bool
}

func (op *Conv2D) Kind() string { return "conv2d" }

// InSize is the height and width that the filter slides over: the input's, or Upsample.
func (op *Conv2D) InSize() (h, w int) {
	if op.Upsample != [2]int{} {
		return op.Upsample[0], op.Upsample[1]
	}
	return op.In.Shape[1], op.In.Shape[2]
}

// Step is Stride with its default.
func (op *Conv2D) Step() int { return max(op.Stride, 1) }

func (op *Conv2D) OutShape() tensor.Shape {
	in, w := op.In.Shape, op.W.Shape
	if len(in) != 4 || len(w) != 4 {
		panic(fmt.Sprintf("conv2d %s: input %v and filter %v must have 4 axes", op.W.Name, in, w))
	}
	c := in[3]
	if op.In2 != nil {
		if !op.In2.Shape[:3].Equal(in[:3]) {
			panic(fmt.Sprintf("conv2d %s: inputs %v and %v do not lie side by side", op.W.Name, in, op.In2.Shape))
		}
		c += op.In2.Shape[3]
	}
	if op.Act > QuickGELU {
		panic("conv2d " + op.W.Name + ": the activation is of other operations")
	}
	if c != w[1] {
		panic(fmt.Sprintf("conv2d %s: %d input channels, filter %v", op.W.Name, c, w))
	}
	h, wd := op.InSize()
	out := tensor.Shape{in[0], (h+op.Pad[0]+op.Pad[1]-w[2])/op.Step() + 1, (wd+op.Pad[0]+op.Pad[1]-w[3])/op.Step() + 1, w[0]}
	mustShape("conv2d", op.W, "bias", weightShape(op.Bias), tensor.Shape{w[0]})
	mustShape("conv2d", op.W, "per-channel term", tensorShape(op.PerChannel), tensor.Shape{in[0], w[0]})
	mustShape("conv2d", op.W, "residual", tensorShape(op.Residual), out)
	return out
}

func (op *Conv2D) Inputs() []*Tensor  { return present(op.In, op.In2, op.PerChannel, op.Residual) }
func (op *Conv2D) Weights() []*Weight { return presentWeights(op.W, op.Bias) }

func (op *Conv2D) FLOPs() float64 {
	w := op.W.Shape
	return 2 * float64(op.OutShape().Len()) * float64(w[1]*w[2]*w[3])
}

func (op *Conv2D) Run(b Backend, dst *Tensor) { b.Conv2D(dst, op) }

func weightShape(w *Weight) tensor.Shape {
	if w == nil {
		return nil
	}
	return w.Shape
}

func tensorShape(t *Tensor) tensor.Shape {
	if t == nil {
		return nil
	}
	return t.Shape
}

// mustShape panics if an operand is there (its shape is not nil) and has another shape than wanted.
func mustShape(op string, w *Weight, what string, got, want tensor.Shape) {
	if got != nil && !got.Equal(want) {
		name := ""
		if w != nil {
			name = " " + w.Name
		}
		panic(fmt.Sprintf("%s%s: %s is %v, want %v", op, name, what, got, want))
	}
}
