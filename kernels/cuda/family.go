//go:build cuda && linux && (amd64 || arm64)

package cuda

import "fmt"

// class is the order in which a product's sums are added, which decides their last bits. Families of one class give
// the same bits for every shape (TestFamilies), so measured time may choose among them, and only among them.
// Which class computes a shape is decided by the shape of one image and by what the device's self-test found.
type class int

const (
	plain   class = iota // float32, in the order of K
	mmaSync              // tensor cores by mma.sync, in parts of K where the sum is split
	wgmma                // Hopper's, 64 channels of a tap at a time
)

// family is a kernel for products that are m×n results a block.
type family struct {
	name  string // in the kernel's, in the tuner's file and in verdicts
	class class
	// fits says whether the kernel can compute a shape. It reads nothing that depends on the batch.
	fits    func(b *Backend, g gemm) bool
	m, n    int
	threads int
	shared  int // bytes a block
	// share is how much of the tensor cores' peak the inner loop can reach: each value that comes from shared
	// memory serves m (or n) others, and small warps' tiles are bound by ldmatrix. Modelled, not measured.
	share float64
}

// families are the kernels of gemm.cu and gemm_sm90.cu, the best guess of each class first.
var families = []family{
	mmaFamily("128x128", 128, 128, 4, 3, 1.0, chunked),
	mmaFamily("128x64", 128, 64, 4, 4, 0.85, chunked),
	mmaFamily("64x64", 64, 64, 4, 4, 0.65, chunked),
	mmaFamily("128x128_8w", 128, 128, 8, 3, 1.0, crowded),
	mmaFamily("128x64_8w", 128, 64, 8, 4, 0.85, crowded),
	mmaFamily("64x64_narrow", 64, 64, 4, 4, 0.65, func(b *Backend, g gemm) bool { return !chunked(b, g) }),
	wgmmaFamily(HopperTiles[0]),
	wgmmaFamily(HopperTiles[1]),
	wgmmaFamily(HopperTiles[2]),
	wgmmaFamily(HopperTiles[3]),
	wgmmaFamily(HopperTiles[4]),
	{"simple", plain, func(*Backend, gemm) bool { return true }, 64, 64, 256, 2 * 16 * 68 * 4, 1},
}

// mmaFamily has stages of 64 bytes of each row of A and B: gemm.cuh's kStageBytes.
func mmaFamily(name string, m, n, warps, stages int, share float64, fits func(*Backend, gemm) bool) family {
	return family{name, mmaSync, fits, m, n, 32 * warps, stages * (m + n) * 64, share}
}

// chunked says whether channels come in whole chunks of 16 bytes, which are copied asynchronously.
func chunked(b *Backend, g gemm) bool {
	chunk := int32(16 / b.dtype.Size())
	return g.c1%chunk == 0 && g.c2%chunk == 0
}

// crowded says whether a tile of eight warps may compute a shape. Before Ampere copies go through registers, of which these
// warps have too few.
func crowded(b *Backend, g gemm) bool { return chunked(b, g) && b.device.Capability[0] >= 8 }

// warps are those that hold results: all, but for Hopper's producers.
func (f *family) warps() int {
	if f.class == wgmma {
		return hopperRows / 16
	}
	return f.threads / 32
}

func (f *family) kernel(b *Backend) kernel {
	switch f.class {
	case plain:
		return kernel{"gemm", "gemm_simple_" + b.suffix()}
	case wgmma:
		return kernel{"gemm_sm90", fmt.Sprintf("gemm_wgmma_%s_%dx%d", b.suffix(), f.m, f.n)}
	}
	return kernel{"gemm", "gemm_mma_" + b.tensorCores() + "_" + f.name}
}

// candidates are the families that may compute a product: those that fit, of the best class that has one.
func (b *Backend) candidates(g gemm) (fit []*family) {
	best := plain
	for i := range families {
		f := &families[i]
		if f.class > b.products || f.class < best || f.shared > b.sharedMost || !f.fits(b, g) {
			continue
		}
		if f.class > best {
			best, fit = f.class, nil
		}
		fit = append(fit, f)
	}
	return fit
}

// modelled is the candidate with the least modelled time: waves of blocks over the processors, each as long as the tile
// is large, by the share of the peak that its loop reaches. Two blocks share a processor, but for wgmma's.
func (b *Backend) modelled(g gemm, candidates []*family) (best *family) {
	least := 0.0
	for _, f := range candidates {
		blocks := ceil(int(g.m), f.m) * ceil(int(g.n), f.n) * int(g.splits)
		atOnce := 2 * b.device.Processors
		if f.class == wgmma {
			atOnce = b.device.Processors
		}
		time := float64(ceil(blocks, max(1, atOnce))) * float64(f.m*f.n) / f.share
		if least == 0 || time < least {
			best, least = f, time
		}
	}
	return best
}

// familyFor is the family for a product: the only candidate, the one that was measured, or the one that is modelled.
func (b *Backend) familyFor(g gemm) *family {
	candidates := b.candidates(g)
	if len(candidates) == 1 {
		return candidates[0]
	}
	if b.only != nil {
		if f := named(candidates, b.only.name); f != nil {
			return f
		}
	}
	if b.tuner == nil {
		return b.modelled(g, candidates)
	}
	return b.tuner.choose(b, g, candidates)
}

// choices are the families among which a shape may have a choice.
func (b *Backend) choices() (all []*family) {
	for i := range families {
		f := &families[i]
		if f.class != b.products || f.class == plain || f.shared > b.sharedMost || f.class == mmaSync && !f.fits(b, gemm{c1: 64}) {
			continue
		}
		all = append(all, f)
	}
	return all
}

func named(all []*family, name string) *family {
	for _, f := range all {
		if f.name == name {
			return f
		}
	}
	return nil
}
