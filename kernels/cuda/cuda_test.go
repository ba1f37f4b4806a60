//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"strings"
	"testing"

	"darkroom/kernels/conformance"
	"darkroom/kernels/conformance/suite"
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
				suite.Run(t, b, conformance.Options{Short: testing.Short() || simple})
			})
		}
	}
}

// TF32, on the tiles that the shapes lead to.
func TestTF32(t *testing.T) {
	b := open(t, Options{DType: tensor.F32, TF32: true})
	suite.Run(t, b, conformance.Options{Short: testing.Short(), TF32: true, Match: product})
}

func product(name string) bool {
	return strings.HasPrefix(name, "conv2d") || strings.HasPrefix(name, "linear")
}

// Every family of a class gives the same bits for every shape: the choice may depend on the device and on measured time, a
// picture may not. That the family of TestConformance's choice gives right ones is shown there.
func TestFamilies(t *testing.T) {
	for _, o := range []Options{{DType: tensor.F16}, {DType: tensor.BF16}, {DType: tensor.F32, TF32: true}} {
		first := open(t, o)
		for _, f := range first.choices() {
			t.Run(first.tensorCores()+" "+f.name, func(t *testing.T) {
				b := open(t, o)
				b.only = f
				suite.Same(t, first, b, conformance.Options{Short: testing.Short(), Match: product})
			})
		}
	}
}

// The last part of a split sum adds all of them as a kernel of its own would, to the bit.
func TestTickets(t *testing.T) {
	for _, o := range []Options{{DType: tensor.F16}, {DType: tensor.F32, TF32: true}} {
		b, apart := open(t, o), open(t, o)
		apart.apart = true
		suite.Same(t, apart, b, conformance.Options{Short: testing.Short(), Match: product})
	}
}

// A shape's class is that of one image: neither the batch nor what was measured may change it.
func TestClass(t *testing.T) {
	b := open(t, Options{DType: tensor.F16})
	for _, c := range []struct {
		c1, c2 int32
		most   class
		want   class
		names  string
	}{
		{320, 0, mmaSync, mmaSync, "128x128 128x64 64x64 128x128_8w 128x64_8w"},
		{64, 32, mmaSync, mmaSync, "128x128 128x64 64x64 128x128_8w 128x64_8w"},
		{4, 0, mmaSync, mmaSync, "64x64_narrow"},
		{320, 4, mmaSync, mmaSync, "64x64_narrow"},
		{320, 0, plain, plain, "simple"},
		{4, 0, plain, plain, "simple"},
	} {
		b.products = c.most
		for batch := range int32(3) {
			g := gemm{m: 64 << batch, n: 64, k: c.c1 + c.c2, c1: c.c1, c2: c.c2, outH: 8, outW: 8, splits: 1}
			var names []string
			for _, f := range b.candidates(g) {
				names = append(names, f.name)
				if f.class != c.want {
					t.Errorf("%d+%d channels: %s is of class %d, not %d", c.c1, c.c2, f.name, f.class, c.want)
				}
			}
			if got := strings.Join(names, " "); got != c.names {
				t.Errorf("%d+%d channels, batch %d: candidates %q, want %q", c.c1, c.c2, 1<<batch, got, c.names)
			}
		}
	}
}

// Turing (sm_75) runs the same float16 kernels with its own instructions, and bfloat16 without tensor cores.
func TestTuring(t *testing.T) {
	onEmulator(t)
	if out, err := child("^TestConformance$/^B?F16$/(conv2d|linear|attention)", "EMU_CC=75"); err != nil {
		t.Errorf("%v\n%.4000s", err, out)
	}
}
