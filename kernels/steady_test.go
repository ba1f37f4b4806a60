package kernels_test

import (
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/ref"
	"darkroom/tensor"
)

// counting counts the Linears that run.
type counting struct {
	kernels.Backend
	linears int
}

func (c *counting) Linear(dst *kernels.Tensor, op *kernels.Linear) {
	c.linears++
	c.Backend.Linear(dst, op)
}

// What depends on steady inputs alone runs when they were written; the results are those of a program that runs everything.
func TestSteadyInputs(t *testing.T) {
	build := func(input func(g *kernels.Graph, name string) *kernels.Tensor) (g *kernels.Graph) {
		g = kernels.NewGraph(tensor.F32)
		x, text := g.Input("x", tensor.F32, 3, 4), input(g, "text")
		for i := range 3 { // an attention's key, made of the text, meets what comes of x
			k := g.Add("", &kernels.Linear{In: text, W: weight("key"+string(rune('a'+i)), kernels.Matrix, 6, 4)})
			k = g.Add("", &kernels.Linear{In: k, W: weight("more"+string(rune('a'+i)), kernels.Matrix, 4, 6)})
			x = g.Add("", &kernels.Linear{In: x, W: weight("query"+string(rune('a'+i)), kernels.Matrix, 4, 4), Residual: k})
		}
		g.Output("y", x)
		return g
	}
	steady := build(func(g *kernels.Graph, name string) *kernels.Tensor { return g.SteadyInput(name, tensor.F32, 3, 4) })
	plain := build(func(g *kernels.Graph, name string) *kernels.Tensor { return g.Input(name, tensor.F32, 3, 4) })
	b := &counting{Backend: ref.New(1)}
	p, err := steady.Compile(b)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	q, err := plain.Compile(ref.New(1))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	values := func(from int) (v []float32) {
		for i := range 12 {
			v = append(v, float32((from+i*5)%7)-3)
		}
		return v
	}
	for run, c := range []struct {
		text bool
		want int
	}{{true, 9}, {false, 3}, {false, 3}, {true, 9}, {false, 3}} {
		both := func(name string, v []float32) {
			if err := p.Write(steady.In(name), v); err != nil {
				t.Fatal(err)
			}
			if err := q.Write(plain.In(name), v); err != nil {
				t.Fatal(err)
			}
		}
		both("x", values(run))
		if c.text {
			both("text", values(3*run+1))
		}
		b.linears = 0
		got, want := make([]float32, 12), make([]float32, 12)
		for _, r := range []struct {
			p   *kernels.Program
			g   *kernels.Graph
			dst []float32
		}{{p, steady, got}, {q, plain, want}} {
			if err := r.p.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := r.p.Read(r.dst, r.g.Out("y")); err != nil {
				t.Fatal(err)
			}
		}
		if b.linears != c.want {
			t.Errorf("run %d: %d operations, want %d", run, b.linears, c.want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("run %d: value %d is %v, want %v", run, i, got[i], want[i])
			}
		}
	}
	if err := p.Diagnose(t.Context()); err != nil {
		t.Error(err)
	}
}
