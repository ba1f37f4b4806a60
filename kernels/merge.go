package kernels

import (
	"cmp"
	"fmt"
	"slices"

	"darkroom/tensor"
)

// Merger is a Backend that can merge the tokens of a picture (Bolya & Hoffman 2023, "Token Merging for Fast Stable
// Diffusion"): Match finds those that are alike, Merge makes one of them, and Spread gives each its own again.
type Merger interface {
	Backend
	Match(dst *Tensor, op *Match)
	Merge(dst *Tensor, op *Merge)
	Spread(dst *Tensor, op *Spread)
}

// Match finds which tokens of a picture of H×W to merge. The top left one of each 2×2 square is a target, all others are
// sources. The Count sources that are most like a target, by the cosine, are merged into it.
//
//	for n {
//		for i of sources { best[i], at[i] = max_j cos(In[n,i], In[n,j]) // j of targets, the first of equal ones
//		merged = the Count sources of the largest best, the first of equal ones
//		// The others are numbered in their order: the result has T-Count tokens.
//		for t of sources and targets { dst[n,t] = number of t, or of at[t] for t of merged }
//	}
//
// The result is of I32, [N,T,1].
type Match struct {
	In    *Tensor // [N,H·W,C]
	H, W  int
	Count int // at least 1
}

func (op *Match) Kind() string { return "match" }

func (op *Match) OutShape() tensor.Shape {
	s := op.In.Shape
	if len(s) != 3 || s[1] != op.H*op.W || op.Count < 1 || op.Count > s[1]-op.targets() || op.targets() == 0 {
		panic(fmt.Sprintf("match: %d of the tokens %v of a picture of %d×%d", op.Count, s, op.H, op.W))
	}
	return tensor.Shape{s[0], s[1], 1}
}

func (op *Match) targets() int { return op.H / 2 * (op.W / 2) }

// Sides are the sources and the targets.
func (op *Match) Sides() (sources, targets []int32) {
	for t := range op.H * op.W {
		y, x := t/op.W, t%op.W
		if y%2 == 0 && x%2 == 0 && y+1 < op.H && x+1 < op.W {
			targets = append(targets, int32(t))
		} else {
			sources = append(sources, int32(t))
		}
	}
	return sources, targets
}

// Number fills an image's part of the result, dst [T], from the best target of each source and how alike they are.
func (op *Match) Number(dst, sources []int32, best []float32, at []int32) {
	order := make([]int, len(sources))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(best[b], best[a]), a-b) })
	for t := range dst {
		dst[t] = 0
	}
	for _, i := range order[:op.Count] {
		dst[sources[i]] = -1
	}
	var next int32
	for t, v := range dst {
		if v == 0 {
			dst[t] = next
			next++
		}
	}
	for _, i := range order[:op.Count] {
		dst[sources[i]] = dst[at[i]]
	}
}

func (op *Match) Inputs() []*Tensor  { return present(op.In) }
func (op *Match) Weights() []*Weight { return nil }

func (op *Match) FLOPs() float64 {
	t := op.targets()
	return 2 * float64(op.In.Shape.Len()) / float64(op.H*op.W) * float64(t) * float64(op.H*op.W-t)
}

func (op *Match) Run(b Backend, dst *Tensor) { b.(Merger).Match(dst, op) }

// Merge is the mean of the tokens that have the same number.
//
//	dst[n,i,c] = mean of In[n,t,c] over all t with Numbers[n,t] = i
type Merge struct {
	In      *Tensor // [N,T,C]
	Numbers *Tensor // Match's, [N,T,1] of I32
	To      int     // tokens of the result
}

func (op *Merge) Kind() string { return "merge" }

func (op *Merge) OutShape() tensor.Shape {
	mustNumber("merge", op.In.Shape[:2], op.Numbers)
	return tensor.Shape{op.In.Shape[0], op.To, op.In.Shape[2]}
}

func mustNumber(kind string, tokens tensor.Shape, numbers *Tensor) {
	if n := numbers; n.DType != tensor.I32 || !n.Shape.Equal(tensor.Shape{tokens[0], tokens[1], 1}) {
		panic(fmt.Sprintf("%s: numbers %v of %v for the tokens %v", kind, n.Shape, n.DType, tokens))
	}
}

func (op *Merge) Inputs() []*Tensor          { return present(op.In, op.Numbers) }
func (op *Merge) Weights() []*Weight         { return nil }
func (op *Merge) FLOPs() float64             { return float64(op.In.Shape.Len()) }
func (op *Merge) Run(b Backend, dst *Tensor) { b.(Merger).Merge(dst, op) }

// Spread gives each token what its number has.
//
//	dst[n,t,c] = In[n,Numbers[n,t],c] + Residual[n,t,c]
type Spread struct {
	In       *Tensor // [N,T',C]
	Numbers  *Tensor // Match's, [N,T,1] of I32
	Residual *Tensor // [N,T,C]
}

func (op *Spread) Kind() string { return "spread" }

func (op *Spread) OutShape() tensor.Shape {
	mustNumber("spread", op.Residual.Shape[:2], op.Numbers)
	if r := op.Residual.Shape; r[0] != op.In.Shape[0] || r[2] != op.In.Shape[2] {
		panic(fmt.Sprintf("spread: input %v, residual %v", op.In.Shape, r))
	}
	return append(tensor.Shape{}, op.Residual.Shape...)
}

func (op *Spread) Inputs() []*Tensor          { return present(op.In, op.Numbers, op.Residual) }
func (op *Spread) Weights() []*Weight         { return nil }
func (op *Spread) FLOPs() float64             { return float64(op.Residual.Shape.Len()) }
func (op *Spread) Run(b Backend, dst *Tensor) { b.(Merger).Spread(dst, op) }
