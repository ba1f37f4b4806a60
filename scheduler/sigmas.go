package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// sigmaRange is what a schedule spans, as σ/α.
type sigmaRange struct{ min, max float64 }

// sigmaSchedule makes n falling noise levels σ/α from r.max to r.min; the step to 0 comes after them.
type sigmaSchedule struct {
	name, about string
	make        func(s *Schedule, r sigmaRange, n int) []float64
}

// sigmaSchedules in the order in which they are listed.
func sigmaSchedules() []sigmaSchedule {
	return []sigmaSchedule{
		{"karras", "even in σ^(1/7): dense near the picture (Karras et al. 2022, eq. 5)", karras},
		{"exponential", "even in ln σ (k-diffusion)", exponential},
		{"beta", "dense at both ends: quantiles of Beta(0.6, 0.6) (Lee et al. 2024)", betaSpaced},
		{"lu", "even in λ = ln(α/σ), as exponential, with the timesteps rounded as diffusers does (Lu et al. 2022)", exponential},
	}
}

// SigmaSchedules lists the names that Options.Sigmas takes, each with a line on it.
func SigmaSchedules() [][2]string {
	list := [][2]string{{"model", "the model's own timesteps, spaced as its configuration or --spacing says"}}
	for _, s := range sigmaSchedules() {
		list = append(list, [2]string{s.name, s.about})
	}
	return list
}

// chosenSigmas replaces the model's own noise levels by the schedule of the options, if one is named;
// given says whether it did.
func (s *Schedule) chosenSigmas(own []float64, r sigmaRange) (σs []float64, given bool, err error) {
	name := s.options.Sigmas
	switch {
	case name == "" || name == "model":
		return own, false, nil
	case isList(name):
		σs, err = parseSigmas(name)
		return σs, true, err
	}
	for _, sched := range sigmaSchedules() {
		if sched.name == name {
			return sched.make(s, r, s.options.Steps), true, nil
		}
	}
	return nil, false, fmt.Errorf("no sigma schedule is called %q", name) // resolve has checked it
}

func isList(s string) bool {
	return s != "" && strings.ContainsAny(s[:1], "0123456789.+-")
}

// parseSigmas reads "14.6,6.1,0.03": positive, falling; a last 0 may be written or not.
func parseSigmas(list string) ([]float64, error) {
	var σs []float64
	for i, field := range strings.Split(list, ",") {
		σ, err := strconv.ParseFloat(strings.TrimSpace(field), 64)
		if err != nil || math.IsNaN(σ) || math.IsInf(σ, 0) || σ < 0 || σ > 1e6 {
			return nil, fmt.Errorf("sigmas %q: number %d is %q: want a number from 0 to 1e6", list, i+1, field)
		}
		if i > 0 && σ >= σs[i-1] {
			return nil, fmt.Errorf("sigmas %q: number %d is not below the one before it: noise must fall", list, i+1)
		}
		σs = append(σs, σ)
	}
	if σs[len(σs)-1] == 0 {
		σs = slices.Clip(σs[:len(σs)-1])
	}
	if len(σs) == 0 {
		return nil, fmt.Errorf("sigmas %q: at least one above 0 is needed", list)
	}
	return σs, nil
}

// karras is eq. 5 of Karras et al. 2022 with ρ = 7.
func karras(_ *Schedule, r sigmaRange, n int) []float64 { return polynomial(r, n, 7) }

// polynomial is even in σ^(1/ρ).
func polynomial(r sigmaRange, n int, ρ float64) []float64 {
	a, b := math.Pow(r.max, 1/ρ), math.Pow(r.min, 1/ρ)
	σs := linspace(0, 1, n)
	for i, u := range σs {
		σs[i] = math.Pow(a+float64(u*(b-a)), ρ)
	}
	return σs
}

// exponential is even in ln σ.
func exponential(_ *Schedule, r sigmaRange, n int) []float64 {
	σs := linspace(math.Log(r.max), math.Log(r.min), n)
	for i, l := range σs {
		σs[i] = math.Exp(l)
	}
	return σs
}

// betaSpaced are quantiles of the Beta(0.6, 0.6) distribution over [σ_min, σ_max] (Lee et al. 2024, as
// diffusers has it).
func betaSpaced(_ *Schedule, r sigmaRange, n int) []float64 {
	σs := linspace(0, 1, n)
	for i, u := range σs {
		σs[i] = r.min + betaQuantile(1-u, 0.6, 0.6)*(r.max-r.min)
	}
	return σs
}
