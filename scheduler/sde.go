package scheduler

import "math"

var rowERSDE = sampler{
	Info: Info{
		Name: "er-sde", Calls: 1, Stochastic: true,
		About: "extended reverse-time SDE, order 1 to 3",
		Paper: "Cui et al. 2023, arXiv 2309.06169",
	},
	grid: logSNRGrid, step: erSDE,
	spacing: "linspace", orders: [2]int{1, 3}, lambda: true,
}

// erSDE is the extended reverse-time SDE solver of order up to 3 (Cui et al. 2023, arXiv 2309.06169, algorithm 3; the noise
// scale is ER-SDE 5, φ(u) = u·(e^(u^0.3) + 10)). With u = σ/α and r = φ(u')/φ(u):
//
//	x' = (α'/α)·r·x + α'·(1−r)·x₀ + α'·(Δ + φ(u')·∫dv/φ(v))·x₀' + α'·(Δ²/2 + φ(u')·∫(v−u)dv/φ(v))·x₀”
//	   + α'·√(u'² − u²r²)·z,   Δ = u' − u, both integrals from u' to u
func erSDE(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	if to.Sigma == 0 {
		copy(w.x, p.X0)
		return nil
	}
	u, uʹ := from.Ratio(), to.Ratio()
	r, Δ := erNoise(uʹ)/erNoise(u), uʹ-u
	x := []term{{to.Alpha / from.Alpha * r, w.x}, {to.Alpha * (1 - r), p.X0}}
	order := min(or(w.options.Order, 3), len(w.Past)+1)
	s0, s1 := erIntegrals(u, uʹ)
	var slope1 []float32 // dx₀/du
	if order >= 2 {
		k := 1 / (u - w.Past[0].At.Ratio())
		slope1 = combined(term{k, p.X0}, term{-k, w.Past[0].V})
		x = append(x, term{to.Alpha * (Δ + s0*erNoise(uʹ)), slope1})
	}
	if order >= 3 && len(w.Aux) > 0 {
		k := to.Alpha * (Δ*Δ/2 + s1*erNoise(uʹ)) * 2 / (u - w.Past[1].At.Ratio())
		x = append(x, term{k, slope1}, term{-k, w.Aux[0]})
	}
	combine(w.x, x...)
	w.remember(from, p.X0, 2)
	if w.Aux = nil; slope1 != nil {
		w.Aux = [][]float32{slope1}
	}
	z, err := w.noise(from, to)
	if err != nil {
		return err
	}
	add(w.x, to.Alpha*math.Sqrt(max(uʹ*uʹ-u*u*r*r, 0)), z)
	return nil
}

func erNoise(u float64) float64 { return u * (math.Exp(math.Pow(u, 0.3)) + 10) }

// erIntegrals are ∫dv/φ(v) and ∫(v−u)dv/φ(v) from u' to u, as the authors sum them: 200 points from below.
func erIntegrals(u, uʹ float64) (s0, s1 float64) {
	const n = 200
	step := (u - uʹ) / n
	for i := range n {
		v := uʹ + float64(i)*step
		s0 += step / erNoise(v)
		s1 += step * (v - u) / erNoise(v)
	}
	return s0, s1
}

var rowResMultistep = sampler{
	Info: Info{
		Name: "res-multistep", Order: 2, Calls: 1,
		About: "refined exponential multistep, second order; takes eta",
		Paper: "Zhang et al. 2023, arXiv 2308.02157",
	},
	grid: explodingGrid, step: resMultistep,
	spacing: "linspace", noisy: true,
}

// resMultistep is the second-order multistep method of Zhang et al. 2023 (Refined Exponential Solver, arXiv 2308.02157,
// eq. 16), with a share η of fresh noise as ancestral samplers have it. With c₂ = (λ₋₁ − λ)/h < 0:
//
//	x' = e⁻ʰ·x + h·(φ₁ − φ₂/c₂)·x₀ + h·(φ₂/c₂)·x₀₋₁,   φ₁ = (1−e⁻ʰ)/h, φ₂ = (1 − φ₁)/h
func resMultistep(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	down, up := ancestralStep(from.Sigma, to.Sigma, w.eta)
	if len(w.Past) == 0 || down == 0 {
		add(w.x, down-from.Sigma, slope(w.x, p.X0, from.Sigma))
	} else {
		// The past is measured from where the last step ended, which with noise is below where this one starts.
		ended := w.Past[0].At
		h := math.Log(from.Sigma / down)
		c2 := (math.Log(ended.T) - math.Log(ended.Sigma)) / h
		φ1 := -math.Expm1(-h) / h
		φ2 := (1 - φ1) / h
		combine(w.x, term{math.Exp(-h), w.x}, term{h * (φ1 - φ2/c2), p.X0}, term{h * φ2 / c2, w.Past[0].V})
	}
	if down == 0 {
		down = from.Sigma // never read: the last step
	}
	w.remember(Level{Alpha: 1, Sigma: from.Sigma, T: down}, p.X0, 1)
	if w.eta == 0 || to.Sigma == 0 {
		return nil
	}
	z, err := w.noise(from, to)
	if err != nil {
		return err
	}
	add(w.x, up, z)
	return nil
}

var rowGradientEstimation = sampler{
	Info: Info{
		Name: "gradient-estimation", Order: 1, Calls: 1,
		About:   "Euler along a slope corrected by the last one",
		Paper:   "Permenter and Yuan 2024, arXiv 2306.04848",
		Aliases: []string{"euler-ge"},
	},
	grid: explodingGrid, step: gradientEstimation,
	spacing: "linspace",
}

// gradientEstimation is Euler's method along a corrected slope (Permenter and Yuan 2024, arXiv 2306.04848, algorithm 2):
// γ·d + (1−γ)·d₋₁ with γ = 2, which takes d₋₁'s error out of d.
func gradientEstimation(w *walk, i int) error {
	const γ = 2
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	d, dt := slope(w.x, p.X0, from.Sigma), to.Sigma-from.Sigma
	if len(w.Past) == 0 || to.Sigma == 0 {
		add(w.x, dt, d)
	} else {
		combine(w.x, term{1, w.x}, term{γ * dt, d}, term{(1 - γ) * dt, w.Past[0].V})
	}
	if !w.pureNoise(from) {
		w.remember(from, d, 1)
	}
	return nil
}
