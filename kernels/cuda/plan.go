package cuda

import (
	"fmt"

	"darkroom/kernels"
	"darkroom/tensor"
)

// What of a launch follows from the shape of one image. It needs no device, and the report on performance reads it too.

// depth is gemm.cuh's kDepth: rows of packed matrices are padded with zeros to a multiple of it.
const depth = 32

const normThreads = 256

// Splits is into how many parts the sum over K is split, so that a small result with a deep sum keeps
// more than a few processors busy. It is fixed by the shape for one image, not by the batch or the
// device: the order of a sum decides its last bits, and these must not depend on either.
//
// Hopper's blocks stay, one a processor, and a part costs them more.
func Splits(rows, n, k int, hopper bool) int {
	wanted := 192 // blocks of 64×64 an image: some more than a large GPU has processors
	if hopper {
		wanted = 132
	}
	blocks := ceil(rows, 64) * ceil(n, 64)
	// At least 8 tiles deep: less would not fill the pipeline of 4 stages.
	return max(1, min(wanted/blocks, ceil(k, depth)/8, 16))
}

// groupNormPlan shares the reading of a GroupNorm between blocks. It depends on one image's shape
// alone, as does therefore the order of its sums.
type groupNormPlan struct {
	wide        int // channels a thread
	slab        int // groups a block
	chunkPixels int // pixels a block
	chunks      int
	whole       bool // a block has its groups of an image to itself
}

// wholeBytes is how much of an image a block may have to itself: it reads it three times, from the L1 cache after the first.
const wholeBytes = 96 << 10

func planGroupNorm(channels, groups, pixels, wide, element int) groupNormPlan {
	size := channels / groups
	p := groupNormPlan{wide: wide}
	// A block has normThreads·wide channels at most, and whole groups that begin on a multiple of wide.
	for unit := 1; ; unit++ {
		if unit > groups || unit*size > normThreads*wide {
			if wide == 1 {
				panic(fmt.Sprintf("cuda: groupnorm with groups of %d channels; at most %d are supported", size, normThreads))
			}
			return planGroupNorm(channels, groups, pixels, 1, element)
		}
		if unit*size%wide == 0 {
			row := func(slab int) int { return slab * size * element }
			if p.whole = wide > 1 && pixels*row(unit) <= wholeBytes; p.whole {
				p.slab, p.chunkPixels, p.chunks = unit, pixels, 1
				// Rows of whole sectors of 32 bytes, if that is to be had.
				for more := unit; more <= groups && more*size <= normThreads*wide && pixels*row(more) <= wholeBytes; more += unit {
					if row(more)%32 == 0 {
						p.slab = more
						break
					}
				}
				return p
			}
			p.slab = min(groups, max(1, 1024/(unit*size))*unit)
			for p.slab*size > normThreads*wide {
				p.slab -= unit
			}
			break
		}
	}
	// About 16,384 values a block: they stay in the L1 cache for the second pass.
	p.chunkPixels = min(pixels, max(1, 16384/(p.slab*size)))
	p.chunks = ceil(pixels, p.chunkPixels)
	return p
}

// Launches is how many kernels an operation takes in that type.
func Launches(o kernels.Op, dtype tensor.DType) int {
	n, ok := o.(*kernels.GroupNorm)
	if !ok {
		l, ok := o.(*kernels.Linear)
		if ok && l.W.Norm != nil && (dtype == tensor.F32 || !l.In.Root().Moments) {
			return 2 // the rows, or their moments, in a pass of their own
		}
		return 1
	}
	s, c1 := n.OutShape(), n.In.Shape[len(n.In.Shape)-1]
	channels := s[len(s)-1]
	if planGroupNorm(channels, n.Groups, s.Len()/s[0]/channels, wideOf(dtype, c1, channels-c1), dtype.Size()).whole {
		return 1
	}
	return 2
}

// wideOf is how many neighbouring channels a thread moves at once: 16 bytes, if all counts are multiples
// of that, else one element.
func wideOf(dtype tensor.DType, counts ...int) int {
	n := 16 / dtype.Size()
	for _, c := range counts {
		if c%n != 0 {
			return 1
		}
	}
	return n
}

func ceil[T int | int32](a, b T) T { return (a + b - 1) / b }
