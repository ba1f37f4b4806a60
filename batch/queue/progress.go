package queue

import (
	"image"
	"strings"
	"time"

	"darkroom/batch/engine"
	"darkroom/pipeline"
)

// progress is what a worker publishes of a picture that a server waits for.
type progress struct {
	Worker  string `json:"worker"`
	Step    int    `json:"step"`
	Steps   int    `json:"steps"`
	Preview []byte `json:"preview,omitempty"` // a JPEG of the picture after this step
}

// watchTime is how long a worker makes previews after somebody looked.
const watchTime = 5 * time.Second

// told adds to a picture's events that they are published. What is lost on the way is made up for by the next step.
func (w *worker) told(t *task, ev pipeline.Events) pipeline.Events {
	subject := strings.Join([]string{progressSubject, t.job.Batch, t.job.Hash}, ".")
	tell := func(p progress) {
		p.Worker = w.ID
		if err := w.q.conn.Publish(subject, encode(p)); err != nil {
			w.Log.Debug("progress not published", "worker", w.ID, "error", err.Error())
		}
	}
	steps, start, step := 0, ev.Start, ev.Step
	previews := engine.Previews{Sure: t.job.Previews}
	ev.Start = func(n int) {
		steps = n
		tell(progress{Steps: n})
		start(n)
	}
	ev.Step = func(n int) {
		tell(progress{Step: n, Steps: steps})
		step(n)
	}
	ev.WantPreview = func(step int) bool {
		return previews.Want(step, steps, time.Now().UnixNano() < t.watched.Load())
	}
	ev.Preview = func(step int, picture *image.NRGBA) error {
		if data, err := engine.EncodePreview(picture); err == nil { // else a preview less
			tell(progress{Step: step, Steps: steps, Preview: data})
		}
		previews.Made()
		return nil
	}
	return ev
}

// watch notes that somebody looks at the previews of a job, BATCH.HASH.
func (w *worker) watch(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t := w.current; t != nil && what == t.job.Batch+"."+t.job.Hash {
		t.watched.Store(time.Now().Add(watchTime).UnixNano())
	}
}
