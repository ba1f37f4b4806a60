package kernels_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/ref"
	"darkroom/tensor"
)

func weight(name string, role kernels.Role, shape ...int) *kernels.Weight {
	s := tensor.Shape(shape)
	v := make([]float32, s.Len())
	r := rand.New(rand.NewPCG(uint64(len(name)), uint64(s.Len())))
	for i := range v {
		v[i] = float32(r.NormFloat64()) * 0.3
	}
	return kernels.NewWeight(name, role, tensor.Of(v, shape...))
}

// chain builds a small U: conv, down, up with a skip, so that lifetimes overlap in the usual ways.
func chain(g *kernels.Graph) (in, out *kernels.Tensor) {
	in = g.Input("x", tensor.F32, 1, 4, 4, 3)
	a := g.Add("", &kernels.Conv2D{In: in, W: weight("a", kernels.Filter, 8, 3, 3, 3), Pad: [2]int{1, 1}})
	b := g.Add("", &kernels.Conv2D{In: a, W: weight("bb", kernels.Filter, 8, 8, 3, 3), Stride: 2, Pad: [2]int{1, 1}, Act: kernels.SiLU})
	c := g.Add("", &kernels.Conv2D{In: b, W: weight("ccc", kernels.Filter, 8, 8, 3, 3), Pad: [2]int{1, 1}, Upsample: [2]int{4, 4}})
	d := g.Add("", &kernels.Conv2D{In: c, In2: a, W: weight("dddd", kernels.Filter, 3, 16, 1, 1)})
	out = g.Add("", &kernels.Linear{In: g.Reshape(d, 16, 3), W: weight("eeeee", kernels.Matrix, 2, 3)})
	g.Output("y", out)
	return in, out
}

// A program must give the same bits run after run: no operation may write over an input.
func TestRunTwice(t *testing.T) {
	g := kernels.NewGraph(tensor.F32)
	in, out := chain(g)
	p, err := g.Compile(ref.New(1))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	values := make([]float32, 48)
	for i := range values {
		values[i] = float32(i%7) - 3
	}
	if err := p.Write(in, values); err != nil {
		t.Fatal(err)
	}
	var runs [2][]float32
	for i := range runs {
		if err := p.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		runs[i] = make([]float32, out.Shape.Len())
		if err := p.Read(runs[i], out); err != nil {
			t.Fatal(err)
		}
	}
	for i, v := range runs[0] {
		if v != runs[1][i] || v == 0 {
			t.Fatalf("value %d: %g, then %g", i, v, runs[1][i])
		}
	}
}

func TestArenaIsSmallerThanSum(t *testing.T) {
	g := kernels.NewGraph(tensor.F32)
	x := g.Input("x", tensor.F32, 1, 64, 64, 32)
	w := weight("w", kernels.Filter, 32, 32, 1, 1)
	for range 20 {
		x = g.Add("", &kernels.Conv2D{In: x, W: w})
	}
	g.Output("y", x)
	one := 64 * 64 * 32 * 4
	// The input and the output stay; between them two tensors take turns.
	if got := g.ArenaBytes(false); got > 4*one {
		t.Errorf("a chain of 20 needs %d bytes, %.1f tensors", got, float64(got)/float64(one))
	}
}

func TestDiagnoseNamesTheLayer(t *testing.T) {
	g := kernels.NewGraph(tensor.F32)
	x := g.Input("x", tensor.F32, 1, 1, 1, 1)
	big := kernels.NewWeight("unet.big.weight", kernels.Matrix, tensor.Of([]float32{3e38}, 1, 1))
	one := kernels.NewWeight("unet.one.weight", kernels.Matrix, tensor.Of([]float32{1}, 1, 1))
	y := g.Add("", &kernels.Linear{In: x, W: one})
	y = g.Add("", &kernels.Linear{In: y, W: big})
	y = g.Add("", &kernels.Linear{In: y, W: one})
	g.Output("y", y)
	p, err := g.Compile(ref.New(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(x, []float32{10}); err != nil {
		t.Fatal(err)
	}
	if err := p.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	var bad *kernels.NonFiniteError
	if err := p.Diagnose(context.Background()); !errors.As(err, &bad) || bad.Label != "unet.big.weight" || bad.NaN {
		t.Errorf("Diagnose says %v, want an infinity in unet.big.weight", err)
	}
}

func TestLoadRefusesNaN(t *testing.T) {
	w := kernels.NewWeight("unet.w", kernels.Vector, tensor.Of([]float32{1, float32(math.NaN())}, 2))
	var bad *kernels.NonFiniteWeightError
	if err := ref.New(1).Load(w); !errors.As(err, &bad) || bad.Index != 1 {
		t.Errorf("loading NaN: %v", err)
	}
}
