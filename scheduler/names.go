package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
)

// Info describes a sampler for a list that users read.
type Info struct {
	Name       string
	About      string // one line
	Order      int    // of convergence on the probability-flow ODE, as measured (see docs/schedulers.md); 0 where that is not the measure
	Calls      int    // model calls a step (the last may take fewer)
	Stochastic bool   // draws noise after the first
	Paper      string
	Aliases    []string
}

// sampler is a row of the table: what is listed, how levels are made, the step, and what it takes.
type sampler struct {
	Info
	grid       func(*Schedule) error
	step       func(*walk, int) error
	calls      func(*Schedule) int // of a whole run; nil: one a step
	spacing    string              // default timestep_spacing
	noisy      bool                // takes --eta
	eta        float64             // default share of fresh noise
	orders     [2]int              // least and most that Options.Order may be; 0: it takes none
	variants   []string            // that Options.Variant may be
	churns     bool                // takes Options.Churn
	clips      bool                // honours clip_sample, as its namesake in diffusers does
	thresholds bool                // honours thresholding, likewise
	wide       bool                // β defaults of Stable Diffusion, not of Ho et al.
	sigmas     bool                // honours use_karras_sigmas and its like of the file
	adaptive   bool                // finds its own steps
	rounded    bool                // rounds the timesteps of karras, as its namesake in diffusers does
	atMin      bool                // the model's own schedule ends at its least noise, as its namesake's does
	zeroSNR    bool                // can start at α = 0; the others start at α = 2⁻¹² there
	flow       bool                // runs flow models, and only those unless it is a λ solver
	lambda     bool                // solves in λ = ln(α/σ)
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
	mid := []string{"midpoint", "heun"}
	return []sampler{
		{Info: Info{"ddim", "first order; deterministic at eta 0, ancestral at eta 1",
			1, 1, false, "Song et al. 2021, arXiv 2010.02502", nil},
			grid: discreteGrid, step: ddim, zeroSNR: true, spacing: "leading", noisy: true, clips: true, thresholds: true},
		{Info: Info{"ddpm", "the original ancestral sampler; wants many steps",
			0, 1, true, "Ho et al. 2020, arXiv 2006.11239", nil},
			grid: ddpmGrid, step: ddpm, zeroSNR: true, spacing: "leading", clips: true, thresholds: true},
		{Info: Info{"pndm", "fourth-order Adams-Bashforth on the noise, Runge-Kutta start (or Heun's: plms)",
			2, 1, false, "Liu et al. 2022, arXiv 2202.09778", nil},
			grid: pndmGrid, step: pndm, calls: pndmCalls, spacing: "leading", variants: []string{"plms"}},
		{Info: Info{"plms", "pndm without the Runge-Kutta start",
			2, 1, false, "Liu et al. 2022, arXiv 2202.09778", nil},
			grid: pndmGrid, step: pndm, calls: pndmCalls, spacing: "leading"},
		{Info: Info{"euler", "first order along the probability-flow ODE",
			1, 1, false, "Karras et al. 2022, arXiv 2206.00364", []string{"k-euler"}},
			grid: explodingGrid, step: euler, spacing: "linspace", churns: true, sigmas: true},
		{Info: Info{"euler-a", "Euler with fresh noise after each step; the picture keeps changing with the steps",
			0, 1, true, "Song et al. 2021, arXiv 2011.13456; k-diffusion", []string{"euler-ancestral", "k-euler-a", "k-euler-ancestral"}},
			grid: explodingGrid, step: eulerAncestral, spacing: "linspace", noisy: true, eta: 1},
		{Info: Info{"heun", "second order, the mean of two slopes",
			2, 2, false, "Karras et al. 2022, arXiv 2206.00364", []string{"k-heun"}},
			grid: explodingGrid, step: heun, calls: slopeCalls, spacing: "linspace", churns: true, clips: true, sigmas: true},
		{Info: Info{"dpm2", "second order, the slope at the midpoint in ln σ",
			2, 2, false, "Lu et al. 2022, arXiv 2206.00927; k-diffusion", []string{"k-dpm-2", "kdpm2", "kdpm-2", "dpm-2"}},
			grid: explodingGrid, step: dpm2, calls: slopeCalls, spacing: "linspace", sigmas: true, rounded: true},
		{Info: Info{"dpm2-a", "dpm2 with fresh noise after each step",
			0, 2, true, "Lu et al. 2022, arXiv 2206.00927; k-diffusion", []string{"dpm2-ancestral", "dpm-2-a", "dpm-2-ancestral", "k-dpm-2-a", "k-dpm-2-ancestral", "kdpm2-a", "kdpm-2-a"}},
			grid: explodingGrid, step: dpm2Ancestral, calls: ancestralCalls(true), spacing: "linspace", noisy: true, eta: 1, sigmas: true, rounded: true},
		{Info: Info{"lms", "linear multistep, up to fourth order",
			4, 1, false, "k-diffusion; Liu et al. 2022", []string{"k-lms"}},
			grid: explodingGrid, step: lms, spacing: "linspace", orders: [2]int{1, 4}, sigmas: true},
		{Info: Info{"ipndm", "Adams-Bashforth with equal-step weights, up to fourth order; strong below 10 steps",
			2, 1, false, "Zhang and Chen 2023, arXiv 2204.13902", nil},
			grid: explodingGrid, step: ipndm, spacing: "linspace", orders: [2]int{1, 4}},
		{Info: Info{"dpm-fast", "DPM-Solver of order 3 in one run of fixed cost; --steps counts model calls",
			3, 1, false, "Lu et al. 2022, arXiv 2206.00927", []string{"k-dpm-fast"}},
			grid: fastGrid, step: dpmFast, calls: fastCalls, spacing: "linspace", noisy: true},
		{Info: Info{"dpm-adaptive", "DPM-Solver-23 that chooses its steps by its own error",
			3, 0, false, "Lu et al. 2022, arXiv 2206.00927", []string{"k-dpm-adaptive"}},
			grid: adaptiveGrid, step: dpmAdaptive, spacing: "linspace", noisy: true, orders: [2]int{2, 3}, adaptive: true},
		{Info: Info{"dpm++2s", "second-order singlestep DPM-Solver++ over pairs of levels",
			2, 1, false, "Lu et al. 2022, arXiv 2211.01095", []string{"dpmpp-2s", "dpm-solver++-2s"}},
			grid: logSNRGrid, step: dpmppSingle, spacing: "linspace", variants: mid, thresholds: true, sigmas: true, rounded: true, lambda: true},
		{Info: Info{"dpm++2s-a", "second-order singlestep DPM-Solver++ with fresh noise",
			0, 2, true, "Lu et al. 2022, arXiv 2211.01095; k-diffusion", []string{"dpmpp-2s-a", "dpm++2s-ancestral", "dpmpp-2s-ancestral", "k-dpmpp-2s-a"}},
			grid: explodingGrid, step: dpmpp2sAncestral, calls: ancestralCalls(false), spacing: "linspace", noisy: true, eta: 1},
		{Info: Info{"dpm++sde", "the stochastic singlestep DPM-Solver++; good textures, two calls a step",
			0, 2, true, "Lu et al. 2022, arXiv 2211.01095; k-diffusion", []string{"dpmpp-sde", "k-dpmpp-sde"}},
			grid: explodingGrid, step: dpmppSDE, calls: twoCalls, spacing: "linspace", noisy: true, eta: 1, wide: true, sigmas: true},
		{Info: Info{"dpm++2m", "second order from one call a step; the usual choice at 15 to 30 steps",
			2, 1, false, "Lu et al. 2022, arXiv 2211.01095", []string{"dpmpp-2m", "dpm-solver++", "dpmsolver++", "k-dpmpp-2m"}},
			grid: logSNRGrid, step: dpmpp(2), spacing: "linspace", variants: mid, thresholds: true, sigmas: true, lambda: true},
		{Info: Info{"dpm++2m-sde", "dpm++2m on the SDE: fresh noise at each step",
			0, 1, true, "Lu et al. 2022, arXiv 2211.01095", []string{"dpmpp-2m-sde", "k-dpmpp-2m-sde"}},
			grid: logSNRGrid, step: dpmpp(2), spacing: "linspace", noisy: true, eta: 1, variants: mid, thresholds: true, sigmas: true, lambda: true},
		{Info: Info{"dpm++3m", "multistep DPM-Solver++ from three predictions",
			2, 1, false, "Lu et al. 2022, arXiv 2211.01095", []string{"dpmpp-3m"}},
			grid: logSNRGrid, step: dpmpp(3), spacing: "linspace", variants: mid, thresholds: true, sigmas: true, lambda: true},
		{Info: Info{"dpm++3m-sde", "third-order multistep on the SDE; wants a karras or exponential schedule",
			0, 1, true, "Lu et al. 2022, arXiv 2211.01095; k-diffusion", []string{"dpmpp-3m-sde", "k-dpmpp-3m-sde"}},
			grid: logSNRGrid, step: dpmpp(3), spacing: "linspace", noisy: true, eta: 1, variants: mid, thresholds: true, sigmas: true, lambda: true},
		{Info: Info{"deis", "polynomials in ln σ through the noise, order 1 to 3",
			2, 1, false, "Zhang and Chen 2023, arXiv 2204.13902", nil},
			grid: logSNRGrid, step: deis, spacing: "linspace", orders: [2]int{1, 3}, thresholds: true, sigmas: true, rounded: true, atMin: true, lambda: true},
		{Info: Info{"unipc", "predictor and corrector from one call a step, order 1 to 3",
			3, 1, false, "Zhao et al. 2023, arXiv 2302.04867", []string{"uni-pc", "uni-pc-bh2"}},
			grid: logSNRGrid, step: unipc, spacing: "linspace", orders: [2]int{1, 3}, variants: []string{"bh1", "bh2"}, thresholds: true, sigmas: true, rounded: true, lambda: true},
		{Info: Info{"sa-solver", "stochastic Adams predictor and corrector",
			0, 1, true, "Xue et al. 2023, arXiv 2309.05019", nil},
			grid: logSNRGrid, step: saSolver, spacing: "linspace", noisy: true, eta: 1, orders: [2]int{1, 3}, thresholds: true, sigmas: true, rounded: true, atMin: true, lambda: true},
		{Info: Info{"er-sde", "extended reverse-time SDE, order 1 to 3",
			0, 1, true, "Cui et al. 2023, arXiv 2309.06169", nil},
			grid: logSNRGrid, step: erSDE, spacing: "linspace", orders: [2]int{1, 3}, lambda: true},
		{Info: Info{"res-multistep", "refined exponential multistep, second order; takes eta",
			2, 1, false, "Zhang et al. 2023, arXiv 2308.02157", nil},
			grid: explodingGrid, step: resMultistep, spacing: "linspace", noisy: true},
		{Info: Info{"gradient-estimation", "Euler along a slope corrected by the last one",
			1, 1, false, "Permenter and Yuan 2024, arXiv 2306.04848", []string{"euler-ge"}},
			grid: explodingGrid, step: gradientEstimation, spacing: "linspace"},
		{Info: Info{"restart", "Heun with noise put back and taken away again near the picture",
			0, 2, true, "Xu et al. 2023, arXiv 2306.14878", nil},
			grid: restartGrid, step: restart, calls: slopeCalls, spacing: "linspace"},
		{Info: Info{"euler-cfg++", "Euler that puts back the unguided noise; guidance scale 0 to 2",
			1, 1, false, "Chung et al. 2024, arXiv 2406.08070", []string{"euler-cfg-pp"}},
			grid: explodingGrid, step: eulerCFGPP, spacing: "linspace"},
		{Info: Info{"dpm++2m-cfg++", "dpm++2m that puts back the unguided noise; guidance scale 0 to 2",
			2, 1, false, "Chung et al. 2024, arXiv 2406.08070", []string{"dpmpp-2m-cfg-pp", "dpm++2m-cfg-pp"}},
			grid: explodingGrid, step: dpmpp2mCFGPP, spacing: "linspace"},
		{Info: Info{"lcm", "latent consistency: 1 to 8 steps of a model distilled for it",
			0, 1, true, "Luo et al. 2023, arXiv 2310.04378", nil},
			grid: distilledGrid, step: lcm, zeroSNR: true, spacing: "leading", clips: true, thresholds: true, wide: true},
		{Info: Info{"tcd", "trajectory consistency: few steps of a distilled model, detail set by eta",
			0, 1, true, "Zheng et al. 2024, arXiv 2402.19159", nil},
			grid: distilledGrid, step: tcd, zeroSNR: true, spacing: "leading", noisy: true, eta: 0.3, wide: true},
		{Info: Info{"flow-euler", "Euler for flow models",
			1, 1, false, "Esser et al. 2024, arXiv 2403.03206", []string{"flow-match-euler", "flowmatch-euler"}},
			grid: flowGrid, step: flowEuler, flow: true, sigmas: true},
		{Info: Info{"flow-heun", "Heun for flow models",
			2, 2, false, "Esser et al. 2024, arXiv 2403.03206", []string{"flow-match-heun", "flowmatch-heun"}},
			grid: flowGrid, step: flowHeun, calls: twoCalls, flow: true},
	}
}

// twoCalls is for samplers with two calls a step, but one where the step goes to σ = 0.
func twoCalls(s *Schedule) int {
	n := 2 * s.Steps()
	if s.moves[len(s.moves)-1].to.Sigma == 0 {
		n--
	}
	return n
}

// slopeCalls is twoCalls of the samplers with a mean of slopes, which take one from pure noise, too.
func slopeCalls(s *Schedule) int {
	n := twoCalls(s)
	if first := s.moves[s.start]; s.pureNoise(first.from) && first.to.Sigma > 0 {
		n--
	}
	return n
}

// ancestralCalls counts one call for steps so long that float32 leaves nothing of their lower level, too; slopes
// says whether there is a mean of slopes besides.
func ancestralCalls(slopes bool) func(*Schedule) int {
	return func(s *Schedule) int {
		n := 0
		for _, m := range s.moves[s.start:] {
			n++
			if down, _ := ancestralStep(m.from.Sigma, m.to.Sigma, s.eta); down > 0 && !(slopes && s.pureNoise(m.from)) {
				n++
			}
		}
		return n
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
	"DDIMScheduler": "ddim", "DDPMScheduler": "ddpm", "PNDMScheduler": "pndm", "LMSDiscreteScheduler": "lms",
	"EulerDiscreteScheduler": "euler", "EulerAncestralDiscreteScheduler": "euler-a", "HeunDiscreteScheduler": "heun",
	"KDPM2DiscreteScheduler": "dpm2", "KDPM2AncestralDiscreteScheduler": "dpm2-a", "DPMSolverSDEScheduler": "dpm++sde",
	"DPMSolverMultistepScheduler": "dpm++2m", "DPMSolverSinglestepScheduler": "dpm++2s", "DEISMultistepScheduler": "deis",
	"UniPCMultistepScheduler": "unipc", "SASolverScheduler": "sa-solver", "LCMScheduler": "lcm", "TCDScheduler": "tcd",
	"FlowMatchEulerDiscreteScheduler": "flow-euler", "FlowMatchHeunDiscreteScheduler": "flow-heun",
	"DDIMParallelScheduler": "ddim", "DDPMParallelScheduler": "ddpm", "DDIMInverseScheduler": "ddim",
	"DPMSolverMultistepInverseScheduler": "dpm++2m",
}

// classNames are the classes whose models are understood. Others, such as EDMEulerScheduler, scale the model's input and
// output in ways of their own.
func classNames() []string { return slices.Sorted(maps.Keys(classes)) }

// DefaultName is the sampler that the configuration names, or ddim where it names none.
func (c Config) DefaultName() string {
	name := or(classes[c.Class], "ddim")
	if name == "dpm++2m" {
		if c.SolverOrder == 3 {
			name = "dpm++3m"
		}
		if c.Algorithm == "sde-dpmsolver++" {
			name += "-sde"
		}
	}
	return name
}

// normal is a name as the table writes it: lower case, with - for spaces and underscores.
func normal(name string) string {
	name = strings.NewReplacer("_", "-", " ", "-").Replace(strings.ToLower(strings.TrimSpace(name)))
	name = strings.ReplaceAll(name, "dpm++-", "dpm++")
	return strings.ReplaceAll(name, "dpmpp2", "dpmpp-2")
}

// resolve finds the sampler and settles the options that the name's suffix and the file decide.
func resolve(c Config, o Options) (sampler, Options, error) {
	name := normal(or(o.Name, c.DefaultName()))
	for class, sampler := range classes {
		if strings.EqualFold(o.Name, class) {
			name = sampler
		}
	}
	spec, ok := lookup(name)
	if !ok {
		var suffix string
		if spec, suffix, ok = cutSchedule(name); ok {
			if o.Sigmas != "" && normalSchedule(o.Sigmas) != suffix {
				return spec, o, fmt.Errorf("%s: the name asks for %s sigmas and the options for %s: want one", o.Name, suffix, o.Sigmas)
			}
			o.Sigmas = suffix
		}
	}
	if !ok {
		return spec, o, fmt.Errorf("no sampler is called %q; nearest: %s", o.Name, quoted(nearest(name, allNames())))
	}
	if flow := map[string]string{"euler": "flow-euler", "heun": "flow-heun"}[spec.Name]; flow != "" && c.PredictionType == Flow {
		spec, _ = lookup(flow)
	}
	if o.Sigmas == "" && spec.sigmas {
		o.Sigmas = c.Sigmas
	}
	return spec, o, settle(spec, &o)
}

// cutSchedule takes the sigma schedule off the end of a name such as dpm++2m-karras.
func cutSchedule(name string) (spec sampler, schedule string, ok bool) {
	for i := range name {
		if name[i] != '-' {
			continue
		}
		if spec, ok = lookup(name[:i]); !ok {
			continue
		}
		schedule = normalSchedule(name[i+1:])
		if _, err := parseSchedule(schedule); err == nil || schedule == "model" {
			return spec, schedule, true
		}
	}
	return sampler{}, "", false
}

// normalSchedule is a sigma schedule's name without alias.
func normalSchedule(name string) string {
	name, number, has := strings.Cut(normal(name), ":")
	name = or(sigmaAliases[name], name)
	if has {
		return name + ":" + number
	}
	return name
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
	} else if o.Sigmas = normalSchedule(o.Sigmas); o.Sigmas != "" && o.Sigmas != "model" && o.Sigmas != "flow" {
		if _, err := parseSchedule(o.Sigmas); err != nil {
			return err
		}
	}
	if o.Steps < 0 || o.Steps < 1 && !spec.adaptive {
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

// check refuses options and settings of the file that the sampler has no use for.
func (s sampler) check(c Config, o Options) error {
	switch {
	case o.Eta != nil && *o.Eta != 0 && !s.noisy:
		return fmt.Errorf("%s: eta %v: this sampler does not take eta; leave it out, or use ddim, euler-a, dpm++2m-sde, …", s.Name, *o.Eta)
	case o.Eta != nil && !(*o.Eta >= 0 && *o.Eta <= 1):
		return fmt.Errorf("%s: eta %v: it must be from 0 to 1", s.Name, *o.Eta)
	case o.Order != 0 && s.orders[1] == 0:
		return fmt.Errorf("%s: order %d: the order of this sampler is fixed", s.Name, o.Order)
	case o.Order != 0 && (o.Order < s.orders[0] || o.Order > s.orders[1]):
		return fmt.Errorf("%s: order %d: it must be from %d to %d", s.Name, o.Order, s.orders[0], s.orders[1])
	case o.Variant != "" && !slices.Contains(s.variants, o.Variant):
		return fmt.Errorf("%s: variant %q: supported are: %s", s.Name, o.Variant, or(quoted(s.variants), "none"))
	case !(o.Churn >= 0) || o.Churn > 0 && !s.churns:
		return fmt.Errorf("%s: churn %v: it must be 0, or above with euler and heun", s.Name, o.Churn)
	case !(o.Noise >= 0 && o.Noise <= 10):
		return fmt.Errorf("%s: noise factor %v: it must be from 0 to 10", s.Name, o.Noise)
	case !(o.RTol >= 0 && o.ATol >= 0) || (o.RTol > 0 || o.ATol > 0) && !s.adaptive:
		return fmt.Errorf("%s: tolerances are dpm-adaptive's, and positive", s.Name)
	}
	return s.checkConfig(c)
}

// checkConfig refuses settings of the file that the sampler would have to honour and cannot.
func (s sampler) checkConfig(c Config) error {
	refuse := func(key, value, why string) error {
		return fmt.Errorf("%s: %s = %s: not supported by %s: %s", c.File, key, value, s.Name, why)
	}
	switch {
	case strings.HasPrefix(s.Name, "dpm++") && (c.Algorithm == "dpmsolver" || c.Algorithm == "sde-dpmsolver"):
		return refuse("algorithm_type", c.Algorithm, "supported are dpmsolver++ and sde-dpmsolver++")
	case s.Name == "sa-solver" && c.Algorithm == "noise_prediction":
		return refuse("algorithm_type", c.Algorithm, "supported is data_prediction")
	case s.Name == "unipc" && c.PredictX0 != nil && !*c.PredictX0:
		return refuse("predict_x0", "false", "supported is true")
	case s.Name == "ddpm" && c.VarianceType == "fixed_large_log":
		return refuse("variance_type", c.VarianceType, "supported are fixed_small, fixed_small_log, fixed_large")
	case s.flow && c.PredictionType != Flow:
		return refuse("prediction_type", c.PredictionType.String(), "it is for flow models")
	case !s.flow && !s.lambda && c.PredictionType == Flow:
		return refuse("prediction_type", c.PredictionType.String(), "use flow-euler, flow-heun, dpm++2m or unipc")
	}
	return nil
}
