//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"

	"gorgonia.org/cu"

	"darkroom/kernels/cuda/drv"
	"darkroom/tensor"
)

// hopperGemm is gemm_sm90.cuh's HopperGemm.
type hopperGemm struct {
	a, a2, b                 drv.TensorMap
	g                        gemm
	im2col                   int32
	tilesM, partTiles, tiles int32
	steps, partSteps         int32
	byM, byPart              divisor
}

func wgmmaFamily(t HopperTile) family {
	return family{fmt.Sprintf("128x%d_wgmma", t.Columns), wgmma, hopperFits, hopperRows, t.Columns, 384, t.Shared(), t.share}
}

// isMatrix says whether A is a matrix as it lies in memory: every pixel is read once, and the next one follows it.
func (g gemm) isMatrix() bool {
	return g.kh == 1 && g.kw == 1 && g.stride == 1 && g.pad == 0 && g.outH == g.h && g.outW == g.w
}

// upper is where the corner of a square filter stops, in both directions, counted from the image's last pixel, if its
// places are those of the result.
func (g gemm) upper() (n int, ok bool) {
	for padding := range g.kh + g.stride { // after the last pixel
		if (g.h+g.pad+padding-g.kh)/g.stride+1 == g.outH && (g.w+g.pad+padding-g.kw)/g.stride+1 == g.outW {
			return int(padding - (g.kh - 1)), true
		}
	}
	return 0, false
}

// enlarge is gemm_sm90.cuh's Enlarge.
type enlarge struct {
	a, d                                cu.DevicePtr
	count                               int64
	h, w, upH, upW, chunks              int32
	byChunks, pixels, row, byUpH, byUpW divisor
}

// enlarged is the product as Hopper's kernels compute it: of images that have the size that they are read at.
func (g gemm) enlarged() gemm {
	g.h, g.w = g.upH, g.upW
	return g
}

// enlargedBytes is what the enlarged inputs take, of all images; 0 if they are as large as they are read.
func (g gemm) enlargedBytes() int {
	if g.upH == g.h && g.upW == g.w {
		return 0
	}
	return 2 * int(g.m/(g.outH*g.outW)) * int(g.upH*g.upW) * int(g.c1+g.c2)
}

// enlargedMost is how much an image may take. A U-Net's for 1024×1024 takes 21 MB.
const enlargedMost = 32 << 20

// enlargeInputs queues the inputs' enlargement, into memory of enlargedBytes.
func (b *Backend) enlargeInputs(g gemm, to cu.DevicePtr) gemm {
	images := g.m / (g.outH * g.outW)
	for _, in := range []*cu.DevicePtr{&g.a, &g.a2} {
		c := g.c1
		if in == &g.a2 {
			c = g.c2
		}
		if c == 0 {
			continue
		}
		e := enlarge{
			a: *in, d: to, count: int64(images) * int64(g.upH*g.upW) * int64(c/8), h: g.h, w: g.w, upH: g.upH, upW: g.upW, chunks: c / 8,
			byChunks: divide(c / 8), pixels: divide(g.upH * g.upW), row: divide(g.upW), byUpH: g.byUpH, byUpW: g.byUpW,
		}
		launch(b, kernel{"gemm_sm90", "enlarge_16"}, [3]int{ceil(int(e.count), 256), 1, 1}, 256, 0, &e)
		*in = to
		to += cu.DevicePtr(16 * e.count)
	}
	return g.enlarged()
}

// hopperFits: TMA copies what lies together in memory, so channels must be whole chunks. Its limits on a filter are
// cuTensorMapEncodeIm2col's: 8 bits for the corners, strides up to 8. The filter is square, so that it does not matter in
// which order the driver takes width and height.
func hopperFits(b *Backend, g gemm) bool {
	if b.dtype == tensor.F32 || !chunked(b, g) {
		return false
	}
	if images := int(g.m / (g.outH * g.outW)); g.enlargedBytes() > images*enlargedMost {
		return false
	}
	g = g.enlarged()
	_, ok := g.upper()
	return g.isMatrix() || ok && g.kh == g.kw && g.stride <= 8 && g.pad <= 64 && g.kh <= 64
}

// element is the type of activations as tensor maps name it.
func (b *Backend) element() drv.Element {
	if b.dtype == tensor.BF16 {
		return drv.Bfloat
	}
	return drv.Half
}

// plan fills in the tiles, of n columns, and the steps, of so many columns of K.
func (p *hopperGemm) plan(n int, columns int32) {
	g := &p.g
	p.tilesM = ceil(g.m, hopperRows)
	p.partTiles = p.tilesM * ceil(g.n, int32(n))
	p.tiles = p.partTiles * g.splits
	p.steps = g.kh * g.kw * (ceil(g.c1, columns) + ceil(g.c2, columns))
	p.partSteps = ceil(p.steps, g.splits)
	p.byM, p.byPart = divide(p.tilesM), divide(p.partTiles)
}

// hopper queues a product on blocks that stay, one a processor. Enlarged inputs go to memory at larger.
func (b *Backend) hopper(g gemm, f *family, larger cu.DevicePtr) {
	if g.enlargedBytes() > 0 {
		g = b.enlargeInputs(g, larger)
	}
	p := hopperGemm{g: g, im2col: 1}
	var err error
	for i, to := range []*drv.TensorMap{&p.a, &p.a2} {
		from, c := [2]cu.DevicePtr{g.a, g.a2}[i], int([2]int32{g.c1, g.c2}[i])
		if c == 0 || err != nil {
			continue
		}
		if g.isMatrix() {
			p.im2col = 0
			*to, err = drv.Matrix(b.element(), from, c, int(g.m), 2*c, hopperRows)
		} else {
			upper, _ := g.upper()
			*to, err = drv.Places(b.element(), from, [4]int{c, int(g.w), int(g.h), int(g.m / (g.outH * g.outW))}, -int(g.pad), upper, int(g.stride), hopperRows)
		}
	}
	if err == nil {
		p.b, err = drv.Matrix(b.element(), g.b, int(g.ldb), int(g.n), 2*int(g.ldb), f.n)
	}
	if err != nil {
		b.fail("describing tensors to TMA", err)
		return
	}
	p.plan(f.n, hopperColumns)
	launch(b, f.kernel(b), [3]int{min(int(p.tiles), max(1, b.device.Processors)), 1, 1}, f.threads, f.shared, &p)
}
