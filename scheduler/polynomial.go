package scheduler

import "math"

// Helpers of the solvers that integrate the polynomial through past predictions against a known weight.

// lagrange gives the coefficients (ascending) of the polynomial that is 1 at nodes[k] and 0 at the others.
func lagrange(nodes []float64, k int) []float64 {
	p := []float64{1}
	for j, n := range nodes {
		if j == k {
			continue
		}
		d := nodes[k] - n
		q := make([]float64, len(p)+1) // p·(u − n)/d
		for i, c := range p {
			q[i] -= c * n / d
			q[i+1] += c / d
		}
		p = q
	}
	return p
}

// logPolynomialIntegrals are ∫ lₖ(ln ρ) dρ from a to b, lₖ the Lagrange polynomials in ln ρ over the past's
// levels: ∫ lnᵏρ dρ = ρ·lnᵏρ − k·∫ lnᵏ⁻¹ρ dρ.
func logPolynomialIntegrals(past []Past, a, b float64) []float64 {
	nodes := make([]float64, len(past))
	for k, p := range past {
		nodes[k] = math.Log(p.At.Ratio())
	}
	c := make([]float64, len(past))
	for k := range c {
		ia, ib := 0.0, 0.0
		for n, coefficient := range lagrange(nodes, k) {
			ia, ib = xLogPower(a, n)-float64(n)*ia, xLogPower(b, n)-float64(n)*ib
			c[k] += coefficient * (ib - ia)
		}
	}
	return c
}

// xLogPower is x·lnⁿx, with its limit 0 at 0.
func xLogPower(x float64, n int) float64 {
	if x == 0 {
		return 0
	}
	return x * math.Pow(math.Log(x), float64(n))
}

// expPolynomialIntegrals are ∫ lₖ(u)·e^(−a(h−u)) du from 0 to h, lₖ over the given nodes:
// Jₙ = ∫ uⁿ·e^(−a(h−u)) du = (hⁿ − n·Jₙ₋₁)/a. For h = ∞ only one node has a limit, 1/a.
func expPolynomialIntegrals(nodes []float64, a, h float64) []float64 {
	c := make([]float64, len(nodes))
	for k := range c {
		j := -math.Expm1(-a*h) / a
		for n, coefficient := range lagrange(nodes, k) {
			if n > 0 {
				j = (math.Pow(h, float64(n)) - float64(n)*j) / a
			}
			c[k] += coefficient * j
		}
	}
	return c
}

// solve solves the n×n system a·x = b by Gaussian elimination with pivoting; it overwrites both.
func solve(a [][]float64, b []float64) []float64 {
	n := len(b)
	for c := range n {
		pivot := c
		for r := c + 1; r < n; r++ {
			if math.Abs(a[r][c]) > math.Abs(a[pivot][c]) {
				pivot = r
			}
		}
		a[c], a[pivot], b[c], b[pivot] = a[pivot], a[c], b[pivot], b[c]
		for r := c + 1; r < n; r++ {
			f := a[r][c] / a[c][c]
			for k := c; k < n; k++ {
				a[r][k] -= f * a[c][k]
			}
			b[r] -= f * b[c]
		}
	}
	for c := n - 1; c >= 0; c-- {
		for k := c + 1; k < n; k++ {
			b[c] -= a[c][k] * b[k]
		}
		b[c] /= a[c][c]
	}
	return b
}
