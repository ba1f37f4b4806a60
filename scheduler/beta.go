package scheduler

import "math"

// betaQuantile is the x at which the Beta(a, b) distribution function reaches p, by bisection on it.
func betaQuantile(p, a, b float64) float64 {
	low, high := 0.0, 1.0
	if p <= 0 || p >= 1 {
		return min(max(p, 0), 1)
	}
	for range 200 { // until the interval is two neighbouring numbers
		mid := low + (high-low)/2
		if mid <= low || mid >= high {
			break
		}
		if betaCDF(mid, a, b) < p {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

// betaCDF is the regularised incomplete beta function Iₓ(a, b) (Abramowitz and Stegun 26.5.8), by its
// continued fraction on the side where that converges fast.
func betaCDF(x, a, b float64) float64 {
	if x > (a+1)/(a+b+2) {
		return 1 - betaCDF(1-x, b, a)
	}
	if x <= 0 {
		return 0
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(a*math.Log(x)+b*math.Log1p(-x)+lab-la-lb) / a
	return front / betaFraction(x, a, b)
}

// betaFraction is 1 + d₁/(1 + d₂/(1 + …)) by Lentz's method.
func betaFraction(x, a, b float64) float64 {
	const tiny = 1e-300
	f, c, d := 1.0, 1.0, 0.0
	for k := 1; k <= 500; k++ {
		m := float64(k / 2)
		dk := m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		if k%2 == 1 {
			dk = -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		}
		d = 1 / nonzero(1+dk*d, tiny)
		c = nonzero(1+dk/c, tiny)
		f *= c * d
		if math.Abs(c*d-1) < 1e-16 {
			break
		}
	}
	return f
}

func nonzero(v, tiny float64) float64 {
	if v == 0 {
		return tiny
	}
	return v
}
