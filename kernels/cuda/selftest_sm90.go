//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"strings"

	"gorgonia.org/cu"

	"darkroom/kernels"
	"darkroom/kernels/conformance"
	"darkroom/tensor"
)

// What Verdict.Hopper says of kernels that compute what they should.
const faster, slower = "faster", "slower"

// mayHopper says whether the device has wgmma and the element type is one that it multiplies.
func (b *Backend) mayHopper() bool {
	return b.device.Capability == [2]int{9, 0} && b.products == mmaSync && b.dtype != tensor.F32
}

// hopperTrials find out whether Hopper's kernels are right on this device and faster. Only SelfTest runs them: nobody has
// seen these kernels on a GPU yet, and a user's picture must not be the first to.
func (b *Backend) hopperTrials() []func(*Report, conformance.Options) {
	if !b.mayHopper() {
		return nil
	}
	trials := []func(*Report, conformance.Options){b.tryHopperProducts}
	if !b.simpleAttention {
		trials = append(trials, b.tryHopperAttention)
	}
	return trials
}

func (b *Backend) tryHopperProducts(r *Report, o conformance.Options) {
	b.products = wgmma
	defer func() { b.products = mmaSync }()
	checks := b.checkProducts(o)
	r.Checks = append(r.Checks, checks...)
	r.Verdict.Hopper = verdict(checks, b.hopperIsFaster)
}

func (b *Backend) tryHopperAttention(r *Report, o conformance.Options) {
	b.hopperAttention = true
	defer func() { b.hopperAttention = false }()
	attentions := o
	attentions.Match = func(name string) bool {
		return strings.HasPrefix(name, "attention/") && (o.Match == nil || o.Match(name))
	}
	checks := conformance.Check(b, attentions)
	for i := range checks {
		checks[i].Check += ", by wgmma"
	}
	r.Checks = append(r.Checks, checks...)
	r.Verdict.HopperAttention = verdict(checks, b.hopperAttentionIsFaster)
}

// verdict is the first failure, or which kernels are faster.
func verdict(checks []conformance.Verdict, isFaster func() bool) string {
	if failed := failures(checks); len(failed) > 0 {
		return failed[0]
	}
	if isFaster() {
		return faster
	}
	return slower
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

// hopperAttentions are of U-Nets, at 512×512 and 1024×1024 with guidance: images, tokens, heads, and a head's size.
var hopperAttentions = [][4]int{{2, 4096, 8, 40}, {2, 1024, 8, 80}, {2, 4096, 10, 64}, {2, 1024, 20, 64}}

// hopperAttentionIsFaster compares the time of hopperAttentions.
func (b *Backend) hopperAttentionIsFaster() bool {
	defer b.enter()()
	defer func() { b.hopperAttention = true }()
	var sums [2]float64
	for _, s := range hopperAttentions {
		var t [4]*kernels.Tensor // queries, keys, values, result
		for i := range t {
			t[i] = &kernels.Tensor{Shape: tensor.Shape{s[0], s[1], s[2] * s[3]}, DType: b.dtype}
			memory, err := b.alloc(t[i].Bytes())
			if err != nil {
				return false
			}
			defer func() { _ = cu.MemFree(memory.at) }()
			t[i].Mem = memory
		}
		for i := range sums {
			b.hopperAttention = i == 1
			ms, ok := b.timed(func() { b.Attention(t[3], &kernels.Attention{Q: t[0], K: t[1], V: t[2], Heads: s[2]}) })
			if !ok {
				return false
			}
			sums[i] += ms
		}
	}
	return sums[1] < sums[0]
}
