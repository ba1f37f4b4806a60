package bench

import (
	"darkroom/kernels"
	"darkroom/tensor"
)

// Case is an operation of a given size.
type Case struct {
	Kind  string // of the operation
	Shape string // Describe's
	Build func(g *kernels.Graph) kernels.Op
}

// StableDiffusion15 are the operations that take the most time in Stable Diffusion 1.5 at 512×512 with
// guidance (a batch of two), and some of its decoder.
func StableDiffusion15() []Case {
	return []Case{
		conv(2, 64, 64, 320, 0, 320, 3, 1),
		conv(2, 64, 64, 320, 320, 320, 3, 1),
		conv(2, 64, 64, 640, 320, 320, 3, 1),
		conv(2, 32, 32, 640, 0, 640, 3, 1),
		conv(2, 32, 32, 1280, 640, 640, 3, 1),
		conv(2, 16, 16, 1280, 0, 1280, 3, 1),
		conv(2, 16, 16, 1280, 1280, 1280, 3, 1),
		conv(2, 8, 8, 1280, 0, 1280, 3, 1),
		conv(2, 64, 64, 320, 0, 320, 3, 2),
		conv(2, 64, 64, 320, 0, 320, 1, 1),
		conv(2, 64, 64, 4, 0, 320, 3, 1),
		conv(2, 64, 64, 320, 0, 4, 3, 1),
		conv(1, 256, 256, 256, 0, 256, 3, 1),
		conv(1, 512, 512, 128, 0, 3, 3, 1),
		linear(8192, 320, 320, kernels.Identity),
		linear(8192, 320, 1280, kernels.GEGLU),
		linear(8192, 1280, 320, kernels.Identity),
		linear(2048, 640, 2560, kernels.GEGLU),
		linear(512, 1280, 5120, kernels.GEGLU),
		linear(154, 768, 320, kernels.Identity),
		linear(2, 1280, 1280, kernels.SiLU),
		attention(2, 4096, 4096, 8, 40),
		attention(2, 4096, 77, 8, 40),
		attention(2, 1024, 1024, 8, 80),
		attention(2, 256, 256, 8, 160),
		attention(1, 4096, 4096, 1, 512),
		groupNorm(2, 64, 64, 320, 0),
		groupNorm(2, 64, 64, 320, 320),
		groupNorm(1, 512, 512, 128, 0),
		layerNorm(8192, 320),
	}
}

func newCase(build func(g *kernels.Graph) kernels.Op) Case {
	op := build(kernels.NewGraph(tensor.F32))
	return Case{op.Kind(), Describe(op), build}
}

func conv(n, h, w, c, c2, o, k, stride int) Case {
	return newCase(func(g *kernels.Graph) kernels.Op {
		op := &kernels.Conv2D{In: g.Input("in", g.DType, n, h, w, c), W: sized(kernels.Filter, o, c+c2, k, k), Bias: sized(kernels.Vector, o), Stride: stride}
		if k == 3 {
			op.Pad = [2]int{1, 1}
		}
		if c2 > 0 {
			op.In2 = g.Input("in2", g.DType, n, h, w, c2)
		}
		return op
	})
}

// linear is of two images' rows, as guidance makes them.
func linear(rows, c, o int, act kernels.Activation) Case { return linearOf(2, rows/2, c, o, act, true) }

func linearOf(n, rows, c, o int, act kernels.Activation, bias bool) Case {
	return newCase(func(g *kernels.Graph) kernels.Op {
		role, outs := kernels.Matrix, o
		if act.Gated() {
			role, outs = kernels.MatrixGEGLU, 2*o
		}
		op := &kernels.Linear{In: g.Input("in", g.DType, n, rows, c), W: sized(role, outs, c), Act: act}
		if bias {
			op.Bias = sized(kernels.Vector, outs)
		}
		return op
	})
}

// normedOf is linearOf of rows that are normalised before, and whose moments the product before has left.
func normedOf(n, rows, c, o int, act kernels.Activation, bias bool) Case {
	plain := linearOf(n, rows, c, o, act, bias)
	return newCase(func(g *kernels.Graph) kernels.Op {
		op := plain.Build(g).(*kernels.Linear)
		op.W.Norm = &kernels.RowNorm{Gamma: sized(kernels.Vector, c), Beta: sized(kernels.Vector, c), Eps: 1e-5}
		op.In.Moments = true
		return op
	})
}

// upsampled is a 3×3 convolution of an image read at twice its size.
func upsampled(n, size, c int) Case {
	return newCase(func(g *kernels.Graph) kernels.Op {
		return &kernels.Conv2D{In: g.Input("in", g.DType, n, size, size, c), W: sized(kernels.Filter, c, c, 3, 3), Bias: sized(kernels.Vector, c), Pad: [2]int{1, 1}, Upsample: [2]int{2 * size, 2 * size}}
	})
}

func attention(n, queries, keys, heads, d int) Case {
	return newCase(func(g *kernels.Graph) kernels.Op {
		c := heads * d
		return &kernels.Attention{Q: g.Input("q", g.DType, n, queries, c), K: g.Input("k", g.DType, n, keys, c), V: g.Input("v", g.DType, n, keys, c), Heads: heads}
	})
}

func groupNorm(n, h, w, c, c2 int) Case {
	return newCase(func(g *kernels.Graph) kernels.Op {
		op := &kernels.GroupNorm{In: g.Input("in", g.DType, n, h, w, c), Gamma: sized(kernels.Vector, c+c2), Beta: sized(kernels.Vector, c+c2), Groups: 32, Eps: 1e-5, Act: kernels.SiLU}
		if c2 > 0 {
			op.In2 = g.Input("in2", g.DType, n, h, w, c2)
		}
		return op
	})
}

func layerNorm(rows, c int) Case {
	return newCase(func(g *kernels.Graph) kernels.Op {
		return &kernels.LayerNorm{In: g.Input("in", g.DType, rows, c), Gamma: sized(kernels.Vector, c), Beta: sized(kernels.Vector, c), Eps: 1e-5}
	})
}
