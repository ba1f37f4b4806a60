package dispatch

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/pipeline"
	"darkroom/render"
	"darkroom/server/wire"
)

// Submission is a job to accept.
type Submission struct {
	ID       string         // of NewID, for those who subscribed to it before; "": a new one
	Requests []jobs.Request // pictures, with their seeds
	Files    []string       // their names, slash-separated; nil: made from prompt and seed
	Priority int
	Origin   string // the API that it came through
	Client   string // who asks; keys of different clients are different
	Key      string // a job with this key is accepted once; "": each is
	Body     string // hash of what was asked for, to tell another use of the key
	Trace    string // the header traceparent of the request's span; "": none
	Partials int    // previews of each picture that are made by all means, evenly spaced
}

// NewID is an id for a job, which nobody can guess.
func NewID() string { return strings.ToLower(rand.Text()[:20]) }

// Errors of Submit.
var (
	ErrFull     = errors.New("the queue is full: try again later")
	ErrStopping = errors.New("the server is stopping: try again in a moment")
	ErrKey      = errors.New("the idempotency key was used for another request")
)

// Submit accepts a job. When it returns, the job is on disk. existed reports that a job with its key already existed.
func (d *Dispatcher) Submit(s Submission) (id string, existed bool, err error) {
	if len(s.Requests) == 0 {
		panic("dispatch: a job without pictures")
	}
	if s.ID == "" {
		s.ID = NewID()
	}
	a := &accepted{ID: s.ID, Created: time.Now().UTC(), Priority: s.Priority, Origin: s.Origin, Client: s.Client, Key: s.Key, Body: s.Body, Trace: s.Trace}
	for i, q := range s.Requests {
		file := ""
		if i < len(s.Files) {
			file = s.Files[i]
		}
		if file == "" {
			file = fmt.Sprintf("%s-%.10s%s", render.BaseName(q.Prompt, q.Seed), q.Hash(), q.Extension())
		}
		a.Items = append(a.Items, item{q, a.Created.Format(time.DateOnly) + "/" + file})
	}
	d.mu.Lock()
	if s.Key != "" {
		if j := d.jobs[d.keys[s.Client+"\x00"+s.Key]]; j != nil {
			d.mu.Unlock()
			if j.Body != s.Body {
				return "", false, ErrKey
			}
			<-j.written
			return j.ID, true, j.lostErr
		}
	}
	switch {
	case d.draining:
		d.mu.Unlock()
		return "", false, ErrStopping
	case d.waiting()+len(a.Items) > d.o.Queue && d.waiting() > 0, len(a.Items) > d.o.Queue:
		d.mu.Unlock()
		return "", false, ErrFull
	}
	j := d.add(a)
	j.partials, j.written = s.Partials, make(chan struct{})
	d.mu.Unlock()

	err = d.journal.add(line{Accept: a})
	j.lostErr = err
	close(j.written)
	if err != nil {
		d.mu.Lock()
		d.drop(j)
		d.mu.Unlock()
		return "", false, err
	}
	d.enter(j)
	d.rouse()
	return a.ID, false, nil
}

// drop takes back a job that could not be written down. The caller holds mu.
func (d *Dispatcher) drop(j *job) {
	delete(d.jobs, j.ID)
	if key := j.Client + "\x00" + j.Key; d.keys[key] == j.ID {
		delete(d.keys, key)
	}
	d.order = slices.DeleteFunc(d.order, func(o *job) bool { return o == j })
}

// enter puts an accepted job's pictures into the queue, but for those that are finished already.
func (d *Dispatcher) enter(j *job) {
	records := map[int]manifest.Record{}
	for _, t := range j.tasks {
		if r, ok := d.known(t); ok { // which reads the file
			records[t.index] = r
		}
	}
	d.mu.Lock()
	defer d.unlock()
	for _, t := range j.tasks {
		if t.state != waiting {
			continue // cancelled meanwhile
		}
		if r, ok := records[t.index]; ok {
			d.settle(t, r)
		} else {
			d.enqueue(t)
		}
	}
	d.publishState(j)
	d.touch(j)
}

// Get is a job.
func (d *Dispatcher) Get(id string) (wire.Job, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	j := d.jobs[id]
	if j == nil {
		return wire.Job{}, false
	}
	return d.view(j), true
}

// First is the place of the first of some jobs that is at work, or else of the first that waits; -1: all have ended.
func (d *Dispatcher) First(ids []string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	waits := -1
	for i, id := range ids {
		j := d.jobs[id]
		switch {
		case j == nil || wire.Ended(j.state):
		case j.state == wire.Running:
			return i
		case waits < 0:
			waits = i
		}
	}
	return waits
}

// List lists jobs, the latest first: those in one of the states (none: all), before the job of that id ("": from the latest).
func (d *Dispatcher) List(states []string, limit int, before string) wire.JobList {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := wire.JobList{Jobs: []wire.Job{}}
	until := d.number + 1
	if j := d.jobs[before]; j != nil {
		until = j.number
	}
	for _, j := range slices.Backward(d.order) {
		if j.number >= until || len(states) > 0 && !slices.Contains(states, j.state) {
			continue
		}
		if len(list.Jobs) == limit {
			list.Next = list.Jobs[limit-1].ID
			break
		}
		list.Jobs = append(list.Jobs, d.view(j))
	}
	return list
}

// Wait waits until a job has ended.
func (d *Dispatcher) Wait(ctx context.Context, id string) (wire.Job, error) {
	d.mu.Lock()
	j := d.jobs[id]
	d.mu.Unlock()
	if j == nil {
		return wire.Job{}, fmt.Errorf("there is no job %.40q", id)
	}
	select {
	case <-ctx.Done():
		return wire.Job{}, context.Cause(ctx)
	case <-d.settled: // what it has not made it makes after the next start
		select {
		case <-j.done:
		default:
			return wire.Job{}, ErrStopping
		}
	case <-j.done:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.view(j), nil
}

// Result is the outcome of one of a job's pictures.
type Result struct {
	Record manifest.Record // of a finished one
	Err    error           // nil: it is finished
}

// ErrCancelled is the error of a picture that was cancelled.
var ErrCancelled = fmt.Errorf("cancelled: %w", context.Canceled)

// Results are what became of the pictures of a job that has ended.
func (d *Dispatcher) Results(id string) (all []Result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	j := d.jobs[id]
	if j == nil {
		return nil
	}
	for _, t := range j.tasks {
		switch r := (Result{t.record, t.err}); t.state {
		case finished, failed:
			all = append(all, r)
		default:
			all = append(all, Result{Err: ErrCancelled})
		}
	}
	return all
}

// File is the file of a finished picture.
func (d *Dispatcher) File(r manifest.Record) ([]byte, error) { return d.root.ReadFile(r.File) }

// Cancel cancels a job: pictures that wait are not begun, and those in work end after their step. It does not say whether
// the job had ended.
func (d *Dispatcher) Cancel(id string) bool {
	d.mu.Lock()
	defer d.unlock()
	j := d.jobs[id]
	if j == nil {
		return false
	}
	for _, t := range j.tasks {
		d.cancel(t)
	}
	return true
}

// Skip cancels the pictures of a job that are in work.
func (d *Dispatcher) Skip(id string) {
	d.mu.Lock()
	defer d.unlock()
	if j := d.jobs[id]; j != nil {
		for _, t := range j.tasks {
			if t.state == running {
				d.cancel(t)
			}
		}
	}
}

// cancel cancels a task. The caller holds mu, and calls unlock.
func (d *Dispatcher) cancel(t *task) {
	switch t.state {
	case waiting, following:
		line := d.lineOf(t)
		*line = slices.DeleteFunc(*line, func(o *task) bool { return o == t })
		t.state = cancelled
	case running:
		t.stop = true
		if t.company != nil {
			t.company.stopIfAll()
		}
		if t.abort != nil {
			t.abort(ErrCancelled)
		}
	default:
		return
	}
	d.touch(t.job)
}

// SetPriority changes which jobs start first; false: there is no such job.
func (d *Dispatcher) SetPriority(id string, to int) (bool, error) {
	d.mu.Lock()
	j := d.jobs[id]
	if j == nil {
		d.mu.Unlock()
		return false, nil
	}
	a := *j.accepted // the old one may be being written
	a.Priority = to
	j.accepted = &a
	d.sort()
	d.publishState(j)
	d.mu.Unlock()
	l := line{}
	l.Priority = &struct {
		ID string `json:"id"`
		To int    `json:"to"`
	}{id, to}
	return true, d.journal.add(l)
}

// Status is how the dispatcher is.
type Status struct {
	Jobs, Waiting, Running int
	Subscribers            int
	Lost                   error // why there is no device
	Draining               bool
}

// Status tells it.
func (d *Dispatcher) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Status{Jobs: len(d.order), Waiting: d.waiting(), Running: len(d.inFlight), Subscribers: len(d.subscribers), Lost: d.lost, Draining: d.draining}
}

// Unload closes all models that are open, when the pictures in work are finished.
func (d *Dispatcher) Unload() {
	for _, e := range d.allEngines() {
		e.Unload(0)
	}
}

// Latest is the latest preview of a job, a JPEG; nil if there is none yet. Asking has more of them made for a while.
func (d *Dispatcher) Latest(id string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	j := d.jobs[id]
	if j == nil {
		return nil
	}
	j.wanted = time.Now().Add(10 * time.Second)
	return j.latest
}

// IsCancelled reports whether a picture's error is that it was cancelled.
func IsCancelled(err error) bool { return errors.Is(err, context.Canceled) }

// IsUsage reports whether a picture's error is its request's.
func IsUsage(err error) bool {
	var usage *pipeline.UsageError
	return errors.As(err, &usage)
}

// Pause has nothing begun, or goes on.
func (d *Dispatcher) Pause(pause bool) {
	d.mu.Lock()
	d.paused = pause
	d.mu.Unlock()
	d.rouse()
}
