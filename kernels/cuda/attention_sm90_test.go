//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"darkroom/kernels/conformance"
	"darkroom/kernels/conformance/suite"
	"darkroom/tensor"
)

// fitsHopper says whether a case of the suite is an attention that the tile can compute.
func fitsHopper(tile HopperHeads) func(name string) bool {
	return func(name string) bool {
		if !strings.HasPrefix(name, "attention/") || strings.Contains(name, "bias") {
			return false
		}
		// "attention/2×64 queries, 77 keys, 2×40 causal"
		_, size, _ := strings.Cut(strings.Fields(strings.Split(name, ", ")[2])[0], "×")
		n, err := strconv.Atoi(size)
		return err == nil && n%8 == 0 && n <= tile.Size
	}
}

// TestHopperAttentionSubject runs each of Hopper's kernels on all heads that fit into it.
func TestHopperAttentionSubject(t *testing.T) {
	tiles := hopperHeads
	defer func() { hopperHeads = tiles }()
	for _, d := range []tensor.DType{tensor.F16, tensor.BF16} {
		for _, tile := range tiles {
			b := openHopper(t, d)
			b.hopperAttention = true
			t.Run(fmt.Sprint(b.suffix(), "_", tile.Size), func(t *testing.T) {
				hopperHeads = []HopperHeads{tile}
				suite.Run(t, b, conformance.Options{Short: testing.Short(), Match: fitsHopper(tile)})
				if name := fmt.Sprint("attention_wgmma_", b.suffix(), "_", tile.Size); !launched(b, name) {
					t.Errorf("%s was not launched", name)
				}
			})
		}
	}
}

// Hopper's attention, on an emulated one.
func TestHopperAttention(t *testing.T) {
	onEmulator(t)
	if out, err := child("^TestHopperAttentionSubject$", "EMU_CC=90"); err != nil || !strings.Contains(out, "PASS") {
		t.Errorf("%v\n%.4000s", err, out)
	}
}

// Mistakes in Hopper's attention, each planted into a copy of it, must be found, and by name where there is one.
func TestPlantedHopperAttention(t *testing.T) {
	onEmulator(t)
	if testing.Short() {
		t.Skip("compiles the kernels a dozen times")
	}
	const attention = "attention_sm90.cuh"
	findMistakes(t, "^TestHopperAttentionSubject$/^f16_80$", []hopperMistake{
		{"no wgmma.fence before the scores", attention, "    wgmma_fence();\n    score<", "    score<", `attention_wgmma_f16_80 block .*: wgmma's accumulators are not ordered by wgmma.fence`},
		{"no wgmma.fence before the last values", attention, "    wgmma_fence();\n    weigh<", "    weigh<", `A's registers are not ordered by wgmma.fence`},
		{"no fence after the barriers' initialisation", attention, "    barrier_init_fence();\n", "", `no fence made it visible to TMA`},
		{"waits for the wrong phase of the keys", attention, "barrier_wait(s.full_keys(stage.at), stage.parity);\n      wgmma_fence", "barrier_wait(s.full_keys(stage.at), stage.parity ^ 1);\n      wgmma_fence", `is NaN|more arrivals|deadlock|the block ends while TMA is under way`},
		{"the producer waits for the wrong phase", attention, "barrier_wait(s.empty_values(stage.at), stage.parity ^ 1);", "barrier_wait(s.empty_values(stage.at), stage.parity);", `deadlock: .* at mbarriers`},
		{"does not wait for the values", attention, "      barrier_wait(s.full_values(now.at), now.parity);\n", "", `is NaN|the block ends while TMA is under way`},
		{"scores read before the wait", attention, "      wgmma_wait<1>();\n", "", `is NaN|were written`},
		{"weights rounded while products read them", attention, "      normalise(tile);\n", "      normalise(tile);\n      round();\n", `A's registers were written while wgmma was under way`},
		{"sums scaled while products add to them", attention, "      wgmma_wait<0>();\n      settled(o);\n", "      settled(o);\n", `is NaN|were written`},
		{"another stage's values given back", attention, "barrier_arrive(s.empty_values(now.at))", "barrier_arrive(s.empty_values(stage.at))", `is NaN|more arrivals|deadlock|the error is`},
		{"expects too few bytes", attention, "barrier_expect(barrier, F::kPanels * panel)", "barrier_expect(barrier, F::kPanels * panel - 128)", `deadlock: .* at mbarriers`},
		{"values off by 16 bytes", attention, "column_descriptor(values, F::kPanel)", "column_descriptor(values + 16, F::kPanel)", `is NaN|the error is`},
		{"panels further apart", attention, "column_descriptor(values, F::kPanel)", "column_descriptor(values, F::kPanel / 2)", `is NaN|the error is`},
		{"8 rows of values further instead of 16", attention, "b + 128 * j", "b + 64 * j", `the error is`},
		{"head and row exchanged", attention, "64 * i, head, row, image", "64 * i, row, head, image", `is NaN|the error is`},
		{"a key too many", attention, "a.causal ? min(work.there, row + 1)", "a.causal ? min(work.there, row + 2)", `the error is`},
		{"the first values are added to what was there", attention, "weigh<T, F>(o, weights, s.values(stage.at), work.tiles > 1)", "weigh<T, F>(o, weights, s.values(stage.at), true)", `is NaN`},
		{"values with another swizzle", attention, "b = column_descriptor(values, F::kPanel)", "b = column_descriptor(values, F::kPanel) ^ uint64_t(3) << 62", `N-major matrix without 128-byte swizzle`},
		{"rows of values 512 bytes apart", attention, "b = column_descriptor(values, F::kPanel)", "b = column_descriptor(values, F::kPanel) - (uint64_t(512 >> 4) << 32)", `is NaN|the error is`},
	})
}
