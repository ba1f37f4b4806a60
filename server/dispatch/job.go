package dispatch

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"darkroom/batch/engine"
	"darkroom/batch/manifest"
	"darkroom/recipe"
	"darkroom/server/wire"
)

// job is an accepted job. Its fields are guarded by Dispatcher.mu, but for what was accepted, which does not change.
type job struct {
	*accepted
	number  uint64 // in the order of acceptance
	tasks   []*task
	left    int           // tasks that have not ended
	written chan struct{} // closed when it is in the journal, or could not be brought there
	lostErr error         // why not

	state          string
	started, ended time.Time
	warnings       []string
	done           chan struct{} // closed when it has ended
	wanted         time.Time     // until when previews are wanted by somebody who asks now and then
	partials       int           // previews that are wanted by all means
	latest         []byte        // JPEG, the latest preview; nil when its picture is finished
}

// The states of a task.
const (
	waiting = iota
	following
	running
	finished
	failed
	cancelled
)

// task is a picture of a job.
type task struct {
	job   *job
	index int
	item  *item
	hash  string // of the request

	state     int
	record    manifest.Record
	err       error
	far       bool                    // workers make it
	stop      bool                    // it was cancelled while it ran
	abort     context.CancelCauseFunc // of one that workers make
	company   *company
	followers []*task // those that wait for the same picture

	begun       time.Time
	denoising   time.Time // when denoising began; zero: it has not
	stepped     time.Time // when the latest step ended
	step, steps int
}

// kind is what tasks share that can be rendered at once and in step: model, size and sampler.
type kind struct {
	group                string
	width, height, steps int
	scheduler, sigmas    string
	init                 string
}

func (t *task) kind() kind {
	q := &t.item.Request
	k := kind{engine.Group(q), q.Width, q.Height, q.Steps, q.Scheduler, q.Sigmas, ""}
	if q.Width == 0 || q.Height == 0 {
		k.init = q.Init // its size is the picture's
	}
	return k
}

// before orders tasks: urgent ones first, then in the order in which they came.
func before(a, b *task) int {
	return cmp.Or(cmp.Compare(b.job.Priority, a.job.Priority), cmp.Compare(a.job.number, b.job.number), cmp.Compare(a.index, b.index))
}

// view is the job as others see it. The caller holds mu.
func (d *Dispatcher) view(j *job) wire.Job {
	v := wire.Job{
		ID: j.ID, State: j.state, Priority: j.Priority, Origin: j.Origin, Created: j.Created, Count: len(j.tasks),
		Warnings: slices.Clone(j.warnings), Pictures: []wire.Picture{}, Settings: Settings(j.Items[0].Request.Given),
	}
	if !j.started.IsZero() {
		v.Started = &j.started
	}
	if !j.ended.IsZero() {
		v.Ended = &j.ended
	}
	first := (*task)(nil) // in work
	for _, t := range j.tasks {
		switch t.state {
		case finished:
			v.Pictures = append(v.Pictures, PictureOf(t.record, j.ID, t.index))
		case failed:
			if v.Error == "" {
				v.Error = t.err.Error()
			}
		case running:
			if first == nil {
				first = t
			}
		}
	}
	if first != nil {
		v.Progress = first.progress()
	}
	if j.state == wire.Queued {
		v.Position = d.position(j)
	}
	return v
}

// warn adds a warning to the task's job. The caller holds the dispatcher's mu.
func (t *task) warn(text string) {
	if w := &t.job.warnings; len(*w) < 10 && !slices.Contains(*w, text) {
		*w = append(*w, text)
	}
}

func (t *task) progress() *wire.Progress {
	p := &wire.Progress{Picture: t.index, Step: t.step, Steps: t.steps}
	if t.step > 0 && t.steps > t.step {
		p.SecondsLeft = t.stepped.Sub(t.denoising).Seconds() / float64(t.step) * float64(t.steps-t.step)
	}
	return p
}

// position is how many pictures come before the job's first.
func (d *Dispatcher) position(j *job) int {
	n, _ := slices.BinarySearchFunc(*d.lineOf(j.tasks[0]), j.tasks[0], before)
	return n
}

// Settings are what was given, as JSON.
func Settings(g recipe.Given) json.RawMessage {
	text, err := g.MarshalJSON()
	if err != nil {
		return json.RawMessage("{}") // a number that is not finite: none was accepted
	}
	return text
}

// PictureID is how a picture is called whose file has that SHA-256.
func PictureID(sha256 string) string { return sha256[:min(32, len(sha256))] }

// PictureOf is a finished picture as others see it.
func PictureOf(r manifest.Record, job string, index int) wire.Picture {
	id := PictureID(r.SHA256)
	settled := r.Request.Given
	for name, v := range map[string]int{"steps": r.Steps, "width": r.Width, "height": r.Height} {
		if !settled.Has(name) && v > 0 {
			settled.Set(name, v)
		}
	}
	return wire.Picture{
		ID: id, Job: job, Index: index, URL: "/v1/pictures/" + id + "/file", Thumbnail: "/v1/pictures/" + id + "/thumbnail",
		Prompt: r.Request.Prompt, Seed: r.Request.Seed, Width: r.Width, Height: r.Height, Created: r.Finished, Seconds: r.Seconds,
		Settings: Settings(settled), SHA256: r.SHA256, Bytes: r.Bytes, Own: true,
	}
}

// advance brings the job's state up to date after one of its tasks has changed. The caller holds mu.
func (j *job) advance() (changed bool) {
	was := j.state
	if wire.Ended(was) {
		return false
	}
	count := map[int]int{}
	for _, t := range j.tasks {
		count[t.state]++
	}
	j.left = count[waiting] + count[following] + count[running]
	switch {
	case count[running] > 0:
		j.state = wire.Running
	case j.left > 0:
	case count[failed] > 0:
		j.state = wire.Failed
	case count[cancelled] > 0:
		j.state = wire.Cancelled
	default:
		j.state = wire.Done
	}
	if j.started.IsZero() && j.state == wire.Running {
		j.started = time.Now()
	}
	if wire.Ended(j.state) {
		j.ended, j.latest = time.Now(), nil
		close(j.done)
	}
	return j.state != was
}

// ending is the job's line in the journal.
func (j *job) ending() *ending {
	e := &ending{ID: j.ID, State: j.state, Ended: j.ended}
	if !j.started.IsZero() {
		e.Started = &j.started
	}
	for _, t := range j.tasks {
		if t.state == failed || t.state == cancelled {
			if e.Errors == nil {
				e.Errors = map[int]string{}
			}
			if e.Errors[t.index] = "cancelled"; t.state == failed {
				e.Errors[t.index] = t.err.Error()
			}
		}
	}
	return e
}
