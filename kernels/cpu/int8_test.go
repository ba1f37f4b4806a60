//go:build cgo && (linux || darwin) && (amd64 || arm64)

package cpu_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/cpu"
	"darkroom/kernels/ref"
	"darkroom/tensor"
)

// bytesOf rounds values to 8 bits from 0 to 255 and back, as the activations of one range are.
func bytesOf(values []float32) []float32 {
	var low, high float32
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	scale := (high - low) / 255
	if !(scale > 1e-30) {
		scale = 1e-30
	}
	zero := float32(math.RoundToEven(float64(-low / scale)))
	out := make([]float32, len(values))
	for i, v := range values {
		q := float32(math.RoundToEven(float64(min(255, max(0, v*(1/scale)+zero)))))
		out[i] = (q - zero) * scale
	}
	return out
}

// signedOf rounds each of the rows to 8 bits, its largest value to ±127, and back.
func signedOf(values []float32, rows int) []float32 {
	n := len(values) / rows
	out := make([]float32, len(values))
	for r := range rows {
		row := values[r*n : (r+1)*n]
		var top float32
		for _, v := range row {
			top = max(top, float32(math.Abs(float64(v))))
		}
		for i, v := range row {
			out[r*n+i] = float32(math.RoundToEven(float64(v*(127/top)))) * (top / 127)
		}
	}
	return out
}

// int8Case is an operation of one tolerant weight, written for a backend by what it is multiplied with.
type int8Case struct {
	name string
	n    int // images
	in   []tensor.Shape
	w    tensor.Shape
	role kernels.Role
	rows bool // a range for each row, not for each image
	op   func(in []*kernels.Tensor, w, bias *kernels.Weight) kernels.Op
}

func int8Cases() []int8Case {
	conv := func(n, h, w, c, c2, o, k, stride int, up [2]int) int8Case {
		x := int8Case{name: fmt.Sprintf("conv2d %d×%d×%d×%d+%d to %d, %d×%d stride %d at %v", n, h, w, c, c2, o, k, k, stride, up), n: n, w: tensor.Shape{o, c + c2, k, k}, role: kernels.Filter,
			in: []tensor.Shape{{n, h, w, c}}, rows: k == 1 && stride == 1 && up == [2]int{}}
		if c2 > 0 {
			x.in = append(x.in, tensor.Shape{n, h, w, c2})
		}
		x.op = func(in []*kernels.Tensor, w, bias *kernels.Weight) kernels.Op {
			op := &kernels.Conv2D{In: in[0], W: w, Bias: bias, Stride: stride, Pad: [2]int{k / 2, k / 2}, Upsample: up}
			if len(in) > 1 {
				op.In2 = in[1]
			}
			return op
		}
		return x
	}
	linear := func(n, t, c, o int, act kernels.Activation) int8Case {
		x := int8Case{name: fmt.Sprintf("linear %d×%d×%d to %d act %d", n, t, c, o, act), n: n, in: []tensor.Shape{{n, t, c}}, w: tensor.Shape{o, c}, role: kernels.Matrix, rows: true}
		if act.Gated() {
			x.w[0], x.role = 2*o, kernels.MatrixGEGLU
		}
		x.op = func(in []*kernels.Tensor, w, bias *kernels.Weight) kernels.Op {
			return &kernels.Linear{In: in[0], W: w, Bias: bias, Act: act}
		}
		return x
	}
	none := [2]int{}
	return []int8Case{
		linear(1, 1, 1, 1, kernels.Identity), linear(2, 7, 13, 17, kernels.SiLU), linear(2, 33, 320, 65, kernels.Identity), linear(2, 19, 64, 33, kernels.GEGLU),
		linear(1, 300, 130, 352, kernels.GELU),
		conv(2, 5, 6, 33, 0, 17, 1, 1, none), conv(2, 5, 6, 24, 40, 50, 1, 1, none), conv(3, 7, 5, 5, 0, 9, 3, 1, none), conv(2, 8, 8, 64, 0, 48, 3, 1, none),
		conv(2, 6, 6, 3, 8, 35, 3, 1, none), conv(1, 8, 8, 16, 0, 16, 3, 2, none), conv(2, 4, 5, 20, 0, 12, 3, 1, [2]int{8, 10}), conv(1, 16, 16, 192, 0, 32, 3, 1, none),
		conv(2, 4, 16, 64, 64, 40, 3, 1, none), conv(2, 8, 32, 64, 0, 16, 3, 2, none), linear(2, 40, 192, 70, kernels.GEGLU),
	}
}

func place(t *testing.T, b kernels.Backend, d tensor.DType, values []float32, s tensor.Shape) *kernels.Tensor {
	data := make([]byte, s.Len()*d.Size())
	tensor.Encode(data, d, values)
	m, err := b.Alloc(len(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Write(m, data); err != nil {
		t.Fatal(err)
	}
	return &kernels.Tensor{Shape: s, DType: d, Mem: m}
}

// run computes the case with images [first, first+count) of its inputs.
func (c int8Case) run(t *testing.T, b kernels.Backend, in [][]float32, w, bias []float32, first, count int) []float32 {
	t.Helper()
	d := b.Info().DTypes[0]
	var ts []*kernels.Tensor
	for i, s := range c.in {
		image := len(in[i]) / c.n
		part := append(tensor.Shape{count}, s[1:]...)
		ts = append(ts, place(t, b, d, in[i][first*image:(first+count)*image], part))
	}
	weight := kernels.NewWeight("w", c.role, tensor.Of(w, c.w...))
	weight.Tolerant = true
	shift := kernels.NewWeight("b", kernels.Vector, tensor.Of(bias, len(bias)))
	for _, x := range []*kernels.Weight{weight, shift} {
		if err := b.Load(x); err != nil {
			t.Fatal(err)
		}
		defer b.Unload(x)
	}
	op := c.op(ts, weight, shift)
	dst := place(t, b, d, make([]float32, op.OutShape().Len()), op.OutShape())
	op.Run(b, dst)
	if err := b.Sync(); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, dst.Bytes())
	if err := b.Read(data, dst.Mem); err != nil {
		t.Fatal(err)
	}
	out := make([]float32, dst.Shape.Len())
	tensor.Tensor{DType: d, Shape: dst.Shape, Data: data}.Float32(out)
	for _, m := range append(ts, dst) {
		b.Free(m.Mem)
	}
	return out
}

// The kernels must compute what the reference does with operands that were rounded to 8 bits by this file's own loops:
// the integer sums are exact, so that nothing but the rounding of the result to bfloat16 and the ulps of an activation is
// between them. A value on the edge between two of the 256 may fall to either side, which is one step of one product.
func TestInt8(t *testing.T) {
	for _, set := range []string{"amx", "avx512bf16", "avxvnni", "avx2bf16", "neonbf16", "neondot", "lowered_amx", "lowered_avx512bf16", "lowered_neonbf16", "lowered_neondot"} {
		t.Run(set, func(t *testing.T) {
			open := func(threads int) *cpu.Backend {
				if strings.HasPrefix(set, "lowered") {
					return emulated(t, set, threads)
				}
				return backend(t, cpu.Options{Threads: threads, DType: tensor.BF16, Int8: true, Instructions: set})
			}
			b, one := open(3), open(1)
			// The same sums everywhere: of AVX-512 on amd64, and of DotProd on arm64, which has those of AVX-512 (TestSameBitsWithoutAVX512).
			exact := "lowered_neondot"
			if runtime.GOARCH == "amd64" {
				exact = "lowered_avx512bf16"
			}
			for _, c := range int8Cases() {
				rng := rand.New(rand.NewPCG(uint64(c.w.Len()), 3))
				draw := func(n int, scale float64) []float32 {
					x := make([]float32, n)
					data := make([]byte, 2*n)
					for i := range x {
						x[i] = float32(scale * rng.NormFloat64())
					}
					tensor.Encode(data, tensor.BF16, x)
					tensor.Tensor{DType: tensor.BF16, Shape: tensor.Shape{n}, Data: data}.Float32(x)
					return x
				}
				var in, rounded [][]float32
				for _, s := range c.in {
					in = append(in, draw(s.Len(), 1))
					rounded = append(rounded, make([]float32, s.Len()))
				}
				w, bias := draw(c.w.Len(), 1/math.Sqrt(float64(c.w.Len()/c.w[0]))), draw(c.w[0], 1)

				// A range covers all inputs of a pixel, or of an image.
				groups := c.n
				if c.rows {
					groups = c.in[0].Len() / c.in[0][len(c.in[0])-1]
				}
				for g := range groups {
					var all []float32
					for i := range in {
						n := len(in[i]) / groups
						all = append(all, in[i][g*n:(g+1)*n]...)
					}
					all = bytesOf(all)
					for i := range in {
						n := len(in[i]) / groups
						copy(rounded[i][g*n:(g+1)*n], all[:n])
						all = all[n:]
					}
				}
				want := c.run(t, ref.New(0), rounded, signedOf(w, c.w[0]), bias, 0, c.n)
				got := c.run(t, b, in, w, bias, 0, c.n)
				for i, v := range want {
					if e := math.Abs(float64(got[i] - v)); !(e <= math.Abs(float64(v))/200+0.004) {
						t.Fatalf("%s: value %d of %d is %g, %g is wanted", c.name, i, len(want), got[i], v)
					}
				}
				same := func(what string, again, want []float32) {
					for i, v := range want {
						if math.Float32bits(again[i]) != math.Float32bits(v) {
							t.Fatalf("%s: %s: value %d is %g and was %g", c.name, what, i, again[i], v)
						}
					}
				}
				if !strings.HasSuffix(set, "amx") {
					same(exact, c.run(t, emulated(t, exact, 2), in, w, bias, 0, c.n), got)
				}
				if set == "amx" {
					same("the emulation", c.run(t, emulated(t, "lowered_amx", 2), in, w, bias, 0, c.n), got)
				}
				same("one thread", c.run(t, one, in, w, bias, 0, c.n), got)
				for i := range c.n {
					image := len(got) / c.n
					same(fmt.Sprintf("image %d alone", i), c.run(t, b, in, w, bias, i, 1), got[i*image:(i+1)*image])
				}
				// NaN must not be lost in 8 bits.
				poisoned := append([][]float32{append([]float32{}, in[0]...)}, in[1:]...)
				poisoned[0][len(in[0])-1] = float32(math.NaN())
				if out := c.run(t, b, poisoned, w, bias, 0, c.n); out[len(out)-1] == out[len(out)-1] {
					t.Fatalf("%s: NaN in the last pixel gave %g", c.name, out[len(out)-1])
				}
			}
		})
	}
}
