//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/cpu"
	"darkroom/kernels/cpu/lowered"
	"darkroom/kernels/ref"
	"darkroom/tensor"
)

// merged is what the three operations give: numbers, merged tokens, and tokens of their own.
type merged struct {
	numbers       []int32
	merge, spread []float32
}

func runMerge(t *testing.T, b kernels.Merger, d tensor.DType, images, h, w, c, count int, values []float32) merged {
	t.Helper()
	place := func(d tensor.DType, shape ...int) *kernels.Tensor {
		s := tensor.Shape(shape)
		m, err := b.Alloc(s.Len() * d.Size())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Free(m) })
		return &kernels.Tensor{Shape: s, DType: d, Mem: m}
	}
	in := place(d, images, h*w, c)
	encoded := make([]byte, in.Bytes())
	tensor.Encode(encoded, d, values)
	if err := b.Write(in.Mem, encoded); err != nil {
		t.Fatal(err)
	}
	match := &kernels.Match{In: in, H: h, W: w, Count: count}
	numbers := place(tensor.I32, match.OutShape()...)
	match.Run(b, numbers)
	merge := &kernels.Merge{In: in, Numbers: numbers, To: h*w - count}
	few := place(d, merge.OutShape()...)
	merge.Run(b, few)
	spread := &kernels.Spread{In: few, Numbers: numbers, Residual: in}
	all := place(d, spread.OutShape()...)
	spread.Run(b, all)
	if err := b.Sync(); err != nil {
		t.Fatal(err)
	}
	read := func(x *kernels.Tensor) []float32 {
		out := make([]float32, x.Shape.Len())
		tensor.Tensor{DType: d, Shape: x.Shape, Data: x.Mem.(kernels.HostMem)}.Float32(out)
		return out
	}
	return merged{slices.Clone(numbers.Mem.(kernels.HostMem).Ints()), read(few), read(all)}
}

// TestMerge compares with the reference in every set of kernels, on any number of threads, and a picture of a batch with
// the same one alone. The numbers are equal: no two cosines of these values are within float32's error of each other.
func TestMerge(t *testing.T) {
	type machine struct {
		name string
		b    *cpu.Backend
		d    tensor.DType
	}
	var machines []machine
	add := func(name string, o cpu.Options) {
		b, err := cpu.New(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		machines = append(machines, machine{fmt.Sprint(name, " on ", o.Threads), b, o.DType})
	}
	for _, d := range []tensor.DType{tensor.F32, tensor.BF16} {
		for _, name := range cpu.Instructions(d) {
			add(name, cpu.Options{Threads: 1, DType: d, Instructions: name})
			add(name, cpu.Options{Threads: 3, DType: d, Instructions: name})
		}
	}
	if set := lowered.Kernels("lowered_avx512bf16"); set != nil {
		add("lowered_avx512bf16", cpu.Options{Threads: 2, DType: tensor.BF16, Kernels: set})
	}
	for _, c := range []struct{ images, h, w, c, count int }{
		{1, 2, 2, 3, 1}, {2, 4, 6, 8, 12}, {3, 7, 5, 40, 20}, {2, 16, 16, 64, 128}, {1, 9, 33, 17, 100}, {2, 24, 20, 320, 360},
	} {
		rng := rand.New(rand.NewPCG(uint64(c.h), uint64(c.w)))
		values := make([]float32, c.images*c.h*c.w*c.c)
		for i := range values {
			values[i] = float32(rng.NormFloat64())
		}
		// Rounded to bfloat16, so that all see the same.
		half := make([]byte, 2*len(values))
		tensor.Encode(half, tensor.BF16, values)
		tensor.Tensor{DType: tensor.BF16, Shape: tensor.Shape{len(values)}, Data: half}.Float32(values)
		want := runMerge(t, ref.New(2), tensor.F32, c.images, c.h, c.w, c.c, c.count, values)
		first := slices.Max(want.numbers)
		if int(first) != c.h*c.w-c.count-1 {
			t.Fatalf("%+v: the largest number is %d", c, first)
		}
		for _, m := range machines {
			got := runMerge(t, m.b, m.d, c.images, c.h, c.w, c.c, c.count, values)
			if !slices.Equal(got.numbers, want.numbers) {
				t.Errorf("%s: %+v: other tokens are merged", m.name, c)
				continue
			}
			// A mean of few values and a sum of two: some roundings of the type.
			u := 4e-7
			if m.d == tensor.BF16 {
				u = 1.0 / 100
			}
			for i, v := range want.merge {
				if math.Abs(float64(got.merge[i]-v)) > u*(1+math.Abs(float64(v))) {
					t.Fatalf("%s: %+v: merged value %d is %v, not %v", m.name, c, i, got.merge[i], v)
				}
			}
			for i, v := range want.spread {
				if math.Abs(float64(got.spread[i]-v)) > 2*u*(1+math.Abs(float64(v))) {
					t.Fatalf("%s: %+v: spread value %d is %v, not %v", m.name, c, i, got.spread[i], v)
				}
			}
			one := len(values) / c.images
			last := runMerge(t, m.b, m.d, 1, c.h, c.w, c.c, c.count, values[len(values)-one:])
			if !slices.Equal(last.spread, got.spread[len(values)-one:]) {
				t.Errorf("%s: %+v: the last picture alone is another one", m.name, c)
			}
		}
	}
}

// BenchmarkSelfAttention is a block's self-attention at Stable Diffusion 1.5's first level, for pictures of 512 and 1024
// pixels a side: whole, and with half of the tokens merged.
func BenchmarkSelfAttention(b *testing.B) {
	for _, d := range []tensor.DType{tensor.F32, tensor.BF16} {
		if len(cpu.Instructions(d)) == 0 {
			continue
		}
		for _, side := range []int{64, 128} {
			for _, ratio := range []float64{0, 0.5} {
				b.Run(fmt.Sprintf("%v/%d/merged %v", d, side, ratio), func(b *testing.B) { benchSelfAttention(b, d, side, int(ratio*float64(side*side))) })
			}
		}
	}
}

func benchSelfAttention(b *testing.B, d tensor.DType, side, count int) {
	const channels = 320
	backend, err := cpu.New(cpu.Options{Threads: 1, DType: d})
	if err != nil {
		b.Fatal(err)
	}
	defer backend.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	weight := func(name string) *kernels.Weight {
		values := make([]float32, channels*channels)
		for i := range values {
			values[i] = float32(rng.NormFloat64() / math.Sqrt(channels))
		}
		return kernels.NewWeight(name, kernels.Matrix, tensor.Of(values, channels, channels))
	}
	g := kernels.NewGraph(d)
	x := g.Input("x", d, 1, side*side, channels)
	h, residual := x, x
	var numbers *kernels.Tensor
	if count > 0 {
		numbers = g.AddNumbers("match", &kernels.Match{In: x, H: side, W: side, Count: count})
		h, residual = g.Add("merge", &kernels.Merge{In: x, Numbers: numbers, To: side*side - count}), nil
	}
	linear := func(name string, x, residual *kernels.Tensor) *kernels.Tensor {
		return g.Add("", &kernels.Linear{In: x, W: weight(name), Residual: residual})
	}
	y := g.Add("attention", &kernels.Attention{Q: linear("q", h, nil), K: linear("k", h, nil), V: linear("v", h, nil), Heads: 8})
	y = linear("out", y, residual)
	if count > 0 {
		y = g.Add("spread", &kernels.Spread{In: y, Numbers: numbers, Residual: x})
	}
	g.Output("y", y)
	p, err := g.Compile(backend)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	values := make([]float32, x.Shape.Len())
	for i := range values {
		values[i] = float32(rng.NormFloat64())
	}
	if err := p.Write(x, values); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := p.Run(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
