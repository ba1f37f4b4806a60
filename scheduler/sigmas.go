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
// Some take a number, written karras:5.
type sigmaSchedule struct {
	name, about string
	make        func(s *Schedule, r sigmaRange, n int, parameter float64) []float64
	parameter   float64 // default; 0: it takes none
	trained     bool    // picks levels of the training, in the clock of timesteps: not for flow models
}

// sigmaSchedules in the order in which they are listed.
func sigmaSchedules() []sigmaSchedule {
	return []sigmaSchedule{
		{"karras", "even in σ^(1/7): dense near the picture (Karras et al. 2022, eq. 5); karras:5 has another root", polynomial, 7, false},
		{"exponential", "even in ln σ (k-diffusion)", exponential, 0, false},
		{"polyexponential", "even in ln σ to a power: polyexponential:2 is denser near the picture (k-diffusion); default 1.5", polyexponential, 1.5, false},
		{"beta", "dense at both ends: quantiles of Beta(0.6, 0.6) (Lee et al. 2024)", betaSpaced, 0.6, false},
		{"kl-optimal", "even in arctan σ: least Kullback-Leibler divergence (Sabour et al. 2024, theorem 3.1)", klOptimal, 0, false},
		{"normal", "even in timesteps, both ends included", normalSpaced, 0, true},
		{"sgm-uniform", "even in timesteps, the last left for the step to 0 (Stability's generative-models)", sgmUniform, 0, true},
		{"simple", "every so many of the training's levels, from the noisiest; of a flow model, which was trained at all, even from 1 to 1/N before the shift", simple, 0, false},
		{"align-your-steps", "levels optimised for Stable Diffusion 1.5 (Sabour et al. 2024), interpolated in ln σ", ays(aysSD15), 0, true},
		{"align-your-steps-xl", "the same for SDXL", ays(aysSDXL), 0, true},
		{"ddim-uniform", "the model's timesteps a fixed number apart, from the second: ddim's with leading spacing", ddimUniform, 0, true},
		{"lu", "even in λ = ln(α/σ): exponential with timesteps rounded as diffusers does (Lu et al. 2022)", exponential, 0, false},
	}
}

// sigmaAliases are other names for schedules.
var sigmaAliases = map[string]string{"k": "karras", "ays": "align-your-steps", "ays-xl": "align-your-steps-xl", "kl": "kl-optimal",
	"sgm": "sgm-uniform", "uniform": "normal"}

// SigmaSchedules lists the names that Options.Sigmas takes, each with a line on it.
func SigmaSchedules() [][2]string {
	list := [][2]string{{"model", "the model's own timesteps, spaced as its configuration says"}}
	for _, s := range sigmaSchedules() {
		list = append(list, [2]string{s.name, s.about})
	}
	return list
}

// discarding at the end of a schedule's name says that it is made for one step more, and the last but one of its levels, which
// is the last before 0, left out: what k-diffusion's users call discarding the penultimate sigma.
const discarding = "-discard"

// parseSchedule splits karras:5 and checks both halves.
func parseSchedule(text string) (sigmaSchedule, error) {
	name, number, has := strings.Cut(strings.TrimSuffix(text, discarding), ":")
	name = or(sigmaAliases[name], name)
	var names []string
	for _, sched := range sigmaSchedules() {
		if sched.name != name {
			names = append(names, sched.name)
			continue
		}
		if !has {
			return sched, nil
		}
		v, err := strconv.ParseFloat(number, 64)
		if sched.parameter == 0 || err != nil || !(v >= 0.01 && v <= 100) {
			return sched, fmt.Errorf("sigma schedule %q: a number from 0.01 to 100 can follow karras, polyexponential and beta", text)
		}
		sched.parameter = v
		return sched, nil
	}
	return sigmaSchedule{}, fmt.Errorf("no sigma schedule is called %q; nearest: %s; or a list such as 14.6,6.1,0.03", text, quoted(nearest(name, names)))
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
	sched, err := parseSchedule(name)
	if err != nil {
		return nil, false, err
	}
	if sched.trained && s.sampler.flow {
		return nil, false, fmt.Errorf("%s: the %s schedule picks timesteps of a model with β, which a flow model has not", s.name, sched.name)
	}
	n := s.options.Steps
	if strings.HasSuffix(name, discarding) {
		return sched.make(s, r, n+1, sched.parameter)[:n], true, nil
	}
	return sched.make(s, r, n, sched.parameter), true, nil
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

// polynomial is even in σ^(1/ρ): eq. 5 of Karras et al. 2022.
func polynomial(_ *Schedule, r sigmaRange, n int, ρ float64) []float64 {
	a, b := math.Pow(r.max, 1/ρ), math.Pow(r.min, 1/ρ)
	σs := linspace(0, 1, n)
	for i, u := range σs {
		σs[i] = math.Pow(a+float64(u*(b-a)), ρ)
	}
	return σs
}

// exponential is even in ln σ.
func exponential(_ *Schedule, r sigmaRange, n int, _ float64) []float64 {
	σs := linspace(math.Log(r.max), math.Log(r.min), n)
	for i, l := range σs {
		σs[i] = math.Exp(l)
	}
	return σs
}

// polyexponential is ln σ = ln σ_min + u^ρ·ln(σ_max/σ_min), u from 1 to 0.
func polyexponential(_ *Schedule, r sigmaRange, n int, ρ float64) []float64 {
	σs := linspace(1, 0, n)
	for i, u := range σs {
		σs[i] = math.Exp(math.Log(r.min) + math.Pow(u, ρ)*math.Log(r.max/r.min))
	}
	return σs
}

// betaSpaced are quantiles of the Beta(a, a) distribution over [σ_min, σ_max] (Lee et al. 2024, as
// diffusers has it).
func betaSpaced(_ *Schedule, r sigmaRange, n int, a float64) []float64 {
	σs := linspace(0, 1, n)
	for i, u := range σs {
		σs[i] = r.min + betaQuantile(1-u, a, a)*(r.max-r.min)
	}
	return σs
}

// klOptimal is σ = tan(u·arctan σ_min + (1−u)·arctan σ_max).
func klOptimal(_ *Schedule, r sigmaRange, n int, _ float64) []float64 {
	σs := linspace(0, 1, n)
	for i, u := range σs {
		σs[i] = math.Tan(u*math.Atan(r.min) + (1-u)*math.Atan(r.max))
	}
	return σs
}

// normalSpaced is even in timesteps, from the last to the first.
func normalSpaced(s *Schedule, _ sigmaRange, n int, _ float64) []float64 {
	return s.train.sigmasAt(linspace(float64(len(s.train.sigmas)-1), 0, n))
}

// sgmUniform is the first n of n+1 such timesteps.
func sgmUniform(s *Schedule, _ sigmaRange, n int, _ float64) []float64 {
	return s.train.sigmasAt(linspace(float64(len(s.train.sigmas)-1), 0, n+1)[:n])
}

// simple takes n of the training's levels from the end, T/n apart. Those of a flow model are all from 0 to 1; other programs round them
// to a table of 1,000 or 10,000.
func simple(s *Schedule, _ sigmaRange, n int, _ float64) []float64 {
	if s.sampler.flow {
		return s.config.flowLevels(1/float64(n), n)
	}
	σs := make([]float64, n)
	T := len(s.train.sigmas)
	for i := range σs {
		σs[i] = float64(s.train.sigmas[T-1-int(float64(i)*(float64(T)/float64(n)))])
	}
	return σs
}

// ddimUniform takes every ⌊T/n⌋th of the training's levels, from the second on.
func ddimUniform(s *Schedule, _ sigmaRange, n int, _ float64) []float64 {
	σs := make([]float64, n)
	T := len(s.train.sigmas)
	for i := range σs {
		σs[n-1-i] = float64(s.train.sigmas[min(1+i*(T/n), T-1)])
	}
	return σs
}

// sigmasAt are the levels at fractional timesteps, linear in ln σ.
func (tr training) sigmasAt(ts []float64) []float64 {
	σs := make([]float64, len(ts))
	for i, t := range ts {
		σs[i] = math.Exp(lerp(tr.logSigma, t))
	}
	return σs
}

// The levels of table 5 of Sabour et al. 2024 (arXiv 2404.14507), from the noisiest; ten steps lead from the first
// to the last, and the last of them to 0 in its place.
var (
	aysSD15 = []float64{14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029}
	aysSDXL = []float64{14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029}
)

// ays interpolates a published table to n+1 levels, linear in ln σ over the index, and leaves the last to the step to 0.
func ays(table []float64) func(*Schedule, sigmaRange, int, float64) []float64 {
	return func(_ *Schedule, _ sigmaRange, n int, _ float64) []float64 {
		σs := linspace(0, float64(len(table)-1), n+1)[:n]
		for i, u := range σs {
			k := min(int(u), len(table)-2)
			w := u - float64(k)
			σs[i] = math.Exp((1-w)*math.Log(table[k]) + w*math.Log(table[k+1]))
		}
		return σs
	}
}
