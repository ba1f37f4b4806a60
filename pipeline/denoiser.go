package pipeline

import (
	"context"
	"maps"
	"slices"

	"darkroom/family"
	"darkroom/guidance"
	"darkroom/nn"
	"darkroom/scheduler"
	"darkroom/stepcache"
)

// denoiser connects a sampler, which knows x and a noise level, to the network, which knows scaled latents, a clock and
// conditions. It alone handles prediction types and guidance.
type denoiser struct {
	batcher    *batcher
	number     int // among the batcher's pictures
	plan       *plan
	prediction scheduler.PredictionType
	guide      *guidance.Guide // this picture's alone: some methods remember; nil without guidance
	step       int             // of the run, from 0

	cache *stepcache.Cache     // which calls are whole
	inner []float32            // what lies deep in the network, of the latest whole call: its rows, one after the other
	cross map[string][]float32 // what each cross-attention gave in the latest call that kept it, one row: the rows' mean
	first []float32            // the first layer's result, of the latest call that asked for it

	net      family.Denoiser // the model's, or that with controls
	prepared *family.Prepared
	steers   bool      // some control does, at the step at hand
	strength []float64 // of the controls, likewise
	epoch    int       // counts changes of what the rows read

	script script
	reads  []int         // by row: which of its texts, at the step at hand
	conds  []family.Cond // one a row, of that text
	now    []family.Cond // likewise, with the controls
	tokens int           // of a row
	window *denoiser     // of a part of the picture; nil where it is seen whole
	extra  [][]float32   // [E,h,w], one a row: what an editing model reads beside the latents; nil for others
	rows   [][]float32   // [C,h,w] each
	split  scheduler.Prediction
}

// The rows of the network's batch. A picture without guidance has the first alone, and none but guidance.NeedsEmpty the third.
const (
	condRow = iota
	uncondRow
	emptyRow
)

// newDenoiser is for a plan. It has no batcher yet.
func (p *Pipeline) newDenoiser(pl *plan, c *conditioning) *denoiser {
	n := pl.latentValues
	d := &denoiser{
		plan: pl, prediction: p.model.Sampling.PredictionType, guide: pl.newGuide(),
		cache: &stepcache.Cache{Method: pl.cache}, net: p.net(pl),
		script: c.script, tokens: c.Tokens, reads: make([]int, pl.rows()),
		step:  pl.offset,
		split: scheduler.Prediction{X0: make([]float32, n), Eps: make([]float32, n)},
	}
	if pl.controls != nil {
		d.prepared = pl.controls.prepared
	}
	for _, conds := range d.script.conds {
		d.rows = append(d.rows, make([]float32, n))
		d.conds = append(d.conds, pl.references.shown(conds[0]))
	}
	d.now, d.window = d.conds, d.newWindow()
	return d
}

// settle puts together what the rows read at the step at hand. It changes where a prompt does, and at the ends of the controls'
// intervals.
func (d *denoiser) settle() {
	changed := d.read(d.step)
	if d.prepared == nil {
		if changed {
			d.epoch++
		}
		return
	}
	strength := d.plan.controls.strengths(d.step, d.plan.passSteps())
	if d.strength != nil && slices.Equal(strength, d.strength) && !changed {
		return
	}
	d.strength = strength
	d.steers = d.plan.film != nil || slices.ContainsFunc(strength, func(v float64) bool { return v != 0 })
	d.epoch++
	prompt, other := d.prepared.Conds(strength)
	d.now = make([]family.Cond, len(d.conds))
	base := d.plan.baseRows()
	for i, text := range d.conds {
		d.now[i] = maps.Clone(text)
		if i == condRow || i >= base {
			maps.Copy(d.now[i], prompt)
		} else {
			maps.Copy(d.now[i], other)
		}
	}
}

// predict is a scheduler.Denoiser. Outside of the interval in which there is guidance the network is asked
// about the prompt alone.
func (d *denoiser) predict(ctx context.Context, x []float32, at scheduler.Level) (scheduler.Prediction, error) {
	place := guidance.At{Step: d.step, Steps: d.plan.passSteps(), Ratio: at.Ratio()}
	d.settle()
	rows := 1
	gated := d.cache.Gated(place.Step)
	guided := d.guide != nil && d.guide.Active(place) && !gated
	if guided || d.plan.tracks.composed {
		rows = d.plan.rows()
	}
	form, err := d.form(ctx, place, rows, x, at)
	if err != nil {
		return scheduler.Prediction{}, err
	}
	if err := d.ask(ctx, rows, form, x, at); err != nil {
		return scheduler.Prediction{}, err
	}
	if d.plan.tracks.composed {
		d.compose()
	}
	p, cond, prediction := d.split, d.rows[condRow], d.prediction
	p.Uncond = nil
	if d.guide != nil && !gated {
		var uncond, empty []float32
		if guided {
			uncond = d.rows[uncondRow]
			// The unconditional noise, which the CFG++ samplers need, before anything is overwritten.
			p.Uncond = d.prediction.Split(x, uncond, at).Eps
			base := d.plan.baseRows()
			empty = d.rows[base-1]
			if d.guide.OfPicture() {
				for _, row := range d.rows[:base] {
					copy(row, d.prediction.Split(x, row, at).X0)
				}
				prediction = scheduler.Sample
			}
		}
		if d.plan.instructs() && guided {
			empty = uncond
		}
		d.guide.Combine(cond, cond, uncond, empty, place)
		if d.plan.instructs() && guided {
			// uncond + cfg·(text − picture) + image cfg·(picture − uncond): with the picture's row as uncond above, the
			// last of these is there once.
			for i, none := range d.rows[emptyRow] {
				cond[i] += float32(*d.plan.ImageCFG-1) * (uncond[i] - none)
			}
		}
	}
	return prediction.SplitInto(p, x, cond, at), nil
}

// form is how much of the network the next call runs.
func (d *denoiser) form(ctx context.Context, place guidance.At, rows int, x []float32, at scheduler.Level) (nn.Form, error) {
	if !d.cache.On() {
		return nn.Whole, nil
	}
	var first []float32
	if d.cache.Probes() {
		if err := d.ask(ctx, rows, nn.First, x, at); err != nil {
			return 0, err
		}
		first = d.first
	}
	whole := d.cache.Next(rows, place.Step, place.Steps, first)
	switch gate := d.cache.Gate() > 0; {
	case whole && gate:
		return nn.KeepCross, nil
	case whole:
		return nn.Keep, nil
	case gate:
		return nn.NoCross, nil
	}
	return nn.Outer, nil
}
