package scheduler

import (
	"fmt"
	"math"
)

// DPM-Solver of orders 1 to 3 (Lu et al. 2022, arXiv 2206.00927) at α = 1, where λ = −ln σ: the fast and the adaptive
// variant of k-diffusion. Both end at the model's least noise, not at 0.

// dpmSolver steps x from one level to a lower σ with orders 1 to 3 (algorithms 1 and 2; r₁ = ½, or ⅓ and ⅔). ε of the
// first call is given; second, where not nil, is the second call's ε of order 3, found before for order 2.
type dpmSolver struct {
	w    *walk
	x    []float32
	from Level
	ε    []float32
	εr1  []float32 // at r₁ = ⅓, kept between the orders of dpm-adaptive
}

// second is order 2 with inner point r.
func (d *dpmSolver) second(σʹ, r float64) ([]float32, error) {
	h := math.Log(d.from.Sigma / σʹ)
	if err := d.inner(r, h); err != nil {
		return nil, err
	}
	c := σʹ * math.Expm1(h)
	return combined(term{1, d.x}, term{-c + c/(2*r), d.ε}, term{-c / (2 * r), d.εr1}), nil
}

// third is order 3.
func (d *dpmSolver) third(σʹ float64) ([]float32, error) {
	const r1, r2 = 1. / 3, 2. / 3
	h := math.Log(d.from.Sigma / σʹ)
	if err := d.inner(r1, h); err != nil {
		return nil, err
	}
	s2 := d.w.exploding(d.from.Sigma * math.Exp(-r2*h))
	e := math.Expm1(r2 * h)
	k := s2.Sigma * (r2 / r1) * (e/(r2*h) - 1)
	u2 := combined(term{1, d.x}, term{-s2.Sigma*e + k, d.ε}, term{-k, d.εr1})
	d.w.between(u2, s2)
	εr2, err := d.w.epsilon(u2, s2)
	if err != nil {
		return nil, err
	}
	c, k3 := σʹ*math.Expm1(h), σʹ/r2*(math.Expm1(h)/h-1)
	return combined(term{1, d.x}, term{-c + k3, d.ε}, term{-k3, εr2}), nil
}

// inner makes the model call at λ + r·h, if it has not been made.
func (d *dpmSolver) inner(r, h float64) (err error) {
	if d.εr1 != nil {
		return nil
	}
	s1 := d.w.exploding(d.from.Sigma * math.Exp(-r*h))
	u1 := combined(term{1, d.x}, term{-s1.Sigma * math.Expm1(r*h), d.ε})
	d.w.between(u1, s1)
	d.εr1, err = d.w.epsilon(u1, s1)
	return err
}

// epsilon is the slope (x − x₀)/σ, which is the noise at α = 1.
func (w *walk) epsilon(x []float32, at Level) ([]float32, error) {
	p, err := w.denoise(x, at)
	if err != nil {
		return nil, err
	}
	return slope(x, p.X0, at.Sigma), nil
}

// startSigma is where schedules begin that choose their own levels of a zero-SNR model: after one first-order step,
// because of x ≈ 4096·ε every error is a small share. It is about where the others' noise begins.
const startSigma = 15

// fastGrid splits N model calls into steps of order 3 and a rest, even in ln σ (Lu et al. 2022, section 3.4).
func fastGrid(s *Schedule) error {
	if s.options.Sigmas != "" && s.options.Sigmas != "model" {
		return fmt.Errorf("%s takes no sigma schedule: its steps are even in ln σ", s.name)
	}
	high, low := s.trainedRange()
	first, n := s.exploding(high), s.options.Steps
	var levels []Level
	if s.pureNoise(first) && n > 1 {
		levels, high, n = append(levels, first), startSigma, n-1
	}
	for _, l := range linspace(math.Log(high), math.Log(low), n/3+2) {
		levels = append(levels, s.exploding(math.Exp(l)))
	}
	s.setLevels(levels)
	s.initScale = explodingScale(levels[0].Sigma, s.spacing())
	return nil
}

func (s *Schedule) trainedRange() (high, low float64) {
	return float64(s.train.sigmas[len(s.train.sigmas)-1]), float64(s.train.sigmas[0])
}

// fastOrder is the order of step i of dpm-fast: 3, but N mod 3 in the last step, or 2 and 1 in the last two; 1 from
// pure noise, which is not counted in that N.
func (s *Schedule) fastOrder(i int) int {
	m, n := len(s.moves), s.options.Steps
	if s.pureNoise(s.moves[0].from) && n > 1 {
		if i == 0 {
			return 1
		}
		n--
	}
	switch {
	case n%3 == 0 && i == m-1:
		return 1
	case n%3 == 0 && i == m-2:
		return 2
	case n%3 != 0 && i == m-1:
		return n % 3
	}
	return 3
}

// fastCalls is the number of model calls, which is what --steps means for dpm-fast.
func fastCalls(s *Schedule) int {
	n := 0
	for i := s.start; i < s.stop; i++ {
		n += s.fastOrder(i)
	}
	return n
}

var rowDPMFast = sampler{
	Info: Info{
		Name: "dpm-fast", Order: 3, Calls: 1,
		About:   "DPM-Solver of order 3 in one run of fixed cost; --steps counts model calls",
		Paper:   "Lu et al. 2022, arXiv 2206.00927",
		Aliases: []string{"k-dpm-fast"},
	},
	grid: fastGrid, step: dpmFast, calls: fastCalls,
	spacing: "linspace", noisy: true,
}

// dpmFast is DPM-Solver-fast (Lu et al. 2022, section 3.4), with a share η of fresh noise as in k-diffusion.
func dpmFast(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	down, up := w.noisyStep(from, to)
	x, _, err := w.dpmStep(from, down, w.fastOrder(i), false)
	if err != nil {
		return err
	}
	copy(w.x, x)
	return w.addNoise(from, to, up)
}

// noisyStep is ancestralStep, but never below the last level.
func (w *walk) noisyStep(from, to Level) (down, up float64) {
	if w.eta == 0 {
		return to.Sigma, 0
	}
	down, _ = ancestralStep(from.Sigma, to.Sigma, w.eta)
	down = max(down, w.moves[len(w.moves)-1].to.Sigma)
	return down, math.Sqrt(max(to.Sigma*to.Sigma-down*down, 0))
}

// addNoise adds fresh noise of deviation up; k-diffusion draws it even where up is 0.
func (w *walk) addNoise(from, to Level, up float64) error {
	if w.eta == 0 {
		return nil
	}
	z, err := w.noise(from, to)
	if err != nil {
		return err
	}
	add(w.x, up, z)
	return nil
}

// dpmStep makes a step of an order; with pair it also returns that of one order less, from the same calls.
func (w *walk) dpmStep(from Level, σʹ float64, order int, pair bool) (high, low []float32, err error) {
	ε, err := w.epsilon(w.x, from)
	if err != nil {
		return nil, nil, err
	}
	d := &dpmSolver{w: w, x: w.x, from: from, ε: ε}
	first := func() []float32 {
		return combined(term{1, w.x}, term{-σʹ * math.Expm1(math.Log(from.Sigma/σʹ)), ε})
	}
	switch {
	case order == 1:
		return first(), nil, nil
	case order == 2:
		if pair {
			low = first()
		}
		high, err = d.second(σʹ, 0.5)
	default:
		if pair {
			if low, err = d.second(σʹ, 1./3); err != nil {
				return nil, nil, err
			}
		}
		high, err = d.third(σʹ)
	}
	return high, low, err
}

// adaptiveGrid is one move from the most to the least noise: the steps between are found while running.
func adaptiveGrid(s *Schedule) error {
	if s.options.Sigmas != "" && s.options.Sigmas != "model" {
		return fmt.Errorf("%s takes no sigma schedule: it chooses its own steps", s.name)
	}
	high, low := s.trainedRange()
	s.setLevels([]Level{s.exploding(high), s.exploding(low)})
	s.initScale = explodingScale(s.moves[0].from.Sigma, s.spacing())
	if s.options.Steps != 0 {
		s.warnings = append(s.warnings, fmt.Sprintf("dpm-adaptive chooses its own steps: %d steps were asked for and are ignored", s.options.Steps))
	}
	return nil
}

var rowDPMAdaptive = sampler{
	Info: Info{
		Name: "dpm-adaptive", Order: 3,
		About:   "DPM-Solver-23 that chooses its steps by its own error",
		Paper:   "Lu et al. 2022, arXiv 2206.00927",
		Aliases: []string{"k-dpm-adaptive"},
	},
	grid: adaptiveGrid, step: dpmAdaptive,
	spacing: "linspace", noisy: true, orders: [2]int{2, 3}, adaptive: true,
}

// mostAdaptive is how many steps, and how many attempts at one, dpm-adaptive makes. A sound model takes a few dozen.
const mostAdaptive = 1000

// dpmAdaptive is DPM-Solver-12 or 23 (Lu et al. 2022, appendix C): the difference between two orders sets the step size in
// λ, and a step with too large a difference is made again, smaller. State.Sigma is where it stands.
func dpmAdaptive(w *walk, _ int) error {
	end := w.moves[0].to.Sigma
	if w.Sigma == 0 {
		w.Sigma, w.H, w.Aux = w.moves[0].from.Sigma, 0.05, [][]float32{clone(w.x)}
	}
	if w.Step >= mostAdaptive {
		return fmt.Errorf("dpm-adaptive is at σ = %v after %d steps: raise its tolerances, or use another scheduler; the model may be damaged", w.Sigma, w.Step)
	}
	order := or(w.options.Order, 3)
	if from := w.exploding(w.Sigma); w.pureNoise(from) {
		return w.firstOrder(from, w.exploding(startSigma))
	}
	for range mostAdaptive {
		from := w.exploding(w.Sigma)
		to := w.exploding(max(end, w.Sigma*math.Exp(-w.H)))
		down, up := w.noisyStep(from, to)
		high, low, err := w.dpmStep(from, down, order, true)
		if err != nil {
			return err
		}
		if w.accept(w.stepError(high, low), order) {
			w.Aux = [][]float32{low}
			copy(w.x, high)
			w.Sigma = to.Sigma
			return w.addNoise(from, to, up)
		}
	}
	return fmt.Errorf("dpm-adaptive found no step that is accurate enough at σ = %v: raise its tolerances, or the model gives no finite values", w.Sigma)
}

// firstOrder is dpm-adaptive's step without a choice.
func (w *walk) firstOrder(from, to Level) error {
	down, up := w.noisyStep(from, to)
	x, _, err := w.dpmStep(from, down, 1, false)
	if err != nil {
		return err
	}
	copy(w.x, x)
	w.Sigma, w.Aux = to.Sigma, [][]float32{clone(x)}
	return w.addNoise(from, to, up)
}

// stepError is the root mean square of the difference between two orders, in units of the tolerance.
func (w *walk) stepError(high, low []float32) float64 {
	atol, rtol := or(w.options.ATol, 0.0078), or(w.options.RTol, 0.05)
	sum := 0.0
	for i, l := range low {
		δ := max(atol, rtol*max(math.Abs(float64(l)), math.Abs(float64(w.Aux[0][i]))))
		e := float64(l-high[i]) / δ
		sum += e * e
	}
	return math.Sqrt(sum / float64(len(low)))
}

// accept is the step-size controller, h ← h·f(e^(−1/order)) with f(v) = 1 + arctan(v − 1), and whether this
// step stands (factor of 0.81 at least).
func (w *walk) accept(e float64, order int) bool {
	n := float64(order)
	if w.eta > 0 {
		n = 1.5
	}
	factor := 1 + math.Atan(math.Pow(1/(e+1e-8), 1/n)-1)
	w.H *= factor
	return factor >= 0.81
}
