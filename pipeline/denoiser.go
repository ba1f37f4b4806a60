package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"darkroom/guidance"
	"darkroom/kernels"
	"darkroom/scheduler"
)

// denoiser is the edge between a sampler, which knows x and a noise level, and the U-Net, which
// knows scaled latents, timesteps and text. Prediction types and guidance are settled here, once.
type denoiser struct {
	table      *table
	number     int // among those of the table
	plan       *plan
	prediction scheduler.PredictionType
	guide      *guidance.Guide // this picture's alone: some methods remember; nil without guidance
	step       int             // of the run, from 0

	text   []float32   // [rows,tokens,width]
	tokens int         // of a row
	rows   [][]float32 // [C,h,w] each
	split  scheduler.Prediction
}

// The rows of the U-Net's batch. A picture without guidance has the first alone, and none but guidance.NeedsEmpty the third.
const (
	condRow = iota
	uncondRow
	emptyRow
)

// newDenoiser is for a plan. It has no table yet.
func (p *Pipeline) newDenoiser(pl *plan, c *conditioning) *denoiser {
	n := pl.latentValues
	d := &denoiser{
		plan: pl, prediction: p.schedulerConfig.PredictionType, guide: pl.newGuide(),
		text: slices.Concat(c.cond, c.uncond, c.empty), tokens: c.tokens,
		split: scheduler.Prediction{X0: make([]float32, n), Eps: make([]float32, n)},
	}
	for range pl.rows() {
		d.rows = append(d.rows, make([]float32, n))
	}
	return d
}

// predict is a scheduler.Denoiser. Outside of the interval in which there is guidance the U-Net is asked about the
// prompt alone.
func (d *denoiser) predict(ctx context.Context, x []float32, at scheduler.Level) (scheduler.Prediction, error) {
	place := guidance.At{Step: d.step, Steps: d.plan.schedule.Steps(), Ratio: at.Ratio()}
	rows := 1
	if d.guide != nil && d.guide.Active(place) {
		rows = d.plan.rows()
	}
	if err := d.table.ask(ctx, d, rows, x, at); err != nil {
		return scheduler.Prediction{}, err
	}
	p, cond, prediction := d.split, d.rows[condRow], d.prediction
	p.Uncond = nil
	if d.guide != nil {
		var uncond, empty []float32
		if rows > 1 {
			uncond = d.rows[uncondRow]
			// The unconditional noise, which the CFG++ samplers need, before anything is overwritten.
			p.Uncond = d.prediction.Split(x, uncond, at).Eps
			empty = d.rows[rows-1]
			if d.guide.OfPicture() {
				for _, row := range d.rows[:rows] {
					copy(row, d.prediction.Split(x, row, at).X0)
				}
				prediction = scheduler.Sample
			}
		}
		d.guide.Combine(cond, cond, uncond, empty, place)
	}
	return prediction.SplitInto(p, x, cond, at), nil
}

// diagnose finds the layer that first gave NaN or infinity and wraps it with what was being done.
func diagnose(ctx context.Context, p *kernels.Program, what string) error {
	err := p.Diagnose(ctx)
	var bad *kernels.NonFiniteError
	switch {
	case errors.As(err, &bad):
		return fmt.Errorf("%s: no picture: %w. The weights may be damaged, or their values too large for the type: try --dtype fp32", what, bad)
	case err != nil:
		return fmt.Errorf("%s gave a number that is not finite; looking for the layer: %w", what, err)
	}
	return fmt.Errorf("%s gave a number that is not finite, but not when run again: the machine's memory or processor may be faulty", what)
}
