package scheduler

import "math"

var rowEuler = sampler{
	Info: Info{
		Name: "euler", Order: 1, Calls: 1,
		About:   "first order along the probability-flow ODE",
		Paper:   "Karras et al. 2022, arXiv 2206.00364",
		Aliases: []string{"k-euler"},
	},
	classes: []string{"EulerDiscreteScheduler", "EDMEulerScheduler"},
	grid:    explodingGrid, step: euler,
	spacing: "linspace", churns: true, onFlow: "flow-euler",
	quirks: quirks{sigmas: true},
}

// euler is algorithm 2 of Karras et al. 2022 without the second-order correction: one step along
// dx/dσ = (x − x₀)/σ. With S_churn above 0 noise is first raised from σ to σ̂.
func euler(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	hat, err := w.churn(from, to)
	if err != nil {
		return err
	}
	p, err := w.denoise(w.x, hat)
	if err != nil {
		return err
	}
	add(w.x, to.Sigma-hat.Sigma, slope(w.x, p.X0, hat.Sigma))
	return nil
}

// slope is dx/dσ = (x − x₀)/σ of the probability-flow ODE at α = 1. It is rounded as diffusers rounds
// it, which shows at the first level of a zero-SNR schedule, σ = 4096: x is large there and its change as large.
func slope(x, x0 []float32, σ float64) []float32 {
	d := make([]float32, len(x))
	for i := range d {
		d[i] = (x[i] - x0[i]) / float32(σ)
	}
	return d
}

// churn raises the noise of x from σ to σ̂ = (1+γ)·σ, γ = min(S_churn/N, √2−1) (Karras et al. 2022, eq. 35).
func (w *walk) churn(from, to Level) (Level, error) {
	γ := min(w.options.Churn/float64(len(w.moves)), math.Sqrt2-1)
	if γ <= 0 {
		return from, nil
	}
	hat := w.exploding(from.Sigma * (1 + γ))
	z, err := w.noise(from, to)
	if err != nil {
		return hat, err
	}
	add(w.x, math.Sqrt(hat.Sigma*hat.Sigma-from.Sigma*from.Sigma), z)
	return hat, nil
}

var rowEulerAncestral = sampler{
	Info: Info{
		Name: "euler-a", Calls: 1, Stochastic: true,
		About:   "Euler with fresh noise after each step; the picture keeps changing with the steps",
		Paper:   "Song et al. 2021, arXiv 2011.13456; k-diffusion",
		Aliases: []string{"euler-ancestral", "k-euler-a", "k-euler-ancestral"},
	},
	classes: []string{"EulerAncestralDiscreteScheduler"},
	grid:    explodingGrid, step: eulerAncestral,
	spacing: "linspace", noisy: true, eta: 1,
}

// eulerAncestral steps to a level below the next and adds the noise that is missing (Song et al. 2021, SDE,
// in the form of k-diffusion's sample_euler_ancestral): with η = 1 the marginals are those of ddpm.
func eulerAncestral(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	down, up := ancestralStep(from.Sigma, to.Sigma, w.eta)
	add(w.x, down-from.Sigma, slope(w.x, p.X0, from.Sigma))
	z, err := w.noise(from, to)
	if err != nil {
		return err
	}
	add(w.x, up, z)
	return nil
}

// ancestralStep splits a step from σ to σ' into a deterministic one to down and fresh noise up:
// down² + up² = σ'². In float32, as everywhere else: where σ is large the difference is mostly rounding.
func ancestralStep(σ, σʹ, η float64) (down, up float64) {
	f, t := float32(σ), float32(σʹ)
	f2, t2 := f*f, t*t
	u := min(t, float32(η)*sqrt32(float32(t2*(f2-t2))/f2))
	return float64(sqrt32(t2 - float32(u*u))), float64(u)
}

func sqrt32(v float32) float32 { return float32(math.Sqrt(float64(max(v, 0)))) }

// ancestralCalls counts one call for steps so long that float32 leaves nothing of their lower level, too; slopes
// says whether there is a mean of slopes besides.
func ancestralCalls(slopes bool) func(*Schedule) int {
	return func(s *Schedule) int {
		n := 0
		for _, m := range s.moves[s.start:s.stop] {
			n++
			if down, _ := ancestralStep(m.from.Sigma, m.to.Sigma, s.eta); down > 0 && !(slopes && s.pureNoise(m.from)) {
				n++
			}
		}
		return n
	}
}
