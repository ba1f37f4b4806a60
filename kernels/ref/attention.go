package ref

import (
	"math"

	"darkroom/kernels"
)

// Attention is the contract's loop; one goroutine a query and head. Only here are the scores of one
// query stored: with them the softmax is the textbook's.
func (b *Backend) Attention(dst *kernels.Tensor, op *kernels.Attention) {
	batch, queries, channels := op.Q.Shape[0], op.Q.Shape[1], op.Q.Shape[2]
	keys, d := op.K.Shape[1], channels/op.Heads
	group, width, pitch := op.Heads/op.Shared(), op.K.Row(), op.Q.Row()
	q, k, v, bias, result := kernels.Floats(op.Q), kernels.Floats(op.K), kernels.Floats(op.V), kernels.Floats(op.Bias), kernels.Floats(dst)
	scale := float64(op.Factor())

	b.parallel(batch*queries, func(row int) {
		n, i := row/queries, row%queries
		seen := keys
		if op.Lengths != nil {
			seen = int(op.Lengths.Mem.(kernels.HostMem).Ints()[n])
		}
		if op.Causal {
			seen = min(seen, i+1)
		}
		p := make([]float64, seen)
		acc := make([]float64, d)
		for h := range op.Heads {
			at := func(t int) int { return (n*keys+t)*width + h/group*d }
			query := q[row*pitch+h*d:][:d]
			top := math.Inf(-1)
			for j := range p {
				p[j] = scale * dot(query, k[at(j):])
				if bias != nil {
					p[j] += float64(bias[h*(queries+keys-1)+i-j+keys-1])
				}
				top = max(top, p[j])
			}
			var sum float64
			for j := range p {
				p[j] = math.Exp(p[j] - top)
				sum += p[j]
			}
			clear(acc)
			for j := range p {
				value := v[at(j):][:d]
				for c := range acc {
					acc[c] += p[j] * float64(value[c])
				}
			}
			for c := range acc {
				result[row*channels+h*d+c] = float32(acc[c] / sum)
			}
		}
	})
}
