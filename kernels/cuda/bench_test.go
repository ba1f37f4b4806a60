//go:build cuda && linux && amd64

package cuda

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"darkroom/kernels"
	"darkroom/kernels/bench"
	"darkroom/tensor"
)

// BenchmarkLayers times Stable Diffusion 1.5's layers as the model runs them: as part of a recorded program, here
// ten times the same layer, so that neither launches nor waiting count. bench.sh puts PyTorch's times beside these.
// On the emulated device, whose times mean nothing, only the smallest layer runs, to keep this code alive.
func BenchmarkLayers(b *testing.B) {
	const copies = 10
	for _, d := range []tensor.DType{tensor.F16, tensor.BF16} {
		device := open(b, Options{DType: d})
		for _, c := range bench.StableDiffusion15() {
			g := kernels.NewGraph(d)
			op := c.Build(g)
			if strings.HasPrefix(device.Device().Name, "Emulated") && op.FLOPs() > 1e7 {
				continue
			}
			b.Run(fmt.Sprintf("%v/%s/%s", d, c.Kind, strings.ReplaceAll(c.Shape, " ", "_")), func(b *testing.B) {
				for range copies {
					g.Output(g.Add("", op))
				}
				for _, w := range g.Weights() {
					w.Host = tensor.Tensor{DType: tensor.F16, Shape: w.Host.Shape, Data: make([]byte, 2*w.Host.Shape.Len())}
				}
				p, err := g.Compile(device)
				if err != nil {
					b.Fatal(err)
				}
				defer p.Close()
				run := func() {
					if err := p.Run(context.Background()); err != nil {
						b.Fatal(err)
					}
				}
				run()
				run() // records
				b.ResetTimer()
				start := time.Now()
				for range b.N {
					run()
				}
				each := time.Since(start).Seconds() / float64(b.N) / copies
				b.ReportMetric(1e6*each, "µs/layer")
				b.ReportMetric(op.FLOPs()/each/1e12, "TFLOP/s")
				b.StopTimer()
				for _, w := range g.Weights() {
					device.Unload(w)
				}
			})
		}
	}
}
