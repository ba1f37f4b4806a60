package kernels

import (
	"math/rand/v2"
	"testing"

	"darkroom/tensor"
)

// Values that live at the same time must not share a byte, whatever the graph: random ones with
// long skips, views and several outputs.
func TestPlanNeverOverlaps(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		g := NewGraph(tensor.F32)
		values := []*Tensor{g.Input("x", tensor.F32, 1, 1, 4), g.SteadyInput("text", tensor.F32, 1, 1, 4)}
		for range 2 + r.IntN(30) {
			x := values[r.IntN(len(values))]
			if r.IntN(4) == 0 {
				values = append(values, g.Reshape(x, x.Shape.Len()/4, 1, 4))
				continue
			}
			out := 4 * (1 + r.IntN(50))
			in := x.Shape[len(x.Shape)-1]
			y := g.Add("w", &Linear{In: x, W: &Weight{Role: Matrix, Shape: tensor.Shape{out, in}}})
			values = append(values, y)
		}
		g.Output("y", values[len(values)-1])
		g.Output("middle", values[len(values)/2])

		steps, steady := g.order()
		places, bytes := g.plan(steps, steady)
		for i, p := range places {
			if p.offset+p.size > bytes || p.offset%arenaAlign != 0 {
				t.Fatalf("seed %d: value at %d, %d bytes, in an arena of %d", seed, p.offset, p.size, bytes)
			}
			for _, q := range places[:i] {
				together := p.first <= q.last && q.first <= p.last
				if together && p.offset < q.offset+q.size && q.offset < p.offset+p.size {
					t.Fatalf("seed %d: steps %d–%d and %d–%d share memory", seed, p.first, p.last, q.first, q.last)
				}
			}
		}
		for i, s := range steps {
			for _, in := range s.op.Inputs() {
				if !alive(places, in, i) || i >= steady && made(steps[:steady], in) && !alive(places, in, len(steps)) {
					t.Fatalf("seed %d: step %d reads a value that has no place", seed, i)
				}
			}
		}
	}
}

func alive(places []placement, t *Tensor, step int) bool {
	for _, p := range places {
		if p.value == root(t) {
			return p.first <= step && step <= p.last
		}
	}
	return false
}

func made(steps []step, t *Tensor) bool {
	for _, s := range steps {
		if root(s.out) == root(t) {
			return true
		}
	}
	return false
}
