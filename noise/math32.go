package noise

import "math"

// The functions here give the same bits on every platform, as PyTorch's kernels give them: float32(…) around a
// product keeps the compiler from fusing it with a sum, fma32 fuses it where those kernels do.

// fma32 is a·b + c, rounded once. The result must be zero or a normal number.
func fma32(a, b, c float32) float32 {
	p := float64(a) * float64(b) // exact: 48 bits
	s := p + float64(c)
	bits := math.Float64bits(s)
	if bits&(1<<29-1) != 1<<28 {
		return float32(s)
	}
	// s lies half-way between two float32 numbers. Had the sum been rounded to get there (Knuth's two-sum
	// gives the error), the tie is none: move s off it.
	c64 := float64(c)
	t := s - p
	err := (p - (s - t)) + (c64 - t)
	switch {
	case err == 0:
	case (err > 0) == (s > 0):
		bits++
	default:
		bits--
	}
	return float32(math.Float64frombits(bits))
}

// sqrt32 is correctly rounded: 53 bits are enough to round a root twice.
func sqrt32(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// horner32 is ((c[0]·x + c[1])·x + c[2])·x + …, each step fused.
func horner32(x float32, c ...float32) float32 {
	y := c[0]
	for _, k := range c[1:] {
		y = fma32(y, x, k)
	}
	return y
}

// log32 is the natural logarithm of Cephes' logf as the AVX2 kernel evaluates it, for normal x > 0:
// x = m·2ᵉ with √½ ≤ m < √2, f = m-1, ln x = f - f²/2 + f³P(f) + e ln 2, with ln 2 in two parts.
func log32(x float32) float32 {
	const ln2hi, ln2lo = 0.693359375, -2.12194440e-4
	bits := math.Float32bits(x)
	e := float32(int(bits>>23) - 126)
	m := math.Float32frombits(bits&0x7fffff | 0x3f000000) // [½, 1)
	f := m - 1
	if m < float32(math.Sqrt2/2) {
		e--
		f += m
	}
	f2 := f * f
	y := f * horner32(f, 7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
		-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)
	y = fma32(f2, y, float32(e*ln2lo))
	y = fma32(f2, -0.5, y)
	return fma32(e, ln2hi, f+y)
}

// sincos32 is sine and cosine of Cephes' sinf as the AVX2 kernel evaluates them, for 0 ≤ x < 8192. The octant j,
// made even, leaves |z| ≤ π/4 = DP1 + DP2 + DP3.
func sincos32(x float32) (sin, cos float32) {
	const fourOverπ = 1.27323954473516
	j := (int32(float32(x*fourOverπ)) + 1) &^ 1
	y := float32(j)
	z := fma32(y, -0.78515625, x)
	z = fma32(y, -2.4187564849853515625e-4, z)
	z = fma32(y, -3.77489497744594108e-8, z)
	z2 := z * z

	c := float32(z2 * horner32(z2, 2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2))
	c = fma32(z2, c, -float32(z2*0.5)) + 1
	s := float32(z2 * horner32(z2, -1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1))
	s = fma32(z, s, z)

	switch j & 6 {
	case 0:
		return s, c
	case 2:
		return c, -s
	case 4:
		return -s, -c
	}
	return -c, s
}
