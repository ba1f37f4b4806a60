package ref

import (
	"math"

	"darkroom/kernels"
)

// Pointwise is the contract's loop; one goroutine an image.
func (b *Backend) Pointwise(dst *kernels.Tensor, op *kernels.Pointwise) {
	n, channels := dst.Shape[0], dst.Shape[len(dst.Shape)-1]
	image := dst.Shape.Len() / n
	x, y, scale, result := kernels.Floats(op.A), kernels.Floats(op.B), kernels.Floats(op.Scale), kernels.Floats(dst)
	var slope []float32
	if op.Slope != nil {
		slope = b.WeightFloats(op.Slope)
	}
	b.parallel(n, func(n int) {
		factor := float64(op.Weight())
		if scale != nil && !op.PerChannel() {
			factor *= float64(scale[n])
		}
		for i := n * image; i < (n+1)*image; i++ {
			v := float64(x[i])
			if y != nil {
				w := factor
				if op.PerChannel() {
					w *= float64(scale[n*channels+i%channels])
				}
				v += w * float64(y[i])
			}
			s := 0.0
			if slope != nil {
				s = float64(slope[i%channels])
			}
			result[i] = float32(bend(v, op.Act, s))
		}
	})
}

// bend is activate for the activations of Pointwise.
func bend(x float64, act kernels.Activation, slope float64) float64 {
	switch act {
	case kernels.ReLU:
		slope = 0
	case kernels.LeakyReLU:
		slope = 0.2
	case kernels.PReLU:
	case kernels.SoftClip:
		return 3 * math.Tanh(x/3)
	case kernels.Tanh:
		return math.Tanh(x)
	default:
		return activate(x, act)
	}
	if x < 0 {
		return slope * x
	}
	return x
}
