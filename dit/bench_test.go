//go:build cgo && linux && (amd64 || arm64)

package dit

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"

	"darkroom/config"
	"darkroom/kernels"
	"darkroom/kernels/cpu"
	"darkroom/nn"
	"darkroom/tensor"
)

// BenchmarkZImage times two layers of Z-Image's width, with random weights, over the tokens of a picture of 512×512 pixels (or of
// PIXELS a side) and 128 of text: each matrix product by itself, beside the peak that was measured just before, and the whole. Times
// are of the processor, so that other programs count little:
//
//	taskset -c 1 go test -run - -bench ZImage ./dit
func BenchmarkZImage(b *testing.B) {
	for _, d := range []tensor.DType{tensor.F32, tensor.BF16} {
		if len(cpu.Instructions(d)) == 0 {
			continue
		}
		b.Run(d.Name(), func(b *testing.B) { benchmarkLayers(b, d) })
	}
}

// seconds of the processor that this program has taken.
func seconds(tb testing.TB) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func benchmarkLayers(b *testing.B, d tensor.DType) {
	back, err := cpu.New(cpu.Options{DType: d, Threads: 1})
	if err != nil {
		b.Fatal(err)
	}
	const layers, text = 2, 128
	side := 512
	if v, err := strconv.Atoi(os.Getenv("PIXELS")); err == nil {
		side = v
	}
	raw, err := config.Parse([]byte(fmt.Sprintf(`{"n_layers": %d, "n_refiner_layers": 0}`, layers)), "config.json")
	if err != nil {
		b.Fatal(err)
	}
	c, err := ReadZImageConfig(raw)
	if err != nil {
		b.Fatal(err)
	}
	m, err := NewZImage(c, nn.NewLoader("transformer", nn.Random{DType: tensor.BF16}))
	if err != nil {
		b.Fatal(err)
	}
	g := nn.Graph(m, d, nn.Sizes{Rows: 1, H: side / 8, W: side / 8, Tokens: text})
	program, err := g.Compile(back)
	if err != nil {
		b.Fatal(err)
	}
	defer program.Close()
	values, err := c.Conditions(side/8, side/8, text, text)
	if err != nil {
		b.Fatal(err)
	}
	values["time"] = c.Time(500)
	for _, name := range g.InputNames() {
		fill(b, program, g.In(name), values[name])
	}
	tokens := g.In("angles").Shape[1]
	peak := func() (best float64) {
		for range 3 { // the best: least disturbed
			const flops = 4e9
			before := seconds(b)
			back.Peak(flops)
			best = max(best, flops/(seconds(b)-before))
		}
		return best
	}
	timed := func(b *testing.B, p *kernels.Program, flops float64) {
		least := peak()
		if err := p.Run(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.ResetTimer()
		before := seconds(b)
		for range b.N {
			if err := p.Run(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
		each := (seconds(b) - before) / float64(b.N)
		top := max(least, peak())
		b.ReportMetric(each, "cpu-s/op")
		b.ReportMetric(flops/each/1e9, "GFLOP/s")
		b.ReportMetric(100*flops/each/top, "%peak")
	}
	for _, l := range []struct {
		name string
		of   nn.Linear
		act  kernels.Activation
	}{{"to_q", m.layers[0].toQ, kernels.Identity}, {"w13", m.layers[0].w13, kernels.SwiGLU}, {"w2", m.layers[0].w2, kernels.Identity}} {
		b.Run(l.name, func(b *testing.B) {
			g := kernels.NewGraph(d)
			in := g.Input("x", d, 1, tokens, l.of.Weight.Shape[1])
			g.Output("y", l.of.Forward(g, in, l.act, nil))
			p, err := g.Compile(back)
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			fill(b, p, in, nil)
			timed(b, p, g.FLOPs())
		})
	}
	b.Run("whole", func(b *testing.B) { timed(b, program, g.FLOPs()) })
}

// fill writes an input: what is given, or noise.
func fill(tb testing.TB, p *kernels.Program, x *kernels.Tensor, values []float32) {
	tb.Helper()
	if values == nil {
		values = make([]float32, x.Shape.Len())
		for i := range values {
			values[i] = float32(i*7919%1009)/504.5 - 1
		}
	}
	if x.DType != tensor.I32 {
		if err := p.Write(x, values); err != nil {
			tb.Fatal(err)
		}
		return
	}
	ids := make([]int32, len(values))
	for i, v := range values {
		ids[i] = int32(v)
	}
	if err := p.WriteIDs(x, ids); err != nil {
		tb.Fatal(err)
	}
}
