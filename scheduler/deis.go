package scheduler

var rowDEIS = sampler{
	Info: Info{
		Name: "deis", Order: 2, Calls: 1,
		About: "polynomials in ln σ through the noise, order 1 to 3",
		Paper: "Zhang and Chen 2023, arXiv 2204.13902",
	},
	classes: []string{"DEISMultistepScheduler"},
	grid:    logSNRGrid, step: deis,
	spacing: "linspace", orders: [2]int{1, 3}, lambda: true,
	quirks: quirks{thresholds: true, sigmas: true, rounded: true, atMin: true},
}

// deis is tAB-DEIS in ln ρ, ρ = σ/α (Zhang and Chen 2023, arXiv 2204.13902, eq. 15): the polynomial in ln ρ through the last
// noise predictions, integrated exactly over ρ.
//
//	x' = α'·(x/α + Σₖ Cₖ·εₖ),   Cₖ = ∫ Π_{j≠k} (ln ρ − ln ρⱼ)/(ln ρₖ − ln ρⱼ) dρ
func deis(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	if w.config.Thresholding { // ε follows the thresholded picture
		combine(p.Eps, term{1 / from.Sigma, w.x}, term{-from.Alpha / from.Sigma, p.X0})
	}
	order := w.orderAt(i, w.order(2))
	w.remember(from, p.Eps, w.order(2))
	x := []term{{to.Alpha / from.Alpha, w.x}}
	for k, c := range logPolynomialIntegrals(w.Past[:order], from.Ratio(), to.Ratio()) {
		x = append(x, term{to.Alpha * c, w.Past[k].V})
	}
	combine(w.x, x...)
	return nil
}

// order is the order that options or configuration ask for.
func (w *walk) order(def int) int { return or(w.options.Order, or(w.config.SolverOrder, def)) }
