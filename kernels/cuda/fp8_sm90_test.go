//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"gorgonia.org/cu"

	"darkroom/kernels/cuda/drv"
	"darkroom/tensor"
)

// hopperFloat8 is fp8_sm90.cuh's HopperFloat8.
type hopperFloat8 struct {
	h              hopperGemm
	scaleA, scaleB cu.DevicePtr
	_              [48]byte // the tensor maps are aligned to 64
}

// hopper8 is a kernel of fp8_sm90.cu.
type hopper8 struct {
	HopperTile
	promoted bool
}

func (k hopper8) String() string {
	s := fmt.Sprint("128x", k.Columns)
	if !k.promoted {
		s += "_unpromoted"
	}
	return s
}

func (k hopper8) kernel(suffix string) string {
	if !k.promoted {
		suffix = "unpromoted_" + suffix
	}
	return fmt.Sprintf("gemm_wgmma_e4m3_%s_128x%d", suffix, k.Columns)
}

func hopperKernels8() (all []hopper8) {
	for _, promoted := range []bool{true, false} {
		for _, t := range HopperTiles {
			if t.Columns < 256 || !promoted {
				all = append(all, hopper8{t, promoted})
			}
		}
	}
	return all
}

func openHopper8(t *testing.T, d tensor.DType) lab8 {
	b := openFloat8(t, d)
	if b.device.Capability != [2]int{9, 0} {
		t.Skip("needs EMU_CC=90, or a Hopper GPU")
	}
	return b
}

// wgmma queues the product of rounded rows on a kernel for Hopper.
func (b lab8) wgmma(k hopper8) func(p float8) {
	return func(p float8) {
		b.t.Helper()
		defer b.enter()()
		q := hopperFloat8{h: hopperGemm{g: p.g}, scaleA: p.scaleA, scaleB: p.scaleB}
		depth := int(p.g.k)
		var err error
		if q.h.a, err = drv.Matrix(drv.Byte, p.g.a, depth, int(p.g.m), depth, hopperRows); err == nil {
			q.h.b, err = drv.Matrix(drv.Byte, p.g.b, depth, int(p.g.n), depth, k.Columns)
		}
		if err != nil {
			b.t.Fatal(err)
		}
		q.h.plan(k.Columns, 2*hopperColumns)
		launch(b.Backend, kernel{"fp8_sm90", k.kernel(b.suffix())}, [3]int{min(int(q.h.tiles), max(1, b.device.Processors)), 1, 1}, 384, k.Shared(), &q)
	}
}

// e4m3Exponents are those of the codes' values; what is smaller than the first normal value has its exponent.
var e4m3Exponents = func() (e [256]int) {
	for code, v := range e4m3Codes {
		_, exponent := math.Frexp(v)
		e[code] = max(exponent-1, -6)
	}
	return e
}()

// hopperStep is what one wgmma makes of a sum and 32 columns, by MMA-Sim's model: see emu/float8.h, which works with integers.
// Here it is float64, whose 53 bits hold everything exactly that is not cut off.
func hopperStep(sum float64, x, y []byte) float64 {
	const none = -1000
	most := none
	if sum != 0 {
		_, most = math.Frexp(sum)
		most--
	}
	for k, a := range x {
		if e4m3Codes[a] != 0 && e4m3Codes[y[k]] != 0 {
			most = max(most, e4m3Exponents[a]+e4m3Exponents[y[k]])
		}
	}
	if most == none {
		return 0
	}
	units := math.Ldexp(1, 13-most)
	sum = math.Trunc(sum * units)
	for k, a := range x {
		sum += math.Trunc(e4m3Codes[a] * e4m3Codes[y[k]] * units)
	}
	_, e := math.Frexp(sum)
	last := math.Ldexp(1, e-14) // of 14 significant bits
	return math.Trunc(sum/last) * last / units
}

// hopperSum gives a kernel's sum of two rows, promoted every so many columns.
func hopperSum(promoted int) func(x, y []byte) (sum, terms float64) {
	return func(x, y []byte) (sum, terms float64) {
		var all float32
		for from := 0; from < len(x); from += promoted {
			part := 0.0
			for k := from; k < min(from+promoted, len(x)); k += 32 {
				part = hopperStep(part, x[k:k+32], y[k:k+32])
			}
			all += float32(part)
		}
		_, terms = exactSum(x, y)
		return float64(all), terms
	}
}

const everything = 1 << 30 // columns: no promotion but at the end

func (k hopper8) sum() func(x, y []byte) (sum, terms float64) {
	if k.promoted {
		return hopperSum(128)
	}
	return hopperSum(everything)
}

// Products are those that the model of Hopper's sums gives, but for the rounding of scales and of the result. A GPU's may
// differ, should the model be wrong: TestFloat8HopperLoss says by how much they may differ from the exact ones.
func TestFloat8HopperProducts(t *testing.T) {
	// The largest tile is 128×256, and the emulated device's four blocks take all tiles. 1000 columns are more stages than fit.
	shapes := [][3]int{{1, 1, 1}, {5, 3, 31}, {17, 9, 32}, {64, 64, 64}, {65, 66, 129}, {129, 130, 200}, {70, 40, 1000}}
	if !testing.Short() {
		shapes = append(shapes, [][3]int{{128, 256, 128}, {128, 72, 1000}, {400, 257, 640}, {130, 320, 1280}}...)
	}
	for _, d := range float8Types {
		b := openHopper8(t, d)
		half := map[tensor.DType]float64{tensor.F16: 0x1p-11, tensor.BF16: 0x1p-8}[d] // of a result's unit, relative
		for s, shape := range shapes {
			l := b.layer(shape[0], shape[1], shape[2], s%3 > 0, s%2 > 0, normal)
			expected := map[bool][2][]float64{}
			for _, k := range hopperKernels8() {
				t.Run(fmt.Sprintf("%s_%s/%d×%d×%d", b.suffix(), k, shape[0], shape[1], shape[2]), func(t *testing.T) {
					b := b
					b.t = t
					got := b.run(b.wgmma(k), l)
					if expected[k.promoted][0] == nil {
						want, terms := l.product(k.sum())
						expected[k.promoted] = [2][]float64{want, terms}
					}
					want, terms := expected[k.promoted][0], expected[k.promoted][1]
					for i := range got {
						// Scales, bias and residual come in float32; 2⁻²⁵ is half of float16's smallest unit.
						bound := half*math.Abs(want[i]) + 0x1p-22*(terms[i]+math.Abs(want[i])+8) + 0x1p-25
						if e := math.Abs(float64(got[i]) - want[i]); !(e <= bound) {
							t.Fatalf("row %d, column %d: the result is %g, want %g: the error is %.2g, %.2g is allowed", i/shape[1], i%shape[1], got[i], want[i], e, bound)
						}
					}
				})
			}
		}
	}
}

// A large product, and behind it as many small ones as K has room for. Where the large one is in the sum a unit is 2⁻¹³ of it
// or more, and the small ones, 1 to 200,704, are cut off. By hand: 448² is from 2¹⁷ on, and as a product of exponents of 8
// its last bit is 2³; so of K - 1 ones all are lost, or with promotion those of the first 128 columns.
func TestFloat8HopperSmall(t *testing.T) {
	b := openHopper8(t, tensor.F16)
	const k = 1280
	l := layer8{m: 1, n: 1, k: k, a: make([]float32, k), w: make([]float32, k)}
	for i := range k {
		l.a[i], l.w[i] = 0x1p-6, 0x1p-6
	}
	l.a[0], l.w[0] = 7, 7
	l.body, l.a = b.encoded(l.a)
	for _, kernel := range hopperKernels8() {
		t.Run(fmt.Sprintf("%s_%s", b.suffix(), kernel), func(t *testing.T) {
			b := b
			b.t = t
			want := float32(49)
			if kernel.promoted {
				want += (k - 128) * 0x1p-12
			}
			if got := b.run(b.wgmma(kernel), l)[0]; got != want {
				t.Errorf("the sum is %g, want %g", got, want)
			}
		})
	}
}

// What is lost against the product of operands that are not rounded, on the kernels, and of that what is lost by the sums alone,
// by the model that TestFloat8HopperProducts holds the kernels to: as the root of the mean square, relative to the result's.
func TestFloat8HopperLoss(t *testing.T) {
	b := openHopper8(t, tensor.F16)
	kinds := []struct {
		name  string
		value func(r *rand.Rand, column int) float64
		// Percent that may be lost with promotion. By sums: four cuts of up to 33 terms by a unit of 2⁻¹³ of the largest, less
		// where signs differ. In all: see TestFloat8Loss; errors of rounding cancel where all terms are positive.
		most, all float64
	}{
		{"normal", normal, 0.1, 5},
		{"a column in 64 is 30 times as large", func(r *rand.Rand, column int) float64 {
			if column%64 == 5 {
				return 30 * r.NormFloat64()
			}
			return r.NormFloat64()
		}, 0.1, 5},
		{"all positive, weights too", func(r *rand.Rand, _ int) float64 { return math.Abs(r.NormFloat64()) }, 0.3, 1},
	}
	ks := []int{320, 1280}
	if !testing.Short() {
		ks = append(ks, 5120)
	}
	for _, kind := range kinds {
		for _, k := range ks {
			l := b.layer(64, 64, k, false, false, kind.value)
			if kind.name == "all positive, weights too" {
				for i, w := range l.w {
					l.w[i] = float32(math.Abs(float64(w)))
				}
			}
			rounded, _ := l.product(exactSum)
			var promoted float64 // what is lost by its sums
			for _, kernel := range []hopper8{{HopperTiles[4], true}, {HopperTiles[4], false}} {
				got := b.run(b.wgmma(kernel), l)
				model, _ := l.product(kernel.sum())
				var size, lost, bySums float64
				for i := range l.m {
					for j := range l.n {
						exact := 0.0
						for c, v := range l.w[j*k : (j+1)*k] {
							exact += float64(l.a[i*k+c]) * float64(v)
						}
						at := i*l.n + j
						square := func(x float64) float64 { return x * x }
						size += square(exact)
						lost += square(float64(got[at]) - exact)
						bySums += square(model[at] - rounded[at])
					}
				}
				per := func(x float64) float64 { return 100 * math.Sqrt(x/size) }
				t.Logf("%s, K = %d, %s: float8 loses %.2f %%, of which the sums %.3f %%", kind.name, k, kernel, per(lost), per(bySums))
				if !kernel.promoted {
					// Each of K/32 instructions cuts the sum off, where promotion leaves 4 such in a row.
					if k >= 1280 && per(bySums) < 2*promoted {
						t.Errorf("%s, K = %d: without promotion sums lose %.3f %%, with it %.3f %%: promotion gains nothing", kind.name, k, per(bySums), promoted)
					}
				} else if promoted = per(bySums); promoted > kind.most || per(lost) > kind.all {
					t.Errorf("%s, K = %d, %s: %.2f %% and %.3f %% are lost, where %.2f and %.3f are allowed", kind.name, k, kernel, per(lost), promoted, kind.all, kind.most)
				}
			}
		}
	}
}
