//go:build cuda && linux && amd64

package cuda

import (
	"fmt"
	"math/bits"

	"gorgonia.org/cu"

	"darkroom/kernels"
	"darkroom/tensor"
)

// gemm is the parameters of gemm.cuh's kernels.
type gemm struct {
	a, a2, b, bias, perChannel, residual, d cu.DevicePtr
	m, n, k                                 int // rows, columns (packed: 2·O with GEGLU) and depth
	act                                     kernels.Activation
	h, w, c1, c2, kh, kw                    int
	stride, pad, upH, upW, outH, outW       int
}

// Conv2D is an implicit GEMM: a row for each output pixel, a column for each output channel.
func (b *Backend) Conv2D(dst *kernels.Tensor, op *kernels.Conv2D) {
	defer b.enter()()
	b.want(dst, op.In, op.In2, op.PerChannel, op.Residual)
	in, w, out := op.In.Shape, op.W.Shape, dst.Shape
	g := gemm{
		a: at(op.In), a2: at(op.In2), b: b.weightAt(op.W), bias: b.weightAt(op.Bias),
		perChannel: at(op.PerChannel), residual: at(op.Residual), d: at(dst),
		m: out[0] * out[1] * out[2], n: w[0], k: w[1] * w[2] * w[3], act: op.Act,
		h: in[1], w: in[2], c1: in[3], c2: w[1] - in[3], kh: w[2], kw: w[3],
		stride: op.Step(), pad: op.Pad[0], outH: out[1], outW: out[2],
	}
	g.upH, g.upW = op.InSize()
	b.gemm(g)
}

// Linear is a 1×1 convolution of images one pixel high and as wide as there are rows of each: the first axis counts images,
// so that a matrix [N, C] holds N of one row, as the time embedding does.
func (b *Backend) Linear(dst *kernels.Tensor, op *kernels.Linear) {
	defer b.enter()()
	b.want(dst, op.In, op.Residual)
	in := op.In.Shape
	channels := in[len(in)-1]
	images := 1
	if len(in) > 1 {
		images = in[0]
	}
	rows := in.Len() / channels
	g := gemm{
		a: at(op.In), b: b.weightAt(op.W), bias: b.weightAt(op.Bias), residual: at(op.Residual), d: at(dst),
		m: rows, n: op.W.Shape[0], k: channels, act: op.Act,
		h: 1, w: rows / images, c1: channels, kh: 1, kw: 1, stride: 1, upH: 1, upW: rows / images, outH: 1, outW: rows / images,
	}
	b.gemm(g)
}

// tile is one of gemm.cu's tile shapes.
type tile struct {
	name            string
	m, n            int
	threads, stages int
	// share is how much of the tensor cores' peak the tile's inner loop can reach: each value that comes
	// from shared memory serves m (or n) others, and small warps' tiles are bound by ldmatrix. Modelled, not measured.
	share float64
}

var tiles = []tile{
	{"128x128", 128, 128, 128, 3, 1.0},
	{"128x64", 128, 64, 128, 4, 0.85},
	{"64x64", 64, 64, 128, 4, 0.65},
}

// shared is the size of the tile's stages: gemm.cuh's kStageBytes, 64 bytes of each row of A and B.
func (t tile) shared() int { return t.stages * (t.m + t.n) * 64 }

// gemm chooses the kernel and queues it.
func (b *Backend) gemm(g gemm) {
	if g.m == 0 {
		return
	}
	if b.simpleGEMM {
		grid := [3]int{ceil(g.m, 64), ceil(g.n, 64), 1}
		b.launchGEMM("gemm_simple_"+b.suffix(), grid, 256, 2*16*68*4, g, 0, 1)
		return
	}
	splits, chunk := splits(g.outH*g.outW, g.n, g.k), 16/b.dtype.Size()
	if g.c1%chunk != 0 || g.c2%chunk != 0 {
		b.product(g, tiles[2], "_narrow", splits)
		return
	}
	t := b.tileFor(g, splits)
	if t.shared() > b.sharedMost {
		t = tiles[2]
	}
	b.product(g, t, "", splits)
}

// product queues gemm_mma with a tile, and the sum of its parts.
func (b *Backend) product(g gemm, t tile, suffix string, splits int) {
	var partial cu.DevicePtr
	if splits > 1 {
		var ok bool
		if partial, ok = b.scratchFor(4 * splits * g.m * g.n); !ok {
			return
		}
	}
	grid := [3]int{ceil(g.m, t.m), ceil(g.n, t.n), splits}
	b.launchGEMM("gemm_mma_"+b.tensorCores()+"_"+t.name+suffix, grid, t.threads, t.shared(), g, partial, splits)
	if splits > 1 {
		b.launchGEMM("gemm_reduce_"+b.suffix(), [3]int{ceil(g.m*ceil(g.n, 4), 256), 1, 1}, 256, 0, g, partial, splits)
	}
}

// tensorCores is the name of the type that the tensor cores multiply.
func (b *Backend) tensorCores() string {
	if b.dtype == tensor.F32 {
		return "tf32"
	}
	return b.suffix()
}

func (b *Backend) launchGEMM(name string, grid [3]int, threads, shared int, g gemm, partial cu.DevicePtr, splits int) {
	parameters := []any{
		g.a, g.a2, g.b, g.bias, g.perChannel, g.residual, g.d, partial,
		g.m, g.n, g.k, ceil(g.k, depth) * depth, int(g.act), splits,
		g.h, g.w, g.c1, g.c2, g.kw, g.stride, g.pad, g.upH, g.upW, g.outH, g.outW, g.kh,
	}
	for _, d := range []int{g.outH * g.outW, g.outW, g.upH, g.upW} {
		factor, shift := divisor(d)
		parameters = append(parameters, int(int32(factor)), shift)
	}
	b.launch(kernel{"gemm", name}, grid, threads, shared, parameters...)
}

// divisor is gemm.cuh's Divisor: n/d is n·factor >> shift for every n from 0 to 2³¹-1.
func divisor(d int) (factor uint32, shift int) {
	shift = 31 + bits.Len(uint(d-1)) // 31 + ⌈log₂ d⌉
	return uint32((uint64(1)<<shift + uint64(d) - 1) / uint64(d)), shift
}

// splits is into how many parts the sum over K is split, so that a small result with a deep sum keeps
// more than a few processors busy. It is fixed by the shape for one image, not by the batch or the
// device: the order of a sum decides its last bits, and these must not depend on either.
func splits(rows, n, k int) int {
	const wanted = 128 // blocks of 64×64; about the processors of a large GPU
	blocks := ceil(rows, 64) * ceil(n, 64)
	// At least 8 tiles deep: less would not fill the pipeline of 4 stages.
	return max(1, min(wanted/blocks, ceil(k, depth)/8, 16))
}

// chooseTile takes the shape with the least modelled time: waves of blocks over the processors, each as
// long as the tile is large, by the share of the peak that its loop reaches. Two blocks share a processor.
func chooseTile(m, n, splits, processors int) tile {
	best, least := tiles[len(tiles)-1], 0.0
	for _, t := range tiles {
		blocks := ceil(m, t.m) * ceil(n, t.n) * splits
		time := float64(ceil(blocks, max(1, 2*processors))) * float64(t.m*t.n) / t.share
		if least == 0 || time < least {
			best, least = t, time
		}
	}
	return best
}

func ceil(a, b int) int { return (a + b - 1) / b }

// flashTile is one of attention.cuh's Flash: the queries of a block, and the keys that it takes at a time.
type flashTile struct{ size, queries, keys int }

var flashTiles = []flashTile{{16, 128, 64}, {32, 128, 64}, {48, 128, 64}, {64, 128, 64}, {80, 64, 64}, {128, 64, 32}, {160, 64, 32}}

// shared is of queries, and two tiles of keys and values each.
func (t flashTile) shared() int { return (t.queries + 4*t.keys) * t.size * 2 }

// Attention takes the tensor-core kernel of the smallest padded head size that holds the heads.
func (b *Backend) Attention(dst *kernels.Tensor, op *kernels.Attention) {
	defer b.enter()()
	b.want(dst, op.Q, op.K, op.V)
	q := op.Q.Shape
	size := q[2] / op.Heads
	k, threads, shared, queries := b.attentionKernel(size, op.Factor())
	causal := 0
	if op.Causal {
		causal = 1
	}
	b.launch(k, [3]int{ceil(q[1], queries), op.Heads, q[0]}, threads, shared,
		at(op.Q), at(op.K), at(op.V), at(dst), q[1], op.K.Shape[1], q[2], size, causal, op.Factor())
}

// attentionKernel gives the kernel for a head size, its threads and shared memory, and the queries a
// block takes. The fast ones look for the largest score before it is scaled, and want a positive scale.
func (b *Backend) attentionKernel(size int, scale float32) (k kernel, threads, shared, queries int) {
	if !b.simpleAttention && size%8 == 0 && scale > 0 {
		for _, t := range flashTiles {
			if size <= t.size && t.shared() <= b.sharedMost {
				return kernel{"attention", fmt.Sprintf("attention_mma_%s_%d", b.suffix(), t.size)}, 128, t.shared(), t.queries
			}
		}
		const wide = (32*512+32*512+32*40)*2 + 32*40*4 + 2*32*4 // attention.cuh's WideTiles
		if size > 160 && size <= 512 && wide <= b.sharedMost {
			return kernel{"attention", "attention_wide_" + b.suffix()}, 256, wide, 32
		}
	}
	if size > 512 {
		panic(fmt.Sprintf("cuda: attention heads of %d channels; at most 512 are supported", size))
	}
	return kernel{"attention", "attention_simple_" + b.suffix()}, 128, 4 * size * 4, 4
}

// Embed is one thread an element.
func (b *Backend) Embed(dst *kernels.Tensor, op *kernels.Embed) {
	defer b.enter()()
	b.want(dst)
	if op.IDs.DType != tensor.I32 {
		panic("cuda: ids of " + op.IDs.DType.String())
	}
	s := dst.Shape
	b.launch(kernel{"embed", "embed_" + b.suffix()}, [3]int{ceil(s.Len(), 256), 1, 1}, 256, 0,
		at(op.IDs), b.weightAt(op.Tokens), b.weightAt(op.Positions), at(dst), s[0]*s[1], s[1], s[2])
}
