package scheduler

import (
	"fmt"
	"math"
)

// Mixture is a distribution of pictures that a formula can denoise: Σ wₖ·N(μₖ, sₖ²·I) in d dimensions. On it samplers
// can be measured without a model: the denoiser is exact, so whatever error is left is the sampler's.
type Mixture struct {
	Weights []float64   // wₖ, positive; they need not sum to 1
	Means   [][]float64 // μₖ, all of one length d
	Widths  []float64   // sₖ, at least 0
}

// Rings is a standard problem: six narrow Gaussians of unlike weight and width on a circle, in two dimensions.
func Rings() Mixture {
	var m Mixture
	for k := range 6 {
		φ := 2 * math.Pi * float64(k) / 6
		m.Means = append(m.Means, []float64{1.2 * math.Cos(φ), 1.2 * math.Sin(φ)})
		m.Weights = append(m.Weights, 1+0.5*float64(k%3))
		m.Widths = append(m.Widths, 0.25+0.05*float64(k%2))
	}
	return m
}

// Dims is d.
func (m Mixture) Dims() int { return len(m.Means[0]) }

// Moments are mean and covariance of the whole mixture, the covariance row by row.
func (m Mixture) Moments() (mean, covariance []float64) {
	d, total := m.Dims(), 0.0
	mean, covariance = make([]float64, d), make([]float64, d*d)
	for k, w := range m.Weights {
		total += w
		for i, μ := range m.Means[k] {
			mean[i] += w * μ
		}
	}
	for i := range mean {
		mean[i] /= total
	}
	for k, w := range m.Weights {
		for i, μ := range m.Means[k] {
			for j, ν := range m.Means[k] {
				covariance[i*d+j] += w / total * (μ - mean[i]) * (ν - mean[j])
			}
			covariance[i*d+i] += w / total * m.Widths[k] * m.Widths[k]
		}
	}
	return mean, covariance
}

// Denoise writes E[x₀ | x] for one point x of d values at a level into x0. x is distributed as
// Σ wₖ·N(α·μₖ, vₖ·I), vₖ = α²·sₖ² + σ², so with the posterior weights γₖ of the components
//
//	E[x₀ | x] = Σ γₖ·(μₖ + α·sₖ²/vₖ·(x − α·μₖ))
func (m Mixture) Denoise(x0, x []float64, at Level) {
	α, σ := at.Alpha, at.Sigma
	logs, top := make([]float64, len(m.Weights)), math.Inf(-1)
	for k, w := range m.Weights {
		v := α*α*m.Widths[k]*m.Widths[k] + σ*σ
		r2 := 0.0
		for i, μ := range m.Means[k] {
			r2 += (x[i] - α*μ) * (x[i] - α*μ)
		}
		logs[k] = math.Log(w) - r2/(2*v) - float64(len(x))/2*math.Log(v)
		top = max(top, logs[k])
	}
	sum := 0.0
	clear(x0)
	for k := range logs {
		γ := math.Exp(logs[k] - top)
		sum += γ
		c := α * m.Widths[k] * m.Widths[k] / (α*α*m.Widths[k]*m.Widths[k] + σ*σ)
		for i, μ := range m.Means[k] {
			x0[i] += γ * (μ + c*(x[i]-α*μ))
		}
	}
	for i := range x0 {
		x0[i] /= sum
	}
}

// Denoiser is the exact denoiser as samplers take it. x holds any number of points of d values, one after another.
func (m Mixture) Denoiser() Denoiser {
	d := m.Dims()
	return func(x []float32, at Level) (Prediction, error) {
		if len(x)%d != 0 {
			return Prediction{}, fmt.Errorf("%d values do not make whole points of %d values each", len(x), d)
		}
		p := Prediction{X0: make([]float32, len(x)), Eps: make([]float32, len(x))}
		point, x0 := make([]float64, d), make([]float64, d)
		for i := 0; i < len(x); i += d {
			for j := range point {
				point[j] = float64(x[i+j])
			}
			m.Denoise(x0, point, at)
			for j := range point {
				p.X0[i+j] = float32(x0[j])
				p.Eps[i+j] = float32((point[j] - at.Alpha*x0[j]) / at.Sigma)
			}
		}
		return p, nil
	}
}

// Flow carries x (as for Denoiser) along the probability-flow ODE from one level to a lower one, in float64 by the classical
// Runge-Kutta method of order 4 with the given steps even in ln(σ/α); 1000 leave an error below float32's
// rounding on [Rings]. from must have α > 0. To reach σ = 0 the last of it, from σ/α = 10⁻⁵, is the denoiser's jump.
func (m Mixture) Flow(x []float32, from, to Level, steps int) []float32 {
	d, out := m.Dims(), make([]float32, len(x))
	high, low := from.Ratio(), max(to.Ratio(), 1e-5)
	y := make([]float64, d)
	for i := 0; i < len(x); i += d {
		for j := range y {
			y[j] = float64(x[i+j]) / from.Alpha
		}
		m.rungeKutta(y, math.Log(high), math.Log(low), steps)
		if to.Sigma == 0 {
			m.Denoise(y, append([]float64(nil), y...), Level{Alpha: 1, Sigma: low})
		}
		for j := range y {
			out[i+j] = float32(y[j] * to.Alpha)
		}
	}
	return out
}

// rungeKutta solves dy/du = y − E[x₀ | y], u = ln(σ/α), y = x/α, in place.
func (m Mixture) rungeKutta(y []float64, a, b float64, steps int) {
	h := (b - a) / float64(steps)
	slope := func(u float64, y, k []float64) {
		m.Denoise(k, y, Level{Alpha: 1, Sigma: math.Exp(u)})
		for i := range k {
			k[i] = y[i] - k[i]
		}
	}
	d := len(y)
	k1, k2, k3, k4, z := make([]float64, d), make([]float64, d), make([]float64, d), make([]float64, d), make([]float64, d)
	moved := func(c float64, k []float64) []float64 {
		for i := range z {
			z[i] = y[i] + c*k[i]
		}
		return z
	}
	for n := range steps {
		u := a + float64(n)*h
		slope(u, y, k1)
		slope(u+h/2, moved(h/2, k1), k2)
		slope(u+h/2, moved(h/2, k2), k3)
		slope(u+h, moved(h, k3), k4)
		for i := range y {
			y[i] += h / 6 * (k1[i] + 2*k2[i] + 2*k3[i] + k4[i])
		}
	}
}
