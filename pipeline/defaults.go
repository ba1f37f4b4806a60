package pipeline

import (
	"darkroom/family"
	"darkroom/noise"
	"darkroom/recipe"
	"darkroom/scheduler"
)

// ReadsGuidance reports whether the model reads --cfg itself, and ReadsControl whether it reads a control picture without a network.
func (p *Pipeline) ReadsGuidance() bool { return p.model.Denoiser.ReadsGuidance() }
func (p *Pipeline) ReadsControl() bool  { return p.model.Denoiser.Reading() == family.ReadsControl }

// Scheduler is the name of the model's own. It can be told without the pictures that some models need.
func (p *Pipeline) Scheduler() (string, error) {
	d := p.model.Defaults
	s, err := scheduler.New(p.model.Sampling, scheduler.Options{Name: d.Scheduler, Steps: d.Steps, Tokens: p.model.Latent.Tokens(d.Width, d.Height)})
	if err != nil {
		return "", err
	}
	return s.Name(), nil
}

// NewRequest is a request for the prompt with this model's defaults and seed 0.
func (p *Pipeline) NewRequest(prompt string) Request {
	d := p.model.Defaults
	r := Request{Settings: recipe.Settings{
		Prompt: prompt, Negative: d.Negative, Syntax: recipe.Weighted, Noise: noise.KindTorchCPU,
		Steps: d.Steps, CFG: d.CFG, Scheduler: d.Scheduler, Width: d.Width, Height: d.Height,
	}}
	if !p.model.Denoiser.ReadsGuidance() {
		r.DistilledCFG = 1
	}
	return r
}
