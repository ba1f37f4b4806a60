package pipeline

import (
	"context"
	"slices"

	"darkroom/kernels"
)

// Plan is what is known about a request before it is rendered: its settings after aliases and defaults are resolved.
type Plan struct {
	Scheduler string // without aliases and suffixes
	Sigmas    string
	Eta       float64
	Steps     int // -1 where only rendering tells
	Width     int // pixels of the largest picture that is made on the way
	Height    int
	Calls     int // model calls (of both halves of a guided batch together); -1 likewise
	Guided    bool
	Rows      int     // of the U-Net's batch in a call with guidance: 1, 2, or 3 where the empty prompt is asked about too
	Rescale   float64 // φ, wherever it was given
	Guidance  string  // without rescale; "" is cfg
	SDENoise  string  // "" is torch
	// Stochastic reports whether noise is drawn after the first: not by an ancestral sampler with eta 0, for one.
	Stochastic bool
	Warnings   []string
}

// Plan checks a request and reports what rendering it will do. It returns the same errors as Render.
func (p *Pipeline) Plan(r Request) (Plan, error) {
	pl, err := p.plan(r)
	if err != nil {
		return Plan{}, err
	}
	s := pl.schedule
	return Plan{
		Scheduler: s.Name(), Sigmas: s.Sigmas(), Eta: s.Eta(), Steps: pl.steps(), Calls: pl.calls(),
		Width: pl.largest().Width, Height: pl.largest().Height,
		Guided: pl.guided, Rows: pl.rows(), Rescale: pl.Rescale, Guidance: pl.Guidance, SDENoise: pl.SDENoise,
		Stochastic: s.Stochastic(), Warnings: pl.warnings,
	}, nil
}

// RenderLatents is Render that also returns the decoded latents x₀, [C,h,w], and the number of model calls.
func (p *Pipeline) RenderLatents(ctx context.Context, r Request, ev Events) (picture *Image, latents []float32, calls int, err error) {
	ev.latents = func(_ int, x []float32) { latents = append(latents[:0], x...) }
	ev.call = func() { calls++ }
	picture, err = p.Render(ctx, r, ev)
	return picture, slices.Clip(latents), calls, err
}

// NewBackend makes the backend and chooses the type that o asks for, for networks outside a pipeline.
func NewBackend(o Options) (kernels.Backend, error) {
	b, _, err := newBackend(o, func(string) {})
	return b, err
}
