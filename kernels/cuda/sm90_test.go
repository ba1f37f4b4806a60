//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"darkroom/kernels/conformance"
	"darkroom/kernels/conformance/suite"
	"darkroom/tensor"
)

// openHopper opens a device of compute capability 9.0 and lets wgmma compute products.
func openHopper(t *testing.T, d tensor.DType) *Backend {
	t.Helper()
	b := open(t, Options{DType: d})
	if b.device.Capability != [2]int{9, 0} {
		t.Skip("run by TestHopper, or on a Hopper GPU")
	}
	b.products = wgmma
	return b
}

// TestHopperSubject runs the products of the suite by each family of wgmma. Shapes that none fits go where they go elsewhere.
func TestHopperSubject(t *testing.T) {
	for _, d := range []tensor.DType{tensor.F16, tensor.BF16} {
		first := openHopper(t, d)
		for i, f := range first.choices() {
			t.Run(first.suffix()+" "+f.name, func(t *testing.T) {
				b := openHopper(t, d)
				b.only = f
				o := conformance.Options{Short: testing.Short(), Match: product}
				if i == 0 {
					suite.Run(t, b, o)
				} else {
					suite.Same(t, first, b, o) // and the first is right
				}
				if name := f.kernel(b).name; !launched(b, name) {
					t.Errorf("%s was not launched", name)
				}
			})
		}
	}
}

// Hopper's kernels, on an emulated one.
func TestHopper(t *testing.T) {
	onEmulator(t)
	if out, err := child("^TestHopperSubject$", "EMU_CC=90"); err != nil || !strings.Contains(out, "PASS") {
		t.Errorf("%v\n%.4000s", err, out)
	}
}

func launched(b *Backend, name string) bool {
	_, ok := b.loaded[name]
	return ok
}

// TestHopperVerdictSubject runs a self-test, and opens the device as a picture does.
func TestHopperVerdictSubject(t *testing.T) {
	cache := os.Getenv("HOPPER_CACHE")
	if cache == "" {
		t.Skip("run by TestHopperVerdict")
	}
	// The emulated device would take minutes for the whole of it, and hours for these shapes.
	quick = func(name string) bool {
		return strings.HasPrefix(name, "conv2d/2×8×8×16 to 16, 3×3 stride 2 pad 1,1") || strings.HasPrefix(name, "linear/2×77×64") || strings.HasPrefix(name, "attention/2×64 queries, 77 keys, 2×40")
	}
	hopperShapes = []gemm{square(1, 8, 64, 64, 3), square(1, 8, 64, 128, 1)}
	o := Options{DType: tensor.F16}
	hopperAttentions = [][4]int{{1, 64, 1, 40}}
	attention := ""
	use := func(what string) {
		opened, err := OpenTested(o, cache, func(m string) { fmt.Println("warning:", m) })
		if err != nil {
			t.Fatal(err)
		}
		defer opened.Close()
		b := opened.(*Backend)
		if hopper := b.device.Capability == [2]int{9, 0}; b.hopperAttention != (hopper && attention == faster) {
			t.Errorf("%s attention by wgmma: %v, with the verdict %q", what, b.hopperAttention, attention)
		}
		fmt.Println(what, b.products == wgmma)
	}
	use("before:")
	report, err := SelfTest(o, cache, false)
	if err != nil {
		t.Fatal(err)
	}
	attention = report.Verdict.HopperAttention
	fmt.Println("verdict:", report.Verdict.Hopper)
	fmt.Println("attention:", report.Verdict.HopperAttention)
	use("after:")
	for _, hopper := range []string{faster, slower} {
		report.Verdict.Hopper, report.Verdict.HopperAttention, attention = hopper, hopper, hopper
		writeVerdict(report.Path, report.Verdict)
		use(hopper + ":")
	}
}

// Products go by wgmma only where a self-test of this device found them right and faster.
func TestHopperVerdict(t *testing.T) {
	onEmulator(t)
	for _, c := range []struct {
		env  string
		says string // regular expression
	}{
		{"EMU_CC=90", `before: false\nverdict: (faster\nattention: (faster|slower)\nafter: true|slower\nattention: (faster|slower)\nafter: false)\nfaster: true\nslower: false\n`},
		{"EMU_CC=80", `before: false\nverdict: \nattention: \nafter: false\nfaster: false\nslower: false\n`},
	} {
		out, err := child("^TestHopperVerdictSubject$", c.env, "HOPPER_CACHE="+t.TempDir())
		if err != nil || !regexp.MustCompile(c.says).MatchString(out) {
			t.Errorf("%s: %v\n%.3000s", c.env, err, out)
		}
	}
	out, err := child("^TestHopperVerdictSubject$", "EMU_CC=90", "EMU_WRONG=gemm_wgmma", "HOPPER_CACHE="+t.TempDir())
	if err != nil || !regexp.MustCompile(`before: false\nverdict: \w+/.* tile 128x\d+_wgmma\): .*\nattention: (faster|slower)\nafter: false`).MatchString(out) {
		t.Errorf("kernels that do nothing: %v\n%.3000s", err, out)
	}
	out, err = child("^TestHopperVerdictSubject$", "EMU_CC=90", "EMU_WRONG=attention_wgmma", "HOPPER_CACHE="+t.TempDir())
	if err != nil || !regexp.MustCompile(`before: false\nverdict: (faster|slower)\nattention: attention/.*, by wgmma\): `).MatchString(out) {
		t.Errorf("attention that does nothing: %v\n%.3000s", err, out)
	}
}

// hopperMistake is one to be planted into a copy of Hopper's kernels.
type hopperMistake struct {
	name, file string
	was, is    string
	complains  string // regular expression in the output of the failed test
}

// findMistakes plants each and lets the subject find it.
func findMistakes(t *testing.T, subject string, mistakes []hopperMistake) {
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			library := plant(t, m.file, m.was, m.is, false)
			out, err := child(subject, "EMU_CC=90", "LD_LIBRARY_PATH="+library)
			if err == nil {
				t.Fatalf("nobody noticed:\n%s", out)
			}
			if !regexp.MustCompile(m.complains).MatchString(out) {
				t.Errorf("found, but not by its name /%s/:\n%.2000s", m.complains, out)
			}
		})
	}
}

// Mistakes in Hopper's kernels, each planted into a copy of them, must be found, and by name where there is one.
func TestPlantedHopper(t *testing.T) {
	onEmulator(t)
	if testing.Short() {
		t.Skip("compiles the kernels a dozen times")
	}
	const gemm, instructions = "gemm_sm90.cuh", "ptx_sm90.cuh"
	findMistakes(t, "^TestHopperSubject$/^f16_128x256_wgmma$", []hopperMistake{
		{"no wgmma.fence", gemm, "      wgmma_fence();\n", "", `gemm_wgmma_f16_128x256 block .*: wgmma's accumulators are not ordered by wgmma.fence`},
		{"no fence after the barriers' initialisation", gemm, "    barrier_init_fence();\n", "", `no fence made it visible to TMA`},
		{"the producer waits for the wrong phase", gemm, "barrier_wait(empty + 8 * stage.at, stage.parity ^ 1);", "barrier_wait(empty + 8 * stage.at, stage.parity);", `deadlock: .* at mbarriers`},
		{"the consumers wait for the wrong phase", gemm, "barrier_wait(full + 8 * stage.at, stage.parity);", "barrier_wait(full + 8 * stage.at, stage.parity ^ 1);", `is NaN|more arrivals`},
		{"the producer does not wait", gemm, "barrier_wait(empty + 8 * stage.at, stage.parity ^ 1);", "", `is NaN|more arrivals`},
		{"accumulators read before the wait", gemm, "    wgmma_wait<0>();\n", "", `is NaN|is under way|were written`},
		{"a stage given back while products read it", gemm, "      wgmma_wait<1>();\n", "", `is NaN|the error is`},
		{"expects too few bytes", gemm, "barrier_expect(arrival, Tile::kStageBytes)", "barrier_expect(arrival, Tile::kStageBytes - 128)", `deadlock: .* at mbarriers`},
		{"another swizzle", instructions, "uint64_t(1) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62", "uint64_t(1) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(2) << 62", `is NaN|the error is`},
		{"a descriptor off by 16 bytes", gemm, "b = matrix_descriptor(at + Tile::kA)", "b = matrix_descriptor(at + Tile::kA + 16)", `is NaN|the error is`},
		{"8 columns further instead of 16", gemm, "b + 2 * k", "b + k", `is NaN|the error is`},
		{"rows 512 bytes apart", instructions, "uint64_t(1) << 16 | uint64_t(1024 >> 4) << 32", "uint64_t(1) << 16 | uint64_t(512 >> 4) << 32", `is NaN|the error is`},
		{"width and height of the filter exchanged", gemm, "image, right, down)", "image, down, right)", `the error is`},
		{"the first product adds", gemm, "(!How::kPromotes && i > work.first) || k > 0", "true", `is NaN`},
	})
}
