package scheduler

import "math"

var rowDPMpp2SAncestral = sampler{
	Info: Info{
		Name: "dpm++2s-a", Calls: 2, Stochastic: true,
		About:   "second-order singlestep DPM-Solver++ with fresh noise",
		Paper:   "Lu et al. 2022, arXiv 2211.01095; k-diffusion",
		Aliases: []string{"dpmpp-2s-a", "dpm++2s-ancestral", "dpmpp-2s-ancestral", "k-dpmpp-2s-a"},
	},
	grid: explodingGrid, step: dpmpp2sAncestral, calls: ancestralCalls(false),
	spacing: "linspace", noisy: true, eta: 1, refuses: refuseDPMSolver,
}

// dpmpp2sAncestral is DPM-Solver++(2S) to a lower level, and fresh noise after it (k-diffusion's
// sample_dpmpp_2s_ancestral; Lu et al. 2022, algorithm 1 with r = ½).
func dpmpp2sAncestral(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	down, up := ancestralStep(from.Sigma, to.Sigma, w.eta)
	if down == 0 {
		add(w.x, -from.Sigma, slope(w.x, p.X0, from.Sigma))
	} else {
		mid := w.exploding(math.Sqrt(from.Sigma * down))
		m := combined(term{mid.Sigma / from.Sigma, w.x}, term{1 - mid.Sigma/from.Sigma, p.X0})
		w.between(m, mid)
		if p, err = w.denoise(m, mid); err != nil {
			return err
		}
		combine(w.x, term{down / from.Sigma, w.x}, term{1 - down/from.Sigma, p.X0})
	}
	if to.Sigma == 0 {
		return nil
	}
	z, err := w.noise(from, to)
	if err != nil {
		return err
	}
	add(w.x, up, z)
	return nil
}

var rowDPMppSDE = sampler{
	Info: Info{
		Name: "dpm++sde", Calls: 2, Stochastic: true,
		About:   "the stochastic singlestep DPM-Solver++; good textures, two calls a step",
		Paper:   "Lu et al. 2022, arXiv 2211.01095; k-diffusion",
		Aliases: []string{"dpmpp-sde", "k-dpmpp-sde"},
	},
	classes: []string{"DPMSolverSDEScheduler"},
	grid:    explodingGrid, step: dpmppSDE, calls: twoCalls,
	spacing: "linspace", noisy: true, eta: 1, refuses: refuseDPMSolver,
	quirks: quirks{wide: true, sigmas: true},
}

// dpmppSDE is the stochastic DPM-Solver++(2S) (k-diffusion's sample_dpmpp_sde; Lu et al. 2022, appendix B): half a step in
// ln σ with its noise, then the whole step with the prediction found there and its own noise.
func dpmppSDE(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	if to.Sigma == 0 {
		add(w.x, -from.Sigma, slope(w.x, p.X0, from.Sigma))
		return nil
	}
	mid := w.exploding(math.Sqrt(from.Sigma * to.Sigma))
	m, err := w.ancestralTo(from, mid, p.X0)
	if err != nil {
		return err
	}
	w.between(m, to) // the end's noise, as diffusers has it
	if p, err = w.denoise(m, mid); err != nil {
		return err
	}
	x, err := w.ancestralTo(from, to, p.X0)
	if err != nil {
		return err
	}
	copy(w.x, x)
	return nil
}

// ancestralTo is the first-order step from w.x to a level with the prediction x₀, and the noise for it.
func (w *walk) ancestralTo(from, to Level, x0 []float32) ([]float32, error) {
	down, up := ancestralStep(from.Sigma, to.Sigma, w.eta)
	r := down / from.Sigma
	x := combined(term{r, w.x}, term{1 - r, x0})
	z, err := w.noise(from, to)
	if err != nil {
		return nil, err
	}
	add(x, up, z)
	return x, nil
}
