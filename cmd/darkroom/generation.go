package main

import (
	"context"
	"fmt"
	"image"
	"sync"
	"time"

	"darkroom/pipeline"
)

// generation is the pictures of one generate command, which may come from several devices at once.
type generation struct {
	e       *env
	o       generateOptions
	request pipeline.Request // of the first picture
	out     *target
	from    *source
	show    progress
	past    *diary

	mu       sync.Mutex // one speaks and writes at a time
	together bool       // one bar for all pictures
	stepped  int        // of all
	written  int
	shown    map[string]bool // warnings
	begun    sync.Map        // picture → time
}

// startAll shows one bar for all pictures.
func (g *generation) startAll(pipelines []*pipeline.Pipeline) error {
	plan, err := pipelines[0].Plan(g.request)
	if err != nil {
		return err
	}
	g.together = true
	g.noteSeed()
	g.show.start(fmt.Sprintf("%d pictures on %d devices", g.o.Count, len(pipelines)), max(plan.Steps, 1)*g.o.Count)
	g.e.where.set("rendering on %d devices", len(pipelines))
	return nil
}

// noteSeed tells a seed that was drawn.
func (g *generation) noteSeed() {
	if g.o.Request.Seed == nil && g.from == nil && !g.o.Quiet {
		g.show.note(fmt.Sprintf("seed %d", g.request.Seed))
	}
}

func (g *generation) picture(i int) (r pipeline.Request, title string) {
	r = g.request
	r.Seed += uint64(i)
	return r, fmt.Sprintf("picture %d of %d", i+1, g.o.Count)
}

// where says what the program is at, if that is one thing.
func (g *generation) where(format string, args ...any) {
	if !g.together {
		g.e.where.set(format, args...)
	}
}

// denoise makes the latents of picture i.
func (g *generation) denoise(ctx context.Context, p *pipeline.Pipeline, i int) (*pipeline.Latents, error) {
	r, title := g.picture(i)
	g.where("preparing %s (seed %d)", title, r.Seed)
	steps, denoised := 0, false
	events := pipeline.Events{
		Warn: func(message string) {
			g.mu.Lock()
			defer g.mu.Unlock()
			switch {
			case denoised: // of this picture's decoding
				g.show.note(fmt.Sprintf("warning: %s (seed %d): %s", title, r.Seed, message))
			case !g.shown[message]: // the same for all
				g.shown[message] = true
				g.show.note("warning: " + message)
			}
		},
		Start: func(n int) {
			g.mu.Lock()
			defer g.mu.Unlock()
			steps = n
			if g.together {
				return
			}
			g.where("denoising %s (seed %d), before step 1 of %d", title, r.Seed, n)
			if i == 0 {
				g.noteSeed()
			}
			g.show.start(title, n)
		},
		Step: func(n int) {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.together {
				g.stepped++
				g.show.step(g.stepped)
				return
			}
			g.show.step(n)
			if n < steps {
				g.where("denoising %s (seed %d), after step %d of %d", title, r.Seed, n, steps)
			} else {
				g.where("decoding %s (seed %d)", title, r.Seed)
			}
		},
		PreviewEvery: g.o.Preview,
	}
	if g.o.Preview > 0 {
		path := g.out.previewPath(i, r)
		g.e.where.temporary(path)
		defer g.e.where.remove(path)
		events.Preview = func(_ int, picture *image.NRGBA) error { return writePreview(path, picture) }
	}
	g.begun.Store(i, time.Now())
	l, err := p.Denoise(ctx, r, events)
	g.mu.Lock()
	defer g.mu.Unlock()
	denoised = true
	if !g.together {
		g.show.end()
	}
	return l, err
}

// finish decodes picture i, writes it and tells its path.
func (g *generation) finish(ctx context.Context, p *pipeline.Pipeline, i int, l *pipeline.Latents) error {
	picture, err := l.Decode(ctx)
	if err != nil {
		return err
	}
	begun, _ := g.begun.Load(i)
	rendered := time.Since(begun.(time.Time))
	g.mu.Lock()
	defer g.mu.Unlock()
	r, title := g.picture(i)
	if g.from != nil && g.from.complete && i == 0 {
		warnIfDifferent(g.from.recipe, picture.Recipe, g.from.file, g.show)
	}
	if !p.DecodesBeside() {
		g.where("writing %s", title)
	}
	path, data, err := g.out.write(i, picture)
	if err != nil {
		return err
	}
	g.written++
	g.e.where.finished(g.written, g.o.Count)
	if err := g.o.printResult(g.e.stdout, path, picture.Recipe, time.Since(begun.(time.Time))); err != nil {
		return stopError{err}
	}
	if err := g.past.add(generated(p, r, g.out.encode, picture, path, data, rendered)); err != nil {
		g.show.note("warning: " + err.Error())
	}
	return nil
}

// failed tells of a picture that failed, where others follow.
func (g *generation) failed(i int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r, title := g.picture(i); g.o.Count > 1 {
		g.show.note(fmt.Sprintf("%s (seed %d) failed: %v", title, r.Seed, err))
	}
}
