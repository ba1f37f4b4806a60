package pipeline

import (
	"fmt"

	"darkroom/clip"
	"darkroom/noise"
	"darkroom/recipe"
	"darkroom/scheduler"
)

// Request is one image to make. The zero value of a field that has a default means that default only
// where the comment says so; build requests with Pipeline.NewRequest, which fills in the model's own.
type Request struct {
	Prompt, Negative string
	Syntax           string // "weighted" (A1111's emphasis, any length) or "plain" (diffusers, cut at the window)
	ClipSkip         int    // layers left off the text encoder's end; 0: as the model says

	Seed   uint64
	Noise  string // "torch-cpu" or "torch-cuda"
	Width  int    // pixels
	Height int    // pixels

	Steps     int
	Scheduler string   // "" is the model's own
	Sigmas    string   // "" is the scheduler's own way; a name or a falling list
	Eta       *float64 // nil is the scheduler's own
	// CFG is the scale of classifier-free guidance (Ho & Salimans 2022): uncond + CFG·(cond − uncond).
	// At 1 and below there is no guidance, as in diffusers: the prompt's prediction is taken as it is.
	CFG     float64
	Rescale float64 // φ of Lin et al. 2023, sec. 3.4; 0 is off
}

// Default values where a model's folder does not say otherwise.
const (
	DefaultSteps = 25
	DefaultCFG   = 7.5
)

// UsageError is a request that cannot be meant: the caller's mistake, found before any work.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

func usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// plan is a request checked against the model: everything that is known before the first number.
type plan struct {
	Request
	syntax       clip.Syntax
	schedule     *scheduler.Schedule
	latentH      int
	latentW      int
	latentValues int // C·h·w of one image
}

func (p *Pipeline) plan(r Request) (*plan, error) {
	f := p.decoderConfig.Factor()
	switch {
	case r.Steps < 1 && !(r.Steps == 0 && stepless(r)):
		return nil, usagef("--steps %d: at least 1 is needed", r.Steps)
	case r.Width < 1 || r.Height < 1:
		return nil, usagef("--width %d --height %d: both must be positive", r.Width, r.Height)
	case r.Width%f != 0 || r.Height%f != 0:
		return nil, usagef("%d×%d pixels: this model makes pictures in steps of %d pixels; the nearest size is %d×%d",
			r.Width, r.Height, f, nearest(r.Width, f), nearest(r.Height, f))
	case r.Width > recipe.MaxSide || r.Height > recipe.MaxSide:
		return nil, usagef("%d×%d pixels: at most %d a side", r.Width, r.Height, recipe.MaxSide)
	case r.CFG != r.CFG || r.CFG-r.CFG != 0:
		return nil, usagef("--cfg %v: it must be a finite number", r.CFG)
	case !(r.Rescale >= 0 && r.Rescale <= 1):
		return nil, usagef("guidance rescale %v: it must be from 0 to 1", r.Rescale)
	case r.ClipSkip < 0 || r.ClipSkip >= p.text.Layers():
		return nil, usagef("clip skip %d: the text encoder has %d layers", r.ClipSkip, p.text.Layers())
	}
	syntax, err := clip.ParseSyntax(r.Syntax)
	if err != nil {
		return nil, usagef("--prompt-syntax: %w", err)
	}
	if _, err := noise.New(r.Noise, r.Seed); err != nil {
		return nil, usagef("--noise: %w", err)
	}
	s, err := scheduler.New(p.schedulerConfig, scheduler.Options{Name: r.Scheduler, Steps: r.Steps, Sigmas: r.Sigmas, Eta: r.Eta})
	if err != nil {
		return nil, &UsageError{err}
	}
	h, w := r.Height/f, r.Width/f
	return &plan{Request: r, syntax: syntax, schedule: s, latentH: h, latentW: w, latentValues: p.unet.Config.InChannels * h * w}, nil
}

// stepless says whether something else than the number of steps decides how many there are.
func stepless(r Request) bool {
	_, list := sigmaList(r.Sigmas)
	return list || r.Scheduler == "dpm-adaptive"
}

// nearest is the multiple of f closest to n, at least f.
func nearest(n, f int) int { return max((n+f/2)/f, 1) * f }

// guided says whether the unconditional prediction is needed.
func (r Request) guided() bool { return r.CFG > 1 }
