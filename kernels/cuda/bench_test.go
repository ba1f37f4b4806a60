//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"darkroom/kernels"
	"darkroom/kernels/bench"
	"darkroom/tensor"
)

// benchRow is a timed layer: microseconds of one, how often a step has it, and its sizes for bench_torch.py.
type benchRow struct {
	Model string         `json:"model"`
	Kind  string         `json:"kind"`
	Shape string         `json:"shape"`
	Count int            `json:"count"`
	Micro float64        `json:"us"`
	FLOPs float64        `json:"flops"`
	Bytes int            `json:"bytes"`
	Dims  map[string]int `json:"dims"`
}

type benchReport struct {
	Device string     `json:"device"`
	Driver string     `json:"driver"`
	DType  string     `json:"dtype"`
	Rows   []benchRow `json:"rows"`
}

// TestBenchSteps times every layer of the U-Nets' steps in float16 as a model runs them: as part of a recorded program, here
// ten times the same layer, so that neither launches nor waiting count, on tiles chosen by measured time. bench.sh
// runs it (BENCH_JSON names the file) and puts PyTorch's times beside these. On the emulated device, whose times mean
// nothing, only the smallest layers run, to keep this code alive.
func TestBenchSteps(t *testing.T) {
	path := os.Getenv("BENCH_JSON")
	if path == "" && testing.Short() {
		t.Skip("for bench.sh")
	}
	b := open(t, Options{DType: tensor.F16})
	b.tuner = newTuner("")
	emulated := strings.HasPrefix(b.Device().Name, "Emulated")
	copies, runs := 10, 10
	if emulated {
		copies, runs = 1, 1
	}
	r := benchReport{Device: b.Device().Name, Driver: b.Device().Driver, DType: "fp16"}
	for _, u := range []bench.UNet{bench.SD15, bench.SDXL} {
		for _, l := range u.Step(2) {
			op := l.Build(kernels.NewGraph(tensor.F16))
			if emulated && (op.FLOPs() > 4e6 || op.OutShape().Len() > 1e5) {
				continue
			}
			row := benchRow{Model: u.Name, Kind: l.Kind, Shape: l.Shape, Count: l.Count, FLOPs: op.FLOPs(), Bytes: 2 * op.OutShape().Len(), Dims: dims(op)}
			for _, in := range op.Inputs() {
				row.Bytes += in.Bytes()
			}
			for _, w := range op.Weights() {
				row.Bytes += 2 * w.Shape.Len()
			}
			row.Micro = 1e6 * timeLayer(t, b, l.Case, copies, runs)
			r.Rows = append(r.Rows, row)
		}
	}
	if len(r.Rows) == 0 {
		t.Fatal("no layer was timed")
	}
	if path == "" {
		return
	}
	body, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(body))
}

// timeLayer is the least time of one of several copies of a layer in a recorded program, in seconds.
func timeLayer(t *testing.T, b *Backend, c bench.Case, copies, runs int) float64 {
	g := kernels.NewGraph(tensor.F16)
	op := c.Build(g)
	for i := range copies {
		g.Output(fmt.Sprint("out", i), g.Add("", op))
	}
	for _, w := range g.Weights() {
		w.Host = tensor.Stored(tensor.Tensor{DType: tensor.F16, Shape: w.Shape, Data: make([]byte, 2*w.Shape.Len())})
		defer b.Unload(w)
	}
	p, err := g.Compile(b)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	least := 0.0
	for i := range runs + 2 { // the first measures tiles, the second records
		start := time.Now()
		if err := p.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		if s := time.Since(start).Seconds(); i > 1 && (least == 0 || s < least) {
			least = s
		}
	}
	return least / float64(copies)
}

// dims are an operation's sizes by name.
func dims(op kernels.Op) map[string]int {
	switch op := op.(type) {
	case *kernels.Conv2D:
		in, w := op.In.Shape, op.W.Shape
		h, _ := op.InSize()
		return map[string]int{"n": in[0], "h": in[1], "w": in[2], "c": w[1], "o": w[0], "k": w[2], "stride": op.Step(), "up": h / in[1]}
	case *kernels.Linear:
		in, outs := op.In.Shape, op.W.Shape[0]
		d := map[string]int{"rows": in.Len() / in[len(in)-1], "c": in[len(in)-1], "o": outs, "bias": 0, "norm": 0, "act": int(op.Act)}
		if op.Bias != nil {
			d["bias"] = 1
		}
		if op.W.Norm != nil {
			d["norm"] = 1
		}
		return d
	case *kernels.Attention:
		q := op.Q.Shape
		return map[string]int{"n": q[0], "queries": q[1], "keys": op.K.Shape[1], "heads": op.Heads, "d": q[2] / op.Heads}
	case *kernels.GroupNorm:
		s := op.OutShape()
		return map[string]int{"n": s[0], "h": s[1], "w": s[2], "c": s[3]}
	case *kernels.LayerNorm:
		s := op.OutShape()
		return map[string]int{"rows": s.Len() / s[len(s)-1], "c": s[len(s)-1]}
	}
	panic("no sizes for " + op.Kind())
}
