package pipeline

import (
	"context"
	"fmt"
	"sync"

	"darkroom/family"
	"darkroom/models/library"
	"darkroom/recipe"
	"darkroom/scheduler"
)

// refiner is a second model, which makes the last steps (Podell et al. 2023, section 2.5): an ensemble of two denoisers, each
// for a range of noise levels. It has the device of the first, and takes its latents as they are.
type refiner struct {
	*Pipeline
	start float64 // where its steps begin, where a request does not say so
}

// openRefiner opens the model that the options name, on the pipeline's device.
func (p *Pipeline) openRefiner(o Options) error {
	if o.Refiner == "" {
		return nil
	}
	model, start, err := recipe.ParseRefiner(o.Refiner)
	if err != nil {
		return usagef("--refiner %w", err)
	}
	path, err := library.Find(model)
	if err != nil {
		return usagef("--refiner: %w", err)
	}
	own := o
	own.Model, own.VAE, own.Prediction, own.Refiner, own.Parts = path, "", "", "", ""
	folder, name, err := openFolder(own)
	if err != nil {
		return fmt.Errorf("--refiner: %w", err)
	}
	lent, err := lend(folder, own)
	if err != nil {
		return fmt.Errorf("--refiner: %w", err)
	}
	q := &Pipeline{lender: lent, name: name, folder: folder.Name(), options: own, device: p.device, free: p.free}
	if q.model, _, err = openModel(folder, own, p.device); err != nil {
		return fmt.Errorf("--refiner: %w", err)
	}
	p.refiner = &refiner{q, start}
	a, b := p.model, q.model
	switch {
	case a.Latent.Channels != b.Latent.Channels || a.Latent.Factor != b.Latent.Factor:
		return usagef("--refiner %s: its latents have %d channels for %d×%d pixels, but those of %s have %d for %d×%d: they must be the same",
			name, b.Latent.Channels, b.Latent.Factor, b.Latent.Factor, p.name, a.Latent.Channels, a.Latent.Factor, a.Latent.Factor)
	case b.Denoiser.Extra() > 0:
		return usagef("--refiner %s: it reads a picture beside the latents, which no refiner is given", name)
	case (a.Sampling.PredictionType == scheduler.Flow) != (b.Sampling.PredictionType == scheduler.Flow):
		return usagef("--refiner %s: it and %s were trained with different kinds of noise schedules", name, p.name)
	}
	return nil
}

// close unmaps the model; the device is the other pipeline's.
func (r *refiner) close() error {
	if r == nil {
		return nil
	}
	r.model.Shed()
	err := r.model.Codec.Close()
	if e := r.model.Close(); err == nil {
		err = e
	}
	return err
}

// settleRefiner plans the last steps of a request's last pass. The first model's schedule ends where they begin.
func (p *Pipeline) settleRefiner(asked *plan) error {
	if p.refiner == nil {
		asked.Refiner = "" // an open pipeline has settled it
		return nil
	}
	if p.model.Denoiser.Reading() == family.ReadsPicture || p.model.Denoiser.Reading() == family.ReadsDepth {
		return usagef("--refiner does not go with models that edit by instruction or read depth")
	}
	start := p.refiner.start
	if asked.Refiner != "" {
		var err error
		if _, start, err = recipe.ParseRefiner(asked.Refiner); err != nil {
			return usagef("--refiner %w", err)
		}
	}
	asked.Refiner = recipe.FormatRefiner(p.refiner.name, start)
	pl := asked.largest()
	all, o := pl.schedule.Steps(), pl.sampling
	o.Name, o.Sigmas = pl.schedule.Name(), pl.schedule.Sigmas()
	o.End = &start
	first, err := scheduler.New(p.model.Sampling, o)
	if err != nil {
		return &UsageError{err}
	}
	o.Begin, o.End = &start, nil
	second, err := scheduler.New(p.refiner.model.Sampling, o)
	if err != nil {
		return &UsageError{fmt.Errorf("--refiner: %w", err)}
	}
	if second.Steps() < 1 {
		return usagef("--refiner: none of the %d steps begins after start=%v: use more steps or an earlier start", all, start)
	}
	last := *pl
	last.schedule, last.offset = second, first.Steps()
	last.guided, last.scale = p.refiner.guided(pl.Request), p.refiner.scale(pl.Request)
	last.adaptation, last.controls = &adaptation{}, nil // they are made for the first model
	if err := last.settleCache(p.refiner.model.Denoiser); err != nil {
		return fmt.Errorf("--refiner %s: %w", p.refiner.name, err)
	}
	pl.schedule, pl.refined = first, &last
	return nil
}

// passSteps are those of one pass, by both models; -1 where only rendering tells.
func (pl *plan) passSteps() int {
	n := pl.offset + pl.schedule.Steps()
	if pl.refined != nil {
		n += pl.refined.schedule.Steps()
	}
	return n
}

// beginRefiner encodes the prompt for the second model.
func (m *picture) beginRefiner(ctx context.Context) error {
	last := m.plan.refined
	if last == nil {
		return nil
	}
	c, err := m.p.refiner.condition(ctx, last, func(string) {}) // the first model has warned
	if err != nil {
		return fmt.Errorf("encoding the prompt for the refiner: %w", err)
	}
	m.refining = m.p.refiner.newDenoiser(last, c)
	return nil
}

// refine has the second model make the last steps of pictures, together.
func (p *Pipeline) refine(ctx context.Context, all []*picture, errs []error) {
	var some []*picture
	rows := 0
	for i, m := range all {
		if m.refining != nil && errs[i] == nil {
			some = append(some, m)
			rows += m.plan.refined.rows()
		}
	}
	if len(some) == 0 {
		return
	}
	q := p.refiner.Pipeline
	if p.device.LowMemory {
		p.model.Shed()
		defer q.model.Shed()
	}
	b := &batcher{p: q, most: rows, pictures: len(some)}
	var pictures sync.WaitGroup
	for i, m := range all {
		if m.refining == nil || errs[i] != nil {
			continue
		}
		m.refining.batcher, m.refining.number = b, i
		pictures.Go(func() {
			defer b.leave(ctx)
			defer func() {
				if v := recover(); v != nil {
					errs[i] = NewPanicError(v)
				}
			}()
			errs[i] = m.runSteps(ctx, m.plan.refined, m.refining)
		})
	}
	pictures.Wait()
}

// sizes are Stable Diffusion XL's conditions on the picture's size; diffusers' defaults where not given.
func sizes(r Request) (s family.PictureSizes) {
	whole := func(name string, otherwise int) int {
		if v, ok := r.Extra[name].(int); ok && v > 0 {
			return v
		}
		return otherwise
	}
	number := func(name string, otherwise float64) float64 {
		if v, ok := r.Extra[name].(float64); ok {
			return v
		}
		return otherwise
	}
	s.Original = [2]int{whole("original-height", r.Height), whole("original-width", r.Width)}
	s.Crop = [2]int{whole("crop-top", 0), whole("crop-left", 0)}
	s.Target = [2]int{whole("target-height", r.Height), whole("target-width", r.Width)}
	s.Aesthetic, s.NegativeAesthetic = number("aesthetic-score", 6), number("negative-aesthetic-score", 2.5)
	return s
}

// warnSizes reports which of these settings do nothing with this model.
func (p *Pipeline) warnSizes(pl *plan) {
	reads := p.model.Reads
	if p.refiner != nil {
		reads.Sizes, reads.Scores = reads.Sizes || p.refiner.model.Reads.Sizes, reads.Scores || p.refiner.model.Reads.Scores
	}
	for _, name := range []string{"original-width", "original-height", "crop-top", "crop-left", "target-width", "target-height", "aesthetic-score", "negative-aesthetic-score"} {
		if v, given := pl.Extra[name]; !given || v == 0 {
			continue
		}
		score := name == "aesthetic-score" || name == "negative-aesthetic-score"
		if score && !reads.Scores {
			pl.warnings = append(pl.warnings, fmt.Sprintf("--%s does nothing: only Stable Diffusion XL's refiner reads it", name))
		} else if !score && !reads.Sizes {
			pl.warnings = append(pl.warnings, fmt.Sprintf("--%s does nothing: this model does not read sizes", name))
		}
	}
}
