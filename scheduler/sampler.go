package scheduler

import (
	"fmt"
	"slices"
)

// Info describes a sampler for a list that users read.
type Info struct {
	Name       string   `json:"name"`
	About      string   `json:"about"`      // one line
	Order      int      `json:"order"`      // of convergence on the probability-flow ODE, as measured (see docs/schedulers.md); 0 where that is not the measure
	Calls      int      `json:"calls"`      // model calls a step (the last may take fewer)
	Stochastic bool     `json:"stochastic"` // draws noise after the first
	Paper      string   `json:"paper"`
	Aliases    []string `json:"aliases,omitempty"`
}

// sampler is a row of the table: what is listed, how levels are made, the step, and what it takes.
type sampler struct {
	Info
	grid     func(*Schedule) error
	step     func(*walk, int) error
	calls    func(*Schedule) int // of a whole run; nil: one a step
	spacing  string              // default timestep_spacing
	noisy    bool                // takes --eta
	eta      float64             // default share of fresh noise
	orders   [2]int              // least and most that Options.Order may be; 0: it takes none
	variants []string            // that Options.Variant may be
	variant  string              // the default; "": the step's own
	churns   bool                // takes Options.Churn
	adaptive bool                // finds its own steps
	onStride bool                // each step goes down by a fixed number of timesteps, wherever the next one starts
	rises    bool                // a step may start above where the last one ended
	zeroSNR  bool                // can start at α = 0; the others start at α = 2⁻¹² there
	flow     bool                // runs flow models, and only those unless it is a λ solver
	lambda   bool                // solves in λ = ln(α/σ)
	onFlow   string              // the sampler that takes its place on a flow model; "": none

	classes []string              // of diffusers that it stands for
	choose  func(Config) string   // the sampler's name, where the settings of a class choose among several; nil: this one
	refuses func(Config) *refusal // settings that it would have to honour and cannot; nil: none
	quirks  quirks
}

// quirks are what a sampler does only because its namesake in diffusers does.
type quirks struct {
	clips      bool // honours clip_sample
	thresholds bool // honours thresholding
	sigmas     bool // honours use_karras_sigmas and its like of the file
	wide       bool // β defaults of Stable Diffusion, not of Ho et al.
	rounded    bool // rounds the timesteps of karras
	atMin      bool // the model's own schedule ends at its least noise
	atOne      bool // starts flow models just below σ = 1, the other λ solvers one step of training below
	linspace   bool // knows no timestep_spacing of the file but linspace
}

func (s sampler) betaStart() float64 {
	if s.quirks.wide {
		return 0.00085
	}
	return 0.0001
}

func (s sampler) betaEnd() float64 {
	if s.quirks.wide {
		return 0.012
	}
	return 0.02
}

func (s sampler) betaSchedule() string {
	if s.quirks.wide {
		return "scaled_linear"
	}
	return "linear"
}

// samplers is the table, in the order in which they are listed. A row lies beside its step.
func samplers() []sampler {
	return []sampler{
		rowDDIM, rowDDPM, rowPNDM, rowPLMS,
		rowEuler, rowEulerAncestral, rowHeun, rowDPM2, rowDPM2Ancestral, rowLMS, rowIPNDM, rowDPMFast, rowDPMAdaptive,
		rowDPMpp2S, rowDPMpp2SAncestral, rowDPMppSDE, rowDPMpp2M, rowDPMpp2MSDE, rowDPMpp3M, rowDPMpp3MSDE,
		rowDEIS, rowUniPC, rowSASolver, rowERSDE, rowResMultistep, rowGradientEstimation, rowRestart,
		rowEulerCFGPP, rowDPMpp2MCFGPP, rowLCM, rowTCD, rowFlowEuler, rowFlowHeun,
	}
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
	refuse := func(r refusal) error {
		return fmt.Errorf("%s: %s = %s: not supported by %s: %s", c.File, r.key, r.value, s.Name, r.why)
	}
	if s.refuses != nil {
		if r := s.refuses(c); r != nil {
			return refuse(*r)
		}
	}
	switch {
	case s.flow && c.PredictionType != Flow:
		return refuse(refusal{"prediction_type", c.PredictionType.String(), "it is for flow models"})
	case !s.flow && !s.lambda && c.PredictionType == Flow:
		return refuse(refusal{"prediction_type", c.PredictionType.String(), "use flow-euler, flow-heun, dpm++2m or unipc"})
	}
	return nil
}

// refusal is a setting of the file that a sampler cannot honour, and what it can.
type refusal struct{ key, value, why string }
