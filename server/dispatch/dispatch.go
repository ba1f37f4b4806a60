// Package dispatch keeps the server's jobs: it accepts them, writes them down before it says so, has their pictures made on the
// devices, those of one kind together, and reports their progress. A server that is killed at any point goes on with what it
// had accepted; what was finished is not made again.
//
//	Submit → journal → queue → render.Run (lanes of each device) → store, manifest, history → events
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"darkroom/batch"
	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/batch/queue"
	"darkroom/batch/store"
	"darkroom/pipeline"
	"darkroom/recipe"
	"darkroom/render"
	"darkroom/server/wire"
)

// Records is the folder below that of the pictures which holds the journal and other files of the server.
const Records = ".server"

// Engine renders on one device: engine.Engine.
type Engine interface {
	batch.BatchRenderer
	DecodesBeside() bool
	Unload(idle time.Duration)
	Close() error
}

// Options say where jobs are kept and what renders them. Folder, Engines and Resolve are required.
type Options struct {
	Folder  string          // of the pictures and the manifest
	Engines func() []Engine // one a device; called again when all devices are lost
	// Resolve turns what a request names into the paths of files here. An error is of the request.
	Resolve func(*jobs.Request) (jobs.Request, error)
	// ModelHash is the hash of the weights that a request would use, so that pictures of other weights are made again; may be
	// nil.
	ModelHash func(*jobs.Request) (string, error)
	// Made is called for each finished picture, with its request as it was resolved and its recipe; may be nil. An error is
	// logged.
	Made func(r manifest.Record, resolved jobs.Request, c recipe.Recipe) error

	// Workers make the pictures that workers of a queue can make; nil: all are made here.
	Workers *queue.Service
	// Abroad is a request as a worker on another machine understands it. Required with Workers.
	Abroad func(*jobs.Request) jobs.Request

	// Ended is told of each picture that was rendered here or by a worker, or failed; may be nil.
	Ended func(Ended)

	AtOnce int           // pictures that a device renders at once, at most; 0: as many as make it faster
	Retry  int           // how often a picture that failed alone is tried again
	Queue  int           // pictures that may wait; 0: 10,000
	Keep   int           // jobs that are remembered after their end; 0: 10,000
	Idle   time.Duration // after which models are closed; 0: five minutes
	Log    *slog.Logger  // nil: none
}

// Dispatcher manages jobs. Its methods may be called concurrently.
type Dispatcher struct {
	o        Options
	store    *store.Folder
	root     *os.Root
	manifest *manifest.Manifest
	journal  *journal

	mu          sync.Mutex
	jobs        map[string]*job
	keys        map[string]string // client and key → job
	order       []*job            // by number
	number      uint64
	queue       []*task // that wait for devices here, in order
	far         []*task // that wait for workers, in order
	underway    int     // pictures that workers were given
	inFlight    map[string]*task
	touched     []*job
	subscribers map[*subscriber]bool
	draining    bool   // nothing more is begun or accepted
	paused      bool   // nothing is begun
	more        func() // tells lanes of something new
	engines     []Engine
	lost        error // why there is no device now

	wake    chan struct{} // there may be something to render
	wakeFar chan struct{} // or to hand to workers
	settled chan struct{} // Run has ended
}

// Open opens the jobs of a folder. Nothing is rendered before Run.
func Open(o Options) (*Dispatcher, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, f := range []struct {
		v *int
		d int
	}{{&o.Queue, 10_000}, {&o.Keep, 10_000}} {
		if *f.v == 0 {
			*f.v = f.d
		}
	}
	if o.Idle == 0 {
		o.Idle = 5 * time.Minute
	}
	d := &Dispatcher{
		o: o, jobs: map[string]*job{}, keys: map[string]string{}, inFlight: map[string]*task{}, subscribers: map[*subscriber]bool{},
		more: func() {}, wake: make(chan struct{}, 1), wakeFar: make(chan struct{}, 1), settled: make(chan struct{}),
	}
	if err := d.open(); err != nil {
		return nil, errors.Join(err, d.closeFiles())
	}
	go d.journal.run()
	d.resume()
	return d, nil
}

func (d *Dispatcher) open() (err error) {
	if err := os.MkdirAll(filepath.Join(d.o.Folder, Records), 0o777); err != nil {
		return fmt.Errorf("the output folder: %w", err)
	}
	if d.store, err = store.OpenFolder(d.o.Folder); err != nil {
		return err
	}
	if d.root, err = os.OpenRoot(d.o.Folder); err != nil {
		return err
	}
	if d.manifest, err = manifest.Open(d.o.Folder); err != nil { // which locks the folder
		return err
	}
	for _, note := range d.manifest.Notes() {
		d.o.Log.Warn(note)
	}
	age := time.Duration(0) // nobody else writes here
	if d.o.Workers != nil {
		age = time.Hour
	}
	d.store.Sweep(age)
	d.journal, err = openJournal(filepath.Join(d.o.Folder, Records), d.replay, func(text string) { d.o.Log.Warn(text) })
	if err == nil {
		d.journal.compact = d.remembered
	}
	return err
}

func (d *Dispatcher) closeFiles() error {
	var errs []error
	if d.manifest != nil {
		errs = append(errs, d.manifest.Close())
	}
	if d.root != nil {
		errs = append(errs, d.root.Close())
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	return errors.Join(errs...)
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// replay takes a line of the journal.
func (d *Dispatcher) replay(l line) {
	switch {
	case l.Accept != nil:
		if d.jobs[l.Accept.ID] == nil && len(l.Accept.Items) > 0 {
			d.add(l.Accept)
		}
	case l.Priority != nil:
		if j := d.jobs[l.Priority.ID]; j != nil {
			j.Priority = l.Priority.To
		}
	case l.End != nil:
		j := d.jobs[l.End.ID]
		if j == nil || wire.Ended(j.state) {
			return
		}
		j.state, j.ended = l.End.State, l.End.Ended
		if l.End.Started != nil {
			j.started = *l.End.Started
		}
		for i, text := range l.End.Errors {
			if i < 0 || i >= len(j.tasks) {
				continue
			}
			if j.tasks[i].state, j.tasks[i].err = failed, errors.New(text); text == "cancelled" {
				j.tasks[i].state = cancelled
			}
		}
		close(j.done)
	}
}

// add remembers a job.
func (d *Dispatcher) add(a *accepted) *job {
	d.number++
	j := &job{accepted: a, number: d.number, left: len(a.Items), state: wire.Queued, done: make(chan struct{}), written: closed}
	for i := range a.Items {
		q := &a.Items[i].Request
		j.tasks = append(j.tasks, &task{job: j, index: i, item: &a.Items[i], hash: q.Hash(), far: d.o.Workers != nil && d.o.Workers.Takes(q)})
	}
	d.jobs[a.ID] = j
	d.order = append(d.order, j)
	if a.Key != "" {
		d.keys[a.Client+"\x00"+a.Key] = a.ID
	}
	return j
}

// resume settles what is finished and queues the rest, after the journal was read.
func (d *Dispatcher) resume() {
	d.mu.Lock()
	defer d.unlock()
	for _, j := range d.order {
		ended := wire.Ended(j.state)
		for _, t := range j.tasks {
			switch {
			case t.state != waiting:
			case ended:
				t.state = finished
				t.record, _ = d.manifest.Get(t.hash)
			default:
				if r, ok := d.known(t); ok {
					t.state, t.record = finished, r
					continue
				}
				line := d.lineOf(t)
				*line = append(*line, t)
			}
		}
		if !ended {
			d.touch(j)
		}
	}
	d.sort()
	if n := d.waiting(); n > 0 {
		d.o.Log.Info("continuing with pictures that were accepted earlier", "pictures", n)
	}
}

// known is the record of a picture that is finished and can be given out: its file is whole, and of these weights.
func (d *Dispatcher) known(t *task) (manifest.Record, bool) {
	r, ok := d.manifest.Get(t.hash)
	if !ok || r.Status != manifest.Done || r.Numerics != pipeline.Numerics {
		return r, false
	}
	if sum, err := d.store.Sum(context.Background(), r.File); err != nil || sum != r.SHA256 {
		return r, false
	}
	if d.o.ModelHash != nil {
		if now, err := d.o.ModelHash(&t.item.Request); err == nil && now != r.ModelHash {
			return r, false
		}
	}
	return r, true
}

// Run renders accepted jobs until ctx ends, or until Drain is called and the pictures being rendered are finished.
func (d *Dispatcher) Run(ctx context.Context) {
	defer close(d.settled)
	d.reopen()
	defer d.closeEngines()
	if d.o.Workers != nil {
		var far sync.WaitGroup
		far.Go(func() { d.runFar(ctx) })
		defer far.Wait()
	}
	idle := time.NewTicker(max(d.o.Idle/4, 10*time.Millisecond))
	defer idle.Stop()
	for ctx.Err() == nil {
		err := d.render(ctx)
		var none *render.NoDeviceError
		if errors.As(err, &none) {
			d.o.Log.Error("no device is left: opening them again", "error", err)
			d.setLost(err)
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
			}
			d.closeEngines()
			d.reopen()
			continue
		}
		if d.isDraining() {
			return
		}
		select {
		case <-ctx.Done():
		case <-d.wake:
		case <-idle.C:
			for _, e := range d.allEngines() {
				e.Unload(d.o.Idle)
			}
		}
	}
}

// render makes what waits. It returns when nothing is left.
func (d *Dispatcher) render(ctx context.Context) error {
	d.mu.Lock()
	some := len(d.queue) > 0 && !d.draining
	engines := d.engines
	d.mu.Unlock()
	if !some {
		return nil
	}
	pictures := make(chan made, 2)
	var writers sync.WaitGroup
	for range 2 { // encoding one picture while another is written
		writers.Go(func() {
			for m := range pictures {
				d.write(context.WithoutCancel(ctx), m)
			}
		})
	}
	o := render.Options[*task]{
		Source: &source{d, map[int]kind{}}, AtOnce: d.o.AtOnce, Retry: d.o.Retry,
		Kind:   func(t *task) any { return t.kind() },
		Events: d.events,
		Made:   func(t render.Try[*task], img *pipeline.Image) { pictures <- made{t, img, time.Now()} },
		Failed: func(t render.Try[*task], err error) { d.fail(t.Item, err) },
		Retrying: func(t render.Try[*task], err error) {
			d.o.Log.Warn("trying again", "job", t.Item.job.ID, "picture", t.Item.index, "error", err)
		},
		Moved: func(t render.Try[*task], err error) {
			d.o.Log.Warn("a device cannot make a picture", "device", t.Device, "job", t.Item.job.ID, "error", err)
		},
	}
	for _, e := range engines {
		if o.Devices = append(o.Devices, device{d, e}); e.DecodesBeside() {
			o.Lanes = 2
		}
	}
	err := render.Run(ctx, o)
	close(pictures)
	writers.Wait()
	return err
}

func (d *Dispatcher) reopen() {
	engines := d.o.Engines()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.engines, d.lost = engines, nil
}

func (d *Dispatcher) closeEngines() {
	for _, e := range d.allEngines() {
		if err := e.Close(); err != nil {
			d.o.Log.Warn("closing a device", "error", err)
		}
	}
}

func (d *Dispatcher) allEngines() []Engine {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.engines
}

func (d *Dispatcher) setLost(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = err
}

func (d *Dispatcher) isDraining() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.draining
}

// Drain makes Run end when the pictures being rendered are finished. The others wait for the next start.
func (d *Dispatcher) Drain() {
	d.mu.Lock()
	d.draining = true
	d.mu.Unlock()
	d.rouse()
}

// Close waits for Run, which must have been called, and writes what is still unwritten.
func (d *Dispatcher) Close() error {
	<-d.settled
	d.mu.Lock()
	d.draining = true
	d.mu.Unlock()
	return errors.Join(d.journal.close(), d.closeFiles())
}

// rouse has Run look for something to render. The caller does not hold mu.
func (d *Dispatcher) rouse() {
	for _, wake := range []chan struct{}{d.wake, d.wakeFar} {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	d.mu.Lock()
	more := d.more
	d.mu.Unlock()
	more()
}

// touch notes that a job may have changed: unlock sees to the rest. The caller holds mu.
func (d *Dispatcher) touch(j *job) {
	if !slices.Contains(d.touched, j) {
		d.touched = append(d.touched, j)
	}
}

// unlock gives back mu, after the states of the jobs that were touched are brought up to date and told.
func (d *Dispatcher) unlock() {
	var ends []*ending
	for _, j := range d.touched {
		if !j.advance() {
			continue
		}
		d.publishState(j)
		if wire.Ended(j.state) {
			ends = append(ends, j.ending())
			d.o.Log.Info("job ended", "job", j.ID, "state", j.state, "origin", j.Origin, "pictures", len(j.tasks), "seconds", j.ended.Sub(j.Created).Seconds())
		}
	}
	d.touched = d.touched[:0]
	if len(ends) > 0 {
		d.forget()
	}
	d.mu.Unlock()
	for _, e := range ends {
		d.journal.note(line{End: e})
	}
}

// forget drops the oldest jobs that have ended, where there are more than are kept.
func (d *Dispatcher) forget() {
	if len(d.order) <= d.o.Keep+d.o.Keep/8 {
		return
	}
	over := len(d.order) - d.o.Keep
	d.order = slices.DeleteFunc(d.order, func(j *job) bool {
		if over <= 0 || !wire.Ended(j.state) {
			return false
		}
		over--
		delete(d.jobs, j.ID)
		if key := j.Client + "\x00" + j.Key; d.keys[key] == j.ID {
			delete(d.keys, key)
		}
		return true
	})
}

// remembered are the lines of all jobs that are known.
func (d *Dispatcher) remembered() (lines []line) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, j := range d.order {
		a := *j.accepted
		lines = append(lines, line{Accept: &a})
		if wire.Ended(j.state) {
			lines = append(lines, line{End: j.ending()})
		}
	}
	return lines
}

// Settled is closed when Run has ended.
func (d *Dispatcher) Settled() <-chan struct{} { return d.settled }
