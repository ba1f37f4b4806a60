package ref

import (
	"darkroom/kernels"
	"darkroom/tensor"
)

// Linear is the contract's loop; one goroutine a row.
func (b *Backend) Linear(dst *kernels.Tensor, op *kernels.Linear) {
	outs := dst.Shape[len(dst.Shape)-1]
	channels := op.In.Shape[len(op.In.Shape)-1]
	in, w, bias := kernels.Floats(op.In), b.WeightFloats(op.W), b.WeightFloats(op.Bias)
	residual, result := kernels.Floats(op.Residual), kernels.Floats(dst)
	if n := op.LayerNorm(); n != nil {
		in = make([]float32, len(in))
		b.LayerNorm(&kernels.Tensor{Shape: op.In.Shape, DType: tensor.F32, Mem: kernels.HostMem(tensor.Bytes(in))}, n)
	}

	b.parallel(len(result)/outs, func(m int) {
		x := in[m*channels:][:channels]
		product := func(o int) float64 {
			acc := dot(x, w[o*channels:])
			if bias != nil {
				acc += float64(bias[o])
			}
			return acc
		}
		for o := range outs {
			var v float64
			switch op.Act {
			case kernels.GEGLU:
				v = product(o) * gelu(product(outs+o))
			case kernels.SwiGLU:
				v = product(o) * activate(product(outs+o), kernels.SiLU)
			case kernels.TanhGEGLU:
				v = product(o) * activate(product(outs+o), kernels.TanhGELU)
			default:
				v = activate(product(o), op.Act)
			}
			r := float32(v)
			if residual != nil {
				r += residual[m*outs+o]
			}
			result[m*outs+o] = r
		}
	})
}
