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
	_                        [40]byte // to a multiple of 64
}

const (
	hopperRows    = 128 // of A, a tile
	hopperColumns = 64  // of K, a stage
)

// wgmmaFamily has stages of 128 bytes of each row of A and B, results of 16 rows by 64 columns for each of 8 warps, two barriers a
// stage, and begins at a multiple of 1024: gemm_sm90.cuh's HopperTile.
func wgmmaFamily(n, stages int, share float64) family {
	shared := stages*(hopperRows+n)*128 + 8*16*64*4 + 16*stages + 1024
	return family{fmt.Sprintf("128x%d_wgmma", n), wgmma, hopperFits, hopperRows, n, 384, shared, share}
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

// hopperFits: TMA copies what lies together in memory, so channels must be whole chunks, and upsampling is not possible. Its limits
// on a filter are cuTensorMapEncodeIm2col's: 8 bits for the corners, strides up to 8. The filter is square, so that it
// does not matter in which order the driver takes width and height.
func hopperFits(b *Backend, g gemm) bool {
	if b.dtype == tensor.F32 || !chunked(b, g) || g.upH != g.h || g.upW != g.w {
		return false
	}
	_, ok := g.upper()
	return g.isMatrix() || ok && g.kh == g.kw && g.stride <= 8 && g.pad <= 64 && g.kh <= 64
}

// hopper queues a product on blocks that stay, one a processor.
func (b *Backend) hopper(g gemm, f *family) {
	p := hopperGemm{g: g, im2col: 1}
	bfloat := b.dtype == tensor.BF16
	var err error
	for i, to := range []*drv.TensorMap{&p.a, &p.a2} {
		from, c := [2]cu.DevicePtr{g.a, g.a2}[i], int([2]int32{g.c1, g.c2}[i])
		if c == 0 || err != nil {
			continue
		}
		if g.isMatrix() {
			p.im2col = 0
			*to, err = drv.Matrix(bfloat, from, c, int(g.m), 2*c, hopperRows)
		} else {
			upper, _ := g.upper()
			*to, err = drv.Places(bfloat, from, [4]int{c, int(g.w), int(g.h), int(g.m / (g.outH * g.outW))}, -int(g.pad), upper, int(g.stride), hopperRows)
		}
	}
	if err == nil {
		p.b, err = drv.Matrix(bfloat, g.b, int(g.ldb), int(g.n), 2*int(g.ldb), f.n)
	}
	if err != nil {
		b.fail("describing tensors to TMA", err)
		return
	}
	p.tilesM = ceil(g.m, hopperRows)
	p.partTiles = p.tilesM * ceil(g.n, int32(f.n))
	p.tiles = p.partTiles * g.splits
	p.steps = g.kh * g.kw * (ceil(g.c1, hopperColumns) + ceil(g.c2, hopperColumns))
	p.partSteps = ceil(p.steps, g.splits)
	p.byM, p.byPart = divide(p.tilesM), divide(p.partTiles)
	launch(b, f.kernel(b), [3]int{min(int(p.tiles), max(1, b.device.Processors)), 1, 1}, f.threads, f.shared, &p)
}
