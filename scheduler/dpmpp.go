package scheduler

import "math"

// dpmpp2m is DPM-Solver++(2M), algorithm 2 of Lu et al. 2022 (arXiv 2211.01095): second order from the
// present and the last prediction of the picture. With h = λ' − λ and r = (λ − λ₋₁)/h,
//
//	D₀ = x₀,  D₁ = (x₀ − x₀₋₁)/r
//	x' = (σ'/σ)·x − α'·(e⁻ʰ − 1)·D₀ − ½·α'·(e⁻ʰ − 1)·D₁               (midpoint)
//	                                + α'·((e⁻ʰ − 1)/h + 1)·D₁         (heun)
func dpmpp2m(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	φ := math.Expm1(from.Lambda() - to.Lambda())
	combine(w.x, term{to.Sigma / from.Sigma, w.x}, term{-to.Alpha * φ, p.X0})
	if len(w.Past) > 0 && !w.lowerOrderFinal(i, 1) {
		last := w.Past[0]
		h := to.Lambda() - from.Lambda()
		r := (from.Lambda() - last.At.Lambda()) / h
		c := -0.5 * to.Alpha * φ
		if w.variant() == "heun" {
			c = to.Alpha * (φ/h + 1)
		}
		combine(w.x, term{1, w.x}, term{c / r, p.X0}, term{-c / r, last.V})
	}
	w.remember(from, p.X0, 1)
	return nil
}

// lowerOrderFinal says whether step i is one of the last, for which only order is left: the step to
// σ = 0 has h = ∞, where only the first order has a limit, and short schedules end more calmly so.
func (w *walk) lowerOrderFinal(i, order int) bool {
	left := len(w.moves) - i // steps to go, this one included
	lower := w.config.LowerOrderFinal == nil || *w.config.LowerOrderFinal
	short := lower && len(w.moves) < 15
	if order == 1 {
		return left == 1 && (w.config.EulerAtFinal || short || w.moves[i].to.Sigma == 0)
	}
	return left == order && short
}

// variant is midpoint or heun: how the second-order term is integrated.
func (w *walk) variant() string {
	v := or(w.options.Variant, w.config.SolverType)
	if v != "heun" {
		return "midpoint"
	}
	return v
}
