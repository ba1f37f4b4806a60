//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"darkroom/kernels"
	"darkroom/tensor"
)

// network is a small graph with a convolution, a norm and attention, so that it needs every module.
func network(d tensor.DType) (g *kernels.Graph, in, out *kernels.Tensor) {
	r := rand.New(rand.NewPCG(1, 2))
	weight := func(role kernels.Role, shape ...int) *kernels.Weight {
		v := make([]float32, tensor.Shape(shape).Len())
		for i := range v {
			v[i] = float32(r.NormFloat64()) / 8
		}
		return kernels.NewWeight("test", role, tensor.Of(v, shape...))
	}
	g = kernels.NewGraph(d)
	in = g.Input("x", d, 2, 6, 6, 8)
	x := g.Add("", &kernels.Conv2D{In: in, W: weight(kernels.Filter, 16, 8, 3, 3), Pad: [2]int{1, 1}})
	x = g.Add("", &kernels.GroupNorm{In: x, Gamma: weight(kernels.Vector, 16), Beta: weight(kernels.Vector, 16), Groups: 4, Eps: 1e-5, Act: kernels.SiLU})
	x = g.Reshape(x, 2, 36, 16)
	out = g.Add("", &kernels.Attention{Q: x, K: x, V: x, Heads: 2})
	g.Output("y", out)
	return g, in, out
}

// The first run queues the operations, the second records them, the third replays: all must give the
// same bits, for the inputs that are there at the time.
func TestRecording(t *testing.T) {
	for _, d := range []tensor.DType{tensor.F32, tensor.F16} {
		b := open(t, Options{DType: d})
		g, in, out := network(d)
		p, err := g.Compile(b)
		if err != nil {
			t.Fatal(err)
		}
		run := func(scale float32) []float32 {
			values := make([]float32, in.Shape.Len())
			for i := range values {
				values[i] = scale * float32(i%17-8)
			}
			result := make([]float32, out.Shape.Len())
			if err := errors.Join(p.Write(in, values), p.Run(context.Background()), p.Read(result, out)); err != nil {
				t.Fatal(err)
			}
			return result
		}
		first, other, again := run(0.25), run(-1), run(0.25)
		changed := false
		for i, v := range first {
			if v != again[i] {
				t.Fatalf("%v: value %d is %g when queued, %g when replayed", d, i, v, again[i])
			}
			changed = changed || v != other[i]
		}
		if !changed {
			t.Errorf("%v: the recording does not read its input", d)
		}
		p.Close()
		for _, w := range g.Weights() {
			b.Unload(w)
		}
	}
}

// subject runs in a child process, on an emulated device that has a fault.
func TestFaultSubject(t *testing.T) {
	if os.Getenv("FAULT_SUBJECT") == "" {
		t.Skip("run by TestFaults")
	}
	b, err := Open(Options{DType: tensor.F16, Device: len(os.Getenv("FAULT_DEVICE"))})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := b.Alloc(8 << 20); err != nil {
		var e *OutOfMemoryError
		fmt.Println(err, errors.As(err, &e))
		return
	}
	g, _, _ := network(tensor.F16)
	p, err := g.Compile(b)
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		if err := p.Run(context.Background()); err != nil {
			var e *DeviceError
			fmt.Println(err, errors.As(err, &e))
			return
		}
	}
	fmt.Println("all went well")
}

// What goes wrong with a device is reported in words that say what to do.
func TestFaults(t *testing.T) {
	onEmulator(t)
	for _, c := range []struct {
		env  string
		says []string
	}{
		{"NOTHING=1", []string{"all went well"}},
		{"LD_LIBRARY_PATH=/nowhere", []string{"CUDA is not available", "no NVIDIA driver is installed"}},
		{"EMU_DEVICES=0", []string{"CUDA is not available", "no CUDA-capable device"}},
		{"FAULT_DEVICE=xxx", []string{"there is no CUDA device 3", "this machine has 1"}},
		{"EMU_DRIVER=11080", []string{"cannot be used", "CUDA 11.8", "install driver R525"}},
		{"EMU_CC=70", []string{"cannot be used", "7.0", "needs 7.5"}},
		{"EMU_CC=75", []string{"all went well"}},
		{"EMU_MEMORY=4", []string{"out of memory", "8 MiB were asked for", "of 4 MiB are free", "true"}},
		{"EMU_FAULT=2:700", []string{"cuda:0 failed", "illegal memory access", "700", "true"}},
		{"EMU_FAULT=2:214", []string{"ECC", "replace the card", "true"}},
		{"EMU_FAULT=7:719", []string{"the device was lost", "Xid", "true"}},
	} {
		t.Run(c.env, func(t *testing.T) {
			out, err := child("^TestFaultSubject$", "FAULT_SUBJECT=1", c.env)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, s := range c.says {
				if !strings.Contains(out, s) {
					t.Errorf("%q is not in %q", s, out)
				}
			}
		})
	}
}

// A program that never asks for the device must not pay for it: the driver is not even looked for.
func TestStartsWithoutDriver(t *testing.T) {
	start := time.Now()
	if out, err := child("^NONE$", "LD_LIBRARY_PATH=/nowhere"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// Loading a driver takes 100 ms and more; the rest of the allowance is for a busy machine.
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("starting took %v", d)
	}
}

// selfTestSubject opens a device twice; only the first time may it take a self-test.
func TestSelfTestSubject(t *testing.T) {
	cache := os.Getenv("SELFTEST_CACHE")
	if cache == "" {
		t.Skip("run by TestSelfTest and TestPlantedBugs")
	}
	for range 2 {
		start := time.Now()
		b, err := OpenTested(Options{DType: tensor.F16}, cache, func(m string) { fmt.Println("warning:", m) })
		if err != nil {
			fmt.Println(err)
			return
		}
		opened := b.(*Backend)
		fmt.Println("simple kernels:", opened.products == plain, opened.simpleAttention, "tested:", time.Since(start) > 100*time.Millisecond)
		b.Close()
	}
}

func TestSelfTest(t *testing.T) {
	onEmulator(t)
	cache := t.TempDir()
	out, err := child("^TestSelfTestSubject$", "SELFTEST_CACHE="+cache)
	if want := "simple kernels: false false tested: true\nsimple kernels: false false tested: false\n"; err != nil || !strings.HasPrefix(out, want) {
		t.Errorf("%v, got %q, want %q", err, out, want)
	}
}
