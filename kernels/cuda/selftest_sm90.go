//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"gorgonia.org/cu"

	"darkroom/kernels/conformance"
	"darkroom/tensor"
)

// What Verdict.Hopper says of kernels that compute what they should.
const faster, slower = "faster", "slower"

// mayHopper says whether the device has wgmma and the element type is one that it multiplies.
func (b *Backend) mayHopper() bool {
	return b.device.Capability == [2]int{9, 0} && b.products == mmaSync && b.dtype != tensor.F32
}

// tryHopper finds out whether products by wgmma are right on this device and faster, and says whether it tried. Only SelfTest
// does so: nobody has seen these kernels on a GPU yet, and a user's picture must not be the first to.
func (b *Backend) tryHopper(r *Report, o conformance.Options) bool {
	if !b.mayHopper() {
		return false
	}
	b.products = wgmma
	defer func() { b.products = mmaSync }()
	checks := b.checkProducts(o)
	r.Checks = append(r.Checks, checks...)
	switch failed := failures(checks); {
	case len(failed) > 0:
		r.Verdict.Hopper = failed[0]
	case b.hopperIsFaster():
		r.Verdict.Hopper = faster
	default:
		r.Verdict.Hopper = slower
	}
	return true
}

// hopperShapes are products that a U-Net has many of, at 512×512 with guidance.
var hopperShapes = []gemm{
	square(2, 64, 320, 320, 3), square(2, 32, 640, 640, 3), square(2, 16, 1280, 1280, 3),
	square(2, 64, 320, 2560, 1), square(2, 32, 640, 640, 1), square(2, 16, 1280, 1280, 1),
}

// square is a convolution of square images by a square filter that keeps their size.
func square(images, side, channels, outputs, filter int32) gemm {
	return gemm{
		m: images * side * side, n: outputs, k: channels * filter * filter, h: side, w: side, c1: channels, kh: filter, kw: filter,
		stride: 1, pad: filter / 2, upH: side, upW: side, outH: side, outW: side,
	}
}

// hopperIsFaster compares the time of hopperShapes, each by the fastest family of its class.
func (b *Backend) hopperIsFaster() bool {
	defer b.enter()()
	var sums [2]float64
	for _, g := range hopperShapes {
		g = b.planned(g)
		for _, m := range []struct {
			to *cu.DevicePtr
			n  int32
		}{{&g.a, g.m * g.c1}, {&g.b, g.n * g.ldb}, {&g.d, g.m * g.n}} {
			memory, err := b.alloc(int(m.n) * b.dtype.Size())
			if err != nil {
				return false
			}
			defer func() { _ = cu.MemFree(memory.at) }()
			*m.to = memory.at
		}
		for i, c := range []class{mmaSync, wgmma} {
			b.products = c
			least := 0.0
			for _, f := range b.candidates(g) {
				ms, ok := b.measure(g, f)
				if !ok || f.class != c {
					return false
				}
				if least == 0 || ms < least {
					least = ms
				}
			}
			sums[i] += least
		}
	}
	return sums[1] < sums[0]
}
