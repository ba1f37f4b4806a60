package scheduler

import (
	"fmt"
	"math"
)

// A grid says which noise levels a sampler visits. There are three, because diffusers has three:
//
//	discreteGrid  ddim, ddpm: integer timesteps, variance preserving, N of them
//	explodingGrid euler, heun, lms, …: fractional timesteps, variance exploding, N of them and σ = 0
//	logSNRGrid    dpm++, deis, unipc, …: integer timesteps, variance preserving, the first N of N+1

// spacing is the choice of file and options.
func (s *Schedule) spacing() string {
	return or(s.options.Spacing, or(s.config.Spacing, s.sampler.spacing))
}

// discreteTimes are the n timesteps of ddim and its kin, falling (Lin et al. 2024, table 2). Some may
// fall outside the training: see discreteGrid.
func (s *Schedule) discreteTimes(n int) ([]int, error) {
	if err := s.needsTimesteps(); err != nil {
		return nil, err
	}
	T := len(s.train.sigmas)
	if n > T {
		return nil, fmt.Errorf("%d steps: the model was trained with %d, and more cannot be made", n, T)
	}
	ts := make([]int, n)
	switch s.spacing() {
	case "leading":
		for i := range ts {
			ts[n-1-i] = i*(T/n) + s.config.StepsOffset
		}
	case "trailing":
		for i, t := range arangeDown(T, n) {
			ts[i] = int(math.RoundToEven(t)) - 1
		}
	default: // linspace
		for i, t := range linspace(0, float64(T-1), n) {
			ts[n-1-i] = int(math.RoundToEven(t))
		}
	}
	for _, t := range ts {
		if t < 0 || t >= T {
			return nil, fmt.Errorf("%s spacing with %d steps and steps_offset %d gives timestep %d, but the model has 0 to %d: use another spacing or fewer steps",
				s.spacing(), n, s.config.StepsOffset, t, T-1)
		}
	}
	return ts, nil
}

// finalAlpha is ᾱ after the last step of a discrete schedule.
func (s *Schedule) finalAlpha() float32 {
	if s.config.SetAlphaToOne {
		return 1
	}
	return s.train.alphaBar[0]
}

// explodingTimes are the n fractional timesteps of euler and its kin, falling.
func (s *Schedule) explodingTimes(n int) []float64 {
	T := len(s.train.sigmas)
	ts := make([]float64, n)
	switch s.spacing() {
	case "leading":
		for i := range ts {
			ts[n-1-i] = float64(i*(T/n) + s.config.StepsOffset)
		}
	case "trailing":
		for i, t := range arangeDown(T, n) {
			ts[i] = math.RoundToEven(t) - 1
		}
	default:
		for i, t := range linspace(0, float64(T-1), n) {
			ts[n-1-i] = float64(float32(t))
		}
	}
	return ts
}

// explodingGrid makes α = 1 levels, ending at 0 (or the model's least σ).
func explodingGrid(s *Schedule) error {
	c := s.config
	if c.isEDM() {
		return edmGrid(s)
	}
	ts := s.explodingTimes(s.options.Steps)
	σs := make([]float64, len(ts))
	for i, t := range ts {
		σs[i] = s.train.sigmaAt(t)
	}
	last := s.lastSigma()
	if c.Interpolation == "log_linear" { // even in ln σ, down to the least σ of training in place of 0
		high, low := s.train.sigmas[len(s.train.sigmas)-1], s.train.sigmas[0]
		for i, l := range linspace32(math.Log(float64(high)), math.Log(float64(low)), len(σs)+1)[:len(σs)] {
			σs[i] = float64(float32(math.Exp(float64(l))))
		}
		last = float64(low)
	}
	σs, given, err := s.chosenSigmas(σs, sigmaRange{min: or(c.SigmaMin, σs[len(σs)-1]), max: or(c.SigmaMax, σs[0])})
	if err != nil {
		return err
	}
	var levels []Level
	for i, σ := range σs {
		l := Level{Alpha: 1, Sigma: float64(float32(σ))}
		switch {
		case or(c.TimestepType, "discrete") == "continuous" && c.PredictionType == VPrediction:
			l.T = float64(float32(0.25 * math.Log(l.Sigma)))
		case given:
			l.T = float64(float32(s.train.timeOf(σ)))
			if s.sampler.quirks.rounded && s.options.Sigmas == "karras" {
				l.T = math.RoundToEven(s.train.timeOf(σ))
			}
		default:
			l.T = ts[i]
		}
		levels = append(levels, l)
	}
	levels = append(levels, Level{Alpha: 1, Sigma: last})
	s.setLevels(levels)
	s.initScale = explodingScale(levels[0].Sigma, s.spacing())
	return nil
}

// explodingScale is diffusers' init_noise_sigma: with leading spacing the first x has the variance of
// pure noise over a picture, otherwise that of pure noise.
func explodingScale(σ float64, spacing string) float64 {
	if spacing != "leading" {
		return σ
	}
	f := float32(σ)
	return float64(float32(math.Sqrt(float64(float32(f*f) + 1))))
}

// lastSigma is σ/α after the last step.
func (s *Schedule) lastSigma() float64 {
	if s.config.FinalSigmas == "sigma_min" {
		return float64(s.train.sigmas[0])
	}
	return 0
}

// logSNRTimes are the n timesteps of the dpm++ family: the first n of n+1, so that the last step, to
// σ = 0, is a step like the others.
func (s *Schedule) logSNRTimes(n int) []int {
	T := len(s.train.sigmas)
	last := T
	if λmin := s.config.LambdaMinClipped; !math.IsInf(λmin, -1) {
		last = 0 // the count of timesteps with λ ≥ λmin; σ/α = e^−λ
		for last < T && -float64(s.train.logSigma[last]) >= λmin {
			last++
		}
	}
	ts := make([]int, n)
	spacing := s.spacing()
	if s.sampler.quirks.linspace && s.options.Spacing == "" {
		spacing = "linspace" // diffusers' singlestep solver knows no other
	}
	switch spacing {
	case "leading":
		for i := range ts {
			ts[n-1-i] = (i+1)*(last/(n+1)) + s.config.StepsOffset
		}
	case "trailing":
		for i, t := range arangeDown(last, n) {
			ts[i] = int(math.RoundToEven(t)) - 1
		}
	default:
		for i, t := range linspace(0, float64(last-1), n+1)[1:] {
			ts[n-1-i] = int(math.RoundToEven(t))
		}
	}
	return ts
}

// logSNRGrid makes variance-preserving levels from σ/α, as Lu et al. 2022 need for λ = ln(α/σ).
func logSNRGrid(s *Schedule) error {
	c := s.config
	if c.isEDM() {
		return edmGrid(s)
	}
	if c.PredictionType == Flow {
		levels, err := s.flowLogSNR()
		if err != nil {
			return err
		}
		s.setLevels(levels)
		return nil
	}
	ts := s.logSNRTimes(s.options.Steps)
	σs := make([]float64, len(ts))
	for i, t := range ts {
		σs[i] = s.train.sigmaAt(float64(t))
	}
	σs, given, err := s.chosenSigmas(σs, sigmaRange{
		min: or(c.SigmaMin, float64(s.train.sigmas[0])),
		max: or(c.SigmaMax, float64(s.train.sigmas[len(s.train.sigmas)-1])),
	})
	if err != nil {
		return err
	}
	var levels []Level
	for i, σ := range σs {
		t := s.train.timeOf(σ)
		switch s.options.Sigmas { // the model's clock as diffusers rounds it, where diffusers has the schedule
		case "", "model":
			t = float64(ts[i])
		case "karras", "lu":
			if c.BetaSchedule != "squaredcos_cap_v2" || s.sampler.quirks.rounded {
				t = math.RoundToEven(t)
			}
			t = math.Trunc(t)
		case "exponential", "beta":
			t = math.Trunc(t)
		default:
			t = float64(float32(t))
		}
		levels = append(levels, vpLevel(σ, t))
	}
	last := s.lastSigma()
	if s.sampler.quirks.atMin && !given {
		last = float64(s.train.sigmas[0])
	}
	s.setLevels(append(levels, vpLevel(last, 0)))
	return nil
}

// vpLevel is the variance-preserving level of σ/α = sigma, rounded as float32 arithmetic rounds it.
func vpLevel(sigma, t float64) Level {
	σ := float32(sigma)
	α := 1 / float32(math.Sqrt(float64(float32(σ*σ)+1)))
	return Level{Alpha: float64(α), Sigma: float64(σ * α), T: t}
}

// setLevels makes the moves from each level to the next.
func (s *Schedule) setLevels(ls []Level) {
	for i := range ls {
		ls[i].Data = s.config.SigmaData
	}
	for i := range ls[1:] {
		s.moves = append(s.moves, move{ls[i], ls[i+1]})
	}
}

// arangeDown is numpy.arange(T, 0, −T/n), but always n long: numpy's own length is off by one
// for some n, because it rounds (diffusers issue 4122).
func arangeDown(T, n int) []float64 { return arange(float64(T), float64(T)/float64(n), n) }

// arange is start, start−step, …, in numpy's rounding: the step is the difference of the first two.
func arange(start, step float64, n int) []float64 {
	δ := (start - step) - start
	v := make([]float64, n)
	for i := range v {
		v[i] = start + float64(i)*δ
	}
	return v
}

// linspace is numpy.linspace: n values from start to stop, both included.
func linspace(start, stop float64, n int) []float64 {
	v := make([]float64, n)
	v[0] = start
	for i := 1; i < n; i++ {
		v[i] = float64(float64(i)*((stop-start)/float64(n-1))) + start
	}
	if n > 1 {
		v[n-1] = stop
	}
	return v
}
