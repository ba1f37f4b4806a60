package compare

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"darkroom/scheduler"
)

// GMMResult is how exactly a solver with a number of steps solves the mixture.
type GMMResult struct {
	Scheduler string  `json:"scheduler"`
	Steps     int     `json:"steps"` // as asked for; 0: the solver chose
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

// flowSteps of the exact paths: their own error stays below 1e-6, a tenth of the best solver's.
const flowSteps = 300

// CompareGMM solves [scheduler.Rings], whose denoiser is a formula, from the same points with each scheduler and number of
// steps, against the exact probability-flow paths.
func CompareGMM(schedulers []string, steps []int, points int, seed uint64) ([]GMMResult, error) {
	m := scheduler.Rings()
	rng := rand.New(rand.NewPCG(seed, 1))
	start := make([]float32, points*m.Dims())
	for i := range start {
		start[i] = float32(rng.NormFloat64())
	}
	type place struct{ ratio, scale float64 } // where a path begins: σ/α, and what start is multiplied with to be x/α
	ends := map[place][]float32{}
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
			x, first := slices.Clone(start), s.Levels()[0]
			s.Init(x)
			at := place{first.Ratio(), s.InitScale() / first.Alpha}
			if ends[at] == nil {
				ends[at] = m.Flow(x, first, scheduler.Level{Alpha: 1}, flowSteps)
			}
			r, err := solve(m, s, x, ends[at], seed)
			if err != nil {
				return nil, fmt.Errorf("%s with %d steps: %w", name, n, err)
			}
			r.Scheduler, r.Steps = name, gmmSteps(name, n)
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

// solve runs a schedule over all points x, in place.
func solve(m scheduler.Mixture, s *scheduler.Schedule, x, ends []float32, seed uint64) (GMMResult, error) {
	r := GMMResult{Stochastic: s.Stochastic()}
	denoise, rng := m.Denoiser(), rand.New(rand.NewPCG(seed, 2))
	err := s.Run(scheduler.Run{
		X: x,
		Denoise: func(x []float32, at scheduler.Level) (scheduler.Prediction, error) {
			r.Calls++
			return denoise(x, at)
		},
		Noise: func(dst []float32) error {
			for i := range dst {
				dst[i] = float32(rng.NormFloat64())
			}
			return nil
		},
	})
	if err != nil {
		return r, err
	}
	sum := 0.0
	for i, v := range x {
		sum += float64(v-ends[i]) * float64(v-ends[i])
	}
	r.RMSE = math.Sqrt(sum / float64(len(x)))
	r.MeanError, r.SpreadError = cloudError(m, x)
	return r, nil
}

// cloudError compares the points' mean and standard deviations with the mixture's.
func cloudError(m scheduler.Mixture, x []float32) (mean, spread float64) {
	d := m.Dims()
	n := float64(len(x) / d)
	μs, covariance := m.Moments()
	for i, want := range μs {
		var μ, v float64
		for j := i; j < len(x); j += d {
			μ += float64(x[j]) / n
		}
		for j := i; j < len(x); j += d {
			v += (float64(x[j]) - μ) * (float64(x[j]) - μ) / n
		}
		mean = math.Hypot(mean, μ-want)
		spread = max(spread, math.Abs(math.Sqrt(v/covariance[i*d+i])-1))
	}
	return mean, spread
}

// RankGMM sorts for reading: by steps (calls, where the solver chose its steps), then the most exact first; what draws
// noise comes last, by its cloud.
func RankGMM(rs []GMMResult) []GMMResult {
	steps := func(r GMMResult) int { return cmp.Or(r.Steps, r.Calls) }
	out := slices.Clone(rs)
	slices.SortStableFunc(out, func(a, b GMMResult) int {
		if a.Stochastic != b.Stochastic {
			if a.Stochastic {
				return 1
			}
			return -1
		}
		if a.Stochastic {
			return cmp.Or(cmp.Compare(steps(a), steps(b)), cmp.Compare(a.SpreadError, b.SpreadError))
		}
		return cmp.Or(cmp.Compare(steps(a), steps(b)), cmp.Compare(a.RMSE, b.RMSE))
	})
	return out
}
