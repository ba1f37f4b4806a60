//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"context"
	"fmt"
	"math"
	"testing"

	"darkroom/kernels"
	"darkroom/tensor"
)

// chain is two products after one another, the second of which normalises the rows of the first.
func chain(g *kernels.Graph, rows, in, width, outs int) {
	weight := func(role kernels.Role, s ...int) *kernels.Weight {
		values := make([]float32, tensor.Shape(s).Len())
		for i := range values {
			values[i] = float32((i*7+len(s)*3)%29-14) / 29
		}
		return kernels.NewWeight(fmt.Sprint("w", s), role, tensor.Of(values, s...))
	}
	x := g.Input("x", g.DType, 2, rows, in)
	x = g.Add("", &kernels.Linear{In: x, W: weight(kernels.Matrix, width, in), Bias: weight(kernels.Vector, width), Residual: g.Input("residual", g.DType, 2, rows, width)})
	w := weight(kernels.Matrix, outs, width)
	w.Norm = &kernels.RowNorm{Gamma: weight(kernels.Vector, width), Beta: weight(kernels.Vector, width), Eps: 1e-5}
	g.Output("y", g.Add("", &kernels.Linear{In: g.Reshape(x, 2*rows, width), W: w}))
}

// runs gives the result of each run of a chain; the second and third are a recording and its replay.
func runs(t *testing.T, b *Backend, rows, in, width, outs int) (all [][]float32) {
	t.Helper()
	g := kernels.NewGraph(b.dtype)
	chain(g, rows, in, width, outs)
	p, err := g.Compile(b)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, w := range g.Weights() {
		defer b.Unload(w)
	}
	for _, name := range g.InputNames() {
		values := make([]float32, g.In(name).Shape.Len())
		for i := range values {
			values[i] = float32(math.Sin(float64(i*i%1009))) + 0.5
		}
		if err := p.Write(g.In(name), values); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if err := p.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		y := make([]float32, g.Out("y").Shape.Len())
		if err := p.Read(y, g.Out("y")); err != nil {
			t.Fatal(err)
		}
		all = append(all, y)
	}
	return all
}

// The moments that a product leaves of its rows are those of the rows, to the bit: with every tile, where its sum is split
// or not, and in a recording.
func TestMomentsOfTheProductBefore(t *testing.T) {
	for _, d := range []tensor.DType{tensor.F16, tensor.BF16} {
		apart, b := open(t, Options{DType: d}), open(t, Options{DType: d})
		apart.moments.apart = true
		for _, s := range [][4]int{{35, 64, 96, 40}, {33, 1024, 160, 64}} { // the second is split
			want := runs(t, apart, s[0], s[1], s[2], s[3])[0]
			for i := range tiles() {
				b.only = &families[i]
				for run, got := range runs(t, b, s[0], s[1], s[2], s[3]) {
					for j := range want {
						if math.Float32bits(got[j]) != math.Float32bits(want[j]) {
							t.Fatalf("%v %v, tile %s, run %d: value %d is %g, by moments taken apart %g", d, s, families[i].name, run, j, got[j], want[j])
						}
					}
				}
			}
		}
		if name := "moments_" + b.suffix(); !launched(apart, name) || launched(b, name) {
			t.Errorf("%s was launched %v for moments taken apart, %v for those of the product before; want true and false", name, launched(apart, name), launched(b, name))
		}
	}
}
