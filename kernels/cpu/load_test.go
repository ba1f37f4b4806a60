//go:build cgo && (linux || darwin) && (amd64 || arm64)

package cpu_test

import (
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/cpu"
	"darkroom/tensor"
)

// What is loaded is counted, and given back by Unload.
func TestUnloadFreesMemory(t *testing.T) {
	b := backend(t, cpu.Options{Threads: 1})
	before := b.Allocated()
	w := kernels.NewWeight("w", kernels.Matrix, tensor.Of(make([]float32, 1000*999), 1000, 999))
	if err := b.Load(w); err != nil {
		t.Fatal(err)
	}
	if got, want := b.Allocated()-before, b.PackedBytes(w); got != want {
		t.Errorf("%d bytes allocated for a weight of %d", got, want)
	}
	b.Unload(w)
	if got := b.Allocated(); got != before || b.Packed(w) != nil {
		t.Errorf("%d bytes in use after Unload, %d before Load", got, before)
	}
}

// Integers are not weights: an error that names the weight, not a crash.
func TestLoadRefusesIntegers(t *testing.T) {
	b := backend(t, cpu.Options{Threads: 1})
	w := kernels.NewWeight("unet.ids", kernels.Vector, tensor.Tensor{DType: tensor.I64, Shape: tensor.Shape{2}, Data: make([]byte, 16)})
	if err := b.Load(w); err == nil || b.Packed(w) != nil {
		t.Errorf("int64 loaded: %v", err)
	}
}

func TestUnknownInstructions(t *testing.T) {
	if b, err := cpu.New(cpu.Options{Instructions: "mmx"}); err == nil {
		b.Close()
		t.Error("mmx was accepted")
	}
}

// Close stops the threads and frees everything, small blocks and mapped ones.
func TestCloseFreesEverything(t *testing.T) {
	b, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Skip(err)
	}
	if _, err := b.Alloc(5 << 20); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Alloc(100); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil || b.Allocated() != 0 {
		t.Errorf("%d bytes in use after Close, %v", b.Allocated(), err)
	}
}

// BenchmarkLoad decodes and packs a half-precision filter of Stable Diffusion's largest size.
func BenchmarkLoad(b *testing.B) {
	for _, c := range []struct {
		name  string
		role  kernels.Role
		shape tensor.Shape
	}{{"filter", kernels.Filter, tensor.Shape{1280, 2560, 3, 3}}, {"matrix", kernels.Matrix, tensor.Shape{5120, 1280}}, {"geglu", kernels.MatrixGEGLU, tensor.Shape{10240, 1280}}} {
		for _, d := range []tensor.DType{tensor.F16, tensor.F32} {
			b.Run(c.name+"/"+d.String(), func(b *testing.B) {
				back := backend(b, cpu.Options{})
				w := kernels.NewWeight("w", c.role, tensor.Tensor{DType: d, Shape: c.shape, Data: make([]byte, c.shape.Len()*d.Size())})
				b.SetBytes(int64(w.Host.Bytes()))
				for b.Loop() {
					if err := back.Load(w); err != nil {
						b.Fatal(err)
					}
					back.Unload(w)
				}
			})
		}
	}
}
