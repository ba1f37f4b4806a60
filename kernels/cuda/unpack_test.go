//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"darkroom/kernels"
	"darkroom/tensor"
)

// codeCase is a layer whose weights are kept in 8 bits.
type codeCase struct {
	name  string
	role  kernels.Role
	w, in tensor.Shape
	op    func(x *kernels.Tensor, w *kernels.Weight) kernels.Op
}

var codeCases = []codeCase{
	{"linear", kernels.Matrix, tensor.Shape{72, 100}, tensor.Shape{2, 19, 100}, func(x *kernels.Tensor, w *kernels.Weight) kernels.Op { return &kernels.Linear{In: x, W: w} }},
	{"geglu", kernels.MatrixGEGLU, tensor.Shape{70, 64}, tensor.Shape{1, 9, 64}, func(x *kernels.Tensor, w *kernels.Weight) kernels.Op {
		return &kernels.Linear{In: x, W: w, Act: kernels.GEGLU}
	}},
	{"conv", kernels.Filter, tensor.Shape{33, 24, 3, 3}, tensor.Shape{2, 7, 5, 24}, func(x *kernels.Tensor, w *kernels.Weight) kernels.Op {
		return &kernels.Conv2D{In: x, W: w, Pad: [2]int{1, 1}}
	}},
	{"conv 1×1 of few channels", kernels.Filter, tensor.Shape{5, 3, 1, 1}, tensor.Shape{1, 4, 4, 3}, func(x *kernels.Tensor, w *kernels.Weight) kernels.Op { return &kernels.Conv2D{In: x, W: w} }},
}

// layerOn runs a case on a backend.
func layerOn(t *testing.T, b *Backend, c codeCase, w *kernels.Weight, x []float32) []float32 {
	t.Helper()
	g := kernels.NewGraph(b.dtype)
	in := g.Input("x", b.dtype, c.in...)
	out := g.Add("", c.op(in, w))
	g.Output("y", out)
	p, err := g.Compile(b)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Unload(w)
	defer p.Close()
	if err := p.Write(in, x); err != nil {
		t.Fatal(err)
	}
	var y []float32
	for range 2 { // the second time as recorded
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		y = make([]float32, out.Shape.Len())
		if err := p.Read(y, out); err != nil {
			t.Fatal(err)
		}
	}
	return y
}

// TestInt8Weights: a layer with weights in 8 bits gives the bits of one whose weights have their rounded values, for int8 and
// for float8 with a scale; float8 loses nothing.
func TestInt8Weights(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, d := range []tensor.DType{tensor.F16, tensor.BF16} {
		b, plain := open(t, Options{DType: d, Int8: true}), open(t, Options{DType: d})
		for _, c := range codeCases {
			for _, stored := range []tensor.DType{tensor.F32, tensor.F8E4M3} {
				t.Run(fmt.Sprint(d, " ", c.name, " ", stored), func(t *testing.T) {
					values := make([]float32, c.w.Len())
					for i := range values {
						values[i] = float32(random.NormFloat64()) / 8
						if stored == tensor.F8E4M3 {
							values[i] = e4m3Value(byte(random.IntN(254)&^0x7f|random.IntN(126))) * 0.37
						}
					}
					x := make([]float32, c.in.Len())
					for i := range x {
						x[i] = float32(random.NormFloat64())
					}
					w := kernels.NewWeight("w", c.role, tensor.Of(values, c.w...))
					w.Tolerant, w.Host = true, typed{w.Host, stored.String()}
					rounded := kernels.NewWeight("w", c.role, tensor.Of(roundedRows(values, c.w[0], stored), c.w...))
					if got, want := layerOn(t, b, c, w, x), layerOn(t, plain, c, rounded, x); !slices.Equal(got, want) {
						t.Errorf("other bits: %v, %v", got[:4], want[:4])
					}
					if got, want := b.NarrowBytes(w), plain.PackedBytes(w); got > want/2+c.w[0]*codeBytes {
						t.Errorf("it takes %d bytes, in half precision %d", got, want)
					}
					for i, v := range roundedRows(values, c.w[0], stored) {
						if stored == tensor.F8E4M3 && math.Abs(float64(v-values[i])) > 1e-6*math.Abs(float64(values[i])) {
							t.Fatalf("float8: %v became %v", values[i], v)
						}
					}
				})
			}
		}
		if v := b.checkUnpack(); v.Err != nil {
			t.Error(v.Err)
		}
	}
}

// roundedRows are the values that 8 bits keep.
func roundedRows(values []float32, rows int, stored tensor.DType) []float32 {
	out := slices.Clone(values)
	n := len(values) / rows
	for i := range rows {
		packed := make([]byte, n+codeBytes)
		encode(packed, values[i*n:(i+1)*n], stored.String())
		copy(out[i*n:], decoded(packed))
	}
	return out
}

// e4m3Value is torch.float8_e4m3fn's, from its definition: sign, 4 bits of exponent with bias 7, 3 of fraction.
func e4m3Value(code byte) float32 {
	v := math.Ldexp(1+float64(code&7)/8, int(code>>3&15)-7)
	if code>>3&15 == 0 {
		v = math.Ldexp(float64(code&7), -9)
	}
	if code&0x80 != 0 {
		v = -v
	}
	return float32(v)
}

// TestE4M3: each value of float8, near zero too, is kept by any scale; a row that has others is not taken for float8.
func TestE4M3(t *testing.T) {
	for _, scale := range []float32{1, 0.25, 0.37, 3.1e-5} {
		var row []float32
		for code := range 256 {
			if code&0x7f != 0x7f { // NaN
				row = append(row, e4m3Value(byte(code))*scale)
			}
		}
		codes := make([]byte, len(row))
		s, ok := encodeE4M3(codes, row)
		if !ok {
			t.Fatalf("scale %v: the row was refused", scale)
		}
		for i, c := range codes {
			if v := e4m3Value(c) * s; math.Abs(float64(v-row[i])) > 1e-6*math.Abs(float64(row[i])) {
				t.Errorf("scale %v: %v became %v", scale, row[i], v)
			}
		}
	}
	row := []float32{1, 0.5, 0.3, 0.77}
	if _, ok := encodeE4M3(make([]byte, 4), row); ok {
		t.Error("0.77 was taken for a value of float8 beside 1, 0.5 and 0.3")
	}
}

// TestUnpackIsTested: a device that unpacks wrongly is refused.
func TestUnpackIsTested(t *testing.T) {
	onEmulator(t)
	b := open(t, Options{DType: tensor.F16, Int8: true})
	if b.checkUnpack().Err != nil {
		t.Skip("this is the child")
	}
	if out, err := child("^TestInt8Weights$/^F16", "EMU_WRONG=unpack_f16"); err == nil || !strings.Contains(string(out), "other bits") || !strings.Contains(string(out), "unpacked to other values") {
		t.Errorf("nobody noticed: %v\n%.2000s", err, out)
	}
}
