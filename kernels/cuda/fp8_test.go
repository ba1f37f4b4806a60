//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"gorgonia.org/cu"

	"darkroom/tensor"
)

// The kernels of kernels/lab/fp8, which lab.sh runs on the emulated device and on the PTX interpreter. On a GPU of sm_89 the
// same tests run with LAB and LAB_IMAGE alone, on Hopper with LAB_IMAGE_SM90 too. Hopper's own are tested in fp8_sm90_test.go.

// float8 is fp8.cuh's Float8, roundRows its Rows.
type float8 struct {
	g              gemm
	scaleA, scaleB cu.DevicePtr
}
type roundRows struct {
	a, a2, d, scales    cu.DevicePtr
	rows, c1, c2, pitch int32
}

// float8Depth is a stage's, to which rows are padded.
const float8Depth = 64

func padded(k int) int { return ceil(k, float8Depth) * float8Depth }

// e4m3Values are those of the codes 0 to 0x7e, which ascend, by the format's definition.
var e4m3Values = func() []float64 {
	v := make([]float64, 127)
	for code := range v {
		if exponent, fraction := code>>3, float64(code&7)/8; exponent == 0 {
			v[code] = math.Ldexp(fraction, -6)
		} else {
			v[code] = math.Ldexp(1+fraction, exponent-7)
		}
	}
	return v
}()

// toE4M3 searches for the nearest value; of two that are as near, it takes the one with the even code. It has nothing in
// common with emu/float8.h.
func toE4M3(x float64) byte {
	if math.IsNaN(x) {
		return 0x7f
	}
	var sign byte
	if math.Signbit(x) {
		sign, x = 0x80, -x
	}
	i, _ := slices.BinarySearch(e4m3Values, x) // the first that is not smaller
	if i == len(e4m3Values) {
		return sign | 0x7e
	}
	if i > 0 {
		if below, above := x-e4m3Values[i-1], e4m3Values[i]-x; below < above || below == above && i%2 == 1 {
			i--
		}
	}
	return sign | byte(i)
}

func fromE4M3(code byte) float64 { return e4m3Codes[code] }

// e4m3Codes are the values of all codes.
var e4m3Codes = func() (v [256]float64) {
	for code := range v {
		v[code] = math.NaN()
		if code&0x7f != 0x7f {
			v[code] = math.Copysign(e4m3Values[code&0x7f], float64(127-code))
		}
	}
	return v
}()

// scaled rounds a row as the kernel does, to the bit, and as weights are rounded when they are packed.
func scaled(row []float32) (codes []byte, scale float32) {
	var most float32
	for _, v := range row {
		if v == v {
			most = max(most, float32(math.Abs(float64(v))))
		}
	}
	most = max(most, 1e-30)
	factor := 448 / most
	codes = make([]byte, padded(len(row)))
	for i, v := range row {
		codes[i] = toE4M3(float64(v * factor))
	}
	return codes, most / 448
}

// lab8 is a device that has the kernels.
type lab8 struct {
	*Backend
	t *testing.T
}

func openFloat8(t *testing.T, d tensor.DType) lab8 {
	if os.Getenv("LAB") != "fp8" {
		t.Skip("run by kernels/lab/lab.sh")
	}
	b := open(t, Options{DType: d})
	image, err := os.ReadFile(os.Getenv("LAB_IMAGE"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.enter()()
	if b.modules["fp8"], err = cu.LoadData(string(image)); err != nil {
		t.Fatal(err)
	}
	if b.device.Capability == [2]int{9, 0} { // of sm_90a alone
		if image, err = os.ReadFile(os.Getenv("LAB_IMAGE_SM90")); err == nil {
			b.modules["fp8_sm90"], err = cu.LoadData(string(image))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return lab8{b, t}
}

// room is device memory for n bytes, which hold NaN of every type.
func (b lab8) room(n int) mem {
	return b.send(slices.Repeat([]byte{0xff}, n))
}

func (b lab8) send(body []byte) mem {
	b.t.Helper()
	m, err := b.Alloc(len(body))
	if err == nil {
		err = b.Write(m, body)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { b.Free(m) })
	return m.(mem)
}

func (b lab8) receive(m mem) []byte {
	b.t.Helper()
	body := make([]byte, m.bytes)
	if err := b.Read(body, m); err != nil {
		b.t.Fatal(err)
	}
	return body
}

// encoded are values in the device's type, and what they have become by it.
func (b lab8) encoded(v []float32) (body []byte, are []float32) {
	body, are = make([]byte, len(v)*b.dtype.Size()), make([]float32, len(v))
	tensor.Encode(body, b.dtype, v)
	b.decoded(are, body)
	return body, are
}

func (b lab8) decoded(dst []float32, body []byte) {
	tensor.Tensor{DType: b.dtype, Shape: tensor.Shape{len(dst)}, Data: body}.Float32(dst)
}

// round queues the rounding of rows.
func (b lab8) round(r roundRows) {
	defer b.enter()()
	launch(b.Backend, kernel{"fp8", "round_rows_" + b.suffix()}, [3]int{ceil(int(r.rows), 8), 1, 1}, 256, 0, &r)
}

// multiply queues the product of rounded rows on a family's tile.
func (b lab8) multiply(f *family) func(p float8) {
	return func(p float8) {
		defer b.enter()()
		launch(b.Backend, kernel{"fp8", "gemm_mma_e4m3_" + b.suffix() + "_" + f.name}, [3]int{ceil(int(p.g.m), f.m), ceil(int(p.g.n), f.n), 1}, f.threads, f.shared, &p)
	}
}

// matrixProduct is a linear layer's product: an image one pixel high.
func (b lab8) matrixProduct(m, n, k int) gemm {
	depth := int32(padded(k))
	g := gemm{m: int32(m), n: int32(n), k: depth, h: 1, w: int32(m), c1: depth, kh: 1, kw: 1, stride: 1, upH: 1, upW: int32(m), outH: 1, outW: int32(m)}
	g = b.planned(g)
	g.ldb, g.splits = depth, 1
	return g
}

// Every float16 becomes the e4m3 that is nearest.
func TestFloat8Conversion(t *testing.T) {
	b := openFloat8(t, tensor.F16)
	halves := make([]byte, 2<<16)
	for i := range 1 << 16 {
		halves[2*i], halves[2*i+1] = byte(i), byte(i>>8)
	}
	d := b.room(1 << 16)
	b.round(roundRows{a: b.send(halves).at, d: d.at, rows: 512, c1: 128, pitch: 128})
	wrong := 0
	for i, code := range b.receive(d) {
		x := tensor.HalfToFloat(uint16(i))
		if want := toE4M3(float64(x)); code != want {
			if wrong++; wrong <= 10 {
				t.Errorf("%#04x (%g) becomes %#02x (%g), want %#02x (%g)", i, x, code, fromE4M3(code), want, fromE4M3(want))
			}
		}
	}
	t.Logf("%d of 65536 values are wrong", wrong)
}

// float8Types are those of activations.
var float8Types = []tensor.DType{tensor.F16, tensor.BF16}

// Rows get the scale and the bytes that they should have, to the bit, and zeros behind them.
func TestFloat8Rows(t *testing.T) {
	for _, d := range float8Types {
		b := openFloat8(t, d)
		for _, c := range [][3]int{{1, 1, 0}, {7, 40, 0}, {9, 37, 0}, {8, 64, 0}, {13, 320, 0}, {5, 64, 24}, {6, 20, 13}, {3, 1280, 0}, {2, 640, 320}} {
			t.Run(fmt.Sprintf("%s_%d×%d+%d", b.suffix(), c[0], c[1], c[2]), func(t *testing.T) {
				b.t = t
				rows, c1, c2 := c[0], c[1], c[2]
				r := rand.New(rand.NewPCG(uint64(c1), uint64(c2)))
				values := func(width int) (body []byte, v []float32) {
					v = make([]float32, rows*width)
					for i := range v {
						v[i] = float32(r.NormFloat64() * math.Exp2(float64(i/width%5)*4-8))
					}
					if rows > 5 && width > 0 {
						clear(v[3*width : 4*width])                   // a row of zeros
						v[5*width] = math.Float32frombits(0x7fc00000) // NaN
					}
					return b.encoded(v)
				}
				first, a := values(c1)
				second, a2 := values(c2)
				pitch := padded(c1 + c2)
				to, scales := b.room(rows*pitch), b.room(4*rows)
				p := roundRows{a: b.send(first).at, d: to.at, scales: scales.at, rows: int32(rows), c1: int32(c1), c2: int32(c2), pitch: int32(pitch)}
				if c2 > 0 {
					p.a2 = b.send(second).at
				}
				b.round(p)
				got, gotScales := b.receive(to), tensor.Floats(b.receive(scales))
				for i := range rows {
					want, scale := scaled(append(slices.Clone(a[i*c1:(i+1)*c1]), a2[i*c2:(i+1)*c2]...))
					if gotScales[i] != scale {
						t.Errorf("row %d: the scale is %g, want %g", i, gotScales[i], scale)
					}
					for k, code := range want {
						if g := got[i*pitch+k]; g != code {
							t.Fatalf("row %d, column %d: %#02x (%g), want %#02x (%g)", i, k, g, fromE4M3(g), code, fromE4M3(code))
						}
					}
				}
			})
		}
	}
}

// layer8 is a linear layer with its operands: activations in the device's type, weights in float32.
type layer8 struct {
	m, n, k  int
	body     []byte // of the activations
	a, w     []float32
	bias     []float32
	residual []byte
	add      []float32 // the residual's values
}

func (b lab8) layer(m, n, k int, withBias, withResidual bool, value func(r *rand.Rand, column int) float64) layer8 {
	r := rand.New(rand.NewPCG(uint64(m), uint64(n*k)))
	l := layer8{m: m, n: n, k: k, a: make([]float32, m*k), w: make([]float32, n*k)}
	for i := range l.a {
		l.a[i] = float32(value(r, i%k) * math.Exp2(float64(i/k%3))) // rows have scales of their own
	}
	l.body, l.a = b.encoded(l.a)
	for i := range l.w {
		l.w[i] = float32(r.NormFloat64() * math.Exp2(float64(i/k%4)-2))
	}
	if withBias {
		l.bias = make([]float32, n)
		for i := range l.bias {
			l.bias[i] = float32(r.NormFloat64())
		}
	}
	if withResidual {
		v := make([]float32, m*n)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		l.residual, l.add = b.encoded(v)
	}
	return l
}

// rows8 are rows in float8.
type rows8 struct {
	codes  [][]byte
	scales []float32
}

func rounded(v []float32, n, k int) (r rows8) {
	for i := range n {
		codes, scale := scaled(v[i*k : (i+1)*k])
		r.codes, r.scales = append(r.codes, codes), append(r.scales, scale)
	}
	return r
}

// run gives the results of a kernel that multiply queues.
func (b lab8) run(multiply func(float8), l layer8) (got []float32) {
	pitch := padded(l.k)
	w := rounded(l.w, l.n, l.k)
	d, rounded, scaleA := b.room(l.m*l.n*b.dtype.Size()), b.room(l.m*pitch), b.room(4*l.m)
	b.round(roundRows{a: b.send(l.body).at, d: rounded.at, scales: scaleA.at, rows: int32(l.m), c1: int32(l.k), pitch: int32(pitch)})
	p := float8{g: b.matrixProduct(l.m, l.n, l.k), scaleA: scaleA.at, scaleB: b.send(tensor.Bytes(w.scales)).at}
	p.g.a, p.g.b, p.g.d = rounded.at, b.send(slices.Concat(w.codes...)).at, d.at
	if l.bias != nil {
		p.g.bias = b.send(tensor.Bytes(l.bias)).at
	}
	if l.residual != nil {
		p.g.residual = b.send(l.residual).at
	}
	multiply(p)
	got = make([]float32, l.m*l.n)
	b.decoded(got, b.receive(d))
	return got
}

// product is the layer's result of what the operands are rounded to, where sum gives that of two rows of codes and the sum of
// their products without their signs. terms are the latter, scaled.
func (l layer8) product(sum func(x, y []byte) (sum, terms float64)) (want, terms []float64) {
	a, w := rounded(l.a, l.m, l.k), rounded(l.w, l.n, l.k)
	for i := range l.m {
		for j := range l.n {
			scale := float64(a.scales[i]) * float64(w.scales[j])
			s, all := sum(a.codes[i], w.codes[j])
			s, all = s*scale, all*scale
			if l.bias != nil {
				s += float64(l.bias[j])
			}
			if l.add != nil {
				s += float64(l.add[i*l.n+j])
			}
			want, terms = append(want, s), append(terms, all)
		}
	}
	return want, terms
}

// exactSum adds without error: float64 holds sums of 2⁵³ units of the smallest product.
func exactSum(x, y []byte) (sum, terms float64) {
	for k, a := range x {
		p := fromE4M3(a) * fromE4M3(y[k])
		sum, terms = sum+p, terms+math.Abs(p)
	}
	return sum, terms
}

func normal(r *rand.Rand, _ int) float64 { return r.NormFloat64() }

// Products are those of the rounded operands: the error is that of float32 sums, and of rounding the result. A GPU's tensor
// cores may add e4m3 less exactly than float32; how exactly is not documented, and on one this bound may prove too tight.
func TestFloat8Products(t *testing.T) {
	shapes := [][3]int{{1, 1, 1}, {5, 3, 31}, {17, 9, 32}, {64, 64, 64}, {65, 66, 33}, {100, 72, 96}, {129, 130, 200}}
	if !testing.Short() {
		shapes = append(shapes, [][3]int{{128, 128, 320}, {256, 128, 1280}, {300, 77, 1000}}...)
	}
	for _, d := range float8Types {
		b := openFloat8(t, d)
		half := map[tensor.DType]float64{tensor.F16: 0x1p-11, tensor.BF16: 0x1p-8}[d] // of a result's unit, relative
		for i := range families[:3] {
			f := &families[i]
			for s, shape := range shapes {
				t.Run(fmt.Sprintf("%s_%s/%d×%d×%d", b.suffix(), f.name, shape[0], shape[1], shape[2]), func(t *testing.T) {
					b.t = t
					l := b.layer(shape[0], shape[1], shape[2], s%3 > 0, s%2 > 0, normal)
					got := b.run(b.multiply(f), l)
					want, terms := l.product(exactSum)
					for i := range got {
						// Sums of random signs err far less than the number of their terms allows.
						bound := half*math.Abs(want[i]) + 0x1p-22*terms[i] + 0x1p-22
						if e := math.Abs(float64(got[i]) - want[i]); !(e <= bound) {
							t.Fatalf("row %d, column %d: the result is %g, want %g: the error is %.2g, %.2g is allowed", i/shape[1], i%shape[1], got[i], want[i], e, bound)
						}
					}
				})
			}
		}
	}
}

// What is lost against the product of operands that are not rounded, as the root of the mean square, relative to the result's;
// beside it what float16's result, and weights in 8 bits (unpack.go), lose.
func TestFloat8Loss(t *testing.T) {
	b := openFloat8(t, tensor.F16)
	kinds := []struct {
		name  string
		value func(r *rand.Rand, column int) float64
	}{
		{"normal", normal},
		{"a column in 64 is 30 times as large", func(r *rand.Rand, column int) float64 {
			if column%64 == 5 {
				return 30 * r.NormFloat64()
			}
			return r.NormFloat64()
		}},
		{"SiLU of normal", func(r *rand.Rand, _ int) float64 {
			x := r.NormFloat64()
			return x / (1 + math.Exp(-x))
		}},
	}
	for _, kind := range kinds {
		for _, k := range []int{320, 1280} {
			l := b.layer(64, 64, k, false, false, kind.value)
			got := b.run(b.multiply(&families[2]), l)
			var size, lost, lostHalf, lostInt8 float64
			for i := range l.m {
				for j := range l.n {
					a, w := l.a[i*k:(i+1)*k], l.w[j*k:(j+1)*k]
					var most, exact, halves, bytes float64
					for _, v := range w {
						most = max(most, math.Abs(float64(v)))
					}
					for c, v := range w {
						exact += float64(a[c]) * float64(v)
						halves += float64(a[c]) * float64(tensor.HalfToFloat(tensor.FloatToHalf(v)))
						bytes += float64(a[c]) * math.RoundToEven(float64(v)/most*127) * most / 127
					}
					square := func(x float64) float64 { return x * x }
					size += square(exact)
					lost += square(float64(got[i*l.n+j]) - exact)
					lostHalf += square(float64(tensor.HalfToFloat(tensor.FloatToHalf(float32(halves)))) - exact)
					lostInt8 += square(float64(tensor.HalfToFloat(tensor.FloatToHalf(float32(bytes)))) - exact)
				}
			}
			per := func(x float64) float64 { return 100 * math.Sqrt(x/size) }
			t.Logf("%s, K = %d: float8 loses %.2f %%, 8-bit weights %.2f %%, float16 %.3f %%", kind.name, k, per(lost), per(lostInt8), per(lostHalf))
			// Three bits of fraction round by 2.6 % at the root of the mean square, and two factors by √2 of it.
			if loss := per(lost); loss < 2 || loss > 5 {
				t.Errorf("%s, K = %d: float8 loses %.2f %%, where 3.7 are expected", kind.name, k, loss)
			}
		}
	}
}
