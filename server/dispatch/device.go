package dispatch

import (
	"context"
	"encoding/base64"
	"image"
	"slices"
	"time"

	"darkroom/batch"
	"darkroom/batch/engine"
	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/batch/store"
	"darkroom/pipeline"
	"darkroom/recipe"
	"darkroom/render"
	"darkroom/server/wire"
)

// device is an engine as render.Run wants it.
type device struct {
	d      *Dispatcher
	engine Engine
}

func (v device) Device() string { return v.engine.Device() }

func (v device) BatchSize(t *task, most int) int {
	q, err := v.d.o.Resolve(&t.item.Request)
	if err != nil {
		return 1 // rendering tells
	}
	return v.engine.BatchSize(&q, most)
}

// RenderBatch renders tasks together. When all of them are cancelled it ends within a step.
func (v device) RenderBatch(ctx context.Context, all []*task, events func(i int) pipeline.Events, done func(i int, img *pipeline.Image, err error)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &company{all, cancel}
	v.d.mu.Lock()
	for _, t := range all {
		t.company = c
	}
	c.stopIfAll()
	v.d.mu.Unlock()
	var requests []*jobs.Request
	var at []int // their places in all
	for i, t := range all {
		q, err := v.d.o.Resolve(&t.item.Request)
		if err != nil {
			done(i, nil, &pipeline.UsageError{Err: err})
			continue
		}
		requests, at = append(requests, &q), append(at, i)
	}
	if len(requests) > 0 {
		v.engine.RenderBatch(ctx, requests, func(k int) pipeline.Events { return events(at[k]) }, func(k int, img *pipeline.Image, err error) { done(at[k], img, err) })
	}
}

// company are the tasks of one call.
type company struct {
	tasks  []*task
	cancel context.CancelFunc
}

// stopIfAll ends the call when each of its tasks was cancelled. The caller holds the dispatcher's lock.
func (c *company) stopIfAll() {
	if !slices.ContainsFunc(c.tasks, func(t *task) bool { return !t.stop && t.state == running }) {
		c.cancel()
	}
}

// events are those of a task while it is rendered.
func (d *Dispatcher) events(t *task, _ string) pipeline.Events {
	locked := func(f func()) {
		d.mu.Lock()
		defer d.mu.Unlock()
		f()
	}
	tell := func() {
		d.publish(t.job.ID, wire.Event{Type: wire.ProgressType, Data: wire.ProgressEvent{Job: t.job.ID, Progress: *t.progress()}})
	}
	previews := engine.Previews{Sure: t.job.partials}
	return pipeline.Events{
		Warn: func(text string) { locked(func() { t.warn(text) }) },
		Start: func(n int) {
			locked(func() { t.denoising, t.stepped, t.step, t.steps = time.Now(), time.Time{}, 0, n; tell() })
		},
		Step: func(n int) { locked(func() { t.step, t.stepped = n, time.Now(); tell() }) },
		Stop: func() (err error) {
			locked(func() {
				if t.stop {
					err = ErrCancelled
				}
			})
			return err
		},
		WantPreview: func(step int) (wants bool) {
			watched, steps := false, 0
			locked(func() { watched, steps = d.watchedNow(t), t.steps })
			return previews.Want(step, steps, watched)
		},
		Preview: func(step int, picture *image.NRGBA) error {
			if data, err := engine.EncodePreview(picture); err == nil { // else a preview less
				d.preview(t, step, data)
			}
			previews.Made()
			return nil
		},
	}
}

// watchedNow reports whether somebody looks at the task's previews. The caller holds mu.
func (d *Dispatcher) watchedNow(t *task) bool {
	return d.wantsPreviews(t.job.ID) || time.Now().Before(t.job.wanted)
}

// preview hands out a preview, a JPEG.
func (d *Dispatcher) preview(t *task, step int, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t.job.latest = data
	d.publish(t.job.ID, wire.Event{Type: wire.PreviewType, Data: wire.PreviewEvent{
		Job: t.job.ID, Picture: t.index, Step: step, Image: "data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(data),
	}})
}

// made is a rendered picture on its way to the store.
type made struct {
	try   render.Try[*task]
	image *pipeline.Image
	at    time.Time
}

// Ended is a picture that was rendered, or failed.
type Ended struct {
	Job    string
	Index  int
	Origin string          // the API that it came through
	Trace  string          // the header traceparent of who asked; "": none
	Record manifest.Record // of a finished one
	Err    error           // of one that failed
	Cancel bool            // it was cancelled
	// When its job was accepted, a device took it, its first step began, its last step ended, its pixels were there, and its file
	// was. Those after a failure are zero; so is Pixels of a picture that a worker made.
	Accepted, Begun, Denoising, Denoised, Pixels, Stored time.Time
}

// ended tells of a picture's end. The caller does not hold mu.
func (d *Dispatcher) ended(t *task, e Ended) {
	if d.o.Ended == nil {
		return
	}
	d.mu.Lock()
	e.Job, e.Index, e.Origin, e.Trace, e.Accepted, e.Begun, e.Denoising, e.Denoised = t.job.ID, t.index, t.job.Origin, t.job.Trace, t.job.Created, t.begun, t.denoising, t.stepped
	d.mu.Unlock()
	d.o.Ended(e)
}

// write encodes a picture, stores it and writes it down.
func (d *Dispatcher) write(ctx context.Context, m made) {
	t := m.try.Item
	rec := manifest.Record{
		Hash: t.hash, Index: t.index, Request: t.item.Request, Device: m.try.Device, Attempts: m.try.Attempts, Started: m.try.Begun.UTC(), Seconds: m.try.Seconds,
	}
	data, err := engine.Encode(&t.item.Request, m.image)
	if err == nil {
		rec = batch.Complete(rec, m.image, data)
		err = d.patiently(ctx, func() (err error) {
			if rec.File, err = store.PutFree(ctx, d.store, t.item.File, data); err != nil {
				return err
			}
			rec.Finished = time.Now().UTC()
			return d.manifest.Append(rec)
		})
	}
	if err != nil {
		d.fail(t, err)
		return
	}
	d.finish(t, rec, m.image.Recipe, m.at)
}

func (d *Dispatcher) patiently(ctx context.Context, try func() error) error {
	return batch.Patiently(ctx, 0, func(text string) { d.o.Log.Warn(text) }, try)
}

// finish ends a task whose picture is stored and written down. Its pixels were there at a time, zero: not known.
func (d *Dispatcher) finish(t *task, rec manifest.Record, c recipe.Recipe, pixels time.Time) {
	d.ended(t, Ended{Record: rec, Pixels: pixels, Stored: time.Now()})
	if d.o.Made != nil {
		resolved, err := d.o.Resolve(&t.item.Request)
		if err == nil {
			err = d.o.Made(rec, resolved, c)
		}
		if err != nil {
			d.o.Log.Warn("a picture is not in the history", "job", t.job.ID, "file", rec.File, "error", err)
		}
	}
	d.mu.Lock()
	defer d.unlock()
	d.settle(t, rec)
}

// settle ends a task, and those that waited for the same picture, with their picture. The caller holds mu, and calls unlock.
func (d *Dispatcher) settle(t *task, rec manifest.Record) {
	all := append([]*task{t}, t.followers...)
	t.followers = nil
	d.release(t)
	for _, o := range all {
		if o != t && o.state != following {
			continue // cancelled meanwhile
		}
		o.state, o.record = finished, rec
		o.job.latest = nil
		d.publish(o.job.ID, wire.Event{Type: wire.PictureType, Data: PictureOf(rec, o.job.ID, o.index)})
		d.touch(o.job)
	}
}

// fail ends a task that failed for good or was cancelled.
func (d *Dispatcher) fail(t *task, err error) {
	d.ended(t, Ended{Err: err, Cancel: IsCancelled(err), Stored: time.Now()})
	d.mu.Lock()
	d.release(t)
	if t.state, t.err = failed, err; t.stop {
		t.state, t.err = cancelled, nil
	} else {
		d.o.Log.Warn("a picture failed", "job", t.job.ID, "picture", t.index, "error", err)
	}
	d.touch(t.job)
	d.unlock()
	d.rouse()
}

// Stage is a part of a picture's way.
type Stage struct {
	Name       string
	Start, End time.Time
}

// Stages are those that the picture went through, one after the other.
func (e *Ended) Stages() (all []Stage) {
	names := []string{"queue", "encode", "denoise", "decode", "save"}
	from, ok := e.Accepted, true
	for i, until := range []time.Time{e.Begun, e.Denoising, e.Denoised, e.Pixels, e.Stored} {
		if until.IsZero() && i == 3 { // a worker decodes and saves
			until, ok = e.Stored, false
		}
		if until.IsZero() {
			break
		}
		all = append(all, Stage{names[i], from, until})
		if from = until; !ok {
			break
		}
	}
	return all
}
