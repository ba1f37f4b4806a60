//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

import (
	"darkroom/kernels"
	"darkroom/tensor"
)

// winogradTiles is how many tiles of 4×4 pixels an image of h×w has.
func winogradTiles(h, w int) int { return (h + 3) / 4 * ((w + 3) / 4) }

// winograd says whether a convolution is computed by winograd.h. The choice is part of the backend's arithmetic: it depends
// on the shape of one image, never on the batch, the threads or the instructions, and a change of it changes bits.
func (b *Backend) winograd(op *kernels.Conv2D) bool {
	if !op.Winograd || b.set.winograd == nil || b.narrow(op.W) || op.W.Shape[2] != 3 || op.W.Shape[3] != 3 || op.Step() != 1 {
		return false
	}
	plain := 9
	if b.dtype != tensor.F32 {
		plain = 5
		if op.W.Shape[1]%2 != 0 { // rows of a panel lie in pairs
			return false
		}
	}
	out := op.OutShape()
	return winogradPays(out[1], out[2], op.W.Shape[1], op.W.Shape[0], plain)
}

// winogradPays compares what both ways cost, in multiply-adds of float32 or the time of one. A plain sum takes 9 for each
// pixel, channel and output, or in bfloat16 as long as 5. A tile takes 36, at 6/7 of the speed, and as much as 800 for each
// channel's pixels and for each output's results, which pass through the caches; transforming the filters takes 150. These are
// fitted to measurements of 32 shapes on one thread (docs/performance-cpu.md).
func winogradPays(h, w, channels, outs, plain int) bool {
	tiles, filters := winogradTiles(h, w), channels*outs
	return tiles*(42*filters+800*(channels+outs))+150*filters < plain*h*w*filters
}
