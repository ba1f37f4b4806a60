package pipeline

import (
	"context"
	"sort"
	"sync"

	"darkroom/family"
)

// RenderBatch makes several pictures. Those of equal size and text length are made together, as many at once as memory
// allows. Each is bit-identical to the one that Render makes, and fails on its own. They are decoded one by one, because
// the decoder's convolutions are large enough to fill any device.
//
// events, which may be nil, returns the events of request i. They are called from other goroutines, but one at a time.
// done is called once per request, from this goroutine, as soon as its picture is finished or has failed.
func (p *Pipeline) RenderBatch(ctx context.Context, requests []Request, events func(i int) Events, done func(i int, img *Image, err error)) {
	p.DenoiseBatch(ctx, requests, events, func(i int, l *Latents, err error) {
		if err != nil {
			done(i, nil, err)
			return
		}
		img, err := l.DecodeSafely(ctx)
		done(i, img, err)
	})
}

// DenoiseBatch is RenderBatch without the decoder.
func (p *Pipeline) DenoiseBatch(ctx context.Context, requests []Request, events func(i int) Events, done func(i int, l *Latents, err error)) {
	// What is laid over the model, and the networks beside it, are changed once for all pictures that want them.
	var adaptations []string
	alike := map[string][]int{}
	for i, r := range requests {
		k := adaptationOf(r) + networksOf(r)
		if alike[k] == nil {
			adaptations = append(adaptations, k)
		}
		alike[k] = append(alike[k], i)
	}
	for _, k := range adaptations {
		p.denoiseAlike(ctx, requests, alike[k], events, done)
	}
}

// denoiseAlike is DenoiseBatch for those of the requests that have the same adapters.
func (p *Pipeline) denoiseAlike(ctx context.Context, requests []Request, some []int, events func(i int) Events, done func(i int, l *Latents, err error)) {
	var all []batched
	for _, i := range some {
		r := requests[i]
		var ev Events
		if events != nil {
			ev = events(i)
		}
		m, err := p.beginSafely(ctx, r, ev)
		if err != nil {
			done(i, nil, err)
			continue
		}
		all = append(all, batched{m, i})
	}
	for len(all) > 0 {
		all = p.denoiseBatches(ctx, all, done)
	}
}

// denoiseBatches denoises pictures, those of one size together, and gives the second passes of those that have one.
func (p *Pipeline) denoiseBatches(ctx context.Context, all []batched, done func(i int, l *Latents, err error)) (second []batched) {
	var order []batchKey
	batches := map[batchKey][]batched{}
	for _, m := range all {
		k := batchKey{m.seen().latentH, m.seen().latentW, m.denoiser.tokens, m.references.count(), m.wrap, m.winograd, m.TokenMerging, m.denoiser.net}
		if batches[k] == nil {
			order = append(order, k)
		}
		batches[k] = append(batches[k], m)
	}
	for _, k := range order {
		for i, err := range p.denoiseTogether(ctx, batches[k]) {
			m := batches[k][i]
			var next *picture
			if err == nil {
				next, err = m.nextSafely(ctx)
			}
			switch {
			case err != nil:
				done(m.request, nil, err)
			case next != nil:
				second = append(second, batched{next, m.request})
			default:
				done(m.request, &Latents{m.picture}, nil)
			}
		}
	}
	return second
}

// nextSafely is next with a panic as a *PanicError.
func (m *picture) nextSafely(ctx context.Context) (next *picture, err error) {
	defer func() {
		if v := recover(); v != nil {
			next, err = nil, NewPanicError(v)
		}
	}()
	return m.next(ctx)
}

// batchKey is what the rows of one run of the denoiser share.
type batchKey struct {
	h, w, tokens, references int
	wrap                     [2]bool
	winograd                 bool
	merge                    float64
	net                      family.Denoiser
}

// batched is the picture of a request.
type batched struct {
	*picture
	request int
}

func (p *Pipeline) beginSafely(ctx context.Context, r Request, ev Events) (m *picture, err error) {
	defer func() {
		if v := recover(); v != nil {
			m, err = nil, NewPanicError(v)
		}
	}()
	return p.begin(ctx, r, ev)
}

// denoiseTogether denoises pictures in one batcher.
func (p *Pipeline) denoiseTogether(ctx context.Context, all []batched) []error {
	rows := 0
	for _, m := range all {
		rows += m.rows()
	}
	b := &batcher{p: p, most: p.rowsThatFit(all[0].plan, rows), pictures: len(all)}
	errs := make([]error, len(all))
	var events sync.Mutex
	var pictures sync.WaitGroup
	for i, m := range all {
		m.join(b, i, &events)
		pictures.Go(func() {
			defer b.leave(ctx)
			defer func() {
				if v := recover(); v != nil {
					errs[i] = NewPanicError(v)
				}
			}()
			errs[i] = m.denoise(ctx)
		})
	}
	pictures.Wait()
	p.refine(ctx, pictureOf(all), errs)
	return errs
}

func pictureOf(all []batched) (pictures []*picture) {
	for _, m := range all {
		pictures = append(pictures, m.picture)
	}
	return pictures
}

// rowsThatFit is for how many rows of the denoiser, up to so many, there is memory; at least those of one picture.
func (p *Pipeline) rowsThatFit(pl *plan, rows int) int {
	if p.ran(pl, rows) {
		return rows
	}
	free, known := p.free()
	if !known {
		return rows
	}
	one := min(pl.rows(), rows)
	return one + sort.Search(rows-one, func(more int) bool {
		return p.needOf(pl, one+more+1).Total() > free || p.checkSecond(pl, one+more+1) != nil
	})
}

// mostAtOnce bounds the pictures of a batch.
const mostAtOnce = 32

// BatchSize is how many pictures like r are best rendered at once: as many as make the device faster and fit in memory.
// most is an upper bound; 0 is no bound.
func (p *Pipeline) BatchSize(r Request, most int) int {
	pl, err := p.plan(r)
	if err != nil {
		return 1 // it will be told when it is rendered
	}
	n := most
	if n <= 0 {
		n = min(max(p.device.Backend.Info().FullAt/(pl.Width*pl.Height*pl.film.count()), 1), mostAtOnce)
	}
	return max(p.rowsThatFit(pl.largest(), pl.rows()*n)/pl.rows(), 1)
}
