package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"darkroom/batch/manifest"
	"darkroom/batch/queue"
	"darkroom/imagefile"
	"darkroom/pipeline"
)

// errLeft ends the wait for a picture that a worker makes, or will make, while this server is away.
var errLeft = errors.New("left to the workers")

// runFar hands pictures to the workers of a queue, a few more than there are workers, until ctx ends or Drain is called. Then it
// waits for those that a worker has begun.
func (d *Dispatcher) runFar(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	look := time.NewTicker(time.Second) // workers come and go
	defer look.Stop()
	for ctx.Err() == nil && !d.isDraining() {
		for t := range d.takeFar {
			ctx, abort := context.WithCancelCause(ctx)
			d.mu.Lock()
			if t.abort = abort; t.stop {
				abort(ErrCancelled)
			}
			d.mu.Unlock()
			all.Go(func() {
				defer abort(nil)
				d.makeFar(ctx, t)
			})
		}
		select {
		case <-ctx.Done():
		case <-d.wakeFar:
		case <-look.C:
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.inFlight {
		if t.abort != nil && t.steps == 0 {
			t.abort(errLeft)
		}
	}
}

// takeFar yields the pictures for which there is room.
func (d *Dispatcher) takeFar(yield func(*task) bool) {
	for {
		d.mu.Lock()
		if d.draining || d.paused || len(d.far) == 0 || d.underway >= d.o.Workers.Room() {
			d.mu.Unlock()
			return
		}
		t := d.far[0]
		d.far = slices.Delete(d.far, 0, 1)
		mine := d.claim(t)
		if mine {
			d.underway++
		}
		d.unlock()
		if mine && !yield(t) {
			return
		}
	}
}

// makeFar has a picture made by a worker.
func (d *Dispatcher) makeFar(ctx context.Context, t *task) {
	defer func() {
		d.mu.Lock()
		d.underway--
		d.mu.Unlock()
		d.rouse()
	}()
	p := queue.Picture{Index: t.index, File: t.item.File, Priority: t.job.Priority, Request: d.o.Abroad(&t.item.Request), Previews: t.job.partials}
	hash := p.Request.Hash()
	rec, err := d.o.Workers.Make(ctx, p, d.watcher(t))
	switch {
	case err == nil:
		d.takeIn(ctx, t, hash, rec)
	case errors.Is(context.Cause(ctx), ErrCancelled):
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := d.o.Workers.Withdraw(limited, hash); err != nil {
			d.o.Log.Warn("a cancelled picture may still be made by a worker", "job", t.job.ID, "error", err)
		}
		d.fail(t, ErrCancelled)
	case ctx.Err() != nil: // it is found in the queue after the next start
		d.mu.Lock()
		defer d.unlock()
		d.requeue(t)
	default:
		d.fail(t, err)
	}
}

// watcher is told of a picture's progress at a worker.
func (d *Dispatcher) watcher(t *task) queue.Watcher {
	ev := d.events(t, "")
	return queue.Watcher{
		Start: func(worker string, steps int) {
			d.o.Log.Debug("a worker has begun a picture", "job", t.job.ID, "picture", t.index, "worker", worker)
			ev.Start(steps)
		},
		Step:    ev.Step,
		Preview: func(step int, jpeg []byte) { d.preview(t, step, jpeg) },
		Watched: func() bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			if t.steps == 0 && d.o.Workers.Workers() == 0 {
				t.warn("no worker is connected to the queue: start one with darkroom worker --queue")
			}
			return d.watchedNow(t)
		},
	}
}

// takeIn writes down what a worker has made.
func (d *Dispatcher) takeIn(ctx context.Context, t *task, hash string, rec manifest.Record) {
	ctx = context.WithoutCancel(ctx)
	if rec.Numerics != pipeline.Numerics {
		d.fail(t, fmt.Errorf("worker %s is another version of darkroom, whose pictures differ from this server's: use the same version for both", rec.Worker))
		return
	}
	rec.Hash, rec.Index, rec.Request = t.hash, t.index, t.item.Request // which leave to the server what the worker was told
	var info imagefile.Info
	err := d.patiently(ctx, func() error {
		data, err := d.root.ReadFile(rec.File)
		if err != nil {
			return err
		}
		if info, err = imagefile.InspectData(data); err != nil {
			return err
		}
		return d.manifest.Append(rec)
	})
	if err == nil && info.Recipe == nil {
		err = fmt.Errorf("the worker's file %s has no recipe", rec.File)
	}
	if err != nil {
		d.fail(t, err)
		return
	}
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := d.o.Workers.Settle(limited, hash); err != nil {
		d.o.Log.Warn("a result stays in the queue", "job", t.job.ID, "error", err) // for some days
	}
	if now, err := d.modelHash(t); err == nil && now != "" && now != rec.ModelHash {
		d.mu.Lock()
		t.warn(fmt.Sprintf("worker %s has other weights under the name of this model than the server", rec.Worker))
		d.mu.Unlock()
	}
	d.finish(t, rec, *info.Recipe, time.Time{})
}

func (d *Dispatcher) modelHash(t *task) (string, error) {
	if d.o.ModelHash == nil {
		return "", nil
	}
	return d.o.ModelHash(&t.item.Request)
}
