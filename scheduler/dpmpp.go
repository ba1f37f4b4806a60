package scheduler

import "math"

var rowDPMpp2M = sampler{
	Info: Info{
		Name: "dpm++2m", Order: 2, Calls: 1,
		About:   "second order from one call a step; the usual choice at 15 to 30 steps",
		Paper:   "Lu et al. 2022, arXiv 2211.01095",
		Aliases: []string{"dpmpp-2m", "dpm-solver++", "dpmsolver++", "k-dpmpp-2m"},
	},
	classes: []string{"DPMSolverMultistepScheduler", "DPMSolverMultistepInverseScheduler", "EDMDPMSolverMultistepScheduler"},
	grid:    logSNRGrid, step: dpmpp(2),
	spacing: "linspace", variants: []string{"midpoint", "heun"}, lambda: true, choose: chooseDPMpp, refuses: refuseDPMSolver,
	quirks: quirks{thresholds: true, sigmas: true},
}

var rowDPMpp2MSDE = sampler{
	Info: Info{
		Name: "dpm++2m-sde", Calls: 1, Stochastic: true,
		About:   "dpm++2m on the SDE: fresh noise at each step",
		Paper:   "Lu et al. 2022, arXiv 2211.01095",
		Aliases: []string{"dpmpp-2m-sde", "k-dpmpp-2m-sde"},
	},
	grid: logSNRGrid, step: dpmpp(2),
	spacing: "linspace", variants: []string{"midpoint", "heun"}, noisy: true, eta: 1, lambda: true, refuses: refuseDPMSolver,
	quirks: quirks{thresholds: true, sigmas: true},
}

var rowDPMpp3M = sampler{
	Info: Info{
		Name: "dpm++3m", Order: 2, Calls: 1,
		About:   "multistep DPM-Solver++ from three predictions",
		Paper:   "Lu et al. 2022, arXiv 2211.01095",
		Aliases: []string{"dpmpp-3m"},
	},
	grid: logSNRGrid, step: dpmpp(3),
	spacing: "linspace", variants: []string{"midpoint", "heun"}, lambda: true, refuses: refuseDPMSolver,
	quirks: quirks{thresholds: true, sigmas: true},
}

var rowDPMpp3MSDE = sampler{
	Info: Info{
		Name: "dpm++3m-sde", Calls: 1, Stochastic: true,
		About:   "third-order multistep on the SDE; wants a karras or exponential schedule",
		Paper:   "Lu et al. 2022, arXiv 2211.01095; k-diffusion",
		Aliases: []string{"dpmpp-3m-sde", "k-dpmpp-3m-sde"},
	},
	grid: logSNRGrid, step: dpmpp(3),
	spacing: "linspace", variants: []string{"midpoint", "heun"}, noisy: true, eta: 1, lambda: true, refuses: refuseDPMSolver,
	quirks: quirks{thresholds: true, sigmas: true},
}

// dpmpp is the multistep DPM-Solver++ of order 1 to 3 (Lu et al. 2022, arXiv 2211.01095, algorithm 2 and its SDE
// variant in appendix B), for the equation with a share η of fresh noise (0 for the ODE, 1 for the SDE).
// In λ = ln(α/σ), with h = λ' − λ, H = (1+η)·h, and D₀ = x₀, D₁ ≈ h·dx₀/dλ, D₂ ≈ h²·d²x₀/dλ²:
//
//	x' = (σ'/σ)·e^(−ηh)·x + α'·(1 − e^(−H))·D₀ + α'·φ₂·D₁ + α'·φ₃·D₂ + σ'·√(1 − e^(−2ηh))·z
//	φ₂ = (e^(−H) − 1)/H + 1      (heun; ½·(1 − e^(−H)) for midpoint)
//	φ₃ = ½ − (e^(−H) − 1 + H)/H²
//
// In the third order D₂ is half of what the interpolation gives, in the authors' code, k-diffusion and diffusers alike, so
// that it converges with order 2, if with a small constant; it is kept, for the same pictures. Not kept is the sign
// of ½ in diffusers' third order with noise.
func dpmpp(order int) func(*walk, int) error {
	return func(w *walk, i int) error {
		from, to := w.moves[i].from, w.moves[i].to
		p, err := w.denoise(w.x, from)
		if err != nil {
			return err
		}
		h := to.Lambda() - from.Lambda()
		H := (1 + w.eta) * h
		e := math.Expm1(-H)
		x := []term{{to.Sigma / from.Sigma * math.Exp(-w.noiseShare(h)), w.x}, {-to.Alpha * e, p.X0}}
		switch w.orderAt(i, order) {
		case 2:
			φ2 := -e / 2
			if w.variant() == "heun" {
				φ2 = e/H + 1
			}
			c := to.Alpha * φ2 * h / (from.Lambda() - w.Past[0].At.Lambda())
			x = append(x, term{c, p.X0}, term{-c, w.Past[0].V})
		case 3:
			r0 := (from.Lambda() - w.Past[0].At.Lambda()) / h
			r1 := (w.Past[0].At.Lambda() - w.Past[1].At.Lambda()) / h
			d0 := combined(term{1 / r0, p.X0}, term{-1 / r0, w.Past[0].V})
			d1 := combined(term{1 / r1, w.Past[0].V}, term{-1 / r1, w.Past[1].V})
			k := r0 / (r0 + r1)
			φ2, φ3 := to.Alpha*(e/H+1), to.Alpha*(0.5-(e+H)/(H*H))
			x = append(x, term{φ2*(1+k) + φ3/(r0+r1), d0}, term{-φ2*k - φ3/(r0+r1), d1})
		}
		combine(w.x, x...)
		w.remember(from, p.X0, order-1)
		if w.eta == 0 {
			return nil
		}
		z, err := w.noise(from, to)
		if err != nil {
			return err
		}
		add(w.x, to.Sigma*math.Sqrt(-math.Expm1(-2*w.noiseShare(h))), z)
		return nil
	}
}

// noiseShare is η·h, 0 at η = 0 even for the last step, where h = ∞.
func (w *walk) noiseShare(h float64) float64 {
	if w.eta == 0 {
		return 0
	}
	return w.eta * h
}

// orderAt is the order of step i of a multistep solver: what the past allows, and less at the end. The step
// to σ = 0 has h = ∞, where only the first order has a limit, and schedules below 15 steps end more calmly so.
func (w *walk) orderAt(i, order int) int {
	left := len(w.moves) - i // steps to go, this one included
	lower := w.config.LowerOrderFinal == nil || *w.config.LowerOrderFinal
	order = min(order, len(w.Past)+1)
	if lower && len(w.moves) < 15 {
		order = min(order, left)
	}
	if left == 1 && (w.config.EulerAtFinal || w.moves[i].to.Sigma == 0) {
		order = 1
	}
	return order
}

// variant is midpoint or heun: how the second-order term is integrated.
func (w *walk) variant() string {
	if or(w.options.Variant, w.config.SolverType) == "heun" {
		return "heun"
	}
	return "midpoint" // bh1, bh2 and logrho of other solvers too, as in diffusers
}

var rowDPMpp2S = sampler{
	Info: Info{
		Name: "dpm++2s", Order: 2, Calls: 1,
		About:   "second-order singlestep DPM-Solver++ over pairs of levels",
		Paper:   "Lu et al. 2022, arXiv 2211.01095",
		Aliases: []string{"dpmpp-2s", "dpm-solver++-2s"},
	},
	classes: []string{"DPMSolverSinglestepScheduler"},
	grid:    logSNRGrid, step: dpmppSingle,
	spacing: "linspace", variants: []string{"midpoint", "heun"}, lambda: true, refuses: refuseDPMSolver,
	quirks: quirks{thresholds: true, sigmas: true, rounded: true, linspace: true},
}

// dpmppSingle is the singlestep DPM-Solver++ of order 2 (Lu et al. 2022, algorithm 1), as diffusers runs it: over the
// levels in pairs, so that N steps make N model calls. The first of a pair steps by itself (order 1),
// the second starts again from the pair's beginning s and uses both predictions: r = (λ − λₛ)/(λ' − λₛ).
func dpmppSingle(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	second := i%2 == 1 && len(w.Past) > 0 && !w.pairEnds(i)
	if !second {
		w.Past, w.Aux = nil, [][]float32{clone(w.x)}
		w.remember(from, p.X0, 1)
		combine(w.x, term{to.Sigma / from.Sigma, w.x}, term{-to.Alpha * math.Expm1(from.Lambda()-to.Lambda()), p.X0})
		return nil
	}
	s, m := w.Past[0].At, w.Past[0].V
	h := to.Lambda() - s.Lambda()
	e, r := math.Expm1(-h), (from.Lambda()-s.Lambda())/h
	c := -to.Alpha * e / 2
	if w.variant() == "heun" {
		c = to.Alpha * (e/h + 1)
	}
	combine(w.x, term{to.Sigma / s.Sigma, w.Aux[0]}, term{-to.Alpha*e - c/r, m}, term{c / r, p.X0})
	w.Past, w.Aux = nil, nil
	return nil
}

// pairEnds says whether step i, the second of a pair, is of order 1 after all: the last one is, when the
// last step of the schedule goes to σ = 0 or the configuration asks for a lower order at the end.
func (w *walk) pairEnds(i int) bool {
	lower := w.config.LowerOrderFinal != nil && *w.config.LowerOrderFinal
	return i == len(w.moves)-1 && (lower || w.moves[i].to.Sigma == 0)
}

// chooseDPMpp is the sampler that a DPMSolverMultistepScheduler stands for.
func chooseDPMpp(c Config) string {
	name := "dpm++2m"
	if c.SolverOrder == 3 {
		name = "dpm++3m"
	}
	if c.Algorithm == "sde-dpmsolver++" {
		name += "-sde"
	}
	return name
}

// refuseDPMSolver: the dpm++ family predicts x₀; DPM-Solver without ++ predicts ε.
func refuseDPMSolver(c Config) *refusal {
	if c.Algorithm == "dpmsolver" || c.Algorithm == "sde-dpmsolver" {
		return &refusal{"algorithm_type", c.Algorithm, "supported are dpmsolver++ and sde-dpmsolver++"}
	}
	return nil
}
