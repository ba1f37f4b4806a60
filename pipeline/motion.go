package pipeline

import (
	"context"
	"fmt"
	"image"
	"path/filepath"

	"darkroom/family"
	"darkroom/imagefile"
	"darkroom/models/library"
	"darkroom/recipe"
	"darkroom/scheduler"
)

// film is a motion module in use.
type film struct {
	recipe.Motion
	module *family.Motion
}

// count is how many frames there are; 1 without a module.
func (f *film) count() int {
	if f == nil {
		return 1
	}
	return f.Frames
}

// loadMotion opens the motion module that a request names; nil without one. What does not go with a film is an error.
func (p *Pipeline) loadMotion(r *Request) (*film, error) {
	m, err := recipe.ParseMotion(r.Motion)
	if err != nil {
		return nil, usagef("--motion %w", err)
	}
	if m == nil {
		return nil, nil
	}
	for _, other := range []struct {
		name  string
		given bool
	}{{"init", r.Init != ""}, {"hires", r.Hires != ""}, {"windows", r.Windows != ""}, {"regions", r.Regions != ""}, {"refiner", p.refiner != nil}, {"reference", r.Reference != ""}} {
		if other.given {
			return nil, usagef("--motion and --%s do not go together", other.name)
		}
	}
	path, err := library.FindPart(library.Motions, m.Model)
	if err != nil {
		return nil, usagef("--motion %s: %w", m.Model, err)
	}
	module := p.steering.motions[path]
	if module == nil {
		if module, err = p.model.OpenMotion(path, p.options.HashCache); err != nil {
			return nil, usagef("--motion %s: %w", library.PartName(path), err)
		}
		if p.steering.motions == nil {
			p.steering.motions = map[string]*family.Motion{}
		}
		p.steering.motions[path] = module
	}
	if most := module.Frames(); m.Frames > most {
		return nil, usagef("--motion %s: %d frames, but the module was trained for at most %d: ask for %d and show them at fewer pictures per second, or join several films",
			library.PartName(path), m.Frames, most, most)
	}
	m.Model = path
	if m.Betas == "" {
		m.Betas = recipe.BetasModel
		if module.Linear() {
			m.Betas = recipe.BetasLinear
		}
	}
	return &film{*m, module}, nil
}

// sampling is the model's, as the film has it.
func (f *film) sampling(c scheduler.Config) scheduler.Config {
	if f != nil && f.Betas == recipe.BetasLinear {
		return family.LinearBetas(c)
	}
	return c
}

// recorded is the film as recipes have it, without the module's path, and its file.
func (f *film) recorded() (text string, files []recipe.File, err error) {
	if f == nil {
		return "", nil, nil
	}
	hash, err := f.module.Hash()
	m := f.Motion
	m.Model = library.PartName(m.Model)
	return m.String(), []recipe.File{{Kind: "motion", Name: filepath.Base(f.Model), SHA256: hash}}, err
}

// frame is frame i of latents [C,frames,h,w].
func (pl *plan) frame(x []float32, i int) []float32 {
	n := pl.film.count()
	if n == 1 {
		return x
	}
	size := pl.latentH * pl.latentW
	out := make([]float32, 0, len(x)/n)
	for at := i * size; at < len(x); at += n * size {
		out = append(out, x[at:at+size]...)
	}
	return out
}

// decodeFrames decodes the latents of all frames.
func (p *Pipeline) decodeFrames(ctx context.Context, pl *plan, x []float32, warn func(string)) (first family.Decoded, frames []*image.NRGBA, err error) {
	for i := range pl.film.count() {
		d, err := p.decode(ctx, pl, pl.frame(x, i), warn)
		if err != nil {
			return first, nil, err
		}
		if i == 0 {
			first = d
		}
		frames = append(frames, d.Pixels)
	}
	return first, frames, nil
}

// Options are what imagefile.Encode needs to write the image with its recipe: o, and the frames of a film.
func (m *Image) Options(o imagefile.Options) imagefile.Options {
	o.Frames = m.Frames
	return o
}

func describeFilm(f *film) string {
	if f == nil {
		return ""
	}
	return fmt.Sprintf("%p %d\n", f.module, f.Frames)
}
