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
	testWinograd(t, b, tensor.F32, false)
}

// In bfloat16 only sets for which it pays have it. Weights of 8 bits never do.
func TestWinogradInHalf(t *testing.T) {
	for _, set := range cpu.Instructions(tensor.BF16) {
		b := backend(t, cpu.Options{Threads: 2, DType: tensor.BF16, Instructions: set})
		if pays := set == "avx512bf16"; b.Info().Winograd != pays {
			t.Errorf("%s has Winograd convolutions: %v, want %v", set, !pays, pays)
		} else if pays {
			testWinograd(t, b, tensor.BF16, false)
			testWinograd(t, backend(t, cpu.Options{Threads: 2, DType: tensor.BF16, Int8: true, Instructions: set}), tensor.BF16, true)
		}
	}
}

func testWinograd(t *testing.T, b *cpu.Backend, d tensor.DType, int8 bool) {
	for _, c := range []struct {
		shape string
		conv  kernels.Conv2D
		in    tensor.Shape
		outs  int
		k     int
		want  bool
	}{
		{"SD 1.5's first level", kernels.Conv2D{Pad: [2]int{1, 1}}, tensor.Shape{1, 64, 64, 320}, 320, 3, true},
		{"its last level", kernels.Conv2D{Pad: [2]int{1, 1}}, tensor.Shape{1, 8, 8, 320}, 320, 3, d == tensor.F32},
		{"the embedded model's", kernels.Conv2D{Pad: [2]int{1, 1}}, tensor.Shape{1, 32, 32, 48}, 48, 3, true},
		{"an odd number of channels", kernels.Conv2D{Pad: [2]int{1, 1}}, tensor.Shape{1, 32, 32, 49}, 48, 3, d == tensor.F32},
		{"the first layer", kernels.Conv2D{Pad: [2]int{1, 1}}, tensor.Shape{1, 64, 64, 4}, 320, 3, false},
		{"the last layer", kernels.Conv2D{Pad: [2]int{1, 1}}, tensor.Shape{1, 64, 64, 320}, 4, 3, false},
		{"one tile", kernels.Conv2D{Pad: [2]int{1, 1}}, tensor.Shape{1, 4, 4, 320}, 320, 3, false},
		{"mostly beyond the edge", kernels.Conv2D{Pad: [2]int{1, 1}}, tensor.Shape{1, 5, 5, 320}, 320, 3, false},
		{"stride 2", kernels.Conv2D{Pad: [2]int{1, 1}, Stride: 2}, tensor.Shape{1, 32, 32, 64}, 64, 3, false},
		{"one tap", kernels.Conv2D{}, tensor.Shape{1, 32, 32, 64}, 64, 1, false},
	} {
		run := func(winograd bool) []float32 {
			g := kernels.NewGraph(d)
			op := c.conv
			op.In = g.Input("in", d, c.in...)
			op.W = &kernels.Weight{Name: "w", Role: kernels.Filter, Shape: tensor.Shape{c.outs, c.in[3], c.k, c.k}}
			op.W.Host = tensor.Stored(tensor.Of(bench.Random(op.W.Shape.Len(), 0.05), op.W.Shape...))
			op.W.Tolerant, op.Winograd = int8, winograd
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
		if plain, other := run(false), run(true); slices.Equal(plain, other) == (c.want && !int8) {
			t.Errorf("%s, int8 %v: Winograd is used: %v, which is wrong", c.shape, int8, !slices.Equal(plain, other))
		}
	}
}
