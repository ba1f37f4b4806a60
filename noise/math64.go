package noise

// The scalar path computes in float64 with the C library, whose last bit is not specified; its results are then
// rounded to float32, so that an error of 1 ulp matters once in 10⁸ values. These are the algorithms of Sun's
// fdlibm (public, 1993), with every product rounded by itself, so that all platforms agree.

import "math"

// mul keeps a product from being fused with a sum.
func mul(a, b float64) float64 { return float64(a * b) }

// horner64 is (c[0]·x + c[1])·x + …, each step rounded twice.
func horner64(x float64, c ...float64) float64 {
	y := c[0]
	for _, k := range c[1:] {
		y = mul(y, x) + k
	}
	return y
}

// log64 is the natural logarithm of a normal x > 0, within 1 ulp: x = 2ᵏ(1+f), √½ ≤ 1+f < √2, s = f/(2+f),
// ln(1+f) = f - f²/2 + s(f²/2 + R(s²)).
func log64(x float64) float64 {
	const ln2hi, ln2lo = 6.93147180369123816490e-01, 1.90821492927058770002e-10
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m *= 2
		e--
	}
	f, k := m-1, float64(e)
	s := f / (2 + f)
	s2 := mul(s, s)
	r := mul(s2, horner64(s2, 1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
		2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01))
	half := mul(0.5, mul(f, f))
	return mul(k, ln2hi) - ((half - (mul(s, half+r) + mul(k, ln2lo))) - f)
}

// sincos64 is sine and cosine of 0 ≤ x ≤ 2π, within 1 ulp: x - n·π/2 = y + tail with |y| ≤ π/4.
func sincos64(x float64) (sin, cos float64) {
	const hi, lo = 1.57079632673412561417e+00, 6.07710050650619224932e-11 // π/2; hi has 33 bits: n·hi is exact
	n := math.Floor(mul(x, 2/math.Pi) + 0.5)
	t, w := x-mul(n, hi), mul(n, lo)
	y := t - w
	tail := (t - y) - w
	y2 := mul(y, y)
	y3 := mul(y2, y)

	sr := horner64(y2, 1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06,
		-1.98412698298579493134e-04, 8.33333333332248946124e-03)
	s := y - ((mul(y2, mul(0.5, tail)-mul(y3, sr)) - tail) - mul(y3, -1.66666666666666324348e-01))

	cr := mul(y2, horner64(y2, -1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07,
		2.48015872894767294178e-05, -1.38888888888741095749e-03, 4.16666666666666019037e-02))
	half := mul(0.5, y2)
	one := 1 - half
	c := one + (((1 - one) - half) + (mul(y2, cr) - mul(y, tail)))

	switch int(n) & 3 {
	case 0:
		return s, c
	case 1:
		return c, -s
	case 2:
		return -s, -c
	}
	return -c, s
}
