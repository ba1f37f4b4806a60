package scheduler

import "math"

// ddpmGrid is discreteGrid where each step leads to the next timestep and the last to the picture.
func ddpmGrid(s *Schedule) error {
	if s.options.Sigmas != "" && s.options.Sigmas != "model" {
		return logSNRGrid(s)
	}
	ts, err := s.discreteTimes(s.options.Steps)
	if err != nil {
		return err
	}
	for i, t := range ts {
		to := s.train.vp(-1, 1)
		if i+1 < len(ts) {
			to = s.train.vp(ts[i+1], 1)
		}
		s.moves = append(s.moves, move{s.train.vp(t, 1), to})
	}
	return nil
}

var rowDDPM = sampler{
	Info: Info{
		Name: "ddpm", Calls: 1, Stochastic: true,
		About: "the original ancestral sampler; wants many steps",
		Paper: "Ho et al. 2020, arXiv 2006.11239",
	},
	classes: []string{"DDPMScheduler", "DDPMParallelScheduler"},
	grid:    ddpmGrid, step: ddpm,
	zeroSNR: true, spacing: "leading", refuses: refuseLogVariance,
	quirks: quirks{clips: true, thresholds: true},
}

// ddpm is algorithm 2 of Ho et al. 2020 in the form of its eq. 7: draw x' from q(x' | x, x₀).
//
//	x' = (α'·β/σ²)·x₀ + (a·σ'²/σ²)·x + √β̃·z,   a² = α²/α'², β = 1−a², β̃ = β·σ'²/σ²
func ddpm(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	σ2, σʹ2 := from.Sigma*from.Sigma, to.Sigma*to.Sigma
	a := from.Alpha / to.Alpha
	β := 1 - a*a
	combine(w.x, term{to.Alpha * β / σ2, p.X0}, term{a * σʹ2 / σ2, w.x})
	if from.T <= 0 {
		return nil
	}
	z, err := w.noise(from, to)
	if err != nil {
		return err
	}
	add(w.x, w.ddpmDeviation(β, max(β*σʹ2/σ2, 1e-20)), z)
	return nil
}

// ddpmDeviation is the standard deviation of the fresh noise for the configuration's variance_type:
// fixed_small is β̃ and fixed_large is β (Ho et al. 2020, section 3.2). The logarithmic ones are diffusers':
// fixed_large_log takes the root of ln β, which is not a number, and is refused.
func (w *walk) ddpmDeviation(β, βTilde float64) float64 {
	if w.config.VarianceType == "fixed_large" {
		return math.Sqrt(β)
	}
	return math.Sqrt(βTilde)
}

func refuseLogVariance(c Config) *refusal {
	if c.VarianceType == "fixed_large_log" {
		return &refusal{"variance_type", c.VarianceType, "supported are fixed_small, fixed_small_log, fixed_large"}
	}
	return nil
}
