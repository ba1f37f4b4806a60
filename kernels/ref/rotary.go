package ref

import (
	"math"

	"darkroom/kernels"
)

// Rotary is the contract's loop; one goroutine a token.
func (b *Backend) Rotary(dst *kernels.Tensor, op *kernels.Rotary) {
	channels := op.In.Shape[2]
	d := channels / op.Heads
	in, angles, gamma, result := kernels.Floats(op.In), kernels.Floats(op.Angles), b.WeightFloats(op.Gamma), kernels.Floats(dst)
	b.parallel(len(in)/channels, func(token int) {
		x := make([]float64, d)
		for h := range op.Heads {
			at := token*channels + h*d
			var squares float64
			for c := range x {
				x[c] = float64(in[at+c])
				squares += x[c] * x[c]
			}
			if gamma != nil {
				inv := 1 / math.Sqrt(squares/float64(d)+float64(op.Eps))
				for c := range x {
					x[c] *= inv * float64(gamma[c])
				}
			}
			for i := range d / 2 {
				p, q := 2*i, 2*i+1
				if op.Half {
					p, q = i, i+d/2
				}
				cos, sin := float64(angles[token*d+i]), float64(angles[token*d+d/2+i])
				result[at+p] = float32(x[p]*cos - x[q]*sin)
				result[at+q] = float32(x[p]*sin + x[q]*cos)
			}
		}
	})
}
