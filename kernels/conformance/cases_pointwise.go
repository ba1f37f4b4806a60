package conformance

import (
	"fmt"
	"math"

	"darkroom/kernels"
	"darkroom/tensor"
)

func pointwiseCases() []testCase {
	type pointwise struct {
		shape    []int
		act      kernels.Activation
		b, scale bool
		gates    bool // a scale for each channel
		factor   float32
		size     float64 // of the inputs, 0 means 1
	}
	var out []testCase
	for _, p := range []pointwise{
		{shape: []int{1, 1, 1, 1}, b: true},
		{shape: []int{3, 5, 7, 13}, b: true, scale: true},
		{shape: []int{2, 8, 8, 64}, b: true, factor: 0.2},
		{shape: []int{2, 77, 40}, b: true, scale: true, factor: -1.5},
		{shape: []int{3, 9}, b: true, scale: true, act: kernels.SiLU},
		{shape: []int{2, 6, 5, 24}, act: kernels.LeakyReLU},
		{shape: []int{2, 5, 5, 16}, b: true, act: kernels.ReLU},
		{shape: []int{3, 4, 6, 11}, act: kernels.PReLU},
		{shape: []int{2, 4, 4, 64}, b: true, scale: true, factor: 0.5, act: kernels.PReLU},
		{shape: []int{1, 16, 16, 4}, act: kernels.SoftClip, size: 10},
		{shape: []int{1, 16, 16, 4}, act: kernels.SiLU, size: 100},
		{shape: []int{2, 61, 67, 32}, b: true, act: kernels.LeakyReLU}, // several blocks
		{shape: []int{3, 7, 40}, b: true, gates: true},
		{shape: []int{2, 31, 601}, b: true, gates: true, factor: -1},
		{shape: []int{2, 5, 3, 13}, b: true, gates: true, act: kernels.SiLU},
		{shape: []int{3, 50}, act: kernels.Tanh, size: 3},
	} {
		name := fmt.Sprintf("pointwise/%v%s", tensor.Shape(p.shape), []string{"", " silu", "", "", "", "", "", "", " relu", " leakyrelu", " prelu", " softclip", " tanh"}[p.act])
		for _, f := range []struct {
			on   bool
			name string
		}{{p.b, " sum"}, {p.scale, " scale"}, {p.gates, " gates"}, {p.factor != 0, fmt.Sprint(" factor ", p.factor)}, {p.size != 0, fmt.Sprint(" size ", p.size)}} {
			if f.on {
				name += f.name
			}
		}
		out = append(out, testCase{name: name, batch: p.shape[0], op: func(o *operands) kernels.Op {
			if p.size != 0 {
				o.scale = p.size
			}
			op := &kernels.Pointwise{A: o.in(p.shape...), Factor: p.factor, Act: p.act}
			if p.b {
				op.B = o.in(p.shape...)
			}
			if p.scale {
				op.Scale = o.in(p.shape[0], 1)
			}
			if p.gates {
				op.Scale = o.in(p.shape[0], p.shape[len(p.shape)-1])
			}
			if p.act == kernels.PReLU {
				op.Slope = o.weight(kernels.Vector, p.shape[len(p.shape)-1])
			}
			return op
		}})
	}
	return out
}

// pointwiseBound: the weight, the product and the sum are rounded once each; 8 is for the activation's few ulps.
func (o *operands) pointwiseBound(op *kernels.Pointwise) []float64 {
	a := o.host[op.A]
	image, channels := len(a)/op.A.Shape[0], op.A.Shape[len(op.A.Shape)-1]
	bound := make([]float64, len(a))
	for i := range bound {
		size := math.Abs(float64(a[i]))
		if op.B != nil {
			weight := float64(op.Weight())
			if op.PerChannel() {
				weight *= float64(o.host[op.Scale][i/image*channels+i%channels])
			} else if op.Scale != nil {
				weight *= float64(o.host[op.Scale][i/image])
			}
			size += math.Abs(weight * float64(o.host[op.B][i]))
		}
		slope := steepest
		if op.Slope != nil {
			slope = max(slope, math.Abs(float64(floats(op.Slope)[i%channels])))
		}
		bound[i] = slope * (3 + 8) * u * size
	}
	return bound
}

func rearrangeCases() []testCase {
	var out []testCase
	for _, c := range []struct {
		parts [][]int
		axis  int
	}{
		{[][]int{{1, 1, 1, 1}, {1, 1, 1, 1}}, 3},
		{[][]int{{3, 5, 4, 3}, {3, 5, 4, 13}, {3, 5, 4, 8}}, 3},
		{[][]int{{2, 33, 31, 64}, {2, 33, 31, 32}}, 3},
		{[][]int{{2, 4, 4, 64}, {2, 4, 4, 32}, {2, 4, 4, 32}, {2, 4, 4, 32}, {2, 4, 4, 32}}, 3},
		{[][]int{{3, 1, 20}, {3, 16, 20}}, 1}, // tokens
		{[][]int{{2, 7, 5}}, 2},
	} {
		name := "concat/"
		for i, p := range c.parts {
			if i > 0 {
				name += "+"
			}
			name += fmt.Sprint(tensor.Shape(p))
		}
		out = append(out, testCase{name: fmt.Sprintf("%s axis %d", name, c.axis), batch: c.parts[0][0], op: func(o *operands) kernels.Op {
			op := &kernels.Concat{Axis: c.axis}
			for _, p := range c.parts {
				op.Parts = append(op.Parts, o.in(p...))
			}
			return op
		}})
	}
	for _, c := range []struct {
		shape          []int
		axis, from, to int
	}{{[]int{1, 1, 1}, 1, 0, 1}, {[]int{3, 17, 20}, 1, 1, 17}, {[]int{3, 17, 20}, 1, 0, 5}, {[]int{2, 33, 60}, 2, 20, 41}, {[]int{2, 60}, 1, 15, 30}, {[]int{2, 5, 40, 13}, 2, 3, 40}} {
		name := fmt.Sprintf("cut/%v axis %d from %d to %d", tensor.Shape(c.shape), c.axis, c.from, c.to)
		out = append(out, testCase{name: name, batch: c.shape[0], op: func(o *operands) kernels.Op {
			return &kernels.Cut{In: o.in(c.shape...), Axis: c.axis, From: c.from, To: c.to}
		}})
	}
	for _, s := range [][4]int{{1, 1, 1, 1}, {2, 3, 5, 8}, {3, 16, 7, 20}, {2, 33, 4, 13}, {1, 2, 300, 320}} {
		name := fmt.Sprintf("swap/%d×%d×%d×%d", s[0], s[1], s[2], s[3])
		out = append(out, testCase{name: name, batch: s[0], op: func(o *operands) kernels.Op { return &kernels.Swap{In: o.in(s[:]...)} }})
	}
	for _, s := range []struct{ n, h, w, c, factor int }{{1, 1, 1, 1, 1}, {2, 3, 5, 12, 2}, {1, 4, 3, 48, 4}, {3, 2, 2, 9, 3}, {1, 37, 41, 12, 2}} {
		out = append(out, testCase{name: fmt.Sprintf("pixelshuffle/%d×%d×%d×%d by %d", s.n, s.h, s.w, s.c, s.factor), batch: s.n, op: func(o *operands) kernels.Op {
			return &kernels.PixelShuffle{In: o.in(s.n, s.h, s.w, s.c), Factor: s.factor}
		}})
	}
	for _, s := range []struct {
		n, h, w, c int
		pad, up    [2]int
		wrap       [2]bool
	}{
		{n: 1, h: 1, w: 1, c: 1, pad: [2]int{1, 1}, wrap: [2]bool{true, true}},
		{n: 2, h: 4, w: 5, c: 8, pad: [2]int{1, 1}, wrap: [2]bool{true, true}},
		{n: 2, h: 4, w: 5, c: 3, pad: [2]int{0, 1}, wrap: [2]bool{false, true}},
		{n: 1, h: 3, w: 2, c: 20, pad: [2]int{2, 2}, wrap: [2]bool{true, false}},
		{n: 1, h: 2, w: 1, c: 5, pad: [2]int{3, 5}, wrap: [2]bool{true, true}}, // several times around
		{n: 2, h: 3, w: 4, c: 16, pad: [2]int{1, 1}, up: [2]int{6, 7}, wrap: [2]bool{true, true}},
		{n: 1, h: 37, w: 41, c: 13, pad: [2]int{1, 1}},
	} {
		name := fmt.Sprintf("surround/%d×%d×%d×%d by %d,%d", s.n, s.h, s.w, s.c, s.pad[0], s.pad[1])
		if s.up != [2]int{} {
			name += fmt.Sprintf(" at %d×%d", s.up[0], s.up[1])
		}
		for i, axis := range []string{" rows", " columns"} {
			if s.wrap[i] {
				name += axis
			}
		}
		out = append(out, testCase{name: name, batch: s.n, op: func(o *operands) kernels.Op {
			return &kernels.Surround{In: o.in(s.n, s.h, s.w, s.c), Pad: s.pad, Wrap: s.wrap, Upsample: s.up}
		}})
	}
	return out
}
