package pipeline

import (
	"darkroom/checkpoint"
	"darkroom/clip"
	"darkroom/recipe"
)

// Defaults are what a request without these settings gets from this model.
type Defaults struct {
	Steps         int
	CFG           float64
	Scheduler     string // "": the class of scheduler_config.json
	Negative      string
	Width, Height int
}

// readDefaults reads the file darkroom.json, with which a model may say how it wants to be used; a
// folder need not have one.
func readDefaults(f *checkpoint.Folder) (Defaults, error) {
	d := Defaults{Steps: DefaultSteps, CFG: DefaultCFG}
	if !f.Exists("darkroom.json") {
		return d, nil
	}
	c, err := f.Config("darkroom.json")
	if err != nil {
		return d, err
	}
	d.Steps = c.Int("steps", d.Steps)
	d.CFG = c.Float("cfg", d.CFG)
	d.Scheduler = c.String("scheduler", "")
	d.Negative = c.String("negative", "")
	d.Width = c.Int("width", 0)
	d.Height = c.Int("height", 0)
	return d, c.Done()
}

// NewRequest is a request for the prompt with this model's defaults and seed 0.
func (p *Pipeline) NewRequest(prompt string) Request {
	r := Request{recipe.Settings{
		Prompt: prompt, Negative: p.defaults.Negative, Syntax: clip.Weighted.String(), Noise: "torch-cpu",
		Steps: p.defaults.Steps, CFG: p.defaults.CFG, Scheduler: p.defaults.Scheduler,
		Width: p.defaults.Width, Height: p.defaults.Height,
	}}
	side := p.unet.Config.SampleSize
	if side == 0 {
		side = 64 // what Stable Diffusion was trained at
	}
	side *= p.decoderConfig.Factor()
	if r.Width == 0 {
		r.Width = side
	}
	if r.Height == 0 {
		r.Height = side
	}
	return r
}
