package scheduler

import "fmt"

// Linear multistep methods: the Adams-Bashforth family, which extrapolate the last slopes.

var rowLMS = sampler{
	Info: Info{
		Name: "lms", Order: 4, Calls: 1,
		About:   "linear multistep, up to fourth order",
		Paper:   "k-diffusion; Liu et al. 2022",
		Aliases: []string{"k-lms"},
	},
	classes: []string{"LMSDiscreteScheduler"},
	grid:    explodingGrid, step: lms,
	spacing: "linspace", orders: [2]int{1, 4},
	quirks: quirks{sigmas: true},
}

// lms is the linear multistep method of order up to 4 on the probability-flow ODE (k-diffusion's sample_lms):
// the polynomial through the last slopes, integrated exactly over the step.
func lms(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	order := or(w.options.Order, 4)
	w.remember(from, slope(w.x, p.X0, from.Sigma), order)
	x := []term{{1, w.x}}
	for k, past := range w.Past {
		x = append(x, term{w.lagrangeIntegral(k, from.Sigma, to.Sigma), past.V})
	}
	combine(w.x, x...)
	return nil
}

// lagrangeIntegral is ∫ Π_{j≠k} (τ − σⱼ)/(σₖ − σⱼ) dτ from a to b over the levels of the past, by Simpson's
// rule, which is exact up to the third degree.
func (w *walk) lagrangeIntegral(k int, a, b float64) float64 {
	l := func(τ float64) float64 {
		product := 1.0
		for j, p := range w.Past {
			if j != k {
				product *= (τ - p.At.Sigma) / (w.Past[k].At.Sigma - p.At.Sigma)
			}
		}
		return product
	}
	return (b - a) / 6 * (l(a) + 4*l((a+b)/2) + l(b))
}

var rowIPNDM = sampler{
	Info: Info{
		Name: "ipndm", Order: 2, Calls: 1,
		About: "Adams-Bashforth with equal-step weights, up to fourth order; strong below 10 steps",
		Paper: "Zhang and Chen 2023, arXiv 2204.13902",
	},
	grid: explodingGrid, step: ipndm,
	spacing: "linspace", orders: [2]int{1, 4},
}

// ipndm is the improved pseudo-linear multistep method (Zhang and Chen 2023, arXiv 2204.13902, section 3.2; Liu et al.
// 2022): Adams-Bashforth with the coefficients of equal steps, whatever the steps are, from lower orders up.
func ipndm(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	before := w.Past
	w.remember(from, slope(w.x, p.X0, from.Sigma), or(w.options.Order, 4))
	x := []term{{1, w.x}}
	for k, c := range adamsBashforth[len(w.Past)-1] {
		x = append(x, term{c * (to.Sigma - from.Sigma), w.Past[k].V})
	}
	combine(w.x, x...)
	if w.pureNoise(from) {
		w.Past = before // a step from σ/α = 4096 is like no other
	}
	return nil
}

// adamsBashforth are the weights of the newest to the oldest slope, for orders 1 to 4 and equal steps.
var adamsBashforth = [][]float64{
	{1},
	{3. / 2, -1. / 2},
	{23. / 12, -16. / 12, 5. / 12},
	{55. / 24, -59. / 24, 37. / 24, -9. / 24},
}

var rowPNDM = sampler{
	Info: Info{
		Name: "pndm", Order: 2, Calls: 1,
		About: "fourth-order Adams-Bashforth on the noise, Runge-Kutta start (or Heun's: plms)",
		Paper: "Liu et al. 2022, arXiv 2202.09778",
	},
	classes: []string{"PNDMScheduler"},
	grid:    pndmGrid, step: pndm, calls: pndmCalls,
	spacing: "leading", variants: []string{"plms"}, onStride: true,
}

var rowPLMS = sampler{
	Info: Info{
		Name: "plms", Order: 2, Calls: 1,
		About: "pndm without the Runge-Kutta start",
		Paper: "Liu et al. 2022, arXiv 2202.09778",
	},
	grid: pndmGrid, step: pndm, calls: pndmCalls,
	spacing: "leading", onStride: true, variant: "plms",
}

// pndm is the pseudo numerical method of Liu et al. 2022 (arXiv 2202.09778): Adams-Bashforth on the predicted noise,
// carried from level to level by ddim's step. It starts with three Runge-Kutta steps (algorithm 2), or,
// where the configuration has skip_prk_steps (as Stable Diffusion's has), with one of Heun's (plms).
func pndm(w *walk, i int) error {
	if w.rungeKuttaStart() && i-w.start < 3 {
		return w.pseudoRungeKutta(i)
	}
	m := w.moves[i]
	e, err := w.output(w.x, m.from)
	if err != nil {
		return err
	}
	w.remember(m.from, e, 4)
	if len(w.Past) == 1 && i+1 < len(w.moves) {
		return w.plmsStart(m, w.moves[i+1].from)
	}
	var terms []term
	for k, c := range adamsBashforth[len(w.Past)-1] {
		terms = append(terms, term{c, w.Past[k].V})
	}
	w.transfer(w.x, w.x, m.from, m.to, combined(terms...))
	return nil
}

// pndmGrid is discreteGrid; pndm has no other because it counts in timesteps.
func pndmGrid(s *Schedule) error {
	if s.options.Sigmas != "" && s.options.Sigmas != "model" {
		return fmt.Errorf("%s takes no sigma schedule: use ipndm or lms, which are of the same kind", s.name)
	}
	return discreteGrid(s)
}

// pndmCalls counts four calls for each Runge-Kutta step, or two for the first step of plms.
func pndmCalls(s *Schedule) int {
	switch n := s.Steps(); {
	case s.rungeKuttaStart():
		return n + 3*min(n, 3)
	case n > 1:
		return n + 1
	default:
		return n
	}
}

// plmsStart is the first step of plms: to the next level along ε, and again along the mean of ε and the ε there.
// The second time starts, as diffusers has it, one stride above the next level, which is where the first
// started when steps are even.
func (w *walk) plmsStart(m move, next Level) error {
	e, xʹ := w.Past[0].V, make([]float32, len(w.x))
	w.transfer(xʹ, w.x, m.from, m.to, e)
	w.between(xʹ, next)
	eʹ, err := w.output(xʹ, next)
	if err != nil {
		return err
	}
	above := w.train.vp(int(next.T)+w.stride(), w.finalAlpha())
	w.transfer(w.x, w.x, above, next, combined(term{0.5, eʹ}, term{0.5, e}))
	return nil
}

// pseudoRungeKutta is eq. 13 of Liu et al. 2022: the classical fourth-order method with ddim's step for
// the additions. The midpoint is half a stride above the next level, in timesteps; the first half step, as
// diffusers has it, goes half a stride down, which is the same where steps are even.
func (w *walk) pseudoRungeKutta(i int) error {
	from, end := w.moves[i].from, w.moves[i+1].from
	half := w.stride() / 2
	down := w.train.vp(int(from.T)-half, w.finalAlpha())
	mid := w.train.vp(int(end.T)+half, w.finalAlpha())
	at, to := []Level{from, mid, mid, end}, []Level{down, mid, end, end}
	weights := []float64{1. / 6, 1. / 3, 1. / 3, 1. / 6}
	mean, x := make([]float32, len(w.x)), clone(w.x)
	for k, l := range at {
		e, err := w.output(x, l)
		if err != nil {
			return err
		}
		if k == 0 {
			w.remember(from, e, 4)
		}
		add(mean, weights[k], e)
		w.transfer(x, w.x, from, to[k], e)
		if k+1 < len(at) {
			w.between(x, at[k+1])
		}
	}
	w.transfer(w.x, w.x, from, end, mean)
	return nil
}

// rungeKuttaStart says whether pndm starts with Runge-Kutta steps, for which there must be four at least.
func (s *Schedule) rungeKuttaStart() bool {
	skip := s.config.SkipPRK != nil && *s.config.SkipPRK || or(s.options.Variant, s.sampler.variant) == "plms"
	return !skip && s.Steps() >= 4
}

// stride is the number of timesteps between two steps of a discrete schedule.
func (s *Schedule) stride() int { return len(s.train.sigmas) / len(s.moves) }

// output is what pndm extrapolates: the model's own prediction, v where it predicts v and ε otherwise. That v is
// extrapolated before it becomes ε is how diffusers does it, and it makes another picture.
func (w *walk) output(x []float32, at Level) ([]float32, error) {
	p, err := w.denoise(x, at)
	if err != nil {
		return nil, err
	}
	if w.config.PredictionType == VPrediction {
		return combined(term{at.Alpha, p.Eps}, term{-at.Sigma, p.X0}), nil
	}
	return clone(p.Eps), nil
}

// transfer is eq. 9 of Liu et al. 2022, ddim's step: dst = (α'/α)·x + (σ' − α'·σ/α)·ε.
func (w *walk) transfer(dst, x []float32, from, to Level, e []float32) {
	if w.config.PredictionType == VPrediction {
		e = combined(term{from.Alpha, e}, term{from.Sigma, x})
	}
	r := to.Alpha / from.Alpha
	combine(dst, term{r, x}, term{to.Sigma - r*from.Sigma, e})
}
