package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"darkroom/batch/jobs"
	"darkroom/batch/manifest"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// drainPatience is how long a worker that drains waits for a store or a server that does not answer.
const drainPatience = 6 * time.Second

// errDrained ends what is waited for too long.
var errDrained = errors.New("given up, because the worker is to end")

// patient is a context for what is left to do with a job: it ends with ctx, and drainPatience after the worker is told to
// drain.
func (w *worker) patient(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	release := context.AfterFunc(w.stop, func() {
		limit := time.AfterFunc(drainPatience, func() { cancel(errDrained) })
		context.AfterFunc(ctx, func() { limit.Stop() })
	})
	return ctx, func() { release(); cancel(nil) }
}

// fail ends the worker after what it is at.
func (w *worker) fail(err error) { w.fatal.CompareAndSwap(nil, &err) }

// giveBack returns a job that could not be brought to its end.
func (w *worker) giveBack(t *task, err error) {
	w.Log.Error("job goes back to the queue", "worker", w.ID, "job", t.job.Hash, "error", err.Error())
	w.fail(fmt.Errorf("the job %.12s goes back to the queue: %w", t.job.Hash, err))
	_ = t.msg.Nak() // else it goes on after AckWait
}

// bury puts a job among the dead, publishes its failure, and acknowledges it.
func (w *worker) bury(ctx context.Context, t *task, rec manifest.Record, cause error) {
	patient, done := w.patient(context.WithoutCancel(ctx))
	defer done()
	priority, batchID, hash := tokens(t.msg.Subject())
	if batchID == "" { // not even the subject is one of ours
		w.acknowledge(ctx, t)
		return
	}
	text := shortened(cause.Error(), 2000)
	d := Dead{Priority: priority, Error: text, Worker: w.ID, Attempts: t.delivered, At: time.Now().UTC()}
	if data := t.msg.Data(); json.Valid(data) && len(data) <= maxMessage-deadMargin {
		d.Job = data
	} else {
		d.Job = encode(shortened(string(data), 8000)) // of no use but to look at
	}
	err := w.publish(patient, deadSubject+"."+batchID+"."+hash, d)
	if t.job != nil {
		rec.Request, rec.Index = t.job.Request, t.job.Index
	}
	if t.job != nil && len(encode(t.job.Request)) > maxMessage-deadMargin {
		rec.Request = jobs.Request{}
	}
	rec.Hash, rec.Status, rec.Error, rec.Attempts, rec.Finished, rec.Worker = hash, manifest.Failed, text, t.delivered, d.At, w.ID
	if err == nil {
		err = w.publish(patient, resultSubject(batchID, statusFailed, hash), rec)
	}
	if err != nil {
		w.fail(fmt.Errorf("the failure of job %.12s could not be published: %w", hash, err))
		_ = t.msg.Nak()
		return
	}
	w.acknowledge(ctx, t)
	w.Metrics.Failed.Inc()
	w.count(false)
	w.Log.Error("job is dead", "worker", w.ID, "batch", batchID, "job", hash, "delivery", t.delivered, "error", cause.Error())
}

func (w *worker) publish(ctx context.Context, subject string, v any) error {
	data := encode(v)
	if len(data) > maxMessage { // not for any server
		w.Log.Error("result not published", "worker", w.ID, "subject", subject, "bytes", len(data))
		return nil
	}
	err := again(ctx, func(ctx context.Context) error {
		_, err := w.q.js.Publish(ctx, subject, data)
		return err
	}, nats.ErrMaxPayload)
	if err != nil {
		w.Log.Warn("result not published", "worker", w.ID, "error", err.Error())
	}
	return err
}

// deadMargin is what a dead letter has besides its job.
const deadMargin = 16 << 10

// shortened is the beginning of a text.
func shortened(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + fmt.Sprintf("… (%d bytes)", len(s))
}

// acknowledge removes the job from the queue and waits for the server to say so. A job that was given to another
// worker meanwhile is acknowledged for both.
func (w *worker) acknowledge(ctx context.Context, t *task) {
	patient, done := w.patient(context.WithoutCancel(ctx))
	defer done()
	for range 5 {
		if patient.Err() != nil {
			break
		}
		limited, cancel := context.WithTimeout(patient, 5*time.Second)
		err := t.msg.DoubleAck(limited)
		cancel()
		if err == nil || errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
			return
		}
		w.Log.Warn("acknowledgement not confirmed", "worker", w.ID, "error", err.Error())
	}
	// It is delivered again, and found finished.
}
