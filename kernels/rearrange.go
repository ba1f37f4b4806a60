package kernels

import (
	"fmt"

	"darkroom/tensor"
)

// Concat lays tensors side by side along an axis; their other axes agree.
//
//	dst[…, off(p)+i, …] = Parts[p][…, i, …]
//
// Where a convolution or a normalisation reads only two, it takes them as they are.
type Concat struct {
	Parts []*Tensor
	Axis  int // not the batch's: at least 1
}

func (op *Concat) Kind() string { return "concat" }

func (op *Concat) OutShape() tensor.Shape {
	out := append(tensor.Shape{}, op.Parts[0].Shape...)
	if op.Axis < 1 || op.Axis >= len(out) {
		panic(fmt.Sprintf("concat: axis %d of %v", op.Axis, out))
	}
	for _, p := range op.Parts[1:] {
		s := append(tensor.Shape{}, p.Shape...)
		if len(s) != len(out) {
			panic(fmt.Sprintf("concat: %v and %v", op.Parts[0].Shape, p.Shape))
		}
		out[op.Axis] += s[op.Axis]
		s[op.Axis] = op.Parts[0].Shape[op.Axis]
		if !s.Equal(op.Parts[0].Shape) {
			panic(fmt.Sprintf("concat: %v and %v do not lie side by side along axis %d", op.Parts[0].Shape, p.Shape, op.Axis))
		}
	}
	return out
}

// Row is how many neighbouring elements of a part go to the result together.
func (op *Concat) Row(t *Tensor) int { return t.Shape[op.Axis:].Len() }

func (op *Concat) Inputs() []*Tensor          { return present(op.Parts...) }
func (op *Concat) Weights() []*Weight         { return nil }
func (op *Concat) FLOPs() float64             { return 0 }
func (op *Concat) Run(b Backend, dst *Tensor) { b.Concat(dst, op) }

// PixelShuffle makes each pixel a square of Factor × Factor pixels (Shi et al. 2016), channels in torch's order.
//
//	dst[n, y·r+i, x·r+j, c] = In[n, y, x, (c·r + i)·r + j]
type PixelShuffle struct {
	In     *Tensor // [N,H,W,C·r²]
	Factor int
}

func (op *PixelShuffle) Kind() string { return "pixelshuffle" }

func (op *PixelShuffle) OutShape() tensor.Shape {
	s, r := op.In.Shape, op.Factor
	if len(s) != 4 || r < 1 || s[3]%(r*r) != 0 {
		panic(fmt.Sprintf("pixelshuffle: input %v by %d", s, r))
	}
	return tensor.Shape{s[0], s[1] * r, s[2] * r, s[3] / (r * r)}
}

func (op *PixelShuffle) Inputs() []*Tensor          { return present(op.In) }
func (op *PixelShuffle) Weights() []*Weight         { return nil }
func (op *PixelShuffle) FLOPs() float64             { return 0 }
func (op *PixelShuffle) Run(b Backend, dst *Tensor) { b.PixelShuffle(dst, op) }

// Surround puts a border around each image, of zeros or, on an axis that wraps, of what lies on the other side: then the
// image tiles a plane. Upsample is as in Conv2D, and comes first.
//
//	u = In, or In read at Upsample (nearest): [N,H,W,C]
//	dst[n,y,x,c] = u[n, y-Pad[0], x-Pad[0], c] // outside: 0, or modulo H where Wrap[0], modulo W where Wrap[1]
type Surround struct {
	In       *Tensor // [N,H,W,C]
	Pad      [2]int  // before and after, on both axes
	Wrap     [2]bool // rows, columns
	Upsample [2]int  // height and width to read the input at; zero: as it is
}

func (op *Surround) Kind() string { return "surround" }

// InSize is the height and width that the border goes around: the input's, or Upsample.
func (op *Surround) InSize() (h, w int) {
	if op.Upsample != [2]int{} {
		return op.Upsample[0], op.Upsample[1]
	}
	return op.In.Shape[1], op.In.Shape[2]
}

// From is the row or column of the input that position i of the result shows, -1 for a zero. Axis 0 is rows.
func (op *Surround) From(axis, i int) int {
	h, w := op.InSize()
	read, size := [2]int{h, w}[axis], op.In.Shape[1+axis]
	i -= op.Pad[0]
	if op.Wrap[axis] {
		i = (i%read + read) % read
	}
	if i < 0 || i >= read {
		return -1
	}
	return i * size / read
}

func (op *Surround) OutShape() tensor.Shape {
	s := op.In.Shape
	if len(s) != 4 || op.Pad[0] < 0 || op.Pad[1] < 0 {
		panic(fmt.Sprintf("surround: input %v, border %v", s, op.Pad))
	}
	h, w := op.InSize()
	return tensor.Shape{s[0], h + op.Pad[0] + op.Pad[1], w + op.Pad[0] + op.Pad[1], s[3]}
}

func (op *Surround) Inputs() []*Tensor          { return present(op.In) }
func (op *Surround) Weights() []*Weight         { return nil }
func (op *Surround) FLOPs() float64             { return 0 }
func (op *Surround) Run(b Backend, dst *Tensor) { b.Surround(dst, op) }

// Cut is a part of a tensor along an axis: what Concat has joined.
//
//	dst[…, i, …] = In[…, From+i, …]
type Cut struct {
	In       *Tensor
	Axis     int // not the batch's: at least 1
	From, To int
}

func (op *Cut) Kind() string { return "cut" }

func (op *Cut) OutShape() tensor.Shape {
	out := append(tensor.Shape{}, op.In.Shape...)
	if op.Axis < 1 || op.Axis >= len(out) || op.From < 0 || op.From >= op.To || op.To > out[op.Axis] {
		panic(fmt.Sprintf("cut: %d to %d of axis %d of %v", op.From, op.To, op.Axis, out))
	}
	out[op.Axis] = op.To - op.From
	return out
}

// Span is where a run of neighbouring elements that go to the result together begins, how long it is, and where the next
// one begins.
func (op *Cut) Span() (from, length, pitch int) {
	inner := op.In.Shape[op.Axis+1:].Len()
	return op.From * inner, (op.To - op.From) * inner, op.In.Shape[op.Axis] * inner
}

func (op *Cut) Inputs() []*Tensor          { return present(op.In) }
func (op *Cut) Weights() []*Weight         { return nil }
func (op *Cut) FLOPs() float64             { return 0 }
func (op *Cut) Run(b Backend, dst *Tensor) { b.Cut(dst, op) }

// Swap exchanges two neighbouring axes: the frames of films and their pixels change places for attention from frame to frame.
//
//	dst[n, b, a, c] = In[n, a, b, c]
type Swap struct {
	In *Tensor // [N,A,B,C]
}

func (op *Swap) Kind() string { return "swap" }

func (op *Swap) OutShape() tensor.Shape {
	s := op.In.Shape
	if len(s) != 4 {
		panic(fmt.Sprintf("swap: input %v", s))
	}
	return tensor.Shape{s[0], s[2], s[1], s[3]}
}

func (op *Swap) Inputs() []*Tensor          { return present(op.In) }
func (op *Swap) Weights() []*Weight         { return nil }
func (op *Swap) FLOPs() float64             { return 0 }
func (op *Swap) Run(b Backend, dst *Tensor) { b.Swap(dst, op) }
