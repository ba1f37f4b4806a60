package pipeline

import (
	"context"
	"fmt"
	"image"
	"math"

	"github.com/disintegration/imaging"

	"darkroom/checkpoint"
	"darkroom/family"
	"darkroom/models/library"
	"darkroom/noise"
	"darkroom/recipe"
	"darkroom/scheduler"
)

// planHires checks --hires and plans the second pass: the last steps of a schedule that is as much longer as the web UI makes
// it, int(steps/strength), over the enlarged picture.
func (p *Pipeline) planHires(pl *plan) error {
	h, err := recipe.ParseHires(pl.Hires)
	if err != nil {
		return usagef("--hires %w", err)
	}
	if h == nil {
		return nil
	}
	if pl.depth != nil {
		return usagef("--hires does not go with a depth model")
	}
	if pl.edit != nil {
		return usagef("--hires enlarges a picture made from noise: with --init, give a larger --width and --height instead")
	}
	steps := h.Steps
	if steps == 0 {
		steps = pl.Steps
	}
	o := scheduler.Options{Name: pl.Scheduler, Sigmas: pl.Sigmas, Eta: pl.Eta, Last: steps, Steps: int(float64(steps) / min(h.Strength, 0.999))}
	if stepless(pl.Request) {
		return usagef("--hires needs a number of steps, but --scheduler %s --sigmas %q sets its own", pl.Scheduler, pl.Sigmas)
	}
	second := *pl
	f := p.model.Latent.Step()
	second.Width, second.Height = int(float64(pl.Width)*h.Scale)/f*f, int(float64(pl.Height)*h.Scale)/f*f
	o.Tokens = p.model.Latent.Tokens(second.Width, second.Height)
	if second.schedule, err = scheduler.New(p.model.Sampling, o); err != nil {
		return usagef("--hires %s, the second pass: %w", pl.Hires, err)
	}
	second.sampling = o
	second.latentW, second.latentH = second.Width/p.model.Latent.Factor, second.Height/p.model.Latent.Factor
	if second.Width > recipe.MaxSide || second.Height > recipe.MaxSide {
		return usagef("--hires %s: %d×%d pixels: at most %d per side", pl.Hires, second.Width, second.Height, recipe.MaxSide)
	}
	if second.latentW <= pl.latentW && second.latentH <= pl.latentH {
		return usagef("--hires %s does not enlarge %d×%d pixels: this model's sizes are multiples of %d pixels", pl.Hires, pl.Width, pl.Height, f)
	}
	if err := p.settleTracks(&second, pl.schedule.Steps()); err != nil {
		return err
	}
	second.latentValues = p.model.Latent.Channels * second.latentH * second.latentW
	if err := p.settleWindows(&second); err != nil {
		return err
	}
	switch h.Upscaler {
	case recipe.HiresLatent, recipe.HiresLanczos:
	default:
		if second.upscaler, err = library.FindPart(library.Upscalers, h.Upscaler); err != nil {
			return usagef("--hires upscaler=%s: choose latent, lanczos or an upscaler's file or name: %w", h.Upscaler, err)
		}
		hash, err := checkpoint.HashFile(second.upscaler, p.options.HashCache)
		if err != nil {
			return usagef("--hires upscaler: %w", err)
		}
		pl.hiresFiles = []recipe.File{{Kind: "upscaler", Name: library.PartName(second.upscaler), SHA256: hash}}
		h.Upscaler = library.PartName(second.upscaler)
	}
	if h.Steps == 0 { // as the second pass would change with the first
		h.Steps = steps
	}
	if pl.controls != nil { // their pictures are as large as the second one, too
		r := second.Request
		if second.controls, err = p.loadControls(&r, nil, nil); err != nil {
			return err
		}
		second.controls.steered = pl.controls.steered
	}
	if pl.ownControl != nil { // likewise
		r := second.Request
		if second.ownControl, err = p.loadOwnControl(&r, nil); err != nil {
			return err
		}
	}
	pl.Hires = h.String()
	pl.second, pl.hires = &second, h
	return nil
}

// largest is the pass that takes the most memory.
func (pl *plan) largest() *plan {
	if pl.second != nil {
		return pl.second
	}
	return pl
}

// steps are those of all passes; -1 where only rendering tells.
func (pl *plan) steps() int {
	n := pl.passSteps()
	if pl.second != nil {
		n += pl.second.passSteps()
	}
	return n
}

// calls are the model calls of all passes; -1 likewise.
func (pl *plan) calls() int {
	n := pl.schedule.Calls()
	if pl.second != nil {
		n += pl.second.calls()
	}
	if pl.refined != nil {
		n += pl.refined.schedule.Calls()
	}
	return n
}

// next is the picture's second pass, after the first is denoised; nil if there is none.
func (m *picture) next(ctx context.Context) (*picture, error) {
	if m.second == nil {
		return nil, nil
	}
	pl := m.second
	pl.adaptation = m.adaptation
	if err := m.p.checkMemory(pl); err != nil {
		return nil, err
	}
	c, err := m.p.condition(ctx, pl, func(string) {}) // the first pass has warned
	if err != nil {
		return nil, fmt.Errorf("encoding the prompt: %w", err)
	}
	if err := m.p.steer(ctx, pl); err != nil {
		return nil, err
	}
	n := &picture{plan: pl, p: m.p, ev: m.ev, denoiser: m.p.newDenoiser(pl, c), first: m, result: m.result}
	if err := n.beginRefiner(ctx); err != nil {
		return nil, err
	}
	n.x = make([]float32, pl.latentValues)
	if err := n.seed(); err != nil {
		return nil, err
	}
	if err := n.beginOwnControl(ctx); err != nil {
		return nil, err
	}
	var known []float32
	if m.hires.Upscaler == recipe.HiresLatent {
		known = enlarged(m.x, m.p.model.Latent.Channels, m.latentH, m.latentW, pl.latentH, pl.latentW, m.wrap)
	} else if known, err = n.enlargedPicture(ctx); err != nil {
		return nil, fmt.Errorf("enlarging the picture of the first pass: %w", err)
	}
	n.firstNoise(n.x)
	pl.schedule.AddNoise(n.x, known, n.x)
	return n, nil
}

// seed begins the picture's random numbers.
func (m *picture) seed() error {
	source, err := noise.New(m.Noise, m.Seed)
	if err != nil {
		return err
	}
	m.draw = func(dst []float32) { source.NormalAs(dst, noiseType(m.p.device.DType)) }
	m.brownian, err = m.p.brownian(m.plan)
	return err
}

// enlargedPicture decodes the first pass, enlarges the picture and encodes it.
func (m *picture) enlargedPicture(ctx context.Context) ([]float32, error) {
	d, err := m.p.decode(ctx, m.first.plan, m.first.x, m.ev.Warn)
	if err != nil {
		return nil, err
	}
	img := d.Pixels
	if m.upscaler != "" {
		if img, err = m.p.upscale(ctx, m.upscaler, img); err != nil {
			return nil, err
		}
	}
	if img.Rect.Dx() != m.Width || img.Rect.Dy() != m.Height {
		img = imaging.Resize(img, m.Width, m.Height, imaging.Lanczos)
	}
	return m.encode(ctx, values(img, nil))
}

// upscale enlarges a picture with a network of the ESRGAN kind.
func (p *Pipeline) upscale(ctx context.Context, file string, img *image.NRGBA) (*image.NRGBA, error) {
	u, err := family.OpenUpscaler(file, p.device)
	if err != nil {
		return nil, err
	}
	larger, err := u.Upscale(ctx, img, 0, nil)
	if closing := u.Close(); err == nil {
		err = closing
	}
	return larger, err
}

// enlarged brings latents [C,h,w] to another size by bilinear interpolation between the middles of values, as torch's
// interpolate does; along an axis that wraps, the other side goes on after the edge.
func enlarged(x []float32, channels, h, w, newH, newW int, wrap [2]bool) []float32 {
	out := make([]float32, channels*newH*newW)
	rows, columns := between(h, newH, wrap[0]), between(w, newW, wrap[1])
	for c := range channels {
		from := x[c*h*w:]
		for y, r := range rows {
			for i, q := range columns {
				top := (1-q.share)*from[r.low*w+q.low] + q.share*from[r.low*w+q.high]
				bottom := (1-q.share)*from[r.high*w+q.low] + q.share*from[r.high*w+q.high]
				out[(c*newH+y)*newW+i] = (1-r.share)*top + r.share*bottom
			}
		}
	}
	return out
}

// place is a point between two values.
type place struct {
	low, high int
	share     float32 // of high
}

// between are the places of m values that are spread evenly over n.
func between(n, m int, wrap bool) []place {
	places := make([]place, m)
	for i := range places {
		at := (float64(i)+0.5)*float64(n)/float64(m) - 0.5
		if !wrap {
			at = max(at, 0)
		}
		low := int(math.Floor(at))
		p := place{low, low + 1, float32(at - float64(low))}
		if wrap {
			p.low, p.high = (p.low+n)%n, p.high%n
		} else {
			p.high = min(p.high, n-1)
		}
		places[i] = p
	}
	return places
}
