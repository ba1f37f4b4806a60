//go:build cgo && (linux || darwin) && (amd64 || arm64)

package cpu_test

import (
	"context"
	"strings"
	"testing"

	"darkroom/kernels/bench"
	"darkroom/kernels/cpu"
)

// BenchmarkStableDiffusion15 prints the speed of each kernel beside the multiply-add peak that was
// measured on the same threads just before:
//
//	go test -run - -bench 'StableDiffusion15/conv2d' ./kernels/cpu
func BenchmarkStableDiffusion15(b *testing.B) {
	back := backend(b, cpu.Options{})
	for _, c := range bench.StableDiffusion15() {
		op := strings.ReplaceAll(c.Shape, " ", "_")
		b.Run(c.Kind+"/"+op, func(b *testing.B) {
			peak := back.Peak(2e9)
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
