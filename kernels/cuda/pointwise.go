//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"

	"gorgonia.org/cu"

	"darkroom/kernels"
)

// pointwise is pointwise.cu's Pointwise.
type pointwise struct {
	a, b, scale, slope, d cu.DevicePtr
	count, image          int64
	factor                float32
	channels, act         int32
	perChannel            int32
}

// Pointwise is one thread an element.
func (b *Backend) Pointwise(dst *kernels.Tensor, op *kernels.Pointwise) {
	defer b.enter()()
	b.want(dst, op.A, op.B, op.Scale)
	s := dst.Shape
	p := pointwise{
		a: at(op.A), b: at(op.B), scale: at(op.Scale), slope: b.weightAt(op.Slope), d: at(dst), count: int64(s.Len()), image: int64(s.Len() / s[0]),
		factor: op.Weight(), channels: int32s(s[len(s)-1]), act: int32(op.Act),
	}
	if op.PerChannel() {
		p.perChannel = 1
	}
	launch(b, kernel{"pointwise", "pointwise_" + b.suffix()}, [3]int{ceil(s.Len(), 256), 1, 1}, 256, 0, &p)
}

// place, cut, shuffle, swap and surround are pointwise.cu's Place, Cut, Shuffle, Swap and Surround.
type place struct {
	a, d            cu.DevicePtr
	count           int64
	row, pitch, off int32
}

type cut struct {
	a, d                cu.DevicePtr
	count               int64
	from, length, pitch int32
}

type shuffle struct {
	a, d                   cu.DevicePtr
	count                  int64
	h, w, channels, factor int32
}

type swap struct {
	a, d                    cu.DevicePtr
	count                   int64
	first, second, channels int32
}

type surround struct {
	a, d                      cu.DevicePtr
	count                     int64
	h, w, channels            int32
	upH, upW, outH, outW, pad int32
	wrapY, wrapX              int32
}

// moving is a kernel that moves elements of the backend's type, whatever they mean.
func (b *Backend) moving(name string) kernel {
	return kernel{"pointwise", fmt.Sprintf("%s_%d", name, 8*b.dtype.Size())}
}

// Concat is a launch a part.
func (b *Backend) Concat(dst *kernels.Tensor, op *kernels.Concat) {
	defer b.enter()()
	b.want(append([]*kernels.Tensor{dst}, op.Parts...)...)
	off := 0
	for _, t := range op.Parts {
		p := place{at(t), at(dst), int64(t.Shape.Len()), int32s(op.Row(t)), int32s(dst.Shape[op.Axis:].Len()), int32s(off)}
		launch(b, b.moving("place"), [3]int{ceil(t.Shape.Len(), 256), 1, 1}, 256, 0, &p)
		off += op.Row(t)
	}
}

// Cut is one thread an element of the result.
func (b *Backend) Cut(dst *kernels.Tensor, op *kernels.Cut) {
	defer b.enter()()
	b.want(dst, op.In)
	from, length, pitch := op.Span()
	c := cut{at(op.In), at(dst), int64(dst.Shape.Len()), int32s(from), int32s(length), int32s(pitch)}
	launch(b, b.moving("cut"), [3]int{ceil(dst.Shape.Len(), 256), 1, 1}, 256, 0, &c)
}

// Swap is one thread an element of the result.
func (b *Backend) Swap(dst *kernels.Tensor, op *kernels.Swap) {
	defer b.enter()()
	b.want(dst, op.In)
	in := op.In.Shape
	s := swap{at(op.In), at(dst), int64(dst.Shape.Len()), int32s(in[1]), int32s(in[2]), int32s(in[3])}
	launch(b, b.moving("swap"), [3]int{ceil(dst.Shape.Len(), 256), 1, 1}, 256, 0, &s)
}

// PixelShuffle is one thread an element of the result.
func (b *Backend) PixelShuffle(dst *kernels.Tensor, op *kernels.PixelShuffle) {
	defer b.enter()()
	b.want(dst, op.In)
	in := op.In.Shape
	s := shuffle{at(op.In), at(dst), int64(dst.Shape.Len()), int32s(in[1]), int32s(in[2]), int32s(dst.Shape[3]), int32s(op.Factor)}
	launch(b, b.moving("shuffle"), [3]int{ceil(dst.Shape.Len(), 256), 1, 1}, 256, 0, &s)
}

// Surround is one thread an element of the result.
func (b *Backend) Surround(dst *kernels.Tensor, op *kernels.Surround) {
	defer b.enter()()
	b.want(dst, op.In)
	in, out := op.In.Shape, dst.Shape
	h, w := op.InSize()
	s := surround{
		a: at(op.In), d: at(dst), count: int64(out.Len()), h: int32s(in[1]), w: int32s(in[2]), channels: int32s(in[3]),
		upH: int32s(h), upW: int32s(w), outH: int32s(out[1]), outW: int32s(out[2]), pad: int32s(op.Pad[0]),
	}
	if op.Wrap[0] {
		s.wrapY = 1
	}
	if op.Wrap[1] {
		s.wrapX = 1
	}
	launch(b, b.moving("surround"), [3]int{ceil(out.Len(), 256), 1, 1}, 256, 0, &s)
}
