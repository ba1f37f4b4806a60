package scheduler

import "math"

var rowSASolver = sampler{
	Info: Info{
		Name: "sa-solver", Calls: 1, Stochastic: true,
		About: "stochastic Adams predictor and corrector",
		Paper: "Xue et al. 2023, arXiv 2309.05019",
	},
	classes: []string{"SASolverScheduler"},
	grid:    logSNRGrid, step: saSolver,
	spacing: "linspace", noisy: true, eta: 1, orders: [2]int{1, 3}, lambda: true, refuses: refuseNoisePrediction,
	quirks: quirks{thresholds: true, sigmas: true, rounded: true, atMin: true},
}

// saSolver is SA-Solver (Xue et al. 2023, arXiv 2309.05019, algorithm 1), predicting x₀: stochastic Adams steps with
// noise share τ, a predictor (Bashforth) and a corrector (Moulton) on the same draw. With k = 1+τ²:
//
//	x' = e^(−τ²h)·(σ'/σ)·x + k·α'·Σᵢ Cᵢ·mᵢ + σ'·√(1 − e^(−2τ²h))·z,   Cᵢ = ∫ lᵢ(λ)·e^(−k(λ'−λ)) dλ
//
// As in diffusers τ is η for timesteps from 200 to 800 and 0 outside.
func saSolver(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	corrector := or(w.config.CorrectorOrder, 2)
	if i > w.start && len(w.Aux) == 2 {
		order := min(corrector, i-w.start+1)
		if w.lowersOrder() {
			order = min(order, len(w.moves)-i+2)
		}
		past := append([]Past{{from, p.X0}}, w.Past...)
		w.adams(w.Aux[0], w.moves[i-1].from, from, past[:order], w.Aux[1], true)
	}
	predictor := or(w.options.Order, or(w.config.PredictorOrder, 2))
	w.remember(from, p.X0, max(predictor, corrector-1))
	z, err := w.noise(from, to)
	if err != nil {
		return err
	}
	order := min(predictor, i-w.start+1)
	if w.lowersOrder() || to.Sigma == 0 {
		order = min(order, len(w.moves)-i)
	}
	w.Aux = [][]float32{clone(w.x), clone(z)}
	w.adams(w.Aux[0], from, to, w.Past[:order], z, false)
	return nil
}

func (w *walk) lowersOrder() bool {
	return w.config.LowerOrderFinal == nil || *w.config.LowerOrderFinal
}

// adams makes one stochastic Adams step from a level to another through the given predictions, into w.x.
// At order 2 it has the O(h³) term that the authors add for few steps.
func (w *walk) adams(x []float32, from, to Level, past []Past, z []float32, corrector bool) {
	if to.Sigma == 0 {
		copy(w.x, past[0].V) // the limit: k·α'·C₀ = 1
		return
	}
	τ2 := w.tau(from) * w.tau(from)
	k, h := 1+τ2, to.Lambda()-from.Lambda()
	var nodes []float64
	for _, p := range past {
		nodes = append(nodes, p.At.Lambda()-from.Lambda())
	}
	c := expPolynomialIntegrals(nodes, k, h)
	if len(past) == 2 {
		extra := h*h/2 - (h*k+math.Expm1(-k*h))/(k*k)
		if corrector {
			extra /= h
		} else {
			extra /= -nodes[1]
		}
		c[0] += extra
		c[1] -= extra
	}
	terms := []term{{math.Exp(-τ2*h) * to.Sigma / from.Sigma, x}}
	for i, p := range past {
		terms = append(terms, term{k * to.Alpha * c[i], p.V})
	}
	if τ2 > 0 {
		terms = append(terms, term{to.Sigma * math.Sqrt(-math.Expm1(-2*τ2*h)), z})
	}
	combine(w.x, terms...)
}

func (w *walk) tau(at Level) float64 {
	if at.T >= 200 && at.T <= 800 {
		return w.eta
	}
	return 0
}

func refuseNoisePrediction(c Config) *refusal {
	if c.Algorithm == "noise_prediction" {
		return &refusal{"algorithm_type", c.Algorithm, "supported is data_prediction"}
	}
	return nil
}
