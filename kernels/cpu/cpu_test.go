//go:build cgo && (linux || darwin) && (amd64 || arm64)

package cpu_test

import (
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/conformance"
	"darkroom/kernels/conformance/suite"
	"darkroom/kernels/cpu"
)

func backend(t testing.TB, o cpu.Options) *cpu.Backend {
	b, err := cpu.New(o)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// Every instruction set that this processor has, and the logic of AVX-512 on those that lack it.
func TestConformance(t *testing.T) {
	for _, set := range append(cpu.Instructions(), "wide") {
		t.Run(set, func(t *testing.T) {
			b := backend(t, cpu.Options{Threads: 3, Instructions: set})
			suite.Run(t, b, conformance.Options{
				Short:       testing.Short() || set == "wide" || set == "base",
				WithThreads: func(n int) kernels.Backend { return backend(t, cpu.Options{Threads: n, Instructions: set}) },
			})
		})
	}
}

// Every path that has a fused multiply-add sums in the same order and must give the same bits; "wide" is
// AVX-512's logic.
func TestSameBitsOnEveryInstructionSet(t *testing.T) {
	first := backend(t, cpu.Options{Instructions: "wide"})
	for _, set := range []string{"avx2", "avx512"} {
		t.Run(set, func(t *testing.T) {
			suite.Same(t, backend(t, cpu.Options{Instructions: set}), first, conformance.Options{Short: testing.Short()})
		})
	}
}
