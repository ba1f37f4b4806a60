package scheduler

import "math"

// discreteGrid visits timesteps of the training themselves. As in diffusers, the level that ddim steps
// to is T/N timesteps below, rounded down: that is the next one it starts from with leading spacing,
// but one off now and then with trailing, and far off with linspace. With a sigma schedule of its own the
// two always agree.
func discreteGrid(s *Schedule) error {
	if s.options.Sigmas != "" && s.options.Sigmas != "model" {
		return logSNRGrid(s)
	}
	n := s.options.Steps
	ts, err := s.discreteTimes(n)
	if err != nil {
		return err
	}
	for _, t := range ts {
		prev := t - len(s.train.sigmas)/n
		s.moves = append(s.moves, move{s.train.vp(t, 0), s.train.vp(prev, s.finalAlpha())})
	}
	return nil
}

var rowDDIM = sampler{
	Info: Info{
		Name: "ddim", Order: 1, Calls: 1,
		About: "first order; deterministic at eta 0, ancestral at eta 1",
		Paper: "Song et al. 2021, arXiv 2010.02502",
	},
	classes: []string{"DDIMScheduler", "DDIMParallelScheduler", "DDIMInverseScheduler"},
	grid:    discreteGrid, step: ddim,
	zeroSNR: true, spacing: "leading", noisy: true, onStride: true,
	quirks: quirks{clips: true, thresholds: true},
}

// ddim is eq. 12 of Song et al. 2021 (DDIM): first order, deterministic at η = 0, and at η = 1 the
// ancestral sampler of ddpm.
//
//	x' = α'·x₀ + √(σ'² − s²)·ε + s·z,   s = η·(σ'/σ)·√(1 − α²/α'²)
func ddim(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	s := w.eta * ancestralSigma(from, to)
	combine(w.x, term{to.Alpha, p.X0}, term{math.Sqrt(max(to.Sigma*to.Sigma-s*s, 0)), p.Eps})
	if w.eta == 0 {
		return nil
	}
	z, err := w.noise(from, to)
	if err != nil {
		return err
	}
	add(w.x, s, z)
	return nil
}

// ancestralSigma is the standard deviation of the fresh noise in q(x' | x, x₀), the Gaussian that ddpm
// draws from: (σ'/σ)·√(1 − α²/α'²).
func ancestralSigma(from, to Level) float64 {
	r := from.Alpha / to.Alpha
	return to.Sigma / from.Sigma * math.Sqrt(max(1-r*r, 0))
}
