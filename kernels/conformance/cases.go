package conformance

import (
	"fmt"

	"darkroom/kernels"
	"darkroom/tensor"
)

// testCase is one operation with one set of shapes.
type testCase struct {
	name  string
	batch int // images, the first axis of the result
	slow  bool
	op    func(o *operands) kernels.Op
}

func table() []testCase {
	var all []testCase
	for _, part := range [][]testCase{conv2DCases(), linearCases(), attentionCases(), groupNormCases(), layerNormCases(), embedCases(), pointwiseCases(), rearrangeCases(), rotaryCases()} {
		all = append(all, part...)
	}
	return all
}

// conv is a convolution by its sizes; the zero value of each field is the simplest choice.
type conv struct {
	n, h, w, c, c2 int // n 0 means 1
	o, k           int // outputs; filter k×k
	stride         int
	pad            [2]int
	up             [2]int
	act            kernels.Activation
	bare           bool // no bias
	perChannel     bool
	residual       bool
	scale          float64 // of the inputs, 0 means 1
	stored         tensor.DType
	winograd       bool
	slow           bool
}

func (c conv) name() string {
	s := fmt.Sprintf("conv2d/%d×%d×%d×%d", max(c.n, 1), c.h, c.w, c.c)
	if c.c2 > 0 {
		s += fmt.Sprintf("+%d", c.c2)
	}
	s += fmt.Sprintf(" to %d, %d×%d stride %d pad %d,%d", c.o, c.k, c.k, max(c.stride, 1), c.pad[0], c.pad[1])
	if c.up != [2]int{} {
		s += fmt.Sprintf(" at %d×%d", c.up[0], c.up[1])
	}
	s += []string{"", " silu", " gelu", " quickgelu", ""}[c.act]
	if c.bare {
		s += " bare"
	}
	if c.perChannel {
		s += " per-channel"
	}
	if c.residual {
		s += " residual"
	}
	if c.winograd {
		s += " winograd"
	}
	if c.scale != 0 {
		s += fmt.Sprintf(" scale %g", c.scale)
	}
	if c.stored != tensor.F32 {
		s += " stored as " + c.stored.String()
	}
	return s
}

func (c conv) testCase() testCase {
	n := max(c.n, 1)
	return testCase{name: c.name(), batch: n, slow: c.slow, op: func(o *operands) kernels.Op {
		if c.scale != 0 {
			o.scale = c.scale
		}
		op := &kernels.Conv2D{Stride: c.stride, Pad: c.pad, Upsample: c.up, Act: c.act, Winograd: c.winograd}
		op.In = o.in(n, c.h, c.w, c.c)
		if c.c2 > 0 {
			op.In2 = o.in(n, c.h, c.w, c.c2)
		}
		stored := c.stored
		if stored == tensor.F32 {
			stored = o.v.rounded
		}
		op.W = o.stored(stored, kernels.Filter, c.o, c.c+c.c2, c.k, c.k)
		if !c.bare {
			op.Bias = o.stored(stored, kernels.Vector, c.o)
		}
		if c.perChannel {
			op.PerChannel = o.in(n, c.o)
		}
		if c.residual {
			out := op.OutShape()
			op.Residual = o.in(n, out[1], out[2], out[3])
		}
		return op
	}}
}

func conv2DCases() []testCase {
	same, down := [2]int{1, 1}, [2]int{0, 1}
	list := []conv{
		// One pixel, and every small count of channels in and out.
		{h: 1, w: 1, c: 1, o: 1, k: 1},
		{h: 1, w: 1, c: 1, o: 1, k: 3, pad: same},
		{h: 1, w: 1, c: 5, o: 3, k: 3, pad: same, act: kernels.SiLU},
		{n: 3, h: 1, w: 1, c: 320, o: 48, k: 1},
		{h: 4, w: 4, c: 3, o: 4, k: 3, pad: same},
		{h: 3, w: 5, c: 4, o: 5, k: 3, pad: same},
		{n: 3, h: 8, w: 8, c: 4, o: 48, k: 3, pad: same},
		{n: 2, h: 8, w: 8, c: 48, o: 4, k: 3, pad: same},
		{h: 9, w: 9, c: 16, o: 3, k: 3, pad: same, bare: true},
		{h: 5, w: 4, c: 1, o: 16, k: 1, bare: true},
		// Primes: no tile divides them.
		{n: 3, h: 7, w: 11, c: 13, o: 17, k: 3, pad: same},
		{n: 2, h: 13, w: 5, c: 37, o: 31, k: 1},
		{h: 23, w: 29, c: 5, o: 7, k: 3, pad: same, act: kernels.GELU},
		{h: 1, w: 97, c: 3, o: 33, k: 3, pad: same},
		{h: 97, w: 1, c: 3, o: 33, k: 3, pad: same},
		// Around the widths of vectors and tiles.
		{h: 6, w: 6, c: 16, o: 15, k: 3, pad: same},
		{h: 6, w: 6, c: 16, o: 16, k: 3, pad: same},
		{h: 6, w: 6, c: 16, o: 17, k: 3, pad: same},
		{h: 5, w: 6, c: 31, o: 32, k: 1},
		{h: 5, w: 6, c: 33, o: 65, k: 1},
		{h: 5, w: 6, c: 64, o: 128, k: 1},
		// Paddings and strides.
		{h: 8, w: 8, c: 8, o: 16, k: 3},
		{h: 3, w: 3, c: 8, o: 16, k: 3},
		{n: 2, h: 8, w: 8, c: 16, o: 16, k: 3, stride: 2, pad: same},
		{n: 2, h: 8, w: 8, c: 16, o: 16, k: 3, stride: 2, pad: down},
		{h: 7, w: 9, c: 5, o: 6, k: 3, stride: 2, pad: same},
		{h: 7, w: 9, c: 5, o: 6, k: 3, stride: 2, pad: down},
		{h: 7, w: 9, c: 5, o: 6, k: 3, stride: 2},
		{h: 9, w: 9, c: 5, o: 6, k: 1, stride: 2},
		{h: 9, w: 9, c: 5, o: 6, k: 3, stride: 3, pad: same},
		{n: 2, h: 10, w: 1, c: 16, o: 6, k: 1, stride: 10}, // of a list of tokens, the first one
		{h: 6, w: 6, c: 3, o: 8, k: 2, stride: 2},
		{h: 6, w: 6, c: 3, o: 8, k: 5, pad: [2]int{2, 2}},
		{h: 2, w: 2, c: 3, o: 8, k: 3, pad: [2]int{2, 2}},
		// Upsampling, also to sizes that are not a multiple.
		{n: 2, h: 4, w: 4, c: 16, o: 16, k: 3, pad: same, up: [2]int{8, 8}},
		{h: 4, w: 5, c: 8, o: 20, k: 3, pad: same, up: [2]int{7, 9}},
		{h: 3, w: 3, c: 8, o: 8, k: 3, pad: same, up: [2]int{5, 7}},
		{h: 1, w: 1, c: 4, o: 8, k: 3, pad: same, up: [2]int{2, 2}},
		{h: 3, w: 4, c: 8, c2: 8, o: 8, k: 3, pad: same, up: [2]int{6, 8}},
		// Two inputs side by side.
		{n: 2, h: 6, w: 6, c: 16, c2: 16, o: 24, k: 3, pad: same},
		{h: 6, w: 7, c: 3, c2: 5, o: 9, k: 3, pad: same},
		{h: 6, w: 7, c: 48, c2: 1, o: 16, k: 1},
		{h: 6, w: 7, c: 1, c2: 48, o: 16, k: 3, pad: same, stride: 2},
		{n: 2, h: 8, w: 8, c: 64, c2: 32, o: 48, k: 1, residual: true},
		// Sums that a GPU splits.
		{n: 2, h: 5, w: 5, c: 72, o: 40, k: 3, pad: same, perChannel: true, residual: true},
		{n: 2, h: 3, w: 5, c: 70, o: 33, k: 3, pad: same, act: kernels.SiLU},
		// What follows the sum.
		{n: 3, h: 5, w: 5, c: 16, o: 20, k: 3, pad: same, perChannel: true},
		{n: 3, h: 5, w: 5, c: 16, o: 20, k: 3, pad: same, residual: true},
		{n: 2, h: 5, w: 5, c: 16, o: 20, k: 3, pad: same, perChannel: true, residual: true, act: kernels.SiLU},
		{n: 2, h: 5, w: 5, c: 16, o: 33, k: 1, perChannel: true, bare: true, act: kernels.QuickGELU},
		{h: 5, w: 5, c: 16, o: 33, k: 1, residual: true, bare: true, act: kernels.GELU},
		// Activations far out, where exponentials overflow and underflow.
		{h: 16, w: 16, c: 4, o: 16, k: 1, act: kernels.SiLU, scale: 100},
		{h: 16, w: 16, c: 4, o: 16, k: 1, act: kernels.GELU, scale: 3},
		{h: 16, w: 16, c: 4, o: 16, k: 1, act: kernels.GELU, scale: 100},
		{h: 16, w: 16, c: 4, o: 16, k: 1, act: kernels.QuickGELU, scale: 60},
		// The checkpoint's own types.
		{h: 5, w: 5, c: 19, o: 21, k: 3, pad: same, stored: tensor.F16},
		{h: 5, w: 5, c: 19, o: 21, k: 3, pad: same, stored: tensor.BF16},
		{h: 5, w: 5, c: 19, o: 21, k: 3, pad: same, stored: tensor.F64},
		// As large as the models' smaller layers: several blocks on every axis.
		{h: 16, w: 16, c: 320, o: 320, k: 1, slow: true},
		{n: 2, h: 8, w: 8, c: 320, o: 176, k: 3, pad: same, perChannel: true, residual: true, slow: true},
		{h: 4, w: 4, c: 1280, o: 64, k: 3, pad: same, slow: true},
		{h: 4, w: 4, c: 640, c2: 320, o: 96, k: 3, pad: same, slow: true},
		{h: 40, w: 40, c: 48, o: 48, k: 3, pad: same, act: kernels.SiLU, slow: true},
		// Lines of whole tiles, which AMX reads from the picture: parts of lines and of images, two inputs, strides, upsampling, blocks of K.
		{n: 2, h: 8, w: 16, c: 32, c2: 64, o: 37, k: 3, pad: same, act: kernels.SiLU, perChannel: true, residual: true},
		{n: 3, h: 20, w: 16, c: 32, o: 32, k: 3, pad: same},
		{n: 2, h: 32, w: 32, c: 32, o: 16, k: 3, stride: 2, pad: down},
		{h: 8, w: 9, c: 32, o: 33, k: 3, pad: same, up: [2]int{15, 16}},
		{h: 2, w: 512, c: 32, o: 9, k: 3, pad: same},
		{n: 2, h: 4, w: 48, c: 96, o: 70, k: 3, pad: same, residual: true},
		// With fewer multiplications: tiles cut off at each edge, outputs and channels that fill no vector and straddle blocks,
		// two inputs, every padding, and what follows the sum.
		{n: 2, h: 8, w: 8, c: 64, o: 64, k: 3, pad: same, winograd: true},
		{h: 8, w: 8, c: 61, o: 67, k: 3, pad: same, bare: true, winograd: true},
		{n: 3, h: 13, w: 7, c: 64, o: 48, k: 3, pad: same, perChannel: true, residual: true, winograd: true},
		{n: 2, h: 9, w: 14, c: 40, c2: 37, o: 65, k: 3, pad: same, act: kernels.SiLU, winograd: true},
		{h: 11, w: 16, c: 1, c2: 83, o: 50, k: 3, pad: same, act: kernels.GELU, residual: true, winograd: true},
		{h: 15, w: 10, c: 70, o: 96, k: 3, act: kernels.QuickGELU, winograd: true},
		{h: 12, w: 12, c: 64, o: 64, k: 3, pad: [2]int{0, 1}, stored: tensor.F16, winograd: true},
		{n: 2, h: 4, w: 5, c: 64, o: 64, k: 3, pad: same, up: [2]int{8, 11}, winograd: true},
		{h: 16, w: 16, c: 33, o: 31, k: 3, pad: same, scale: 1000, winograd: true},
		{n: 2, h: 31, w: 30, c: 40, o: 33, k: 3, pad: same, winograd: true, slow: true},
		{n: 2, h: 8, w: 8, c: 30, c2: 10, o: 352, k: 3, pad: same, perChannel: true, winograd: true, slow: true},
		{h: 8, w: 8, c: 325, c2: 35, o: 64, k: 3, pad: same, residual: true, winograd: true, slow: true},
		{h: 4, w: 4, c: 16, o: 16, k: 3, pad: same, winograd: true}, // does not pay
		{h: 16, w: 16, c: 16, o: 16, k: 3, stride: 2, pad: same, winograd: true},
	}
	var out []testCase
	for _, c := range list {
		out = append(out, c.testCase())
	}
	return out
}

func linearCases() []testCase {
	type linear struct {
		n, t, c, o int
		act        kernels.Activation
		bias       bool
		residual   bool
		filter     bool // the weight is a 1×1 filter
		stored     tensor.DType
		slow       bool
		norm       string  // "": none; its operands
		offset     float64 // of the input, in deviations
	}
	list := []linear{
		{n: 1, t: 1, c: 1, o: 1},
		{n: 1, t: 1, c: 320, o: 1280, bias: true, act: kernels.SiLU},
		{n: 3, t: 1, c: 48, o: 5, bias: true},
		{n: 3, t: 7, c: 13, o: 17, bias: true},
		{n: 2, t: 77, c: 64, o: 64, bias: true, residual: true},
		{n: 1, t: 24, c: 128, o: 100, act: kernels.QuickGELU, bias: true},
		{n: 2, t: 31, c: 33, o: 47, act: kernels.GELU, bias: true, residual: true},
		{n: 2, t: 5, c: 16, o: 16, act: kernels.SiLU, residual: true},
		{n: 1, t: 16, c: 20, o: 31, filter: true, bias: true},
		{n: 1, t: 6, c: 3, o: 1, bias: true},
		{n: 2, t: 9, c: 40, o: 23, stored: tensor.F16, bias: true},
		{n: 2, t: 9, c: 40, o: 23, stored: tensor.BF16, bias: true},
		{n: 1, t: 9, c: 40, o: 23, stored: tensor.F64},
		{n: 1, t: 1, c: 8, o: 1, act: kernels.GEGLU, bias: true},
		{n: 2, t: 7, c: 24, o: 15, act: kernels.GEGLU, bias: true},
		{n: 3, t: 5, c: 16, o: 33, act: kernels.GEGLU},
		{n: 2, t: 13, c: 40, o: 64, act: kernels.GEGLU, bias: true, residual: true},
		{n: 1, t: 7, c: 24, o: 20, act: kernels.GEGLU, bias: true, stored: tensor.F16},
		{n: 1, t: 1, c: 8, o: 1, act: kernels.SwiGLU},
		{n: 2, t: 11, c: 40, o: 33, act: kernels.TanhGELU, bias: true, residual: true},
		{n: 2, t: 13, c: 24, o: 33, act: kernels.TanhGEGLU},
		{n: 1, t: 9, c: 40, o: 64, act: kernels.TanhGEGLU, bias: true, residual: true},
		{n: 2, t: 13, c: 40, o: 33, act: kernels.SwiGLU, bias: true, residual: true},
		{n: 3, t: 5, c: 16, o: 64, act: kernels.SwiGLU},
		// Rows that AMX reads where they lie, with sums in one block of K and in several.
		{n: 2, t: 40, c: 96, o: 70, bias: true, residual: true},
		{n: 2, t: 16, c: 96, o: 40, act: kernels.GEGLU, bias: true},
		{n: 2, t: 40, c: 736, o: 40, act: kernels.GEGLU, bias: true},
		// With a layer norm before the product: rows that vectors and a GPU's granules of 32 columns divide or not.
		{n: 1, t: 1, c: 32, o: 8, norm: "gamma beta"},
		{n: 3, t: 7, c: 13, o: 17, norm: "gamma beta", bias: true},
		{n: 2, t: 77, c: 64, o: 72, norm: "gamma beta", bias: true, residual: true},
		{n: 2, t: 33, c: 96, o: 192, norm: "gamma beta", offset: 8},
		{n: 2, t: 9, c: 64, o: 40, norm: "gamma", act: kernels.SiLU, bias: true},
		{n: 3, t: 35, c: 320, o: 64, norm: "gamma beta", act: kernels.GEGLU, bias: true},
		{n: 2, t: 21, c: 40, o: 33, norm: "gamma beta", act: kernels.GEGLU, offset: -3},
		{n: 2, t: 5, c: 1024, o: 96, norm: "gamma beta", bias: true, residual: true},
		{n: 2, t: 130, c: 1280, o: 160, norm: "gamma beta", bias: true, slow: true},
		// Sums that a GPU splits.
		{n: 2, t: 5, c: 1032, o: 72, bias: true, residual: true},
		{n: 1, t: 3, c: 520, o: 35, act: kernels.GEGLU, bias: true},
		{n: 2, t: 64, c: 320, o: 256, act: kernels.GEGLU, bias: true, slow: true},
		{n: 2, t: 64, c: 1280, o: 320, bias: true, residual: true, slow: true},
		{n: 1, t: 3, c: 5120, o: 130, bias: true, slow: true},
	}
	var out []testCase
	for _, l := range list {
		name := fmt.Sprintf("linear/%d×%d×%d to %d%s", l.n, l.t, l.c, l.o, []string{"", " silu", " gelu", " quickgelu", " tanhgelu", " geglu", " swiglu", " tanhgeglu"}[l.act])
		for _, f := range []struct {
			on   bool
			name string
		}{{l.bias, " bias"}, {l.residual, " residual"}, {l.filter, " filter"}, {l.stored != tensor.F32, " stored as " + l.stored.String()}, {l.norm != "", " normed " + l.norm}, {l.offset != 0, fmt.Sprintf(" offset %g", l.offset)}} {
			if f.on {
				name += f.name
			}
		}
		out = append(out, testCase{name: name, batch: l.n, slow: l.slow, op: func(o *operands) kernels.Op {
			o.offset = l.offset
			stored := l.stored
			if stored == tensor.F32 {
				stored = o.v.rounded
			}
			op := &kernels.Linear{In: o.in(l.n, l.t, l.c), Act: l.act}
			o.offset = 0
			outs := l.o
			if l.norm != "" {
				o.norm = &kernels.RowNorm{Gamma: o.stored(stored, kernels.Vector, l.c), Eps: 1e-5}
				if l.norm == "gamma beta" {
					o.norm.Beta = o.stored(stored, kernels.Vector, l.c)
				}
			}
			switch {
			case l.act.Gated():
				outs *= 2
				op.W = o.stored(stored, kernels.MatrixGEGLU, outs, l.c)
			case l.filter:
				op.W = o.stored(stored, kernels.Filter, outs, l.c, 1, 1)
			default:
				op.W = o.stored(stored, kernels.Matrix, outs, l.c)
			}
			if l.bias {
				op.Bias = o.stored(stored, kernels.Vector, outs)
			}
			if l.residual {
				op.Residual = o.in(l.n, l.t, l.o)
			}
			return op
		}})
	}
	return out
}

func attentionCases() []testCase {
	type attention struct {
		n, queries, keys, heads, d int
		shared                     int  // heads of keys and values, 0: heads
		lengths                    bool // some keys are padding
		bias                       bool // by distance
		causal                     bool
		factor                     float32
		scale                      float64 // of the inputs: large ones make the softmax a choice of one
		slow                       bool
	}
	list := []attention{
		{n: 1, queries: 1, keys: 1, heads: 1, d: 4},
		{n: 3, queries: 5, keys: 1, heads: 2, d: 8},
		{n: 2, queries: 16, keys: 24, heads: 2, d: 16},
		{n: 2, queries: 64, keys: 77, heads: 2, d: 40},
		{n: 1, queries: 33, keys: 154, heads: 3, d: 40},
		{n: 2, queries: 64, keys: 64, heads: 1, d: 64},
		{n: 1, queries: 65, keys: 65, heads: 2, d: 80},
		{n: 1, queries: 17, keys: 129, heads: 2, d: 160},
		{n: 2, queries: 19, keys: 23, heads: 5, d: 12},
		{n: 1, queries: 7, keys: 127, heads: 1, d: 20},
		{n: 1, queries: 100, keys: 100, heads: 1, d: 512, slow: true},
		{n: 2, queries: 6, keys: 10, heads: 1, d: 512},
		{n: 1, queries: 13, keys: 4096, heads: 2, d: 40, slow: true},
		{n: 1, queries: 3, keys: 1031, heads: 1, d: 64},
		{n: 2, queries: 77, keys: 77, heads: 2, d: 64, causal: true},
		{n: 1, queries: 24, keys: 24, heads: 4, d: 32, causal: true},
		{n: 1, queries: 1, keys: 1, heads: 1, d: 8, causal: true},
		{n: 1, queries: 131, keys: 131, heads: 1, d: 16, causal: true},
		{n: 1, queries: 20, keys: 50, heads: 2, d: 32, factor: 0.3},
		{n: 2, queries: 20, keys: 150, heads: 2, d: 32, scale: 8},
		{n: 1, queries: 40, keys: 40, heads: 2, d: 40, scale: 8, causal: true},
		{n: 1, queries: 70, keys: 100, heads: 1, d: 64, scale: 8},
		{n: 1, queries: 20, keys: 100, heads: 1, d: 128, scale: 8},
		{n: 1, queries: 5, keys: 9, heads: 3, d: 5},
		{n: 2, queries: 33, keys: 150, heads: 4, d: 32, shared: 2},
		{n: 1, queries: 7, keys: 5, heads: 6, d: 5, shared: 2},
		{n: 3, queries: 40, keys: 300, heads: 2, d: 40, lengths: true},
		{n: 2, queries: 17, keys: 70, heads: 2, d: 128, lengths: true, shared: 1},
		{n: 3, queries: 140, keys: 140, heads: 4, d: 16, shared: 1, lengths: true, causal: true},
		{n: 2, queries: 9, keys: 90, heads: 1, d: 256, lengths: true},
		{n: 2, queries: 33, keys: 33, heads: 3, d: 16, bias: true, factor: 1},
		{n: 1, queries: 7, keys: 300, heads: 2, d: 20, bias: true},
		{n: 2, queries: 140, keys: 140, heads: 2, d: 64, bias: true, lengths: true, causal: true},
	}
	var out []testCase
	for _, a := range list {
		name := fmt.Sprintf("attention/%d×%d queries, %d keys, %d×%d", a.n, a.queries, a.keys, a.heads, a.d)
		if a.shared != 0 {
			name += fmt.Sprintf(" share %d", a.shared)
		}
		if a.lengths {
			name += " padded"
		}
		if a.bias {
			name += " bias"
		}
		if a.causal {
			name += " causal"
		}
		if a.factor != 0 {
			name += fmt.Sprintf(" factor %g", a.factor)
		}
		if a.scale != 0 {
			name += fmt.Sprintf(" scale %g", a.scale)
		}
		out = append(out, testCase{name: name, batch: a.n, slow: a.slow, op: func(o *operands) kernels.Op {
			if a.scale != 0 {
				o.scale = a.scale
			}
			c := a.d * a.heads
			if a.shared != 0 {
				c = a.d * a.shared
			}
			op := &kernels.Attention{Q: o.in(a.n, a.queries, a.heads*a.d), K: o.in(a.n, a.keys, c), V: o.in(a.n, a.keys, c),
				Heads: a.heads, KVHeads: a.shared, Scale: a.factor, Causal: a.causal}
			if a.lengths {
				op.Lengths = o.lengths(a.n, a.keys)
			}
			if a.bias {
				op.Bias = o.shared(a.heads, a.queries+a.keys-1)
			}
			return op
		}})
	}
	return out
}

func groupNormCases() []testCase {
	type norm struct {
		n, h, w, c, c2, groups int
		act                    kernels.Activation
		tokens                 bool
		offset                 float64 // mean of the inputs, in deviations
		eps                    float32
		slow                   bool
	}
	list := []norm{
		{n: 1, h: 1, w: 1, c: 4, groups: 1},
		{n: 2, h: 1, w: 1, c: 6, groups: 2},
		{n: 3, h: 4, w: 4, c: 32, groups: 32}, // one channel a group
		{n: 2, h: 3, w: 5, c: 5, groups: 5, act: kernels.SiLU},
		{n: 3, h: 8, w: 8, c: 64, groups: 32, act: kernels.SiLU},
		{n: 2, h: 7, w: 11, c: 48, groups: 16},
		{n: 1, h: 16, w: 16, c: 320, groups: 32, act: kernels.SiLU},
		{n: 2, h: 5, w: 5, c: 30, groups: 3},
		{n: 2, h: 13, w: 1, c: 17, groups: 1, act: kernels.SiLU},
		{n: 2, h: 6, w: 6, c: 64, c2: 64, groups: 32, act: kernels.SiLU},
		{n: 2, h: 6, w: 6, c: 64, c2: 32, groups: 32, act: kernels.SiLU}, // 3 channels a group: one has 1 + 2
		{n: 2, h: 5, w: 7, c: 5, c2: 7, groups: 3},
		{n: 1, h: 5, w: 7, c: 1, c2: 7, groups: 1},
		{n: 1, h: 4, w: 4, c: 20, c2: 12, groups: 2, act: kernels.SiLU},
		{n: 2, h: 30, c: 48, groups: 16, tokens: true},
		{n: 2, h: 9, w: 9, c: 16, groups: 4, offset: 100},
		{n: 1, h: 6, w: 6, c: 16, groups: 4, eps: 1e-6},
		{n: 2, h: 40, w: 41, c: 64, groups: 2, act: kernels.SiLU}, // more of a group than a CUDA block takes by itself
		{n: 1, h: 61, w: 67, c: 32, groups: 8, act: kernels.SiLU, slow: true},
		{n: 1, h: 100, w: 100, c: 10, c2: 6, groups: 4, offset: 30, slow: true},
	}
	var out []testCase
	for _, g := range list {
		name := fmt.Sprintf("groupnorm/%d×%d×%d×%d+%d in %d%s", g.n, g.h, g.w, g.c, g.c2, g.groups, []string{"", " silu"}[g.act])
		if g.offset != 0 {
			name += fmt.Sprintf(" mean %g", g.offset)
		}
		if g.eps == 0 {
			g.eps = 1e-5
		} else {
			name += fmt.Sprintf(" eps %g", g.eps)
		}
		out = append(out, testCase{name: name, batch: g.n, slow: g.slow, op: func(o *operands) kernels.Op {
			o.offset = g.offset
			shape := func(c int) []int {
				if g.tokens {
					return []int{g.n, g.h, c}
				}
				return []int{g.n, g.h, g.w, c}
			}
			op := &kernels.GroupNorm{In: o.in(shape(g.c)...), Groups: g.groups, Eps: g.eps, Act: g.act}
			if g.c2 > 0 {
				op.In2 = o.in(shape(g.c2)...)
			}
			op.Gamma, op.Beta = o.weight(kernels.Vector, g.c+g.c2), o.weight(kernels.Vector, g.c+g.c2)
			return op
		}})
	}
	return out
}

func layerNormCases() []testCase {
	var out []testCase
	for _, l := range []struct {
		n, t, c int
		offset  float64
		bare    bool   // no weights
		scaled  string // by image: "", "scale" or "scale and shift"
		rms     bool
	}{
		{1, 1, 1, 0, false, "", false}, {1, 1, 4, 0, false, "", false}, {3, 7, 13, 0, false, "", false}, {2, 77, 64, 0, false, "", false}, {2, 5, 320, 0, false, "", false},
		{1, 3, 1280, 0, false, "", false}, {2, 4, 768, 50, false, "", false}, {1, 2, 17, 0, false, "", false},
		{2, 9, 48, 0, true, "", false}, {3, 5, 13, 0, true, "scale and shift", false}, {2, 40, 640, 20, true, "scale and shift", false},
		{1, 1, 1, 0, false, "", true}, {2, 7, 320, 5, false, "", true}, {3, 5, 33, 0, false, "scale", true}, {2, 3, 1024, 0, true, "scale", true}, {2, 11, 20, 0, true, "", true},
	} {
		kind := "layernorm"
		if l.rms {
			kind = "layernorm/rms "
		} else {
			kind += "/"
		}
		name := fmt.Sprintf("%s%d×%d×%d", kind, l.n, l.t, l.c)
		if l.offset != 0 {
			name += fmt.Sprintf(" mean %g", l.offset)
		}
		if l.bare {
			name += " bare"
		}
		if l.scaled != "" {
			name += " " + l.scaled
		}
		out = append(out, testCase{name: name, batch: l.n, op: func(o *operands) kernels.Op {
			o.offset = l.offset
			op := &kernels.LayerNorm{In: o.in(l.n, l.t, l.c), Eps: 1e-5, RMS: l.rms}
			o.offset = 0
			if !l.bare {
				op.Gamma = o.weight(kernels.Vector, l.c)
			}
			if !l.bare && !l.rms {
				op.Beta = o.weight(kernels.Vector, l.c)
			}
			if l.scaled != "" {
				op.Scale = o.in(l.n, l.c)
			}
			if l.scaled == "scale and shift" {
				op.Shift = o.in(l.n, l.c)
			}
			return op
		}})
	}
	return out
}

func embedCases() []testCase {
	var out []testCase
	for _, e := range []struct {
		n, t, rows, c int
		stored        tensor.DType
		nowhere       bool // no positions
	}{{1, 1, 1, 1, tensor.F32, false}, {2, 7, 100, 13, tensor.F32, false}, {3, 77, 1000, 64, tensor.F32, false}, {1, 24, 300, 128, tensor.F16, false}, {1, 5, 40, 32, tensor.BF16, false}, {2, 9, 2, 24, tensor.F32, true}} {
		name := fmt.Sprintf("embed/%d×%d of %d×%d %v", e.n, e.t, e.rows, e.c, e.stored)
		if e.nowhere {
			name += " nowhere"
		}
		out = append(out, testCase{name: name, batch: e.n, op: func(o *operands) kernels.Op {
			stored := e.stored
			if stored == tensor.F32 {
				stored = o.v.rounded
			}
			op := &kernels.Embed{IDs: o.ids(e.rows, e.n, e.t), Tokens: o.stored(stored, kernels.Table, e.rows, e.c)}
			if !e.nowhere {
				op.Positions = o.stored(stored, kernels.Table, e.t+3, e.c)
			}
			return op
		}})
	}
	return out
}
