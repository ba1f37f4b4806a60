package render

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"darkroom/pipeline"
)

// Of is a Device for pictures whose requests a function returns.
func Of[T comparable, R any](d Device[R], request func(T) R) Device[T] { return of[T, R]{d, request} }

type of[T comparable, R any] struct {
	device  Device[R]
	request func(T) R
}

func (o of[T, R]) Device() string { return o.device.Device() }

func (o of[T, R]) RenderBatch(ctx context.Context, items []T, events func(int) pipeline.Events, done func(int, *pipeline.Image, error)) {
	all := make([]R, len(items))
	for i, item := range items {
		all[i] = o.request(item)
	}
	o.device.RenderBatch(ctx, all, events, done)
}

func (o of[T, R]) BatchSize(item T, most int) int { return o.device.BatchSize(o.request(item), most) }

// Together denoises requests at once and decodes the pictures one by one. denoised is called before the first is
// decoded; nil is allowed. It says whether a picture ended in a panic: the pipeline may be half broken then.
func Together(ctx context.Context, p *pipeline.Pipeline, requests []pipeline.Request, events func(i int) pipeline.Events, denoised func(), done func(i int, img *pipeline.Image, err error)) (broken bool) {
	tell := func(i int, img *pipeline.Image, err error) {
		var bug *pipeline.PanicError
		broken = broken || errors.As(err, &bug)
		done(i, img, err)
	}
	latents := make([]*pipeline.Latents, len(requests))
	p.DenoiseBatch(ctx, requests, events, func(i int, l *pipeline.Latents, err error) {
		if latents[i] = l; err != nil {
			tell(i, nil, err)
		}
	})
	if denoised != nil {
		denoised()
	}
	for i, l := range latents {
		if l != nil {
			img, err := l.DecodeSafely(ctx)
			latents[i] = nil
			tell(i, img, err)
		}
	}
	return broken
}

// Model is a Device with one open model. The model is reopened after a panic, which may have left it in a broken state.
type Model struct {
	open func() (*pipeline.Pipeline, error)
	p    atomic.Pointer[pipeline.Pipeline]

	mu      sync.Mutex     // one denoises at a time
	failed  error          // it could not be opened again
	decodes sync.WaitGroup // at work without mu
}

// Open opens a model by calling open.
func Open(open func() (*pipeline.Pipeline, error)) (*Model, error) {
	p, err := open()
	if err != nil {
		return nil, err
	}
	m := &Model{open: open}
	m.p.Store(p)
	return m, nil
}

// Pipeline is the open model, for questions: only the Model renders with it.
func (m *Model) Pipeline() *pipeline.Pipeline { return m.p.Load() }

// Device is the device's name.
func (m *Model) Device() string { return m.Pipeline().Backend() }

// Lanes is how many goroutines keep the device busy: two if it decodes some pictures while it denoises others.
func (m *Model) Lanes() int {
	if m.Pipeline().DecodesBeside() {
		return 2
	}
	return 1
}

// BatchSize is pipeline.BatchSize.
func (m *Model) BatchSize(r pipeline.Request, most int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		return 1
	}
	return m.Pipeline().BatchSize(r, most)
}

// RenderBatch is pipeline.RenderBatch. Where the device can, pictures are decoded while those of the next call are
// denoised.
func (m *Model) RenderBatch(ctx context.Context, all []pipeline.Request, events func(i int) pipeline.Events, done func(i int, img *pipeline.Image, err error)) {
	m.mu.Lock()
	unlock := sync.OnceFunc(m.mu.Unlock)
	defer unlock()
	if m.failed != nil {
		for i := range all {
			done(i, nil, m.failed)
		}
		return
	}
	p := m.Pipeline()
	m.decodes.Add(1)
	decoded := sync.OnceFunc(m.decodes.Done)
	defer decoded()
	broken := Together(ctx, p, all, events, func() {
		if p.DecodesBeside() {
			unlock()
		}
	}, done)
	decoded()
	if broken {
		unlock()
		m.reopen(p)
	}
}

// reopen replaces a pipeline that may be half broken, if that is still the one in use.
func (m *Model) reopen(broken *pipeline.Pipeline) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Pipeline() != broken || m.failed != nil {
		return
	}
	m.decodes.Wait()
	_ = guarded(func() { _ = broken.Close() })
	p, err := m.open()
	if err != nil {
		m.failed = fmt.Errorf("opening the model again after a failure: %w", err)
		return
	}
	m.p.Store(p)
}

// Close closes the model.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.decodes.Wait()
	if m.failed != nil {
		return nil
	}
	return m.Pipeline().Close()
}
