package pipeline

import (
	"context"
	"math"

	"darkroom/nn"
	"darkroom/recipe"
	"darkroom/scheduler"
	"darkroom/stepcache"
)

// windows are overlapping parts of a large picture. The denoiser sees one at a time, and its predictions are averaged where
// they overlap (MultiDiffusion, Bar-Tal et al. 2023, section 4.1), so memory for one window is enough.
type windows struct {
	plan       *plan // of one: its size is what the network sees
	tops, left []int // where they begin, in latents
}

// settleWindows plans the windows of a picture that is larger than one.
func (p *Pipeline) settleWindows(pl *plan) error {
	pl.windows = nil
	asked, err := recipe.ParseWindows(pl.Windows)
	if err != nil {
		return usagef("--windows %w", err)
	}
	if asked == nil {
		return nil
	}
	f := p.model.Latent.Factor
	if step := p.model.Latent.Step(); asked.Pixels%step != 0 {
		return usagef("--windows %d: this model's sizes are multiples of %d pixels; the nearest size is %d", asked.Pixels, step, nearest(asked.Pixels, step))
	}
	for _, other := range []struct {
		name  string
		given bool
	}{{"tile", pl.Tile != ""}, {"control", pl.controls != nil}, {"cache", pl.cache.On()}} {
		if other.given {
			return usagef("--windows and --%s do not go together", other.name)
		}
	}
	side := asked.Pixels / f
	h, w := min(side, pl.latentH), min(side, pl.latentW)
	if h == pl.latentH && w == pl.latentW {
		return nil // it is no larger
	}
	one := *pl
	one.latentH, one.latentW = h, w
	one.latentValues = p.model.Latent.Channels * h * w
	one.Height, one.Width = h*f, w*f
	pl.windows = &windows{&one, spread(pl.latentH, h, asked.Overlap), spread(pl.latentW, w, asked.Overlap)}
	return nil
}

// spread are the places of windows of so many of n, evenly, with at least that overlap.
func spread(n, side int, overlap float64) []int {
	step := max(int(float64(side)*(1-overlap)), 1)
	count := (n-side+step-1)/step + 1
	places := make([]int, count)
	for i := range places[1:] {
		places[i+1] = int(math.Round(float64(i+1) * float64(n-side) / float64(count-1)))
	}
	return places
}

// seen is the plan of what the network sees at once.
func (pl *plan) seen() *plan {
	if pl.windows != nil {
		return pl.windows.plan
	}
	return pl
}

// newWindow is the denoiser of one window; nil where the picture is seen whole.
func (d *denoiser) newWindow() *denoiser {
	if d.plan.windows == nil {
		return nil
	}
	one := &denoiser{plan: d.plan.windows.plan, prediction: d.prediction, cache: &stepcache.Cache{}, net: d.net, tokens: d.tokens}
	for range d.rows {
		one.rows = append(one.rows, make([]float32, one.plan.latentValues))
	}
	return one
}

// ask has the network predict for x, in windows where the plan has them.
func (d *denoiser) ask(ctx context.Context, rows int, form nn.Form, x []float32, at scheduler.Level) error {
	one := d.window
	if one == nil {
		return d.batcher.ask(ctx, d, rows, form, x, at)
	}
	one.number, one.conds, one.now, one.epoch = d.number, d.conds, d.now, d.epoch
	h, w := d.plan.latentH, d.plan.latentW
	for _, row := range d.rows[:rows] {
		clear(row)
	}
	seen := make([]float32, h*w) // how often
	part := make([]float32, one.plan.latentValues)
	for _, top := range d.plan.windows.tops {
		for _, left := range d.plan.windows.left {
			one.each(d.plan, top, left, func(i, whole int) { part[i] = x[whole] })
			one.extra = nil
			for _, extra := range d.extra {
				own := make([]float32, len(extra)/(h*w)*one.plan.latentH*one.plan.latentW)
				for i := range own {
					own[i] = extra[one.whole(d.plan, i, top, left)]
				}
				one.extra = append(one.extra, own)
			}
			if err := d.batcher.ask(ctx, one, rows, form, part, at); err != nil {
				return err
			}
			for r, row := range d.rows[:rows] {
				one.each(d.plan, top, left, func(i, whole int) { row[whole] += one.rows[r][i] })
			}
			for i := range one.plan.latentH * one.plan.latentW {
				seen[one.whole(d.plan, i, top, left)]++
			}
		}
	}
	for _, row := range d.rows[:rows] {
		for i := range row {
			row[i] /= seen[i%len(seen)]
		}
	}
	return nil
}

// whole is where value i of a window lies in the whole picture, [C,h,w] both.
func (d *denoiser) whole(pl *plan, i, top, left int) int {
	h, w := d.plan.latentH, d.plan.latentW
	c, y, x := i/(h*w), i/w%h, i%w
	return (c*pl.latentH+top+y)*pl.latentW + left + x
}

func (d *denoiser) each(pl *plan, top, left int, f func(i, whole int)) {
	for i := range d.plan.latentValues {
		f(i, d.whole(pl, i, top, left))
	}
}
