//go:build cgo && (linux || darwin) && (amd64 || arm64)

package cpu

import "darkroom/kernels"

// Embed is the contract's loop: a few thousand additions before millions of everything else.
func (b *Backend) Embed(dst *kernels.Tensor, op *kernels.Embed) {
	channels, positions := dst.Shape[2], dst.Shape[1]
	tokens, place, result := b.WeightFloats(op.Tokens), b.WeightFloats(op.Positions), kernels.Floats(dst)
	for row, id := range op.IDs.Mem.(kernels.HostMem).Ints() {
		token, position, out := tokens[int(id)*channels:][:channels], place[row%positions*channels:][:channels], result[row*channels:][:channels]
		for c := range out {
			out[c] = token[c] + position[c]
		}
	}
}
