//go:build cgo && (linux || darwin) && (amd64 || arm64)

package cpu_test

import (
	"slices"
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/bench"
	"darkroom/kernels/cpu"
	"darkroom/tensor"
)

// The bits say which way a convolution was computed: those of the models' layers, and those that only cost more.
func TestWinogradWhereItPays(t *testing.T) {
	b := backend(t, cpu.Options{Threads: 2})
	if b.Instructions() == "base" {
		t.Skip("too slow for these sizes")
	}
	for _, c := range []struct {
		shape string
		conv  kernels.Conv2D
		in    tensor.Shape
		outs  int
		k     int
		want  bool
	}{
		{"SD 1.5's first level", kernels.Conv2D{Pad: [2]int{1, 1}}, tensor.Shape{1, 64, 64, 320}, 320, 3, true},
		{"its last level", kernels.Conv2D{Pad: [2]int{1, 1}}, tensor.Shape{1, 8, 8, 320}, 320, 3, true},
		{"the embedded model's", kernels.Conv2D{Pad: [2]int{1, 1}}, tensor.Shape{1, 32, 32, 48}, 48, 3, true},
		{"the first layer", kernels.Conv2D{Pad: [2]int{1, 1}}, tensor.Shape{1, 64, 64, 4}, 320, 3, false},
		{"the last layer", kernels.Conv2D{Pad: [2]int{1, 1}}, tensor.Shape{1, 64, 64, 320}, 4, 3, false},
		{"one tile", kernels.Conv2D{Pad: [2]int{1, 1}}, tensor.Shape{1, 4, 4, 320}, 320, 3, false},
		{"mostly beyond the edge", kernels.Conv2D{Pad: [2]int{1, 1}}, tensor.Shape{1, 5, 5, 320}, 320, 3, false},
		{"stride 2", kernels.Conv2D{Pad: [2]int{1, 1}, Stride: 2}, tensor.Shape{1, 32, 32, 64}, 64, 3, false},
		{"one tap", kernels.Conv2D{}, tensor.Shape{1, 32, 32, 64}, 64, 1, false},
	} {
		run := func(winograd bool) []float32 {
			g := kernels.NewGraph(tensor.F32)
			op := c.conv
			op.In = g.Input("in", tensor.F32, c.in...)
			op.W = &kernels.Weight{Name: "w", Role: kernels.Filter, Shape: tensor.Shape{c.outs, c.in[3], c.k, c.k}}
			op.W.Host = tensor.Stored(tensor.Of(bench.Random(op.W.Shape.Len(), 0.05), op.W.Shape...))
			op.Winograd = winograd
			g.Output("out", g.Add("", &op))
			p, err := g.Compile(b)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Unload(op.W)
			defer p.Close()
			if err := p.Write(op.In, bench.Random(op.In.Shape.Len(), 1)); err != nil {
				t.Fatal(err)
			}
			if err := p.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			out := make([]float32, g.Out("out").Shape.Len())
			if err := p.Read(out, g.Out("out")); err != nil {
				t.Fatal(err)
			}
			return out
		}
		if plain, other := run(false), run(true); slices.Equal(plain, other) == c.want {
			t.Errorf("%s: Winograd is used: %v, want %v", c.shape, !c.want, c.want)
		}
	}
}

// The half types have no such kernels, and their bits do not depend on the permission.
func TestWinogradIsForFloat32(t *testing.T) {
	b := backend(t, cpu.Options{DType: tensor.BF16})
	if b.Info().Winograd {
		t.Error("bfloat16 claims Winograd convolutions")
	}
}
