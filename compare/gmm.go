package compare

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"darkroom/scheduler"
)

// Mixture is a mixture of isotropic Gaussians Σ wₖ·N(μₖ, sₖ²·I), whose denoiser is known exactly, so that solvers can be
// compared without a model:
//
//	E[x₀|x] = Σ rₖ·(μₖ + α·sₖ²/(α²sₖ²+σ²)·(x − α·μₖ)),  rₖ ∝ wₖ·N(x; α·μₖ, (α²sₖ²+σ²)·I)
type Mixture struct {
	Weight []float64
	Mean   [][]float64
	Spread []float64
}

// TestMixture is eight Gaussians on a ring, of two widths, in the plane: narrow enough that paths turn late, as those of pictures
// do, and unequal enough that no solver is exact by symmetry.
func TestMixture() Mixture {
	var m Mixture
	for k := range 8 {
		a := 2 * math.Pi * float64(k) / 8
		m.Weight = append(m.Weight, 1+float64(k%3))
		m.Mean = append(m.Mean, []float64{1.5*math.Cos(a) + 0.2, 1.2 * math.Sin(a)})
		m.Spread = append(m.Spread, 0.4+0.15*float64(k%2))
	}
	return m
}

// Denoise is the exact E[x₀|x] of a point at a level.
func (m Mixture) Denoise(x []float64, at scheduler.Level) []float64 {
	logs := make([]float64, len(m.Weight))
	top := math.Inf(-1)
	α, σ := at.Alpha, at.Sigma
	for k := range logs {
		v := α*α*m.Spread[k]*m.Spread[k] + σ*σ
		d := 0.0
		for i, xi := range x {
			e := xi - α*m.Mean[k][i]
			d += e * e
		}
		logs[k] = math.Log(m.Weight[k]) - d/(2*v) - float64(len(x))/2*math.Log(v)
		top = max(top, logs[k])
	}
	out, sum := make([]float64, len(x)), 0.0
	for k, l := range logs {
		r := math.Exp(l - top)
		sum += r
		s2 := m.Spread[k] * m.Spread[k]
		for i, xi := range x {
			out[i] += r * (m.Mean[k][i] + α*s2/(α*α*s2+σ*σ)*(xi-α*m.Mean[k][i]))
		}
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

// denoiser is Denoise for a batch of points, one behind the other.
func (m Mixture) denoiser(calls *int) scheduler.Denoiser {
	dim := len(m.Mean[0])
	return func(x []float32, at scheduler.Level) (scheduler.Prediction, error) {
		*calls++
		p := scheduler.Prediction{X0: make([]float32, len(x)), Eps: make([]float32, len(x))}
		point := make([]float64, dim)
		for n := 0; n < len(x); n += dim {
			for i := range point {
				point[i] = float64(x[n+i])
			}
			for i, v := range m.Denoise(point, at) {
				p.X0[n+i] = float32(v)
				p.Eps[n+i] = float32((point[i] - at.Alpha*v) / at.Sigma)
			}
		}
		p.Uncond = p.Eps
		return p, nil
	}
}

// GMMResult is how exactly a solver with a number of steps solves the mixture.
type GMMResult struct {
	Scheduler string  `json:"scheduler"`
	Steps     int     `json:"steps"` // as asked for
	Calls     int     `json:"calls"` // of the denoiser
	RMSE      float64 `json:"rmse"`  // of the end points against the exact paths'
	// MeanError and SpreadError are of the cloud of end points against the mixture's own: the distance of the means, and the largest
	// relative error of the standard deviations. They are all that can be said of a sampler that draws noise.
	MeanError   float64 `json:"meanError"`
	SpreadError float64 `json:"spreadError"`
	Stochastic  bool    `json:"stochastic"`
	// Order is the slope of log RMSE over log calls from the step count before; NaN for the first.
	Order *float64 `json:"order,omitempty"`
}

// gmmConfig is Stable Diffusion's schedule.
func gmmConfig() scheduler.Config {
	return scheduler.Config{
		File: "gmm", TrainSteps: 1000, BetaStart: 0.00085, BetaEnd: 0.012, BetaSchedule: "scaled_linear", Spacing: "linspace",
		PredictionType: scheduler.Epsilon, LambdaMinClipped: math.Inf(-1),
	}
}

// CompareGMM solves the mixture from the same points with each scheduler and number of steps, against the exact
// probability-flow paths (classical Runge-Kutta of fourth order in ln σ, its own error below 1e-6).
func CompareGMM(schedulers []string, steps []int, points int, seed uint64) ([]GMMResult, error) {
	m := TestMixture()
	dim := len(m.Mean[0])
	rng := rand.New(rand.NewPCG(seed, 1))
	start := make([]float32, points*dim)
	for i := range start {
		start[i] = float32(rng.NormFloat64())
	}
	ends := map[float64][]float64{} // exact end points, by the first σ/α and the first scale
	var out []GMMResult
	for _, name := range schedulers {
		for i, n := range steps {
			if name == "dpm-adaptive" && i > 0 {
				break
			}
			s, err := scheduler.New(gmmConfig(), scheduler.Options{Name: name, Steps: gmmSteps(name, n)})
			if err != nil {
				return nil, usagef("%s with %d steps: %w", name, n, err)
			}
			first := s.Levels()[0]
			scale := s.InitScale() / first.Alpha // of x/α, so that all conventions start at one place
			key := first.Ratio()*1e6 + scale
			if ends[key] == nil {
				ends[key] = m.exactEnds(start, scale, first.Ratio())
			}
			r, err := m.solve(s, start, ends[key], seed)
			if err != nil {
				return nil, fmt.Errorf("%s with %d steps: %w", name, n, err)
			}
			r.Scheduler, r.Steps = name, n
			if i > 0 && !r.Stochastic {
				prev := out[len(out)-1]
				r.Order = finite(math.Log(prev.RMSE/r.RMSE) / math.Log(float64(r.Calls)/float64(prev.Calls)))
			}
			out = append(out, r)
		}
	}
	return out, nil
}

func gmmSteps(name string, n int) int {
	if name == "dpm-adaptive" {
		return 0
	}
	return n
}

// solve runs a schedule over all points.
func (m Mixture) solve(s *scheduler.Schedule, start []float32, ends []float64, seed uint64) (GMMResult, error) {
	var r GMMResult
	x := slices.Clone(start)
	s.Init(x)
	rng := rand.New(rand.NewPCG(seed, 2))
	err := s.Run(scheduler.Run{X: x, Denoise: m.denoiser(&r.Calls), Noise: func(dst []float32) error {
		r.Stochastic = true
		for i := range dst {
			dst[i] = float32(rng.NormFloat64())
		}
		return nil
	}})
	if err != nil {
		return r, err
	}
	var sum float64
	for i, v := range x {
		d := float64(v) - ends[i]
		sum += d * d
	}
	r.RMSE = math.Sqrt(sum / float64(len(x)))
	r.MeanError, r.SpreadError = m.cloudError(x)
	if s.Eta() > 0 {
		r.Stochastic = true
	}
	return r, nil
}

// exactEnds follows dx/dσ = (x − D(x;σ))/σ at α = 1 from each point to σ = 0.
func (m Mixture) exactEnds(start []float32, scale, σ float64) []float64 {
	dim := len(m.Mean[0])
	ends := make([]float64, len(start))
	const steps, last = 200, 1e-3 // below that the point is E[x₀|x] to 1e-5 of the narrowest Gaussian
	for n := 0; n < len(start); n += dim {
		x := make([]float64, dim)
		for i := range x {
			x[i] = float64(start[n+i]) * scale
		}
		slope := func(x []float64, u float64) []float64 { // dx/du with u = ln σ
			d := m.Denoise(x, scheduler.Level{Alpha: 1, Sigma: math.Exp(u)})
			for i := range d {
				d[i] = x[i] - d[i]
			}
			return d
		}
		h := math.Log(last/σ) / steps
		for k := range steps {
			u := math.Log(σ) + float64(k)*h
			rungeKutta(x, u, h, slope)
		}
		copy(ends[n:], m.Denoise(x, scheduler.Level{Alpha: 1, Sigma: last}))
	}
	return ends
}

// rungeKutta is the classical step of fourth order, in place.
func rungeKutta(x []float64, u, h float64, f func([]float64, float64) []float64) {
	ahead := func(k []float64, by float64) []float64 {
		y := slices.Clone(x)
		for i := range y {
			y[i] += by * k[i]
		}
		return y
	}
	k1 := f(x, u)
	k2 := f(ahead(k1, h/2), u+h/2)
	k3 := f(ahead(k2, h/2), u+h/2)
	k4 := f(ahead(k3, h), u+h)
	for i := range x {
		x[i] += h / 6 * (k1[i] + 2*k2[i] + 2*k3[i] + k4[i])
	}
}

// cloudError compares the points' mean and standard deviations with the mixture's.
func (m Mixture) cloudError(x []float32) (mean, spread float64) {
	dim := len(m.Mean[0])
	n := float64(len(x) / dim)
	for i := range dim {
		var μ, v, total, want, wantSq float64
		for k, w := range m.Weight {
			total += w
			want += w * m.Mean[k][i]
			wantSq += w * (m.Mean[k][i]*m.Mean[k][i] + m.Spread[k]*m.Spread[k])
		}
		want, wantSq = want/total, wantSq/total
		for j := i; j < len(x); j += dim {
			μ += float64(x[j]) / n
		}
		for j := i; j < len(x); j += dim {
			v += (float64(x[j]) - μ) * (float64(x[j]) - μ) / n
		}
		mean = math.Hypot(mean, μ-want)
		spread = max(spread, math.Abs(math.Sqrt(v/(wantSq-want*want))-1))
	}
	return mean, spread
}

// RankGMM sorts for reading: by model calls, then the most exact first; what draws noise comes last, by its cloud.
func RankGMM(rs []GMMResult) []GMMResult {
	out := slices.Clone(rs)
	slices.SortStableFunc(out, func(a, b GMMResult) int {
		if a.Stochastic != b.Stochastic {
			if a.Stochastic {
				return 1
			}
			return -1
		}
		if a.Stochastic {
			return cmp.Or(cmp.Compare(a.Steps, b.Steps), cmp.Compare(a.SpreadError, b.SpreadError))
		}
		return cmp.Or(cmp.Compare(a.Steps, b.Steps), cmp.Compare(a.RMSE, b.RMSE))
	})
	return out
}
