package kernels

import (
	"fmt"
	"math"

	"darkroom/tensor"
)

// Attention computes softmax(Q·Kᵀ·Scale)·V for each head (Vaswani et al. 2017), heads side by side
// in the channels: head h of D = C/Heads channels is the columns [h·D, (h+1)·D).
//
//	for n, h, i {
//		g := h / (Heads/KVHeads) // heads in a row share keys and values (Ainslie et al. 2023)
//		for j { s[j] = Scale · Σ_d Q[n,i,h·D+d] · K[n,j,g·D+d] + Bias[h,i-j+Tk-1] } // only j < Lengths[n]; Causal: only j ≤ i
//		p = softmax(s)
//		for d { dst[n,i,h·D+d] = Σ_j p[j] · V[n,j,g·D+d] }
//	}
//
// Scores and sums are float32; the score matrix is never stored (FlashAttention, Dao et al. 2022).
type Attention struct {
	Q, K, V *Tensor // [N,Tq,C], [N,Tk,C'], [N,Tk,C'] with C' = C·KVHeads/Heads; K and V of one pitch
	Heads   int
	KVHeads int     // of keys and values; 0 means Heads
	Scale   float32 // 0 means 1/√D
	Causal  bool
	Lengths *Tensor // [N] of I32, each from 1 to Tk: the keys that are there, the others are padding; nil means Tk
	// Bias is what the distance of query and key adds to the scores (Raffel et al. 2020, sec. 2.1): [Heads,Tq+Tk-1] of F32, or nil.
	Bias *Tensor
}

func (op *Attention) Kind() string { return "attention" }

// Factor is Scale with its default.
func (op *Attention) Factor() float32 {
	if op.Scale != 0 {
		return op.Scale
	}
	return float32(1 / math.Sqrt(float64(op.Q.Shape[2]/op.Heads)))
}

// Shared is KVHeads with its default.
func (op *Attention) Shared() int {
	if op.KVHeads != 0 {
		return op.KVHeads
	}
	return op.Heads
}

func (op *Attention) OutShape() tensor.Shape {
	q, k, v := op.Q.Shape, op.K.Shape, op.V.Shape
	shared := op.Shared()
	if len(q) != 3 || len(k) != 3 || !k.Equal(v) || q[0] != k[0] || op.Heads < 1 || shared < 1 || op.Heads%shared != 0 || q[2]%op.Heads != 0 || q[2]/op.Heads*shared != k[2] {
		panic(fmt.Sprintf("attention: queries %v, keys %v, values %v, %d heads, %d of keys", q, k, v, op.Heads, shared))
	}
	if op.K.Row() != op.V.Row() {
		panic(fmt.Sprintf("attention: rows of keys are %d apart, of values %d", op.K.Row(), op.V.Row()))
	}
	if l := op.Lengths; l != nil && (l.DType != tensor.I32 || !l.Shape.Equal(tensor.Shape{q[0]})) {
		panic(fmt.Sprintf("attention: lengths %v of %v for %d images", l.Shape, l.DType, q[0]))
	}
	if b := op.Bias; b != nil && (b.DType != tensor.F32 || !b.Shape.Equal(tensor.Shape{op.Heads, q[1] + k[1] - 1})) {
		panic(fmt.Sprintf("attention: bias %v of %v for %d heads, %d queries and %d keys", b.Shape, b.DType, op.Heads, q[1], k[1]))
	}
	if op.Causal && q[1] != k[1] {
		panic(fmt.Sprintf("attention: causal with %d queries and %d keys", q[1], k[1]))
	}
	return append(tensor.Shape{}, q...)
}

func (op *Attention) Inputs() []*Tensor  { return present(op.Q, op.K, op.V, op.Lengths, op.Bias) }
func (op *Attention) Weights() []*Weight { return nil }

func (op *Attention) FLOPs() float64 {
	f := 4 * float64(op.Q.Shape.Len()) * float64(op.K.Shape[1])
	if op.Causal {
		f /= 2
	}
	return f
}

func (op *Attention) Run(b Backend, dst *Tensor) { b.Attention(dst, op) }
