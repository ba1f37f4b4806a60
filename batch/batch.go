// Package batch renders many requests on the devices of one machine. What is finished is written down in the
// manifest, and is kept when the same batch runs again.
//
//	jobs (a file's images) → groups by model → a renderer a device → encode, store, manifest
package batch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"darkroom/batch/engine"
	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/batch/store"
	"darkroom/pipeline"
	"darkroom/render"
)

// Renderer makes pictures on one device, one at a time. engine.Engine is one.
type Renderer interface {
	Render(ctx context.Context, q *jobs.Request, ev pipeline.Events) (*pipeline.Image, error)
	Device() string
}

// BatchRenderer is a Renderer that can make several pictures at once. engine.Engine is one.
type BatchRenderer interface {
	Renderer
	// RenderBatch makes the pictures of requests of one engine.Group. Each is the one that Render makes, and fails alone;
	// done is called once for each, from this goroutine.
	RenderBatch(ctx context.Context, all []*jobs.Request, events func(i int) pipeline.Events, done func(i int, img *pipeline.Image, err error))
	// BatchSize is how many requests like q are best rendered at once, at most so many; 0 is no bound.
	BatchSize(q *jobs.Request, most int) int
}

// Options describe a batch to run. All fields are required unless their comment says otherwise.
type Options struct {
	Images    []jobs.Image
	Manifest  *manifest.Manifest
	Store     store.Store
	Renderers []Renderer // one a device

	Worker string // who renders, for the manifest; may be ""
	Retry  int    // how often a failed image is tried again; 0: once is enough
	AtOnce int    // how many images a device renders at once, at most; 0: as many as make it faster
	// Lanes is how many goroutines call each renderer. 0 is one; two where a renderer decodes the pictures of one call
	// while it denoises those of the next.
	Lanes    int
	FailFast bool // the first failure ends the batch
	// ModelHash tells the hash of the weights that a request would use now, so that images of other weights are made
	// again. nil: what is finished is kept.
	ModelHash func(*jobs.Request) (string, error)
	// OnEvent is called with progress, one call at a time; it may be nil.
	OnEvent func(Event)
	// StorePatience is how long to retry a store that refuses; 0 is half a minute.
	StorePatience time.Duration
}

// Event is a piece of progress.
type Event struct {
	Kind   string // one of the constants below
	Image  *jobs.Image
	Device string
	Step   int             // of Steps, for Step
	Steps  int             // likewise
	Text   string          // of Warning and Retrying
	Record manifest.Record // of Finished, Kept and Failed
	Summary
}

// The kinds of events.
const (
	Kept     = "kept"     // it was finished before
	Started  = "started"  // denoising begins
	Step     = "step"     // a step is done
	Finished = "finished" // its file is there
	Retrying = "retrying" // it failed and is tried again
	Failed   = "failed"
	Warning  = "warning"
)

// Summary counts a batch's images by outcome.
type Summary struct {
	Total     int
	Kept      int // finished before
	Finished  int
	Failed    int
	Cancelled int // by batch cancel
}

// Left returns how many images have not been reached.
func (s Summary) Left() int { return s.Total - s.Kept - s.Finished - s.Failed - s.Cancelled }

// run is a batch under way.
type run struct {
	o      Options
	cancel context.CancelCauseFunc

	mu  sync.Mutex
	sum Summary
}

// errFailFast ends a batch at its first failure.
var errFailFast = errors.New("stopped at the first failure (--fail-fast)")

// Run renders what is not finished yet. An image's failure is counted, not returned: the error is of the batch as a
// whole (ctx ended, the disk stays full). Whatever it returns, the manifest says what is finished.
func Run(ctx context.Context, o Options) (Summary, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &run{o: o, cancel: cancel, sum: Summary{Total: len(o.Images)}}
	todo, err := r.unfinished(ctx)
	if err != nil {
		return r.sum, err
	}
	pictures := make(chan picture, 2)
	var writers sync.WaitGroup
	for range 2 { // encoding one picture while another is written
		writers.Go(func() {
			for p := range pictures {
				r.write(ctx, p)
			}
		})
	}
	rendered := r.render(ctx, todo, pictures)
	close(pictures)
	writers.Wait()
	if err := context.Cause(ctx); err != nil {
		if errors.Is(err, errFailFast) {
			return r.sum, nil
		}
		return r.sum, err
	}
	return r.sum, rendered
}

// Unfinished verifies what the manifest calls finished, reports each image that is kept, and returns the images that
// are to be rendered. It is what Run begins with, for those who have the rest done elsewhere.
func Unfinished(ctx context.Context, o Options) ([]*jobs.Image, Summary, error) {
	r := &run{o: o, sum: Summary{Total: len(o.Images)}}
	todo, err := r.unfinished(ctx)
	return todo, r.sum, err
}

// unfinished verifies what the manifest calls finished and returns the images that are not.
func (r *run) unfinished(ctx context.Context) ([]*jobs.Image, error) {
	var todo []*jobs.Image
	weights := map[string]string{} // group → hash of the weights now, "" unknown
	for i := range r.o.Images {
		m := &r.o.Images[i]
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		old, ok := r.o.Manifest.Get(m.Hash)
		if !ok || old.Status != manifest.Done {
			todo = append(todo, m)
			continue
		}
		if why := r.stale(ctx, m, old, weights); why != "" {
			r.event(Event{Kind: Warning, Image: m, Text: old.File + " is made again: " + why})
			todo = append(todo, m)
			continue
		}
		r.count(func(s *Summary) { s.Kept++ }, Event{Kind: Kept, Image: m, Record: old})
	}
	return todo, nil
}

// stale says why a finished image cannot be kept, "" if it can.
func (r *run) stale(ctx context.Context, m *jobs.Image, old manifest.Record, weights map[string]string) string {
	if old.Numerics != pipeline.Numerics {
		return "it is from a version of darkroom with different arithmetic"
	}
	if r.o.ModelHash != nil {
		group := engine.Group(&m.Request)
		now, ok := weights[group]
		if !ok {
			now, _ = r.o.ModelHash(&m.Request) // a model that is gone: what it made is kept
			weights[group] = now
		}
		if now != "" && now != old.ModelHash {
			return "the model's weights have changed"
		}
	}
	sum, err := r.o.Store.Sum(ctx, old.File)
	switch {
	case errors.Is(err, store.ErrMissing):
		return "the file is gone"
	case err != nil:
		return err.Error()
	case sum != old.SHA256:
		return "the file was changed; it is kept, and the picture gets another name"
	}
	return ""
}

// picture is a rendered image on its way to the store.
type picture struct {
	image  *jobs.Image
	pixels *pipeline.Image
	record manifest.Record
}

// render makes images on all devices and hands them to the writers.
func (r *run) render(ctx context.Context, todo []*jobs.Image, pictures chan<- picture) error {
	o := render.Options[*jobs.Image]{
		Source: newGroups(todo), Lanes: r.o.Lanes, AtOnce: r.o.AtOnce, Retry: r.o.Retry,
		Kind: func(m *jobs.Image) any {
			return room{engine.Group(&m.Request), m.Request.Width, m.Request.Height, m.Request.Tiled}
		},
		Events: r.events,
		Made:   func(t render.Try[*jobs.Image], img *pipeline.Image) { pictures <- picture{t.Item, img, r.record(t)} },
		Failed: func(t render.Try[*jobs.Image], err error) { r.fail(ctx, t.Item, r.record(t), err) },
		Retrying: func(t render.Try[*jobs.Image], err error) {
			r.event(Event{Kind: Retrying, Image: t.Item, Text: err.Error(), Device: t.Device})
		},
		Moved: func(t render.Try[*jobs.Image], err error) {
			text := fmt.Sprintf("%s has no room for pictures of this size; they go to the other devices: %v", t.Device, err)
			if render.Lost(err) {
				text = fmt.Sprintf("%s is lost; its pictures go to the other devices: %v", t.Device, err)
			}
			r.event(Event{Kind: Warning, Image: t.Item, Text: text, Device: t.Device})
		},
	}
	for _, renderer := range r.o.Renderers {
		o.Devices = append(o.Devices, render.Of(device{renderer}, func(m *jobs.Image) *jobs.Request { return &m.Request }))
	}
	return render.Run(ctx, o)
}

// room is what decides how much memory an image takes.
type room struct {
	group         string
	width, height int
	tiled         bool
}

// device is a renderer as render.Run wants it.
type device struct{ Renderer }

func (d device) RenderBatch(ctx context.Context, all []*jobs.Request, events func(i int) pipeline.Events, done func(i int, img *pipeline.Image, err error)) {
	if several, ok := d.Renderer.(BatchRenderer); ok && len(all) > 1 {
		several.RenderBatch(ctx, all, events, done)
		return
	}
	for i, q := range all {
		img, err := d.Render(ctx, q, events(i))
		done(i, img, err)
	}
}

func (d device) BatchSize(q *jobs.Request, most int) int {
	if several, ok := d.Renderer.(BatchRenderer); ok {
		return several.BatchSize(q, most)
	}
	return 1
}

func (r *run) record(t render.Try[*jobs.Image]) manifest.Record {
	m := t.Item
	return manifest.Record{
		Hash: m.Hash, Index: m.Index, Request: m.Request, Worker: r.o.Worker, Device: t.Device,
		Attempts: t.Attempts, Started: t.Begun.UTC(), Seconds: t.Seconds,
	}
}

// events tell of an image's rendering.
func (r *run) events(m *jobs.Image, device string) pipeline.Events {
	steps := 0
	return pipeline.Events{
		Warn: func(text string) { r.event(Event{Kind: Warning, Image: m, Text: text, Device: device}) },
		Start: func(n int) {
			steps = n
			r.event(Event{Kind: Started, Image: m, Steps: n, Device: device})
		},
		Step: func(n int) { r.event(Event{Kind: Step, Image: m, Step: n, Steps: steps, Device: device}) },
	}
}

// write encodes a picture, stores it and writes it down.
func (r *run) write(ctx context.Context, p picture) {
	data, err := engine.Encode(&p.image.Request, p.pixels)
	if err != nil {
		r.fail(ctx, p.image, p.record, err)
		return
	}
	rec := Complete(p.record, p.pixels, data)
	// A rendered picture is written even if ctx has ended: writing takes milliseconds, and the work is done.
	keep := context.WithoutCancel(ctx)
	err = Patiently(ctx, r.o.StorePatience, r.warn, func() (err error) {
		rec.File, err = store.PutFree(keep, r.o.Store, p.image.File, data)
		return err
	})
	if store.Hopeless(err) { // this name is wrong, not the place
		r.fail(ctx, p.image, p.record, err)
		return
	}
	if err == nil {
		rec.Finished = time.Now().UTC()
		err = Patiently(ctx, r.o.StorePatience, r.warn, func() error { return r.o.Manifest.Append(rec) })
	}
	if err != nil {
		r.cancel(fmt.Errorf("%w\nFinished pictures are in the manifest: run the same command again to continue from there", err))
		return
	}
	r.count(func(s *Summary) { s.Finished++ }, Event{Kind: Finished, Image: p.image, Record: rec, Device: rec.Device})
}

// Complete fills in what is known of a finished image.
func Complete(rec manifest.Record, img *pipeline.Image, data []byte) manifest.Record {
	sum := sha256.Sum256(data)
	rec.Status, rec.SHA256, rec.Bytes = manifest.Done, hex.EncodeToString(sum[:]), int64(len(data))
	c := img.Recipe
	rec.Pixels, rec.ModelHash, rec.Numerics = c.Result.Pixels, c.ModelHash, c.Numerics
	rec.Backend, rec.DType, rec.Steps, rec.Width, rec.Height = c.Backend, c.DType, c.Steps, c.Width, c.Height
	return rec
}

// Patiently tries again for a while (0: half a minute): a full disk or a lost share may be back in a moment.
func Patiently(ctx context.Context, patience time.Duration, warn func(string), try func() error) error {
	if patience == 0 {
		patience = 30 * time.Second
	}
	told := false
	for begun, pause := time.Now(), 100*time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := try()
		if err == nil || store.Hopeless(err) || time.Since(begun)+pause > patience {
			return err
		}
		if !told {
			warn(fmt.Sprintf("%v (tried again for %v)", err, patience))
			told = true
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

func (r *run) warn(text string) { r.event(Event{Kind: Warning, Text: text}) }

// fail writes down an image's failure.
func (r *run) fail(ctx context.Context, m *jobs.Image, rec manifest.Record, cause error) {
	rec.Status, rec.Error, rec.Finished = manifest.Failed, cause.Error(), time.Now().UTC()
	if err := Patiently(ctx, r.o.StorePatience, r.warn, func() error { return r.o.Manifest.Append(rec) }); err != nil {
		r.cancel(err)
	}
	r.count(func(s *Summary) { s.Failed++ }, Event{Kind: Failed, Image: m, Record: rec, Device: rec.Device})
	if r.o.FailFast {
		r.cancel(errFailFast)
	}
}

func (r *run) count(change func(*Summary), e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.sum)
	r.tell(e)
}

func (r *run) event(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell(e)
}

func (r *run) tell(e Event) {
	if r.o.OnEvent != nil {
		e.Summary = r.sum
		r.o.OnEvent(e)
	}
}
