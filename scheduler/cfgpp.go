package scheduler

import "math"

// Samplers for CFG++ guidance (Chung et al. 2024, arXiv 2406.08070): the picture is the guided one, the noise that is put back is
// the unguided one, ε_u. Guidance scales are between 0 and 2 there. Without an unguided prediction they are
// the plain samplers.

var rowEulerCFGPP = sampler{
	Info: Info{
		Name: "euler-cfg++", Order: 1, Calls: 1,
		About:   "Euler that puts back the unguided noise; guidance scale 0 to 2",
		Paper:   "Chung et al. 2024, arXiv 2406.08070",
		Aliases: []string{"euler-cfg-pp"},
	},
	grid: explodingGrid, step: eulerCFGPP,
	spacing: "linspace",
}

// eulerCFGPP is algorithm 2 of Chung et al. 2024 at α = 1: x' = x₀ + σ'·ε_u.
func eulerCFGPP(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	combine(w.x, term{1, p.X0}, term{to.Sigma, p.unguided()})
	return nil
}

var rowDPMpp2MCFGPP = sampler{
	Info: Info{
		Name: "dpm++2m-cfg++", Order: 2, Calls: 1,
		About:   "dpm++2m that puts back the unguided noise; guidance scale 0 to 2",
		Paper:   "Chung et al. 2024, arXiv 2406.08070",
		Aliases: []string{"dpmpp-2m-cfg-pp", "dpm++2m-cfg-pp"},
	},
	grid: explodingGrid, step: dpmpp2mCFGPP,
	spacing: "linspace", refuses: refuseDPMSolver,
}

// dpmpp2mCFGPP is DPM-Solver++(2M) with CFG++ (Chung et al. 2024, appendix A), h = ln σ/σ', r = h₋₁/h, u₀ the unguided x₀:
//
//	x' = x₀ + e⁻ʰ·(x − u₀) + (1 − e⁻ʰ)/(2r)·(x₀ − u₀₋₁)
func dpmpp2mCFGPP(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	u0 := combined(term{1, w.x}, term{-from.Sigma, p.unguided()})
	e := to.Sigma / from.Sigma
	x := []term{{1, p.X0}, {e, w.x}, {-e, u0}}
	if len(w.Past) > 0 && to.Sigma > 0 {
		r := math.Log(w.Past[0].At.Sigma/from.Sigma) / math.Log(from.Sigma/to.Sigma)
		c := (1 - e) / (2 * r)
		x = append(x, term{c, p.X0}, term{-c, w.Past[0].V})
	}
	combine(w.x, x...)
	w.remember(from, u0, 1)
	return nil
}

func (p Prediction) unguided() []float32 {
	if p.Uncond != nil {
		return p.Uncond
	}
	return p.Eps
}
