package scheduler

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Info describes a sampler for a list that users read.
type Info struct {
	Name       string
	About      string // one line
	Order      int    // of convergence on the probability-flow ODE; 0 where that is not the measure
	Calls      int    // model calls a step (the last may take fewer)
	Stochastic bool   // draws noise after the first
	Paper      string
	Aliases    []string
}

// sampler is a row of the table: what is listed, how levels are made, and the step.
type sampler struct {
	Info
	grid    func(*Schedule) error
	step    func(*walk, int) error
	calls   func(*Schedule) int // of a whole run; nil: one a step
	check   func(Config, Options) error
	spacing string  // default timestep_spacing
	eta     float64 // default share of fresh noise
	clips   bool    // honours clip_sample and thresholding, as its namesake in diffusers does
	wide    bool    // β defaults of Stable Diffusion, not of Ho et al.
	sigmas  bool    // honours use_karras_sigmas and its like of the file
}

func (s sampler) betaStart() float64 {
	if s.wide {
		return 0.00085
	}
	return 0.0001
}

func (s sampler) betaEnd() float64 {
	if s.wide {
		return 0.012
	}
	return 0.02
}

func (s sampler) betaSchedule() string {
	if s.wide {
		return "scaled_linear"
	}
	return "linear"
}

// samplers is the table, in the order in which they are listed.
func samplers() []sampler {
	return []sampler{
		{Info: Info{Name: "ddim", About: "first order, deterministic (eta 0) to ancestral (eta 1)", Order: 1, Calls: 1, Paper: "Song et al. 2021, arXiv 2010.02502"},
			grid: discreteGrid, step: ddim, check: etaInUnit, spacing: "leading", clips: true},
		{Info: Info{Name: "ddpm", About: "the original ancestral sampler; needs many steps", Calls: 1, Stochastic: true, Paper: "Ho et al. 2020, arXiv 2006.11239"},
			grid: ddpmGrid, step: ddpm, check: ddpmCheck, spacing: "leading", clips: true},
		{Info: Info{Name: "euler", About: "first order along the probability-flow ODE", Order: 1, Calls: 1, Paper: "Karras et al. 2022, arXiv 2206.00364", Aliases: []string{"k-euler"}},
			grid: explodingGrid, step: euler, check: deterministic, spacing: "linspace", sigmas: true},
		{Info: Info{Name: "euler-a", About: "Euler with fresh noise after each step; pictures keep changing with more steps", Calls: 1, Stochastic: true, Paper: "Song et al. 2021, arXiv 2011.13456; k-diffusion", Aliases: []string{"euler-ancestral", "k-euler-a", "k-euler-ancestral"}},
			grid: explodingGrid, step: eulerAncestral, check: etaInUnit, spacing: "linspace", eta: 1},
		{Info: Info{Name: "dpm++2m", About: "second order from one call a step; the usual choice at 15 to 30 steps", Order: 2, Calls: 1, Paper: "Lu et al. 2022, arXiv 2211.01095", Aliases: []string{"dpmpp-2m", "dpm-solver++", "dpmsolver++", "k-dpmpp-2m"}},
			grid: logSNRGrid, step: dpmpp2m, check: deterministic, spacing: "linspace", clips: true, sigmas: true},
	}
}

// Names lists all samplers.
func Names() []Info {
	var infos []Info
	for _, s := range samplers() {
		infos = append(infos, s.Info)
	}
	return infos
}

// classes maps diffusers' class names to samplers.
var classes = map[string]string{
	"DDIMScheduler": "ddim", "DDPMScheduler": "ddpm", "EulerDiscreteScheduler": "euler",
	"EulerAncestralDiscreteScheduler": "euler-a", "DPMSolverMultistepScheduler": "dpm++2m",
}

// DefaultName is the sampler that the configuration names, or ddim where it names none known here.
func (c Config) DefaultName() string { return or(classes[c.Class], "ddim") }

// normal is a name as the table writes it: lower case, with - for spaces and underscores.
func normal(name string) string {
	name = strings.NewReplacer("_", "-", " ", "-").Replace(strings.ToLower(strings.TrimSpace(name)))
	return strings.ReplaceAll(strings.ReplaceAll(name, "dpm++-", "dpm++"), "--", "-")
}

// resolve finds the sampler and settles the options that the name's suffix and the file decide.
func resolve(c Config, o Options) (sampler, Options, error) {
	name := normal(or(o.Name, c.DefaultName()))
	spec, ok := lookup(name)
	if !ok {
		for _, sched := range SigmaSchedules() {
			base, found := strings.CutSuffix(name, "-"+sched[0])
			if spec, ok = lookup(base); !found || !ok {
				ok = false
				continue
			}
			if o.Sigmas != "" && normal(o.Sigmas) != sched[0] {
				return spec, o, fmt.Errorf("%s: the name asks for %s sigmas and the options for %s: want one", o.Name, sched[0], o.Sigmas)
			}
			o.Sigmas = sched[0]
			break
		}
	}
	if !ok {
		return spec, o, fmt.Errorf("no sampler is called %q; nearest: %s", o.Name, quoted(nearest(name, allNames())))
	}
	if o.Sigmas == "" && spec.sigmas {
		o.Sigmas = c.Sigmas
	}
	return spec, o, settle(spec, &o)
}

// settle checks the options that concern every sampler.
func settle(spec sampler, o *Options) error {
	if o.Spacing != "" && !slices.Contains([]string{"leading", "trailing", "linspace"}, o.Spacing) {
		return fmt.Errorf("spacing %q: supported are leading, trailing, linspace", o.Spacing)
	}
	if isList(o.Sigmas) {
		σs, err := parseSigmas(o.Sigmas)
		if err != nil {
			return err
		}
		if o.Steps != 0 && o.Steps != len(σs) {
			return fmt.Errorf("%d steps and %d sigmas contradict each other: leave the steps out", o.Steps, len(σs))
		}
		o.Steps = len(σs)
	} else if o.Sigmas = normal(o.Sigmas); o.Sigmas != "" {
		var names []string
		for _, sched := range SigmaSchedules() {
			names = append(names, sched[0])
		}
		if !slices.Contains(names, o.Sigmas) {
			return fmt.Errorf("sigma schedule %q: supported are %s, or a list such as 14.6,6.1,0.03", o.Sigmas, quoted(names))
		}
	}
	if o.Steps < 1 {
		return fmt.Errorf("%d steps: at least 1 is needed", o.Steps)
	}
	return nil
}

func lookup(name string) (sampler, bool) {
	for _, s := range samplers() {
		if s.Name == name || slices.Contains(s.Aliases, name) {
			return s, true
		}
	}
	return sampler{}, false
}

func allNames() []string {
	var names []string
	for _, s := range samplers() {
		names = append(append(names, s.Name), s.Aliases...)
	}
	return names
}

// nearest are the three names with the least edit distance.
func nearest(name string, names []string) []string {
	sort.SliceStable(names, func(i, j int) bool { return distance(name, names[i]) < distance(name, names[j]) })
	return names[:min(3, len(names))]
}

// distance is Levenshtein's: insertions, deletions and substitutions of bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0]++
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// The checks of options against the sampler.

func deterministic(_ Config, o Options) error { return noEta(o.Name, o) }

func etaInUnit(_ Config, o Options) error {
	if o.Eta != nil && !(*o.Eta >= 0 && *o.Eta <= 1) {
		return fmt.Errorf("eta %v: it must be from 0 to 1", *o.Eta)
	}
	return nil
}

func ddpmCheck(c Config, o Options) error {
	if c.VarianceType == "fixed_large_log" {
		return fmt.Errorf("%s: variance_type = fixed_large_log: supported are fixed_small, fixed_small_log, fixed_large", c.File)
	}
	return noEta("ddpm", o)
}
