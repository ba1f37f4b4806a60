package nn

import (
	"darkroom/kernels"
	"darkroom/tensor"
)

// Convolutions whose filters no file holds: they only move, scale or average values. A network makes its own once: each has
// a weight, which a backend remembers.

// PixelUnshuffle puts squares of r×r pixels together, channels in torch's order: (c·r + i)·r + j.
func PixelUnshuffle(channels, r int) Conv2D {
	return Conv2D{Stride: r, Weight: fixed("unshuffle", channels*r*r, channels, r, func(o, c, i, j int) float32 {
		return one(o == (c*r+i)*r+j)
	})}
}

// Average2 is the mean of squares of 2×2 pixels.
func Average2(channels int) Conv2D {
	return Conv2D{Stride: 2, Weight: fixed("average", channels, channels, 2, func(o, c, _, _ int) float32 { return one(o == c) / 4 })}
}

// Affine is scale·x + shift; without a shift, it has no bias.
func Affine(channels int, scale, shift float32) Conv2D {
	c := Conv2D{Weight: fixed("affine", channels, channels, 1, func(o, c, _, _ int) float32 { return scale * one(o == c) })}
	if shift != 0 {
		bias := make([]float32, channels)
		for i := range bias {
			bias[i] = shift
		}
		c.Bias = kernels.NewWeight("affine shift", kernels.Vector, tensor.Of(bias, channels))
	}
	return c
}

func one(is bool) float32 {
	if is {
		return 1
	}
	return 0
}

func fixed(name string, outs, ins, k int, value func(o, c, i, j int) float32) *kernels.Weight {
	values := make([]float32, outs*ins*k*k)
	for at := range values {
		values[at] = value(at/(ins*k*k), at/(k*k)%ins, at/k%k, at%k)
	}
	return kernels.NewWeight(name, kernels.Filter, tensor.Of(values, outs, ins, k, k))
}
