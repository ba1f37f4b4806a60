package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"slices"
	"sync"

	"darkroom/imagefile"
	"darkroom/noise"
	"darkroom/recipe"
	"darkroom/scheduler"
	"darkroom/tensor"
)

// Image is a finished picture with its recipe.
type Image struct {
	Pixels *image.NRGBA
	Recipe recipe.Recipe
	// Frames are those of a film, of which Pixels is the first; nil of a picture.
	Frames []*image.NRGBA
}

// Events are called while a picture is made, from the goroutine that called Render. All may be nil.
type Events struct {
	// Warn is called with what the user should know, such as words that did not fit.
	Warn func(message string)
	// Start is called with the number of steps when everything is loaded and denoising begins.
	Start func(steps int)
	// Step is called after each step, counted from 1.
	Step func(step int)
	// Preview is called every PreviewEvery steps with the picture that the model expects as the result; 0 means
	// never. An error ends the rendering.
	Preview      func(step int, picture *image.NRGBA) error
	PreviewEvery int
	// WantPreview decides instead of PreviewEvery whether Preview is called after a step.
	WantPreview func(step int) bool
	// Stop is called after each step. An error ends this picture, but not those rendered together with it.
	Stop func() error

	latents func(step int, x []float32) // for tests of the seams
	call    func()                      // before each call of the model
}

// Render makes one picture. Soon after ctx ends, it returns ctx's error, wrapped with where it stopped.
func (p *Pipeline) Render(ctx context.Context, r Request, ev Events) (*Image, error) {
	l, err := p.Denoise(ctx, r, ev)
	if err != nil {
		return nil, err
	}
	return l.Decode(ctx)
}

// picture is an image on its way: begin → denoise → finish.
type picture struct {
	*plan
	p        *Pipeline
	ev       Events
	denoiser *denoiser
	refining *denoiser   // of the last steps; nil without a refiner
	events   sync.Locker // one at a time among the pictures of a batcher
	x        []float32   // latents, [C,h,w]
	draw     func(dst []float32)
	brownian func(dst []float32, σ, σNext float64) error
	result   recipe.Result
	first    *picture // of a second pass: the one before
}

// begin checks a request, encodes its prompt and draws its noise.
func (p *Pipeline) begin(ctx context.Context, r Request, ev Events) (*picture, error) {
	pl, err := p.plan(r)
	if err != nil {
		return nil, err
	}
	if err := p.checkMemory(pl.largest()); err != nil {
		return nil, err
	}
	p.beginHash()
	if ev.Warn == nil {
		ev.Warn = func(string) {}
	}
	for _, w := range slices.Concat(p.warnings, pl.warnings) {
		ev.Warn(w)
	}
	if p.device.Second != nil && pl.rows() < 2 {
		ev.Warn("--parallel cfg: without guidance there is nothing to share, and a picture alone uses one of the two GPUs")
	}
	a, err := p.adaptation(pl)
	if err != nil {
		return nil, err
	}
	if err := p.adapt(a); err != nil {
		return nil, err
	}
	for _, w := range a.warnings {
		ev.Warn(w)
	}
	pl.adaptation = a
	c, err := p.condition(ctx, pl, ev.Warn)
	if err != nil {
		return nil, fmt.Errorf("encoding the prompt: %w", err)
	}
	if err := pl.references.encode(ctx, p); err != nil {
		return nil, err
	}
	if err := p.steer(ctx, pl); err != nil {
		return nil, err
	}
	if err := p.model.Codec.Ready(pl.area(p)); err != nil {
		return nil, fmt.Errorf("model %s: %w", p.name, err)
	}
	m := &picture{plan: pl, p: p, ev: ev, denoiser: p.newDenoiser(pl, c)}

	if err := m.beginRefiner(ctx); err != nil {
		return nil, err
	}
	if err := m.seed(); err != nil {
		return nil, err
	}
	m.x = make([]float32, pl.latentValues)
	if m.depth != nil {
		m.denoiser.extra = slices.Repeat([][]float32{m.depth.values}, pl.rows())
	}
	if err := m.beginOwnControl(ctx); err != nil {
		return nil, err
	}
	switch {
	case pl.instructs():
		return m, m.beginInstruct(ctx)
	case m.edit != nil:
		return m, m.beginEdit(ctx)
	}
	m.beginNoise()
	return m, nil
}

// join puts the picture among those of a batcher, whose events are called one at a time.
func (m *picture) join(b *batcher, number int, events sync.Locker) {
	m.denoiser.batcher, m.denoiser.number, m.events = b, number, events
}

// event calls a callback.
func (m *picture) event(call func() error) error {
	m.events.Lock()
	defer m.events.Unlock()
	return call()
}

// denoise carries the latents through all steps of the first model.
func (m *picture) denoise(ctx context.Context) error {
	_ = m.event(func() error {
		if m.ev.Start != nil && m.first == nil {
			m.ev.Start(m.plan.steps())
		}
		return nil
	})
	return m.runSteps(ctx, m.plan, m.denoiser)
}

// runSteps carries the latents through the steps of one model.
func (m *picture) runSteps(ctx context.Context, pl *plan, d *denoiser) error {
	return pl.schedule.Run(scheduler.Run{
		X: m.x,
		Denoise: func(x []float32, at scheduler.Level) (scheduler.Prediction, error) {
			if m.ev.call != nil {
				m.ev.call()
			}
			return d.predict(ctx, x, at)
		},
		Noise:    func(dst []float32) error { m.draw(dst); return nil },
		Brownian: m.brownian,
		Blend:    m.blend(),
		OnStep: func(step int, x, x0 []float32) error {
			d.step = pl.offset + step + 1
			return m.event(func() error { return m.onStep(ctx, pl.offset+step+1, x, x0) })
		},
	})
}

// finish decodes the latents and writes the recipe.
func (m *picture) finish(ctx context.Context) (*Image, error) {
	m.result.Latents = hashFloats(m.x)
	d, frames, err := m.p.decodeFrames(ctx, m.plan, m.x, func(text string) {
		_ = m.event(func() error { m.ev.Warn(text); return nil })
	})
	if err != nil {
		return nil, err
	}
	frames[0] = m.edit.paste(d.Pixels)
	if m.Watermark && !markAll(frames) {
		_ = m.event(func() error {
			m.ev.Warn(fmt.Sprintf("--watermark: a picture smaller than %d pixels per side, or with as many edges as this one, cannot hold the mark", imagefile.MinMarked))
			return nil
		})
	}
	m.result.Pixels = recipe.HashPixels(frames...)
	out, err := m.p.recipe(m.asked(), m.result)
	if err != nil {
		return nil, err
	}
	out.WholeCalls, out.Calls = m.calls()
	if d.DType != m.p.device.DType {
		out.DecodeDType = d.DType.Name()
	}
	img := &Image{Pixels: frames[0], Recipe: out}
	if len(frames) > 1 {
		img.Frames = frames
	}
	return img, nil
}

// markAll puts the invisible mark into pictures and reports whether all could hold it.
func markAll(pictures []*image.NRGBA) bool {
	all := true
	for _, p := range pictures {
		all = imagefile.Mark(p) && all
	}
	return all
}

// calls are those of the denoiser that a cache left whole, and how many there were, over all passes; none without a cache.
func (m *picture) calls() (whole []int, n int) {
	if !m.cache.On() {
		return nil, 0
	}
	if m.first != nil {
		whole, n = m.first.calls()
	}
	for _, d := range []*denoiser{m.denoiser, m.refining} {
		if d == nil {
			continue
		}
		for _, i := range d.cache.Whole {
			whole = append(whole, n+i)
		}
		n += d.cache.Calls()
	}
	return whole, n
}

// brownian is the path that a stochastic sampler's noise comes from, seeded as the picture is; nil where each step
// draws anew.
func (p *Pipeline) brownian(pl *plan) (func(dst []float32, σ, σNext float64) error, error) {
	if pl.SDENoise != SDEBrownian {
		return nil, nil
	}
	path, err := pl.schedule.BrownianPath(pl.Seed, pl.latentValues, func(seed uint64, dst []float32) {
		source, err := noise.New(pl.Noise, seed)
		if err != nil {
			panic("pipeline: " + err.Error()) // the plan checked it
		}
		source.NormalAs(dst, noiseType(p.device.DType))
	})
	if err != nil {
		return nil, err
	}
	return path.Noise, nil
}

// asked is the plan of the first pass, which the request is.
func (m *picture) asked() *plan {
	if m.first != nil {
		return m.first.plan
	}
	return m.plan
}

func (m *picture) onStep(ctx context.Context, step int, x, x0 []float32) error {
	ev := m.ev
	if m.first != nil && m.first.schedule.Steps() > 0 {
		step += m.first.schedule.Steps()
	}
	if ev.latents != nil {
		ev.latents(step, x)
	}
	if ev.Stop != nil {
		if err := ev.Stop(); err != nil {
			return err
		}
	}
	if ev.wantsPreview(step) && step < m.asked().steps() {
		d, err := m.p.preview(ctx, m.plan, x0)
		if err != nil {
			return fmt.Errorf("preview: %w", err)
		}
		if err := ev.Preview(step, d.Pixels); err != nil {
			return fmt.Errorf("preview: %w", err)
		}
	}
	if ev.Step != nil {
		ev.Step(step)
	}
	return nil
}

func (ev *Events) wantsPreview(step int) bool {
	switch {
	case ev.Preview == nil:
		return false
	case ev.WantPreview != nil:
		return ev.WantPreview(step)
	}
	return ev.PreviewEvery > 0 && step%ev.PreviewEvery == 0
}

// noiseType is the type in which torch draws latents for a model of that type.
func noiseType(d tensor.DType) noise.Type {
	switch d {
	case tensor.F16:
		return noise.Float16
	case tensor.BF16:
		return noise.BFloat16
	}
	return noise.Float32
}

func hashFloats(v []float32) string {
	sum := sha256.Sum256(tensor.Bytes(v))
	return hex.EncodeToString(sum[:])
}
