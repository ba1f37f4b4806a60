package ref

import (
	"math"

	"darkroom/kernels"
)

var _ kernels.Merger = (*Backend)(nil)

// Match is the contract's loop; one goroutine a source.
func (b *Backend) Match(dst *kernels.Tensor, op *kernels.Match) {
	in, result := kernels.Floats(op.In), dst.Mem.(kernels.HostMem).Ints()
	sources, targets := op.Sides()
	tokens, c := op.In.Shape[1], op.In.Shape[2]
	for n := range op.In.Shape[0] {
		token := func(t int32) []float32 { return in[(n*tokens+int(t))*c:][:c] }
		lengths := make([]float64, len(targets))
		for j, t := range targets {
			lengths[j] = math.Sqrt(dot(token(t), token(t)))
		}
		best, at := make([]float32, len(sources)), make([]int32, len(sources))
		b.parallel(len(sources), func(i int) {
			x := token(sources[i])
			length, most := math.Sqrt(dot(x, x)), math.Inf(-1)
			for j, t := range targets {
				cos := 0.0
				if length*lengths[j] > 0 {
					cos = dot(x, token(t)) / (length * lengths[j])
				}
				if cos > most {
					most, best[i], at[i] = cos, float32(cos), t
				}
			}
		})
		op.Number(result[n*tokens:][:tokens], sources, best, at)
	}
}

// Merge is the contract's loop.
func (b *Backend) Merge(dst *kernels.Tensor, op *kernels.Merge) {
	in, result := kernels.Floats(op.In), kernels.Floats(dst)
	numbers := op.Numbers.Mem.(kernels.HostMem).Ints()
	tokens, c := op.In.Shape[1], op.In.Shape[2]
	b.parallel(op.In.Shape[0], func(n int) {
		sums, counts := make([]float64, op.To*c), make([]float64, op.To)
		for t := range tokens {
			i := int(numbers[n*tokens+t])
			counts[i]++
			for k, v := range in[(n*tokens+t)*c:][:c] {
				sums[i*c+k] += float64(v)
			}
		}
		for i, v := range sums {
			result[n*op.To*c+i] = float32(v / counts[i/c])
		}
	})
}

// Spread is the contract's loop.
func (b *Backend) Spread(dst *kernels.Tensor, op *kernels.Spread) {
	in, residual, result := kernels.Floats(op.In), kernels.Floats(op.Residual), kernels.Floats(dst)
	numbers := op.Numbers.Mem.(kernels.HostMem).Ints()
	tokens, c := dst.Shape[1], dst.Shape[2]
	b.parallel(len(numbers), func(t int) {
		row := in[(t/tokens*op.In.Shape[1]+int(numbers[t]))*c:][:c]
		for k, v := range row {
			result[t*c+k] = v + residual[t*c+k]
		}
	})
}
