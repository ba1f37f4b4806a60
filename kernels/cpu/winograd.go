//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

import "darkroom/kernels"

// winogradTiles is how many tiles of 4×4 pixels an image of h×w has.
func winogradTiles(h, w int) int { return (h + 3) / 4 * ((w + 3) / 4) }

// winograd says whether a convolution is computed by winograd.h. The choice is part of the backend's arithmetic: it depends
// on the shape of one image, never on the batch, the threads or the instructions, and a change of it changes bits.
func (b *Backend) winograd(op *kernels.Conv2D) bool {
	if !op.Winograd || b.set.winograd == nil || op.W.Shape[2] != 3 || op.W.Shape[3] != 3 || op.Step() != 1 {
		return false
	}
	out := op.OutShape()
	return winogradPays(out[1], out[2], op.W.Shape[1], op.W.Shape[0])
}

// winogradPays compares what both ways cost, in multiply-adds or the time of one. A plain sum takes 9 for each pixel, channel
// and output. A tile takes 36, at 6/7 of the speed, and as much as 800 for each channel's pixels and for each output's results,
// which pass through the caches; transforming the filters takes 150. These are fitted to measurements of 32 shapes on one
// thread (docs/performance-cpu.md).
func winogradPays(h, w, channels, outs int) bool {
	tiles, filters := winogradTiles(h, w), channels*outs
	return tiles*(42*filters+800*(channels+outs))+150*filters < 9*h*w*filters
}
