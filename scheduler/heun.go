package scheduler

import "math"

var rowHeun = sampler{
	Info: Info{
		Name: "heun", Order: 2, Calls: 2,
		About:   "second order, the mean of two slopes",
		Paper:   "Karras et al. 2022, arXiv 2206.00364",
		Aliases: []string{"k-heun"},
	},
	classes: []string{"HeunDiscreteScheduler"},
	grid:    explodingGrid, step: heun, calls: slopeCalls,
	spacing: "linspace", churns: true, onFlow: "flow-heun",
	quirks: quirks{clips: true, sigmas: true},
}

// heun is algorithm 2 of Karras et al. 2022 (EDM): a step along the slope at σ, then again along the mean of
// it and the slope at σ'. Second order; the step to σ = 0, where there is no slope, is Euler's.
func heun(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	hat, err := w.churn(from, to)
	if err != nil {
		return err
	}
	p, err := w.denoise(w.x, hat)
	if err != nil {
		return err
	}
	d := slope(w.x, p.X0, hat.Sigma)
	if to.Sigma == 0 || w.pureNoise(from) {
		add(w.x, to.Sigma-hat.Sigma, d)
		return nil
	}
	xʹ := combined(term{1, w.x}, term{to.Sigma - hat.Sigma, d})
	w.between(xʹ, to)
	pʹ, err := w.denoise(xʹ, to)
	if err != nil {
		return err
	}
	dʹ := slope(xʹ, pʹ.X0, to.Sigma)
	combine(d, term{0.5, d}, term{0.5, dʹ})
	add(w.x, to.Sigma-hat.Sigma, d)
	return nil
}

var rowDPM2 = sampler{
	Info: Info{
		Name: "dpm2", Order: 2, Calls: 2,
		About:   "second order, the slope at the midpoint in ln σ",
		Paper:   "Lu et al. 2022, arXiv 2206.00927; k-diffusion",
		Aliases: []string{"k-dpm-2", "kdpm2", "kdpm-2", "dpm-2"},
	},
	classes: []string{"KDPM2DiscreteScheduler"},
	grid:    explodingGrid, step: dpm2, calls: slopeCalls,
	spacing: "linspace",
	quirks:  quirks{sigmas: true, rounded: true},
}

// dpm2 is DPM-Solver-2 (Lu et al. 2022, arXiv 2206.00927) in the form of k-diffusion's sample_dpm_2: the midpoint rule,
// the midpoint taken in ln σ.
func dpm2(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	return w.midpoint(from, to, to.Sigma)
}

var rowDPM2Ancestral = sampler{
	Info: Info{
		Name: "dpm2-a", Calls: 2, Stochastic: true,
		About:   "dpm2 with fresh noise after each step",
		Paper:   "Lu et al. 2022, arXiv 2206.00927; k-diffusion",
		Aliases: []string{"dpm2-ancestral", "dpm-2-a", "dpm-2-ancestral", "k-dpm-2-a", "k-dpm-2-ancestral", "kdpm2-a", "kdpm-2-a"},
	},
	classes: []string{"KDPM2AncestralDiscreteScheduler"},
	grid:    explodingGrid, step: dpm2Ancestral, calls: ancestralCalls(true),
	spacing: "linspace", noisy: true, eta: 1,
	quirks: quirks{sigmas: true, rounded: true},
}

// dpm2Ancestral is dpm2 to a lower level, and fresh noise after it.
func dpm2Ancestral(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	down, up := ancestralStep(from.Sigma, to.Sigma, w.eta)
	if err := w.midpoint(from, to, down); err != nil || down == 0 {
		return err
	}
	z, err := w.noise(from, to)
	if err != nil {
		return err
	}
	add(w.x, up, z)
	return nil
}

// midpoint steps x from a level to σ' along the slope at the geometric mean of the two. What Blend puts back there has the
// noise of the step's end, as diffusers has it.
func (w *walk) midpoint(from, to Level, σʹ float64) error {
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	d := slope(w.x, p.X0, from.Sigma)
	if σʹ == 0 || w.pureNoise(from) {
		add(w.x, σʹ-from.Sigma, d)
		return nil
	}
	mid := w.exploding(math.Sqrt(from.Sigma * σʹ))
	m := combined(term{1, w.x}, term{mid.Sigma - from.Sigma, d})
	w.between(m, to)
	if p, err = w.denoise(m, mid); err != nil {
		return err
	}
	add(w.x, σʹ-from.Sigma, slope(m, p.X0, mid.Sigma))
	return nil
}

// pureNoise says whether a level is the first of a zero-SNR schedule, σ/α = 4096. From there a step is Euler's, which is
// exact as long as x₀ stays what it is: the mean of two slopes would multiply their difference, small as it is, by 4096.
func (s *Schedule) pureNoise(l Level) bool {
	return s.config.RescaleZeroSNR && l.Ratio() >= float64(float32(math.Sqrt(1/zeroSNR-1)))
}

// exploding is the α = 1 level of any σ, with the model's clock interpolated.
func (s *Schedule) exploding(σ float64) Level {
	σ = float64(float32(σ))
	return Level{Alpha: 1, Sigma: σ, T: float64(float32(s.clock(σ))), Data: s.config.SigmaData}
}

// twoCalls is for samplers with two calls a step, but one where the step goes to σ = 0.
func twoCalls(s *Schedule) int {
	n := 2 * s.Steps()
	if n > 0 && s.stop == len(s.moves) && s.moves[len(s.moves)-1].to.Sigma == 0 {
		n--
	}
	return n
}

// slopeCalls is twoCalls of the samplers with a mean of slopes, which take one from pure noise, too.
func slopeCalls(s *Schedule) int {
	n := twoCalls(s)
	if n == 0 {
		return 0
	}
	if first := s.moves[s.start]; s.pureNoise(first.from) && first.to.Sigma > 0 {
		n--
	}
	return n
}
