package ref

import (
	"math"

	"darkroom/kernels"
)

// GroupNorm is the contract's loop; one goroutine an image and group.
func (b *Backend) GroupNorm(dst *kernels.Tensor, op *kernels.GroupNorm) {
	last := len(dst.Shape) - 1
	channels := dst.Shape[last]
	pixels := 1
	for _, d := range dst.Shape[1:last] {
		pixels *= d
	}
	in, in2 := kernels.Floats(op.In), kernels.Floats(op.In2)
	c1 := op.In.Shape[last]
	gamma, beta, result := b.WeightFloats(op.Gamma), b.WeightFloats(op.Beta), kernels.Floats(dst)
	size := channels / op.Groups

	b.parallel(dst.Shape[0]*op.Groups, func(ng int) {
		n, g := ng/op.Groups, ng%op.Groups
		value := func(p, c int) float64 {
			if c < c1 {
				return float64(in[(n*pixels+p)*c1+c])
			}
			return float64(in2[(n*pixels+p)*(channels-c1)+c-c1])
		}
		var sum, squares float64
		for p := range pixels {
			for c := g * size; c < (g+1)*size; c++ {
				sum += value(p, c)
			}
		}
		mean := sum / float64(pixels*size)
		for p := range pixels {
			for c := g * size; c < (g+1)*size; c++ {
				d := value(p, c) - mean
				squares += d * d
			}
		}
		inv := 1 / math.Sqrt(squares/float64(pixels*size)+float64(op.Eps))
		for p := range pixels {
			for c := g * size; c < (g+1)*size; c++ {
				v := (value(p, c)-mean)*inv*float64(gamma[c]) + float64(beta[c])
				result[(n*pixels+p)*channels+c] = float32(activate(v, op.Act))
			}
		}
	})
}

// LayerNorm is the contract's loop; one goroutine a row.
func (b *Backend) LayerNorm(dst *kernels.Tensor, op *kernels.LayerNorm) {
	channels := dst.Shape[len(dst.Shape)-1]
	in, result := kernels.Floats(op.In), kernels.Floats(dst)
	gamma, beta := b.WeightFloats(op.Gamma), b.WeightFloats(op.Beta)
	scale, shift := kernels.Floats(op.Scale), kernels.Floats(op.Shift)
	image := len(in) / op.In.Shape[0]
	at := func(v []float32, i int) float64 {
		if v == nil {
			return 0
		}
		return float64(v[i])
	}

	b.parallel(len(in)/channels, func(m int) {
		x := in[m*channels:][:channels]
		var sum, squares float64
		for _, v := range x {
			sum += float64(v)
		}
		mean := sum / float64(channels)
		if op.RMS {
			mean = 0
		}
		for _, v := range x {
			d := float64(v) - mean
			squares += d * d
		}
		inv := 1 / math.Sqrt(squares/float64(channels)+float64(op.Eps))
		n := m * channels / image * channels // of scale and shift
		for c, v := range x {
			y := (float64(v) - mean) * inv
			if gamma != nil {
				y *= float64(gamma[c])
			}
			y += at(beta, c)
			result[m*channels+c] = float32(y*(1+at(scale, n+c)) + at(shift, n+c))
		}
	})
}

// Embed is the contract's loop.
func (b *Backend) Embed(dst *kernels.Tensor, op *kernels.Embed) {
	channels, positions := dst.Shape[2], dst.Shape[1]
	ids := op.IDs.Mem.(kernels.HostMem).Ints()
	tokens, place := b.WeightFloats(op.Tokens), b.WeightFloats(op.Positions)
	result := kernels.Floats(dst)
	for row, id := range ids {
		at := row * channels
		for c := range channels {
			result[at+c] = tokens[int(id)*channels+c]
			if place != nil {
				result[at+c] += place[row%positions*channels+c]
			}
		}
	}
}
