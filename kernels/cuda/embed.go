//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"gorgonia.org/cu"

	"darkroom/kernels"
	"darkroom/tensor"
)

// embedding is embed.cu's Embed.
type embedding struct {
	ids, tokens, positions, d cu.DevicePtr
	rows, length, channels    int32
}

// Embed is one thread an element.
func (b *Backend) Embed(dst *kernels.Tensor, op *kernels.Embed) {
	defer b.enter()()
	b.want(dst)
	if op.IDs.DType != tensor.I32 {
		panic("cuda: ids of " + op.IDs.DType.String())
	}
	s := dst.Shape
	e := embedding{at(op.IDs), b.weightAt(op.Tokens), b.weightAt(op.Positions), at(dst), int32s(s[0] * s[1]), int32s(s[1]), int32s(s[2])}
	launch(b, kernel{"embed", "embed_" + b.suffix()}, [3]int{ceil(s.Len(), 256), 1, 1}, 256, 0, &e)
}
