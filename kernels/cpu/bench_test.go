//go:build cgo && (linux || darwin) && (amd64 || arm64)

package cpu_test

import (
	"context"
	"strings"
	"testing"

	"darkroom/kernels/bench"
	"darkroom/kernels/cpu"
	"darkroom/tensor"
)

// BenchmarkStableDiffusion15 prints the speed of each kernel of each set beside the peak that was measured on the
// same threads just before:
//
//	go test -run - -bench 'StableDiffusion15/amx/conv2d' ./kernels/cpu
func BenchmarkStableDiffusion15(b *testing.B) {
	for _, d := range []tensor.DType{tensor.F32, tensor.BF16} {
		for _, set := range cpu.Instructions(d) {
			b.Run(set, func(b *testing.B) { benchmarkSet(b, backend(b, cpu.Options{DType: d, Instructions: set})) })
		}
	}
	for _, set := range cpu.Int8Instructions() {
		b.Run("int8-"+set, func(b *testing.B) {
			benchmarkSet(b, backend(b, cpu.Options{DType: tensor.BF16, Int8: true, Instructions: set}))
		})
	}
}

func benchmarkSet(b *testing.B, back *cpu.Backend) {
	for _, c := range bench.StableDiffusion15() {
		op := strings.ReplaceAll(c.Shape, " ", "_")
		b.Run(c.Kind+"/"+op, func(b *testing.B) {
			var peak float64
			for range 5 { // the best: least disturbed
				peak = max(peak, back.Peak(2e9))
			}
			for range b.N {
				rows, err := bench.Kernels(context.Background(), back, []bench.Case{c}, bench.Options{Peak: peak})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(rows[0].GFLOPS, "GFLOP/s")
				b.ReportMetric(100*rows[0].Share, "%peak")
				b.ReportMetric(rows[0].Millis, "ms")
			}
		})
	}
}
