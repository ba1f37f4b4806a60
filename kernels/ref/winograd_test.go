package ref_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/ref"
	"darkroom/tensor"
)

// The matrices are those of a convolution: in float64 the result is that of the loop, for any choice of points.
func TestWinogradIsConvolution(t *testing.T) {
	b := ref.New(2)
	rng := rand.New(rand.NewPCG(1, 2))
	draw := func(shape ...int) tensor.Tensor {
		v := make([]float32, tensor.Shape(shape).Len())
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return tensor.Of(v, shape...)
	}
	in := func(shape ...int) *kernels.Tensor {
		return &kernels.Tensor{Shape: shape, DType: tensor.F32, Mem: kernels.HostMem(draw(shape...).Data)}
	}
	weight := func(role kernels.Role, shape ...int) *kernels.Weight {
		w := kernels.NewWeight("w", role, draw(shape...))
		if err := b.Load(w); err != nil {
			t.Fatal(err)
		}
		return w
	}
	for _, op := range []*kernels.Conv2D{
		{In: in(1, 4, 4, 1), W: weight(kernels.Filter, 1, 1, 3, 3), Pad: [2]int{1, 1}},
		{In: in(2, 7, 9, 3), In2: in(2, 7, 9, 2), W: weight(kernels.Filter, 4, 5, 3, 3), Bias: weight(kernels.Vector, 4), PerChannel: in(2, 4),
			Residual: in(2, 7, 9, 4), Act: kernels.SiLU, Pad: [2]int{1, 1}},
		{In: in(1, 3, 4, 2), W: weight(kernels.Filter, 2, 2, 3, 3), Pad: [2]int{0, 1}, Upsample: [2]int{7, 6}},
	} {
		want, got := in(op.OutShape()...), in(op.OutShape()...)
		b.Conv2D(want, op)
		for _, points := range [][2]float64{{0.75, 1.5}, {1, 2}, {0.5, 1}} {
			b.Winograd(got, op, ref.F4(points[0], points[1]))
			for i, w := range kernels.Floats(want) {
				if g := kernels.Floats(got)[i]; math.Abs(float64(g-w)) > 1e-5 {
					t.Fatalf("points %v: value %d of %v is %g, the loop gives %g", points, i, op.OutShape(), g, w)
				}
			}
		}
	}
}
