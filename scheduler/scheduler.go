// Package scheduler holds the samplers of diffusion models: given noise and a denoiser they find
// the picture. A sampler knows levels of noise and a denoiser, and nothing else: no prompt, no
// device, no prediction type (prediction.go settles that at the denoiser's edge).
//
// # Levels
//
// Everywhere x = α·x₀ + σ·ε, with x₀ the picture, ε unit noise, and (α, σ) the [Level]. Three
// conventions appear: variance preserving, α²+σ² = 1 (ddim, dpm++2m, …), variance exploding, α = 1
// (euler, heun, lms, …, in the k-diffusion manner), and rectified flow, α = 1−σ. A sampler runs in
// the convention in which diffusers runs it, because that fixes how the first noise is scaled.
//
// # Reading order
//
// config.go (the model's scheduler_config.json) → training.go (the noise levels of training) →
// grid.go and sigmas.go (which of them are visited) → run.go (the loop) → one file for each family
// of samplers → sampler.go (the table of all samplers) → names.go (how they are found).
//
// Arithmetic on x is float32, coefficients are float64, and no operation on x is reordered or fused, so
// that a run gives the same bits each time, alone or beside others.
package scheduler

import (
	"fmt"
	"math"
)

// Level is one noise level: x = Alpha·x₀ + Sigma·ε. T is the model's own clock, a timestep of its
// training that may be fractional.
type Level struct {
	Alpha, Sigma, T float64
	Data            float64 // σ_data of models of the EDM kind; 0 for others
}

// Lambda is half the logarithm of the signal-to-noise ratio, λ = ln(α/σ) (Lu et al. 2022).
func (l Level) Lambda() float64 { return math.Log(l.Alpha) - math.Log(l.Sigma) }

// Ratio is σ/α, the noise level in the variance-exploding convention of Karras et al. 2022.
func (l Level) Ratio() float64 { return l.Sigma / l.Alpha }

// Prediction is what the model says of x at a level: the picture and the noise, with
// x = α·X0 + σ·Eps. Both are slices of x's length which the sampler may overwrite and which the
// denoiser may reuse at its next call. Uncond is the noise predicted without the prompt, before
// guidance: the CFG++ samplers need it, the others do not look; nil where there is none.
type Prediction struct {
	X0, Eps []float32
	Uncond  []float32
}

// Denoiser asks the model about x at a level. It must not keep or change x.
type Denoiser func(x []float32, at Level) (Prediction, error)

// Options says which sampler to run and how. The zero value of every field but Steps means
// "what the sampler or the model's configuration has".
type Options struct {
	Name     string   // a name or alias of [Names], perhaps with a suffix such as -karras; "": the configuration's class
	Steps    int      // denoising steps, at least 1 (dpm-adaptive alone takes 0: as many as it needs)
	Sigmas   string   // a name of [SigmaSchedules], or a falling list such as "14.6,6.1,0.03"
	Tokens   int      // of the picture, of models whose shift depends on its size; 0: Config.MaxTokens
	Spacing  string   // leading, trailing or linspace; "": the configuration's, else the sampler's
	Eta      *float64 // share of fresh noise: 0 none, 1 all; nil: the sampler's own
	Strength *float64 // of image to image: the share of the steps that is run, in (0, 1]; nil: all
	Last     int      // of a second pass: only so many of the last steps are run; 0: all
	// Begin and End bound the steps that are run by noise: diffusers' denoising_start and denoising_end, shares of the
	// training's timesteps in (0, 1). Those from End on and those before Begin are left to another run, of a refiner; nil: all.
	Begin, End *float64
	Order      int     // of deis, unipc, lms, ipndm, sa-solver, er-sde; 0: the sampler's own
	Variant    string  // bh1 or bh2 of unipc, midpoint or heun of the dpm++ family; "": the sampler's own
	Churn      float64 // S_churn of euler and heun (Karras et al. 2022, algorithm 2); 0: no fresh noise
	Noise      float64 // S_noise, a factor on all fresh noise; 0: 1
	RTol       float64 // dpm-adaptive's relative tolerance; 0: 0.05
	ATol       float64 // dpm-adaptive's absolute tolerance; 0: 0.0078
}

// Schedule is a sampler with its levels, ready to run any number of times.
type Schedule struct {
	name    string
	sampler sampler
	config  Config
	options Options
	train   training

	moves     []move // one for each step of the whole schedule
	start     int    // the first step that is run: 0, or later for image to image
	stop      int    // the first step that is not run any more: len(moves), or earlier where a refiner goes on
	initScale float64
	eta       float64
	warnings  []string
}

// move is one step: x goes from one level to another. As a rule to is the from of the next
// move; ddim with linspace or trailing spacing is the exception (see discreteGrid).
type move struct{ from, to Level }

// New builds the schedule that o asks for on a model whose scheduler_config.json is c. Errors: an
// unknown name (with the nearest ones), steps below 1 or more than the model has, options that
// contradict each other or the configuration.
func New(c Config, o Options) (*Schedule, error) {
	s, err := newSchedule(c, o)
	if err != nil {
		return nil, fmt.Errorf("scheduler: %w", err)
	}
	return s, nil
}

func newSchedule(c Config, o Options) (*Schedule, error) {
	spec, o, err := resolve(c, o)
	if err != nil {
		return nil, err
	}
	if err := spec.check(c, o); err != nil {
		return nil, err
	}
	if c.DynamicShift {
		c.Shift = c.dynamicShift(o)
	}
	s := &Schedule{name: spec.Name, sampler: spec, config: c, options: o, eta: spec.eta, initScale: 1}
	if o.Eta != nil {
		s.eta = *o.Eta
	}
	if c.isEDM() {
		s.train = edmTraining(c)
	} else if c.PredictionType != Flow {
		if s.train, err = newTraining(c, spec); err != nil {
			return nil, err
		}
	}
	if err := spec.grid(s); err != nil {
		return nil, err
	}
	if err := s.checkMoves(); err != nil {
		return nil, err
	}
	if first := s.moves[0].from.Ratio(); first < 1 && s.options.Sigmas == "" {
		s.warnings = append(s.warnings, fmt.Sprintf("%s spacing with %d steps starts at σ/α = %.3g, which is hardly noise: use sgm-uniform sigmas, which start at the most, or more steps", s.spacing(), len(s.moves), first))
	}
	s.warnHigh()
	s.stop = len(s.moves)
	if err := s.applyStrength(); err != nil {
		return nil, err
	}
	return s, s.applyBounds()
}

// warnHigh warns of zero-SNR schedules that spend half their steps where there is next to nothing but noise.
func (s *Schedule) warnHigh() {
	high := -1 // not counting the first
	for _, m := range s.moves {
		if m.from.Ratio() > startSigma {
			high++
		}
	}
	if s.config.RescaleZeroSNR && 2*high >= len(s.moves) {
		s.warnings = append(s.warnings, fmt.Sprintf("%d of %d steps of the %s schedule lie above σ/α = %d, because it starts at this model's 4096: without a schedule, or with sgm-uniform or align-your-steps, fewer steps do", high, len(s.moves), s.options.Sigmas, startSigma))
	}
}

// Name is the sampler's name as [Names] lists it, without aliases and suffixes.
func (s *Schedule) Name() string { return s.name }

// Eta is the share of fresh noise that the sampler adds: what Options.Eta says, or the sampler's own.
func (s *Schedule) Eta() float64 { return s.eta }

// Sigmas is the sigma schedule's name or list, "" for the model's own, whether it was asked for by
// Options.Sigmas or by a suffix of the name.
func (s *Schedule) Sigmas() string { return s.options.Sigmas }

// Levels returns the noise levels that are visited: one for each step that is run, and the last.
func (s *Schedule) Levels() []Level {
	var ls []Level
	for _, m := range s.moves[s.start:s.stop] {
		ls = append(ls, m.from)
	}
	if s.stop < len(s.moves) {
		return append(ls, s.moves[s.stop].from)
	}
	return append(ls, s.moves[len(s.moves)-1].to)
}

// Steps is the number of steps that a run takes, which is the number of times OnStep is called; -1 for dpm-adaptive,
// where only running tells.
func (s *Schedule) Steps() int {
	if s.sampler.adaptive {
		return -1
	}
	return s.stop - s.start
}

// Calls is the number of model calls that a run makes, or -1 where only running tells.
func (s *Schedule) Calls() int {
	if s.sampler.calls == nil || s.sampler.adaptive {
		return s.Steps()
	}
	return s.sampler.calls(s)
}

// Stochastic says whether the result depends on noise that is drawn after the first.
func (s *Schedule) Stochastic() bool {
	if s.sampler.noisy {
		return s.eta > 0
	}
	return s.sampler.Stochastic || s.options.Churn > 0 || s.config.StochasticFlow && s.sampler.flow
}

// Warnings says what is legal but probably not meant, one sentence each.
func (s *Schedule) Warnings() []string { return s.warnings }

// InitScale is the factor that makes unit noise the first x: diffusers' init_noise_sigma.
func (s *Schedule) InitScale() float64 { return s.initScale }

// Init scales unit noise in place to the x of the first level, as diffusers does.
func (s *Schedule) Init(noise []float32) {
	scale := float32(s.initScale)
	for i, ε := range noise {
		noise[i] = ε * scale
	}
}

// AddNoise writes the first x of image to image into dst: α·x₀ + σ·ε at the first level that is
// run. All three have one length; dst may be either of the others.
func (s *Schedule) AddNoise(dst, x0, noise []float32) {
	s.moves[s.start].from.AddNoise(dst, x0, noise)
}

// AddNoise writes α·x₀ + σ·ε into dst. All three have one length; dst may be either of the others.
func (l Level) AddNoise(dst, x0, noise []float32) {
	combine(dst, term{l.Alpha, x0}, term{l.Sigma, noise})
}

// applyStrength skips the first steps, as image to image does: int(steps·strength) of them are run, or Last.
func (s *Schedule) applyStrength() error {
	if last := s.options.Last; last != 0 {
		if last < 0 || last > len(s.moves) || s.sampler.adaptive {
			return fmt.Errorf("%s: %d steps cannot be the last of %d", s.name, last, len(s.moves))
		}
		s.start = len(s.moves) - last
	}
	if s.options.Strength == nil {
		return nil
	}
	n, f := len(s.moves), *s.options.Strength
	if !(f > 0 && f <= 1) {
		return fmt.Errorf("strength %v: it must be above 0 and at most 1", f)
	}
	run := min(int(float64(n)*f), n)
	if s.config.EvenFlow || s.config.CutLeft {
		run = n - int(math.Max(float64(n)-math.Min(float64(n)*f, float64(n)), 0))
	}
	if run == 0 {
		return fmt.Errorf("strength %v of %d steps leaves no step to run: use at least %.3g, or more steps", f, n, 1/float64(n))
	}
	s.start = n - run
	return nil
}

// applyBounds leaves out the steps above Begin's and below End's timestep, as diffusers counts them: a step belongs to the
// first run where its timestep is at least round(T − share·T).
func (s *Schedule) applyBounds() error {
	if s.options.Begin == nil && s.options.End == nil {
		return nil
	}
	if err := s.needsTimesteps(); err != nil {
		return fmt.Errorf("a refiner: %w", err)
	}
	if s.sampler.adaptive {
		return fmt.Errorf("%s finds its own steps: it cannot share them with another run", s.name)
	}
	T := float64(or(s.config.TrainSteps, 1000))
	from := func(share float64) (int, error) {
		if !(share > 0 && share < 1) {
			return 0, fmt.Errorf("a share %v of the steps: it must be above 0 and below 1", share)
		}
		cutoff := math.RoundToEven(T - share*T)
		i := 0
		for i < len(s.moves) && s.moves[i].from.T >= cutoff {
			i++
		}
		return i, nil
	}
	if b := s.options.Begin; b != nil {
		i, err := from(*b)
		if err != nil {
			return err
		}
		s.start = max(s.start, i)
	}
	if e := s.options.End; e != nil {
		i, err := from(*e)
		if err != nil {
			return err
		}
		s.stop = max(min(s.stop, i), s.start)
	}
	return nil
}

// checkMoves refuses schedules with repeated or rising noise: more steps than the model has levels. Only the last
// step may stay where it is, and only where diffusers agrees: of ddim and pndm with linspace spacing, and with
// final_sigmas_type sigma_min.
func (s *Schedule) checkMoves() error {
	if len(s.moves) == 0 {
		return fmt.Errorf("%s: no steps", s.name)
	}
	if s.moves[0].from.Alpha == 0 && s.config.PredictionType == Epsilon {
		return fmt.Errorf("%s: the first level has α = 0 (rescale_betas_zero_snr), where an epsilon prediction says nothing of the picture: the model must predict v or the sample", s.name)
	}
	for i, m := range s.moves {
		next := m.to.Ratio()
		if i+1 < len(s.moves) && !s.sampler.rises {
			next = max(next, s.moves[i+1].from.Ratio())
		}
		stays := m.from.Ratio() == next && i == len(s.moves)-1 && (s.sampler.onStride || s.config.FinalSigmas == "sigma_min")
		if stays {
			s.warnings = append(s.warnings, fmt.Sprintf("the last step of %s changes nothing: it starts at the model's least noise already", s.name))
		} else if !(m.from.Ratio() > next) {
			return fmt.Errorf("%s with %d steps: step %d goes from σ/α = %.6g to %.6g, but noise must fall: use fewer steps or another sigma schedule",
				s.name, len(s.moves), i+1, m.from.Ratio(), next)
		}
	}
	return nil
}
