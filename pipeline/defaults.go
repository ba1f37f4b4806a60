package pipeline

import (
	"darkroom/noise"
	"darkroom/recipe"
)

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
