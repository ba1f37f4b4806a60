//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

import (
	"darkroom/kernels"
	"darkroom/tensor"
)

// Embed is the contract's loop: a few thousand additions before millions of everything else.
func (b *Backend) Embed(dst *kernels.Tensor, op *kernels.Embed) {
	channels, positions := dst.Shape[2], dst.Shape[1]
	tokens, place := b.WeightFloats(op.Tokens), b.WeightFloats(op.Positions)
	out, mem, size := make([]float32, channels), dst.Mem.(kernels.HostMem), channels*dst.DType.Size()
	for row, id := range op.IDs.Mem.(kernels.HostMem).Ints() {
		copy(out, tokens[int(id)*channels:])
		if place != nil {
			for c, v := range place[row%positions*channels:][:channels] {
				out[c] += v
			}
		}
		tensor.Encode(mem[row*size:][:size], dst.DType, out)
	}
}
