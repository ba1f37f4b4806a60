//go:build cgo && (linux || darwin) && (amd64 || arm64)

package cpu_test

import (
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/conformance"
	"darkroom/kernels/conformance/suite"
	"darkroom/kernels/cpu"
	"darkroom/kernels/cpu/lowered"
	"darkroom/tensor"
)

func backend(t testing.TB, o cpu.Options) *cpu.Backend {
	b, err := cpu.New(o)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// emulated is a backend whose instructions are lowered to AVX2 or NEON.
func emulated(t testing.TB, name string, threads int) *cpu.Backend {
	set := lowered.Kernels(name)
	if set == nil {
		t.Skipf("no %s kernels here: those of AVX-512 need an amd64 processor with AVX2", name)
	}
	return backend(t, cpu.Options{Threads: threads, Kernels: set, DType: tensor.BF16, Int8: true})
}

// Every instruction set that this processor has.
func TestConformance(t *testing.T) {
	for _, d := range []tensor.DType{tensor.F32, tensor.BF16} {
		for _, set := range cpu.Instructions(d) {
			t.Run(set, func(t *testing.T) {
				suite.Run(t, backend(t, cpu.Options{Threads: 3, DType: d, Instructions: set}), conformance.Options{
					Short:       testing.Short() || set == "base",
					WithThreads: func(n int) kernels.Backend { return backend(t, cpu.Options{Threads: n, DType: d, Instructions: set}) },
				})
			})
		}
	}
}

// The sets for weights of 8 bits on processors that do not compute in bfloat16, in what is not of 8 bits.
func TestHalfByFloats(t *testing.T) {
	for _, set := range []string{"avxvnni", "avx2bf16", "neondot"} {
		t.Run(set, func(t *testing.T) {
			open := func(threads int) *cpu.Backend {
				return backend(t, cpu.Options{Threads: threads, DType: tensor.BF16, Int8: true, Instructions: set})
			}
			suite.Run(t, open(3), conformance.Options{Short: true, WithThreads: func(n int) kernels.Backend { return open(n) }})
		})
	}
}

// The logic of the sets that a processor may lack.
func TestLowered(t *testing.T) {
	for _, set := range []string{"wide", "lowered_avx512bf16", "lowered_amx", "lowered_neonbf16", "lowered_neondot"} {
		t.Run(set, func(t *testing.T) {
			suite.Run(t, emulated(t, set, 3), conformance.Options{
				Short:       true,
				WithThreads: func(n int) kernels.Backend { return emulated(t, set, n) },
			})
		})
	}
}

// Every float32 path that has a fused multiply-add sums in the same order and must give the same bits.
func TestSameBitsOnEveryInstructionSet(t *testing.T) {
	first := emulated(t, "wide", 2)
	for _, set := range []string{"avx2", "avx512"} {
		t.Run(set, func(t *testing.T) {
			suite.Same(t, backend(t, cpu.Options{Instructions: set}), first, conformance.Options{Short: testing.Short()})
		})
	}
}

// AVX2 and DotProd have other instructions for products of bfloat16 and bytes than AVX-512, and other widths; the bits are the same.
func TestSameBitsWithoutAVX512(t *testing.T) {
	t.Run("lowered_neondot", func(t *testing.T) {
		suite.Same(t, emulated(t, "lowered_neondot", 2), emulated(t, "lowered_avx512bf16", 2), conformance.Options{Short: testing.Short()})
	})
	for _, set := range []string{"avxvnni", "avx2bf16"} {
		t.Run(set, func(t *testing.T) {
			b := backend(t, cpu.Options{DType: tensor.BF16, Int8: true, Instructions: set})
			suite.Same(t, b, emulated(t, "lowered_avx512bf16", 2), conformance.Options{Short: testing.Short()})
		})
	}
}

// What stands in for an instruction must round as the processor does.
func TestLoweredIsTheProcessor(t *testing.T) {
	for _, set := range []string{"avx512bf16", "amx", "neonbf16", "neondot"} {
		t.Run(set, func(t *testing.T) {
			b := backend(t, cpu.Options{DType: tensor.BF16, Int8: true, Instructions: set})
			suite.Same(t, b, emulated(t, "lowered_"+set, 2), conformance.Options{Short: testing.Short()})
		})
	}
}
