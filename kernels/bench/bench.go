// Package bench times operations on a backend: single kernels by shape, and the steps of a compiled
// program. The command and the page on performance print what it returns.
package bench

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"darkroom/kernels"
	"darkroom/tensor"
)

// Row is what was measured of one operation, or of all operations alike in a program.
type Row struct {
	Op     string  `json:"op"`    // "conv2d", …
	Shape  string  `json:"shape"` // "2×64×64×320 → 320, 3×3"
	Count  int     `json:"count"` // operations of this kind and shape in the program
	Millis float64 `json:"ms"`    // median over the runs, of all of them together
	GFLOPS float64 `json:"gflops"`
	// Share is GFLOPS as a part of the machine's measured multiply-add peak; 0 if that is not known.
	Share float64 `json:"share"`
	Bytes int     `json:"bytes"` // of the operands and the result, each counted once
}

// Options for measuring; the zero value runs each case 5 times after a run that is not counted.
type Options struct {
	Runs int     // 0 means 5
	Peak float64 // floating-point operations a second that the device can make; 0 if unknown
	// Winograd lets convolutions multiply less, where the backend does. They are counted as if they did not.
	Winograd bool
	// Match keeps the rows for whose names it returns true; nil keeps all.
	Match func(op, shape string) bool
}

func (o Options) runs() int {
	if o.Runs < 1 {
		return 5
	}
	return o.Runs
}

// Kernels times the given cases, each alone and with random operands.
func Kernels(ctx context.Context, b kernels.Backend, cases []Case, o Options) ([]Row, error) {
	var rows []Row
	for _, c := range cases {
		if o.Match != nil && !o.Match(c.Kind, c.Shape) {
			continue
		}
		g := kernels.NewGraph(b.Info().DTypes[0])
		r, err := single(ctx, b, g, c.Build(g), o)
		if err != nil {
			return rows, fmt.Errorf("%s %s: %w", c.Kind, c.Shape, err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// single compiles one operation and times it.
func single(ctx context.Context, b kernels.Backend, g *kernels.Graph, op kernels.Op, o Options) (Row, error) {
	for _, w := range op.Weights() {
		if w.Host == nil {
			w.Host = tensor.Stored(tensor.Of(Random(w.Shape.Len(), 0.05), w.Shape...))
		}
	}
	if c, ok := op.(*kernels.Conv2D); ok {
		c.Winograd = o.Winograd
	}
	g.Output("out", g.Add("", op))
	p, err := g.Compile(b)
	for _, w := range g.Weights() {
		defer b.Unload(w)
	}
	if err != nil {
		return Row{}, err
	}
	defer p.Close()
	for _, in := range op.Inputs() {
		if err := p.Write(in, Random(in.Shape.Len(), 1)); err != nil {
			return Row{}, err
		}
	}
	rows, err := Steps(ctx, p, o)
	if err != nil {
		return Row{}, err
	}
	return rows[0], nil
}

// Steps times a program's operations and adds up those that are alike. The slowest come first.
func Steps(ctx context.Context, p *kernels.Program, o Options) ([]Row, error) {
	type key struct{ op, shape string }
	rows, times := map[key]*Row{}, map[key][]float64{}
	var order []key
	for run := range o.runs() + 1 {
		steps, err := p.Profile(ctx)
		if err != nil {
			return nil, err
		}
		if run == 0 {
			continue
		}
		sums := map[key]float64{}
		for _, s := range steps {
			k := key{s.Op.Kind(), Describe(s.Op)}
			sums[k] += s.Time.Seconds()
			if rows[k] == nil {
				rows[k] = &Row{Op: k.op, Shape: k.shape}
				order = append(order, k)
			}
			if run == 1 {
				r := rows[k]
				r.Count++
				r.GFLOPS += s.Op.FLOPs() // for now the operations
				r.Bytes += traffic(s.Op)
			}
		}
		for k, t := range sums {
			times[k] = append(times[k], t)
		}
	}
	var out []Row
	for _, k := range order {
		r, t := rows[k], times[k]
		slices.Sort(t)
		seconds := t[len(t)/2]
		r.Millis = 1e3 * seconds
		r.GFLOPS /= seconds * 1e9
		if o.Peak > 0 {
			r.Share = r.GFLOPS * 1e9 / o.Peak
		}
		out = append(out, *r)
	}
	slices.SortStableFunc(out, func(a, b Row) int { return cmp.Compare(b.Millis, a.Millis) })
	return out, nil
}

// Whole times runs of a program from start to end and returns the median.
func Whole(ctx context.Context, p *kernels.Program, o Options) (time.Duration, error) {
	var times []time.Duration
	for range o.runs() + 1 {
		start := time.Now()
		if err := p.Run(ctx); err != nil {
			return 0, err
		}
		times = append(times, time.Since(start))
	}
	times = times[1:] // the first warms the caches
	slices.Sort(times)
	return times[len(times)/2], nil
}

// Describe names an operation by its sizes.
func Describe(op kernels.Op) string {
	switch op := op.(type) {
	case *kernels.Conv2D:
		w := op.W.Shape
		s := op.In.Shape.String()
		if op.In2 != nil {
			s += fmt.Sprintf("+%d", op.In2.Shape[3])
		}
		s += fmt.Sprintf(" → %d, %d×%d", w[0], w[2], w[3])
		if op.Step() > 1 {
			s += fmt.Sprintf(" stride %d", op.Step())
		}
		if op.Upsample != [2]int{} {
			s += fmt.Sprintf(" at %d×%d", op.Upsample[0], op.Upsample[1])
		}
		return s
	case *kernels.Linear:
		s := fmt.Sprintf("%v → %d", op.In.Shape, op.OutShape()[len(op.In.Shape)-1])
		if op.Act.Gated() {
			s += " geglu"
		}
		if op.W.Norm != nil {
			s += " normed"
		}
		return s
	case *kernels.Attention:
		s := fmt.Sprintf("%v × %d keys, %d heads of %d", op.Q.Shape, op.K.Shape[1], op.Heads, op.Q.Shape[2]/op.Heads)
		if op.Causal {
			s += " causal"
		}
		return s
	}
	return op.OutShape().String()
}

func traffic(op kernels.Op) int {
	n := 4 * op.OutShape().Len()
	for _, t := range op.Inputs() {
		n += t.Bytes()
	}
	for _, w := range op.Weights() {
		n += w.Host.Bytes()
	}
	return n
}

// Random draws values of the given deviation, always the same ones.
func Random(n int, scale float32) []float32 {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	values := make([]float32, n)
	for i := range values {
		values[i] = scale * (r.Float32()*2 - 1)
	}
	return values
}

// sized is a weight without values, which may be many: single fills them in.
func sized(role kernels.Role, shape ...int) *kernels.Weight {
	return &kernels.Weight{Name: "weight", Role: role, Shape: shape, Tolerant: true}
}

func weight(role kernels.Role, shape ...int) *kernels.Weight {
	s := tensor.Shape(shape)
	w := kernels.NewWeight("weight", role, tensor.Of(Random(s.Len(), 0.05), shape...))
	w.Tolerant = true // as most of a U-Net's are
	return w
}
