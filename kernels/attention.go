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
//		for j { s[j] = Scale · Σ_d Q[n,i,h·D+d] · K[n,j,h·D+d] } // Causal: only j ≤ i
//		p = softmax(s)
//		for d { dst[n,i,h·D+d] = Σ_j p[j] · V[n,j,h·D+d] }
//	}
//
// Scores and sums are float32; the score matrix is never stored (FlashAttention, Dao et al. 2022).
type Attention struct {
	Q, K, V *Tensor // [N,Tq,C], [N,Tk,C], [N,Tk,C]
	Heads   int
	Scale   float32 // 0 means 1/√D
	Causal  bool
}

func (op *Attention) Kind() string { return "attention" }

// Factor is Scale with its default.
func (op *Attention) Factor() float32 {
	if op.Scale != 0 {
		return op.Scale
	}
	return float32(1 / math.Sqrt(float64(op.Q.Shape[2]/op.Heads)))
}

func (op *Attention) OutShape() tensor.Shape {
	q, k, v := op.Q.Shape, op.K.Shape, op.V.Shape
	if len(q) != 3 || len(k) != 3 || !k.Equal(v) || q[0] != k[0] || q[2] != k[2] || op.Heads < 1 || q[2]%op.Heads != 0 {
		panic(fmt.Sprintf("attention: queries %v, keys %v, values %v, %d heads", q, k, v, op.Heads))
	}
	if op.Causal && q[1] != k[1] {
		panic(fmt.Sprintf("attention: causal with %d queries and %d keys", q[1], k[1]))
	}
	return append(tensor.Shape{}, q...)
}

func (op *Attention) Inputs() []*Tensor  { return present(op.Q, op.K, op.V) }
func (op *Attention) Weights() []*Weight { return nil }

func (op *Attention) FLOPs() float64 {
	f := 4 * float64(op.Q.Shape.Len()) * float64(op.K.Shape[1])
	if op.Causal {
		f /= 2
	}
	return f
}

func (op *Attention) Run(b Backend, dst *Tensor) { b.Attention(dst, op) }
