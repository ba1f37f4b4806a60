package scheduler

import (
	"fmt"
	"math"
)

// Rectified flow (Liu et al. 2022; Esser et al. 2024): x = (1−σ)·x₀ + σ·ε, and the model predicts dx/dσ = ε − x₀.

// flowGrid makes N levels from σ = 1 down and then 0, shifted towards noise by the configuration's shift s:
// σ ← s·σ/(1 + (s−1)·σ) (Esser et al. 2024, eq. 23). The model's clock is σ in units of its training steps.
func flowGrid(s *Schedule) error {
	c, n := s.config, s.options.Steps
	T, shift := float64(or(c.TrainSteps, 1000)), or(c.Shift, 1)
	// As in diffusers the ends of the range are shifted once already, in float32, unless the shift was not known yet.
	low := float64(float32(shift*(1/T)) / float32(1+(shift-1)*(1/T)))
	if c.DynamicShift {
		low = 1 / T
	}
	if c.EvenFlow {
		low = 1 / float64(n)
	}
	σs := c.flowLevels(low, n)
	if c.ShiftTerminal != 0 {
		stretch(σs, c.ShiftTerminal)
	}
	σs, _, err := s.chosenSigmas(σs, sigmaRange{min: σs[n-1], max: σs[0]})
	if err != nil {
		return err
	}
	if float32(σs[0]) > 1 { // a shift may round 1 up by an ulp of float64
		return fmt.Errorf("%s: sigmas of a flow model are at most 1, not %v", s.name, σs[0])
	}
	var levels []Level
	for _, σ := range σs {
		levels = append(levels, flowLevel(σ, float64(float32(σ)*float32(T))))
	}
	s.setLevels(append(levels, flowLevel(0, 0)))
	return nil
}

// flowLevels are n levels, even from 1 to low and then shifted. They are made in units of training steps, as in diffusers.
func (c Config) flowLevels(low float64, n int) []float64 {
	T := float64(or(c.TrainSteps, 1000))
	σs := linspace(T, low*T, n)
	for i, t := range σs {
		σs[i] = shifted(t/T, or(c.Shift, 1))
	}
	return σs
}

// dynamicShift is the shift for a picture's size.
func (c Config) dynamicShift(o Options) float64 {
	tokens := or(o.Tokens, or(c.MaxTokens, 4096))
	var μ float64
	if c.Mu != nil {
		μ = c.Mu(tokens, o.Steps)
	} else {
		slope := (c.MaxShift - c.BaseShift) / float64(c.MaxTokens-c.BaseTokens)
		μ = float64(tokens)*slope + (c.BaseShift - slope*float64(c.BaseTokens))
	}
	if c.LinearShift {
		return μ
	}
	return math.Exp(μ)
}

func shifted(σ, shift float64) float64 { return shift * σ / (1 + (shift-1)*σ) }

// stretch scales 1−σ so that the last σ is the terminal one.
func stretch(σs []float64, terminal float64) {
	k := (1 - terminal) / (1 - σs[len(σs)-1])
	for i, σ := range σs {
		σs[i] = 1 - (1-σ)*k
	}
}

func flowLevel(sigma, t float64) Level {
	σ := float32(sigma)
	return Level{Alpha: float64(1 - σ), Sigma: float64(σ), T: t}
}

// flowLogSNR are the flow levels of the solvers in λ = ln((1−σ)/σ), which need σ < 1: as diffusers has them, from
// 1−1/T down for dpm++, deis and sa-solver, and from just below 1 for unipc.
func (s *Schedule) flowLogSNR() ([]Level, error) {
	c, n := s.config, s.options.Steps
	T, shift := float64(or(c.TrainSteps, 1000)), or(c.Shift, 1)
	if s.options.Sigmas != "" && s.options.Sigmas != "flow" && s.options.Sigmas != "model" {
		return nil, fmt.Errorf("%s on a flow model takes no sigma schedule but its own: use flow-euler for %s", s.name, s.options.Sigmas)
	}
	// The differences are numpy's, because the timesteps are cut to integers.
	unit := linspace(1, 1/T, n+1)
	var levels []Level
	for i := range n {
		σ := shifted(1-unit[n-i], shift)
		if s.sampler.quirks.atOne {
			σ = min(shifted(unit[i], shift), 1-1e-6)
		}
		levels = append(levels, flowLevel(σ, math.Trunc(σ*T)))
	}
	return append(levels, flowLevel(0, 0)), nil
}

var rowFlowEuler = sampler{
	Info: Info{
		Name: "flow-euler", Order: 1, Calls: 1,
		About:   "Euler for flow models",
		Paper:   "Esser et al. 2024, arXiv 2403.03206",
		Aliases: []string{"flow-match-euler", "flowmatch-euler"},
	},
	classes: []string{"FlowMatchEulerDiscreteScheduler"},
	grid:    flowGrid, step: flowEuler,
	flow:   true,
	quirks: quirks{sigmas: true},
}

// flowEuler is Euler's method along the predicted velocity. With stochastic_sampling the picture is predicted and
// noised afresh for each level instead.
func flowEuler(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	if !w.config.StochasticFlow {
		v := combined(term{1, p.Eps}, term{-1, p.X0})
		add(w.x, to.Sigma-from.Sigma, v)
		return nil
	}
	z, err := w.noise(from, to)
	if err != nil {
		return err
	}
	combine(w.x, term{to.Alpha, p.X0}, term{to.Sigma, z})
	return nil
}

var rowFlowHeun = sampler{
	Info: Info{
		Name: "flow-heun", Order: 2, Calls: 2,
		About:   "Heun for flow models",
		Paper:   "Esser et al. 2024, arXiv 2403.03206",
		Aliases: []string{"flow-match-heun", "flowmatch-heun"},
	},
	classes: []string{"FlowMatchHeunDiscreteScheduler"},
	grid:    flowGrid, step: flowHeun, calls: twoCalls,
	flow: true,
}

// flowHeun is Heun's method along the predicted velocity; the last step is Euler's.
func flowHeun(w *walk, i int) error {
	from, to := w.moves[i].from, w.moves[i].to
	p, err := w.denoise(w.x, from)
	if err != nil {
		return err
	}
	v := slope(w.x, p.X0, from.Sigma)
	if to.Sigma == 0 {
		add(w.x, to.Sigma-from.Sigma, v)
		return nil
	}
	xʹ := combined(term{1, w.x}, term{to.Sigma - from.Sigma, v})
	w.between(xʹ, to)
	pʹ, err := w.denoise(xʹ, to)
	if err != nil {
		return err
	}
	combine(v, term{0.5, v}, term{0.5, slope(xʹ, pʹ.X0, to.Sigma)})
	add(w.x, to.Sigma-from.Sigma, v)
	return nil
}
