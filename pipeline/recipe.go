package pipeline

import (
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"darkroom/clip"
	"darkroom/kernels/cuda"
	"darkroom/noise"
	"darkroom/recipe"
)

// Numerics names this program's arithmetic: it changes whenever the same recipe may give other bits.
const Numerics = "1"

// Version is the program's version, from the module or the commit that it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	return "devel"
}

// recipe writes down everything that decided the picture.
func (p *Pipeline) recipe(pl *plan, result recipe.Result) (recipe.Recipe, error) {
	hash, err := p.hash()
	if err != nil {
		return recipe.Recipe{}, err
	}
	kind := pl.Noise
	if kind == "" {
		kind = noise.KindTorchCPU
	}
	backend, _, _ := strings.Cut(p.backend.Name(), ":")
	r := recipe.Recipe{
		Version: Version(), Numerics: Numerics,
		Prompt: pl.Prompt, Negative: pl.Negative, PromptSyntax: pl.Syntax, ClipSkip: pl.ClipSkip,
		Seed: pl.Seed, Noise: kind, Width: pl.Width, Height: pl.Height,
		Steps: pl.Steps, Scheduler: pl.schedule.Name(), Eta: pl.schedule.Eta(),
		CFG: pl.CFG, Rescale: pl.Rescale, Guidance: pl.Guidance, SDENoise: pl.SDENoise,
		Model: p.name, ModelHash: hash, Prediction: p.schedulerConfig.PredictionType.String(),
		VAETiling: p.tile(pl) != nil, DType: p.dtypeName(), Backend: backend, Device: p.device(), Result: result,
	}
	if list, ok := sigmaList(pl.schedule.Sigmas()); ok {
		r.SigmaList, r.Steps = list, len(list)
	} else {
		r.Sigmas = pl.schedule.Sigmas()
	}
	return r, nil
}

// device is what computed the picture, for people to read.
func (p *Pipeline) device() string {
	if d, ok := p.backend.(interface{ Device() cuda.Device }); ok {
		return d.Device().Name
	}
	return runtime.GOOS + "/" + runtime.GOARCH
}

// FromRecipe is the request that makes a recipe's picture again.
func FromRecipe(r recipe.Recipe) Request {
	eta := r.Eta
	q := Request{
		Prompt: r.Prompt, Negative: r.Negative, Syntax: r.PromptSyntax, ClipSkip: r.ClipSkip,
		Seed: r.Seed, Noise: r.Noise, Width: r.Width, Height: r.Height,
		Steps: r.Steps, Scheduler: r.Scheduler, Sigmas: r.Sigmas, Eta: &eta, CFG: r.CFG, Rescale: r.Rescale,
		Guidance: r.Guidance, SDENoise: r.SDENoise, Tiled: r.VAETiling,
	}
	if len(r.SigmaList) > 0 {
		texts := make([]string, len(r.SigmaList))
		for i, s := range r.SigmaList {
			texts[i] = strconv.FormatFloat(s, 'g', -1, 64)
		}
		q.Sigmas = strings.Join(texts, ",")
	}
	if q.Syntax == "" {
		q.Syntax = clip.Weighted.String()
	}
	return q
}

// sigmaList reads "14.6,6.1,0.03"; false for the name of a schedule.
func sigmaList(s string) ([]float64, bool) {
	var list []float64
	for _, field := range strings.Split(s, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(field), 64)
		if err != nil {
			return nil, false
		}
		list = append(list, v)
	}
	return list, true
}
