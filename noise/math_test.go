package noise

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// fma32 against exact arithmetic, on operands chosen so that sums fall near and on half-way points.
func TestFMA32(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	f := func(e int) float32 {
		v := math.Float32frombits(uint32(r.Uint64())&0x7fffff | 0x3f800000)
		if r.IntN(4) == 0 { // few bits: exact ties become common
			v = math.Float32frombits(math.Float32bits(v) &^ 0xffff)
		}
		if r.IntN(2) == 0 {
			v = -v
		}
		return float32(math.Ldexp(float64(v), e))
	}
	for range 200_000 {
		a, b := f(0), f(0)
		c := f(r.IntN(60) - 30)
		if r.IntN(2) == 0 { // a·b = 1 - 2⁻²ᵏ, half a last place of c: float64 cannot hold the sum, and rounds it to a tie
			d := float32(math.Ldexp(1, -15-r.IntN(8)))
			a, b, c = 1+d, 1-d, f(24)
		}
		x := new(big.Float).SetPrec(300).SetFloat64(float64(a))
		x.Mul(x, big.NewFloat(float64(b)))
		x.Add(x, big.NewFloat(float64(c)))
		want, _ := x.Float32()
		if got := fma32(a, b, c); got != want {
			t.Fatalf("fma32(%b, %b, %b) = %b, want %b", a, b, c, got, want)
		}
	}
	// 1 + 2⁻²⁴ is half-way; an addend far below float64's last place decides.
	for _, c := range []struct{ a, b, c, want float32 }{
		{1 + 0x1p-12, 1 + 0x1p-12, 0, 1 + 0x1p-11}, // 1 + 2⁻¹¹ + 2⁻²⁴: tie, to even
		{0x1p-12, 0x1p-12, 1, 1},
		{0x1.000002p-12, 0x1p-12, 1, 1 + 0x1p-23},
		{0x1p-60, 0x1p-60, 1, 1},
	} {
		if got := fma32(c.a, c.b, c.c); got != c.want {
			t.Errorf("fma32(%b, %b, %b) = %b, want %b", c.a, c.b, c.c, got, c.want)
		}
	}
}

// exactSincos sums the Taylor series with 200 bits.
func exactSincos(x float64) (sin, cos *big.Float) {
	num := func(v float64) *big.Float { return new(big.Float).SetPrec(200).SetFloat64(v) }
	sums := [2]*big.Float{num(0), num(0)} // cosine, sine
	term := num(1)
	for n := 0; n < 80; n++ {
		if n%4 < 2 {
			sums[n%2].Add(sums[n%2], term)
		} else {
			sums[n%2].Sub(sums[n%2], term)
		}
		term.Mul(term, num(x))
		term.Quo(term, num(float64(n+1)))
	}
	return sums[1], sums[0]
}

// ulps is the error of got in units of want's last place.
func ulps(got float64, want *big.Float) float64 {
	w, _ := want.Float64()
	d, _ := new(big.Float).SetPrec(200).Sub(new(big.Float).SetPrec(200).SetFloat64(got), want).Float64()
	return math.Abs(d) / (math.Nextafter(math.Abs(w), math.Inf(1)) - math.Abs(w))
}

// sincos64 within 1 ulp of the exact values, and log64 within 2 of the library's, which is within 1, on the arguments
// that Box-Muller has.
func TestMath64(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	worst := 0.0
	for i := range 5000 {
		u := float64(r.Uint64()>>11+1) * 0x1p-53
		if i%4 == 0 { // the tail
			u *= 0x1p-30
		}
		if d := ulps(log64(u), new(big.Float).SetFloat64(math.Log(u))); d > 2 {
			t.Fatalf("log64(%b) is %.1f ulp off", u, d)
		}
		x := 2 * math.Pi * u
		s, c := sincos64(x)
		ws, wc := exactSincos(x)
		worst = max(worst, ulps(s, ws), ulps(c, wc))
	}
	if worst > 1 {
		t.Errorf("sincos64 is up to %.2f ulp off", worst)
	}
}

// log32 and sincos32 are polynomials for 24 bits; their errors stay within the 2⁻²³ that Cephes states, over all that
// Box-Muller asks of them. That they are torch's bit for bit is what the goldens show.
func TestMath32(t *testing.T) {
	for k := 1; k <= 1<<24; k += 251 {
		u := float32(k) * 0x1p-24
		want := math.Log(float64(u))
		if got := float64(log32(u)); math.Abs(got-want) > 0x1p-23*math.Max(math.Abs(want), 0x1p-3) {
			t.Fatalf("log32(%v) = %v, want %v", u, got, want)
		}
		if got := float64(cudaLog(u)); math.Abs(got-want) > 0x1p-23*math.Max(math.Abs(want), 0x1p-3) {
			t.Fatalf("cudaLog(%v) = %v, want %v", u, got, want)
		}
		x := float32(2*math.Pi) * (u - 0x1p-24)
		s, c := sincos32(x)
		ws, wc := math.Sincos(float64(x))
		if math.Abs(float64(s)-ws) > 0x1p-23 || math.Abs(float64(c)-wc) > 0x1p-23 {
			t.Fatalf("sincos32(%v) = %v, %v, want %v, %v", x, s, c, ws, wc)
		}
	}
}

// A draw of u = 1 has radius 0; torch's "· std + mean" leaves no -0, whatever the angle.
func TestPositiveZero(t *testing.T) {
	for _, turn := range []float32{0, 0.125, 0.375, 0.5, 0.625, 0.875} {
		x := make([]float32, 16)
		for i := range x[8:] {
			x[8+i] = turn
		}
		boxMuller16(x)
		for i, v := range x {
			if math.Float32bits(v) != 0 {
				t.Errorf("angle %v: [%d] = %v (%08x), want 0", turn, i, v, math.Float32bits(v))
			}
		}
	}
}

func TestRound(t *testing.T) {
	for _, c := range []struct {
		t        Type
		in, want float32
	}{
		{Float16, 1 + 0x1p-11, 1}, {Float16, 1 + 0x1p-11 + 0x1p-20, 1 + 0x1p-10}, {Float16, 1 + 3*0x1p-11, 1 + 0x1p-9},
		{Float16, 0x1p-25, 0}, {Float16, -3 * 0x1p-25, -0x1p-23}, {Float16, 0x1.8p-24, 0x1p-23}, {Float16, -0x1p-14, -0x1p-14},
		{BFloat16, 1 + 0x1p-8, 1}, {BFloat16, 1 + 3*0x1p-8, 1 + 0x1p-6}, {BFloat16, -1.00001, -1}, {Float32, 1.00001, 1.00001},
	} {
		if got := c.t.round(c.in); got != c.want {
			t.Errorf("type %d: %b rounds to %b, want %b", c.t, c.in, got, c.want)
		}
	}
	if v := Float16.round(float32(math.Copysign(0x1p-30, -1))); math.Float32bits(v) != 1<<31 {
		t.Errorf("-2⁻³⁰ rounds to %v, want -0", v)
	}
}
