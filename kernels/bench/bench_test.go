package bench

import (
	"context"
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/ref"
	"darkroom/tensor"
)

// The rows must add up to the program: every operation counted once, alike ones together.
func TestStepsCountEveryOperation(t *testing.T) {
	b := ref.New(1)
	g := kernels.NewGraph(tensor.F32)
	x := g.Input("x", tensor.F32, 1, 4, 4, 8)
	for range 3 {
		x = g.Add("", &kernels.Conv2D{In: x, W: weight(kernels.Filter, 8, 8, 3, 3), Pad: [2]int{1, 1}})
	}
	x = g.Add("", &kernels.GroupNorm{In: x, Gamma: weight(kernels.Vector, 8), Beta: weight(kernels.Vector, 8), Groups: 2})
	g.Output("y", x)
	p, err := g.Compile(b)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	const peak = 1 << 30 // a power of two: nothing is rounded by dividing
	rows, err := Steps(context.Background(), p, Options{Runs: 2, Peak: peak})
	if err != nil {
		t.Fatal(err)
	}
	var flops float64
	count := 0
	for _, r := range rows {
		flops += r.GFLOPS * 1e9 * r.Millis / 1e3
		count += r.Count
		if r.Share != r.GFLOPS*1e9/peak || r.Bytes == 0 {
			t.Errorf("%+v: the share of the peak is %v", r, r.GFLOPS*1e9/peak)
		}
	}
	if d := flops/g.FLOPs() - 1; len(rows) != 2 || count != 4 || d > 1e-9 || d < -1e-9 {
		t.Errorf("%d rows of %d operations and %g operations in total, want 2, 4 and %g", len(rows), count, flops, g.FLOPs())
	}
}

// Every case of the table must be an operation that can be built and described by its name.
func TestCases(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range StableDiffusion15() {
		op := c.Build(kernels.NewGraph(tensor.F32))
		name := c.Kind + " " + c.Shape
		if op.OutShape().Len() == 0 || seen[name] {
			t.Errorf("%s: empty or twice", name)
		}
		seen[name] = true
	}
	rows, err := Kernels(context.Background(), ref.New(0), []Case{linear(2, 8, 8, kernels.SiLU), attention(1, 4, 6, 2, 4)}, Options{Runs: 1})
	if err != nil || len(rows) != 2 || rows[0].GFLOPS <= 0 {
		t.Errorf("%+v, %v", rows, err)
	}
}

// The numbers of parameters are the checkpoints' own; a layer too many, or of a wrong size, would change them.
func TestUNetParameters(t *testing.T) {
	for _, c := range []struct {
		unet       UNet
		parameters int
		flops      float64 // of a step for two
	}{
		{SD15, 859520964, 1.6e12},
		{SDXL, 2567463684, 13.5e12},
	} {
		for _, layers := range [][]Layer{c.unet.Step(2), c.unet.Layers(2)} {
			parameters, flops := 0, 0.0
			for _, l := range layers {
				g := kernels.NewGraph(tensor.F16)
				op := l.Build(g)
				flops += float64(l.Count) * op.FLOPs()
				for _, w := range op.Weights() {
					parameters += l.Count * w.Shape.Len()
				}
			}
			if parameters != c.parameters {
				t.Errorf("%s has %d parameters, listed are %d", c.unet.Name, c.parameters, parameters)
			}
			if flops < 0.95*c.flops || flops > 1.05*c.flops {
				t.Errorf("%s: %.2f TFLOP a step of two, %.2f are expected", c.unet.Name, flops/1e12, c.flops/1e12)
			}
		}
	}
}
