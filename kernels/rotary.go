package kernels

import (
	"fmt"

	"darkroom/tensor"
)

// Rotary tells queries and keys where they stand: it turns pairs of a head's channels by angles of the position (Su et al.
// 2021), after a normalisation of the head if there is a Gamma (QK-norm, Henry et al. 2020, with RMS).
//
//	for n, t, h {
//		x = In[n,t,h·D:][:D]
//		if Gamma { x[d] = x[d] / √(mean(x²) + Eps) · Gamma[d] }
//		for i < D/2 {
//			a, b := 2i, 2i+1 // Half: i, i+D/2
//			dst[…,a] = x[a]·cos − x[b]·sin // cos = Angles[n,t,i], sin = Angles[n,t,D/2+i]
//			dst[…,b] = x[a]·sin + x[b]·cos
//		}
//	}
type Rotary struct {
	In     *Tensor // [N,T,C], C = Heads·D
	Angles *Tensor // [N,T,D] of F32: cosines, then sines
	Gamma  *Weight // Vector [D], or nil
	Heads  int
	Eps    float32
	Half   bool // pairs are half a head apart and not neighbours
}

func (op *Rotary) Kind() string { return "rotary" }

func (op *Rotary) OutShape() tensor.Shape {
	s := op.In.Shape
	if len(s) != 3 || op.Heads < 1 || s[2]%(2*op.Heads) != 0 {
		panic(fmt.Sprintf("rotary: input %v, %d heads", s, op.Heads))
	}
	d := s[2] / op.Heads
	mustShape("rotary", op.Gamma, "scale", weightShape(op.Gamma), tensor.Shape{d})
	if a := op.Angles; a.DType != tensor.F32 || !a.Shape.Equal(tensor.Shape{s[0], s[1], d}) {
		panic(fmt.Sprintf("rotary: input %v, %d heads, angles %v of %v", s, op.Heads, a.Shape, a.DType))
	}
	return append(tensor.Shape{}, s...)
}

func (op *Rotary) Inputs() []*Tensor          { return present(op.In, op.Angles) }
func (op *Rotary) Weights() []*Weight         { return presentWeights(op.Gamma) }
func (op *Rotary) FLOPs() float64             { return 6 * float64(op.In.Shape.Len()) }
func (op *Rotary) Run(b Backend, dst *Tensor) { b.Rotary(dst, op) }
