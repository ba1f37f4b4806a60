package scheduler

import (
	"math"
	"slices"
)

var rowUniPC = sampler{
	Info: Info{
		Name: "unipc", Order: 3, Calls: 1,
		About:   "predictor and corrector from one call a step, order 1 to 3",
		Paper:   "Zhao et al. 2023, arXiv 2302.04867",
		Aliases: []string{"uni-pc", "uni-pc-bh2"},
	},
	classes: []string{"UniPCMultistepScheduler"},
	grid:    logSNRGrid, step: unipc,
	spacing: "linspace", orders: [2]int{1, 3}, variants: []string{"bh1", "bh2"}, lambda: true, refuses: refuseNoiseSolver,
	quirks: quirks{thresholds: true, sigmas: true, rounded: true, atOne: true},
}

// unipc is UniPC-p (Zhao et al. 2023, arXiv 2302.04867, algorithms 5 to 8), predicting x₀. The prediction at the new
// level first corrects the step that led there (UniC), then makes the next (UniP); both take one model call.
func unipc(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	if i > w.start && !slices.Contains(w.config.DisableCorrector, i-1) {
		w.unified(w.Aux[0], from, w.uniOrder(i-1), p.X0)
	}
	w.remember(from, p.X0, w.order(2))
	w.Aux = [][]float32{clone(w.x)}
	w.unified(w.Aux[0], to, w.uniOrder(i), nil)
	return nil
}

// uniOrder is the order of step i: what the past allows, and what is left at the end.
func (w *walk) uniOrder(i int) int {
	order := min(w.order(2), i-w.start+1)
	if w.config.LowerOrderFinal == nil || *w.config.LowerOrderFinal || w.moves[i].to.Sigma == 0 {
		order = min(order, len(w.moves)-i)
	}
	return order
}

// unified makes the step from the newest level of the past to another (eq. 3 and 8), into w.x. With r₍ₖ₎ = (λₖ − λ₀)/h
// and Dₖ = (mₖ − m₀)/rₖ; here is the prediction at the new level for the corrector, nil for the predictor.
//
//	x' = (σ'/σ)·x − α'·(e⁻ʰ − 1)·m₀ − α'·B(h)·Σ ρₖ·Dₖ,   B(h) = −h (bh1) or e⁻ʰ − 1 (bh2)
func (w *walk) unified(x []float32, to Level, order int, here []float32) {
	s, m0 := w.Past[0].At, w.Past[0].V
	h := to.Lambda() - s.Lambda()
	B := math.Expm1(-h)
	if w.variantOf("bh2") == "bh1" {
		B = -h
	}
	terms := []term{{to.Sigma / s.Sigma, x}, {-to.Alpha * math.Expm1(-h), m0}}
	var rs []float64
	for _, past := range w.Past[1:order] {
		rs = append(rs, (past.At.Lambda()-s.Lambda())/h)
	}
	if here != nil {
		rs = append(rs, 1)
	}
	for k, ρ := range uniCoefficients(rs, h, B) {
		m := here
		if k+1 < order {
			m = w.Past[k+1].V
		}
		c := -to.Alpha * B * ρ / rs[k]
		terms = append(terms, term{c, m}, term{-c, m0})
	}
	combine(w.x, terms...)
}

// uniCoefficients solves R·ρ = b, R the Vandermonde matrix of r, bₙ = n!·h·φₙ₊₁(−h)/B(h) (theorem 3.1). With one
// unknown ρ = ½ is of the same order and what the authors use.
func uniCoefficients(r []float64, h, B float64) []float64 {
	if len(r) == 1 {
		return []float64{0.5}
	}
	R, b := make([][]float64, len(r)), make([]float64, len(r))
	φ, factorial := math.Expm1(-h)/-h-1, 1.0
	for n := range r {
		for _, rk := range r {
			R[n] = append(R[n], math.Pow(rk, float64(n)))
		}
		b[n] = φ * factorial / B
		factorial *= float64(n + 2)
		φ = φ/-h - 1/factorial
	}
	return solve(R, b)
}

// variantOf is the variant of options or configuration, or the default where neither names one of bh1 and bh2.
func (w *walk) variantOf(def string) string {
	if v := or(w.options.Variant, w.config.SolverType); v == "bh1" || v == "bh2" {
		return v
	}
	return def
}

func refuseNoiseSolver(c Config) *refusal {
	if c.PredictX0 != nil && !*c.PredictX0 {
		return &refusal{"predict_x0", "false", "supported is true"}
	}
	return nil
}
