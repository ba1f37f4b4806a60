//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"math/bits"

	"gorgonia.org/cu"

	"darkroom/kernels"
	"darkroom/tensor"
)

// gemm is gemm.cuh's Gemm.
type gemm struct {
	a, a2, b, bias, perChannel, residual, d, partial cu.DevicePtr

	m, n, k, ldb                      int32 // rows, columns (packed: 2·O with GEGLU), depth, and depth as packed
	act, splits                       int32
	h, w, c1, c2, kh, kw              int32
	stride, pad, upH, upW, outH, outW int32
	pixels, row, byUpH, byUpW         divisor
	perChannelPitch                   int32
	eps                               float32
	ticket, moments, momentsOut       cu.DevicePtr
	sums, shift                       cu.DevicePtr
}

// divisor is device.cuh's Divisor.
type divisor struct {
	factor uint32
	shift  int32
}

// Conv2D is an implicit GEMM: a row for each output pixel, a column for each output channel.
func (b *Backend) Conv2D(dst *kernels.Tensor, op *kernels.Conv2D) {
	defer b.enter()()
	b.want(dst, op.In, op.In2, op.PerChannel, op.Residual)
	in, w, out := op.In.Shape, op.W.Shape, dst.Shape
	g := gemm{
		a: at(op.In), a2: at(op.In2), b: b.matrixAt(op.W), bias: b.weightAt(op.Bias),
		perChannel: at(op.PerChannel), residual: at(op.Residual), d: at(dst),
		m: int32s(out[0] * out[1] * out[2]), n: int32s(w[0]), k: int32s(w[1] * w[2] * w[3]), act: int32(op.Act),
		h: int32s(in[1]), w: int32s(in[2]), c1: int32s(in[3]), c2: int32s(w[1] - in[3]), kh: int32s(w[2]), kw: int32s(w[3]),
		stride: int32s(op.Step()), pad: int32s(op.Pad[0]), outH: int32s(out[1]), outW: int32s(out[2]),
	}
	if op.PerChannel != nil {
		g.perChannelPitch = int32s(op.PerChannel.Row())
	}
	h, wd := op.InSize()
	g.upH, g.upW = int32s(h), int32s(wd)
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
	width := int32s(rows / images)
	g := gemm{
		a: at(op.In), b: b.matrixAt(op.W), bias: b.weightAt(op.Bias), residual: at(op.Residual), d: at(dst),
		m: int32s(rows), n: int32s(op.W.Shape[0]), k: int32s(channels), act: int32(op.Act),
		h: 1, w: width, c1: int32s(channels), kh: 1, kw: 1, stride: 1, upH: 1, upW: width, outH: 1, outW: width,
	}
	if !b.normed(&g, op) {
		return
	}
	if dst.Moments && b.normalises(int(g.n)) && !op.Act.Gated() {
		var ok bool
		if g.momentsOut, ok = b.momentsFor(int(g.m), int(g.n)); !ok {
			return
		}
		b.moments.of = dst.Root()
	}
	b.gemm(g)
}

// gemm chooses the family and queues it.
func (b *Backend) gemm(g gemm) {
	if g.m == 0 {
		return
	}
	g = b.planned(g)
	b.product(g, b.familyFor(g))
}

// planned fills in what follows from the sizes.
func (b *Backend) planned(g gemm) gemm {
	g.ldb, g.splits = ceil(g.k, depth)*depth, 1
	g.pixels, g.row = divide(g.outH*g.outW), divide(g.outW)
	g.byUpH, g.byUpW = divide(g.upH), divide(g.upW)
	if b.products != plain {
		g.splits = int32(Splits(int(g.outH*g.outW), int(g.n), int(g.k), b.products == wgmma && hopperFits(b, g)))
	}
	return g
}

// ticketCount is how many counters of split sums a backend has: one for each warp of each tile. A product of more is
// summed up by a kernel of its own, with the same bits.
const ticketCount = 1 << 16

// product queues a family's kernel. The last part of a split sum to come adds all of them, in order.
func (b *Backend) product(g gemm, f *family) {
	m, n, splits := int(g.m), int(g.n), int(g.splits)
	var parts, larger int // bytes
	if splits > 1 {
		parts = ceil(4*splits*m*n, 256) * 256
	}
	if f.class == wgmma {
		larger = g.enlargedBytes()
	}
	var scratch cu.DevicePtr
	if parts+larger > 0 {
		var ok bool
		if scratch, ok = b.scratchFor(parts + larger); !ok {
			return
		}
	}
	if splits > 1 {
		g.partial = scratch
		var ok bool
		if ceil(m, f.m)*ceil(n, f.n)*f.warps() <= ticketCount && !b.apart {
			if g.ticket, ok = b.counters(); !ok {
				return
			}
		}
	}
	if f.class == wgmma {
		b.hopper(g, f, scratch+cu.DevicePtr(parts))
	} else {
		shared := f.shared
		if g.moments != 0 {
			shared += 8 * f.m // the norms of the rows
		}
		launch(b, f.kernel(b), [3]int{ceil(m, f.m), ceil(n, f.n), splits}, f.threads, shared, &g)
	}
	if splits > 1 && g.ticket == 0 {
		launch(b, kernel{"gemm", "gemm_reduce_" + b.suffix()}, [3]int{ceil(m*ceil(n, 4), 256), 1, 1}, 256, 0, &g)
	}
}

// tensorCores is the name of the type that the tensor cores multiply.
func (b *Backend) tensorCores() string {
	if b.dtype == tensor.F32 {
		return "tf32"
	}
	return b.suffix()
}

// divide is by d: n/d is n·factor >> shift for every n from 0 to 2³¹-1.
func divide(d int32) divisor {
	shift := 31 + bits.Len(uint(d-1)) // 31 + ⌈log₂ d⌉
	return divisor{uint32((uint64(1)<<shift + uint64(d) - 1) / uint64(d)), int32(shift)}
}
