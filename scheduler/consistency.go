package scheduler

import (
	"fmt"
	"math"
)

// Samplers of models that were distilled to jump to the picture from any level.

// distilledGrid visits N of the timesteps that the distillation used (original_inference_steps, evenly spaced).
func distilledGrid(s *Schedule) error {
	if err := s.needsTimesteps(); err != nil {
		return err
	}
	n, T, original := s.options.Steps, len(s.train.sigmas), or(s.config.OriginalSteps, 50)
	if s.options.Sigmas != "" && s.options.Sigmas != "model" {
		return fmt.Errorf("%s takes no sigma schedule: a distilled model knows its own timesteps only", s.name)
	}
	if original > T {
		return fmt.Errorf("%s: original_inference_steps = %d: the model was trained with %d", s.config.File, original, T)
	}
	if n > original {
		return fmt.Errorf("%s: %d steps: the distilled model has %d (original_inference_steps)", s.name, n, original)
	}
	var levels []Level
	for i := range n {
		k := int(math.Floor(float64(i) * (float64(original) / float64(n))))
		levels = append(levels, s.train.vp((original-k)*(T/original)-1, 1))
	}
	s.setLevels(append(levels, s.train.vp(-1, 1)))
	if s.config.Class != "LCMScheduler" && s.config.Class != "TCDScheduler" {
		s.warnings = append(s.warnings, s.name+" is for models distilled for it (or with an LCM or TCD LoRA); of others it makes poor pictures")
	}
	return nil
}

var rowLCM = sampler{
	Info: Info{
		Name: "lcm", Calls: 1, Stochastic: true,
		About: "latent consistency: 1 to 8 steps of a model distilled for it",
		Paper: "Luo et al. 2023, arXiv 2310.04378",
	},
	classes: []string{"LCMScheduler"},
	grid:    distilledGrid, step: lcm,
	zeroSNR: true, spacing: "leading",
	quirks: quirks{clips: true, thresholds: true, wide: true},
}

// lcm is the multistep consistency sampler (Luo et al. 2023, arXiv 2310.04378, algorithm 3): jump to the picture by the
// consistency function, add noise for the next level.
//
//	f = c_skip·x + c_out·x₀,   x' = α'·f + σ'·z
func lcm(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	const σData = 0.5
	t := from.T * or(w.config.TimestepScale, 10)
	skip, out := σData*σData/(t*t+σData*σData), t/math.Sqrt(t*t+σData*σData)
	combine(w.x, term{out, p.X0}, term{skip, w.x})
	w.x0 = clone(w.x)
	if to.Sigma == 0 {
		return nil
	}
	z, err := w.noise(from, to)
	if err != nil {
		return err
	}
	combine(w.x, term{to.Alpha, w.x}, term{to.Sigma, z})
	return nil
}

var rowTCD = sampler{
	Info: Info{
		Name: "tcd", Calls: 1, Stochastic: true,
		About: "trajectory consistency: few steps of a distilled model, detail set by eta",
		Paper: "Zheng et al. 2024, arXiv 2402.19159",
	},
	classes: []string{"TCDScheduler"},
	grid:    distilledGrid, step: tcd,
	zeroSNR: true, spacing: "leading", noisy: true, eta: 0.3,
	quirks: quirks{wide: true},
}

// tcd is strategic stochastic sampling (Zheng et al. 2024, arXiv 2402.19159, algorithm 4) with γ = η: a deterministic jump to
// timestep s = (1−γ)·t', then noise up to t'.
//
//	xₛ = αₛ·x₀ + σₛ·ε,   x' = (α'/αₛ)·xₛ + √(1 − α'²/αₛ²)·z
func tcd(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	last := i == len(w.moves)-1
	s := w.train.vp(int(float32(1-w.eta)*float32(to.T)), 1)
	combine(w.x, term{s.Alpha, p.X0}, term{s.Sigma, p.Eps})
	if w.eta == 0 || last {
		return nil
	}
	z, err := w.noise(from, to)
	if err != nil {
		return err
	}
	r := to.Alpha / s.Alpha
	combine(w.x, term{r, w.x}, term{math.Sqrt(max(1-r*r, 0)), z})
	return nil
}
