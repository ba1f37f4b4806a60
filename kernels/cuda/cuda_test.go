//go:build cuda && linux && amd64

package cuda

import (
	"strings"
	"testing"

	"darkroom/kernels/conformance"
	"darkroom/tensor"
)

// The tests run on whatever libcuda.so.1 the loader finds: a driver, or the emulated device
// (LD_LIBRARY_PATH=build/emu, which test.sh sets). Without one they are skipped, out loud.
func open(t testing.TB, o Options) *Backend {
	t.Helper()
	if _, err := Devices(); err != nil {
		t.Skipf("SKIPPED, no CUDA device: %v. Run kernels/cuda/test.sh for the emulated one", err)
	}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b.(*Backend)
}

// Every operation over the suite's table, in each element type, on the kernels that the shapes lead to
// and on the simple ones.
func TestConformance(t *testing.T) {
	for _, d := range []tensor.DType{tensor.F32, tensor.F16, tensor.BF16} {
		for _, simple := range []bool{false, true} {
			if simple && d == tensor.F32 {
				continue // it has no others
			}
			name := d.String()
			if simple {
				name += " simple"
			}
			t.Run(name, func(t *testing.T) {
				b := open(t, Options{DType: d, Simple: simple})
				conformance.Run(t, b, conformance.Options{Short: testing.Short() || simple})
			})
		}
	}
}

// TF32 on the kernels that the shapes lead to, and on each tile.
func TestTF32(t *testing.T) {
	for i := range tiles {
		t.Run(tiles[i].name, func(t *testing.T) {
			b := open(t, Options{DType: tensor.F32, TF32: true})
			b.onlyTile = &tiles[i]
			conformance.Run(t, b, conformance.Options{Short: testing.Short(), TF32: true, Match: func(name string) bool {
				return strings.HasPrefix(name, "conv2d") || strings.HasPrefix(name, "linear")
			}})
		})
	}
}

// Turing (sm_75) runs the same float16 kernels with its own instructions, and bfloat16 without tensor cores.
func TestTuring(t *testing.T) {
	onEmulator(t)
	if out, err := child("^TestConformance$/^B?F16$/(conv2d|linear|attention)", "EMU_CC=75"); err != nil {
		t.Errorf("%v\n%.4000s", err, out)
	}
}

// Every tile of gemm_mma, over the shapes of which its own choice would take only one, gives the same bits: the choice may
// depend on the device and on measured time, a picture may not.
func TestTiles(t *testing.T) {
	for _, d := range []tensor.DType{tensor.F16, tensor.BF16} {
		first := open(t, Options{DType: d})
		first.onlyTile = &tiles[0]
		match := func(name string) bool { return strings.HasPrefix(name, "conv2d") || strings.HasPrefix(name, "linear") }
		for i := range tiles {
			t.Run(d.String()+" "+tiles[i].name, func(t *testing.T) {
				b := open(t, Options{DType: d})
				b.onlyTile = &tiles[i]
				conformance.Run(t, b, conformance.Options{Short: testing.Short(), Match: match})
				if i > 0 {
					conformance.Same(t, first, b, conformance.Options{Short: testing.Short(), Match: match})
				}
			})
		}
	}
}
