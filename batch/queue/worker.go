package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"darkroom/batch"
	"darkroom/batch/engine"
	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/batch/store"
	"darkroom/pipeline"
	"darkroom/render"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// WorkerOptions describe a worker: one device that renders jobs from the queue.
type WorkerOptions struct {
	ID       string // unique among workers: letters, digits and dashes
	Renderer batch.Renderer
	Store    store.Store
	Limits   Limits

	// Tries is how often a job is delivered before it is given up: a worker that a job crashes cannot report it. 0 is 5.
	Tries int
	// AckWait is how long the server waits for a sign of life before it gives a job to another worker; 0 is 30 s.
	AckWait time.Duration
	Log     *slog.Logger // nil: none
	Metrics *Metrics     // nil: none
	// Batch is the only batch whose jobs are taken; "": any.
	Batch string
	// OnDone is called for every finished image but those of servers, which write their own histories; may be nil.
	OnDone func(manifest.Record)
}

// workerTTL is how long a worker is listed after its last sign of life.
const workerTTL = 15 * time.Second

// WorkerInfo is what a worker reports about itself.
type WorkerInfo struct {
	ID      string    `json:"id"`
	Device  string    `json:"device"`
	Job     string    `json:"job,omitempty"` // the hash of what it renders
	Batch   string    `json:"batch,omitempty"`
	Since   time.Time `json:"since"` // its start
	Done    int64     `json:"done"`
	Failed  int64     `json:"failed"`
	PerMin  float64   `json:"per_minute"` // of the last minute
	Drains  bool      `json:"drains"`     // it takes no more
	Updated time.Time `json:"updated"`
}

// worker is a worker at work.
type worker struct {
	WorkerOptions
	q         *Queue
	consumers []jetstream.Consumer // by priority
	validator *jobs.Validator

	stop  context.Context // its end says that the worker is to drain
	fatal atomic.Pointer[error]

	mu      sync.Mutex
	current *task
	info    WorkerInfo
	recent  []time.Time // when images of the last minute were done
}

// task is a job in the worker's hands.
type task struct {
	msg       jetstream.Msg
	job       *Job
	priority  string
	delivered int // how often, this time included
	cancel    context.CancelCauseFunc
	ended     atomic.Bool
	watched   atomic.Int64 // until when somebody looks at previews, in nanoseconds of Unix time
}

func consumerName(priority string) string { return "workers-" + priority }

// Work renders jobs until ctx ends. Then it finishes the current image and returns nil. Failures of the queue or
// the store do not end it: it waits for them to come back.
func (q *Queue) Work(ctx context.Context, o WorkerOptions) error {
	if o.Tries <= 0 {
		o.Tries = 5
	}
	if o.AckWait <= 0 {
		o.AckWait = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics()
	}
	if !isToken(o.ID) {
		return fmt.Errorf("the worker's name %q is not valid: use at most 64 lower-case letters, digits and dashes", o.ID)
	}
	o.Limits = o.Limits.withDefaults()
	w := &worker{WorkerOptions: o, q: q, stop: ctx, validator: jobs.NewValidator(), info: WorkerInfo{ID: o.ID, Device: o.Renderer.Device(), Since: time.Now()}}
	var err error
	if w.consumers, err = q.consumers(ctx, o.AckWait); err != nil {
		return fmt.Errorf("the queue's consumers: %w", err)
	}
	wake := make(chan struct{}, 1)
	subscription, err := q.conn.Subscribe(wakeSubject, func(*nats.Msg) {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	defer subscription.Unsubscribe()
	cancels, err := q.conn.Subscribe(cancelSubject+".*", func(m *nats.Msg) { w.cancelBatch(m.Subject[len(cancelSubject)+1:], string(m.Data)) })
	if err != nil {
		return err
	}
	defer cancels.Unsubscribe()
	watches, err := q.conn.Subscribe(watchSubject+".*.*", func(m *nats.Msg) { w.watch(m.Subject[len(watchSubject)+1:]) })
	if err != nil {
		return err
	}
	defer watches.Unsubscribe()

	shown, hide := context.WithCancel(context.WithoutCancel(ctx))
	var signs sync.WaitGroup
	signs.Go(func() { w.show(shown) })
	defer signs.Wait()
	defer hide()
	o.Log.Info("worker started", "worker", o.ID, "device", o.Renderer.Device(), "store", o.Store.String())
	w.loop(ctx, wake)
	o.Log.Info("worker drained", "worker", o.ID, "done", w.info.Done, "failed", w.info.Failed)
	if err := w.fatal.Load(); err != nil {
		return *err
	}
	return nil
}

// consumers are those that all workers share, by priority.
func (q *Queue) consumers(ctx context.Context, ackWait time.Duration) ([]jetstream.Consumer, error) {
	var all []jetstream.Consumer
	for _, p := range jobs.Priorities {
		err := again(ctx, func(ctx context.Context) error {
			c, err := q.js.CreateOrUpdateConsumer(ctx, jobsStream, jetstream.ConsumerConfig{
				Durable: consumerName(p), FilterSubject: jobsSubject + "." + p + ".>", AckPolicy: jetstream.AckExplicitPolicy,
				AckWait: ackWait, MaxDeliver: -1, MaxAckPending: -1, MaxWaiting: 4096,
			})
			if err == nil {
				all = append(all, c)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// loop takes jobs one after the other. What remains to be done with a rendered image (encoding, storing,
// acknowledging) is done while the next is rendered.
func (w *worker) loop(ctx context.Context, wake <-chan struct{}) {
	finish := make(chan func(), 1) // two pictures at most wait for a slow store
	var finisher sync.WaitGroup
	finisher.Go(func() {
		for f := range finish {
			f()
		}
	})
	defer finisher.Wait()
	defer close(finish)
	ahead := &ahead{fetch: func() jetstream.Msg {
		begun := time.Now()
		msg, err := w.fetch(ctx)
		if err != nil {
			w.Log.Warn("the queue does not answer", "worker", w.ID, "error", err.Error())
		}
		if msg != nil {
			w.Metrics.Fetch.Update(time.Since(begun).Seconds())
		}
		return msg
	}}
	for ctx.Err() == nil && w.fatal.Load() == nil {
		msg := ahead.get()
		if msg == nil {
			select {
			case <-ctx.Done():
			case <-wake:
			case <-time.After(500 * time.Millisecond):
			}
			continue
		}
		if f := w.take(context.WithoutCancel(ctx), msg, ahead.start); f != nil {
			finish <- f
		}
	}
	if msg := ahead.left(); msg != nil {
		_ = msg.Nak() // another worker has it at once; else after AckWait
	}
}

// ahead pulls the next job a moment before the device is free: while the last step runs and the picture is decoded. So
// the device need not wait for the network, and no job waits longer than that in the hands of a worker.
type ahead struct {
	fetch func() jetstream.Msg
	next  chan jetstream.Msg // nil: nothing was started
}

func (a *ahead) start() {
	if a.next == nil {
		next := make(chan jetstream.Msg, 1)
		a.next = next
		go func() { next <- a.fetch() }()
	}
}

// get is the job that was pulled ahead, or pulls one.
func (a *ahead) get() jetstream.Msg {
	if a.next == nil {
		return a.fetch()
	}
	return a.left()
}

// left is the job that was pulled ahead, nil if there is none.
func (a *ahead) left() jetstream.Msg {
	if a.next == nil {
		return nil
	}
	msg := <-a.next
	a.next = nil
	return msg
}

// fetch pulls one job, of the most urgent priority that has any; nil if there is none.
func (w *worker) fetch(ctx context.Context) (jetstream.Msg, error) {
	for _, c := range w.consumers {
		if ctx.Err() != nil {
			return nil, nil
		}
		batch, err := c.FetchNoWait(1)
		if err != nil {
			return nil, err
		}
		for msg := range batch.Messages() {
			return msg, nil
		}
		if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) {
			return nil, err
		}
	}
	return nil, nil
}

// take renders a job, and calls nearly before the last step. It returns what is left to do, nil if nothing is.
func (w *worker) take(ctx context.Context, msg jetstream.Msg, nearly func()) func() {
	t := &task{msg: msg}
	t.priority, _, _ = tokens(msg.Subject())
	if meta, err := msg.Metadata(); err == nil {
		t.delivered = int(meta.NumDelivered)
	}
	ctx, t.cancel = context.WithCancelCause(ctx)
	beats := make(chan struct{})
	go w.beat(t, beats)
	end := func() {
		t.ended.Store(true)
		close(beats)
		t.cancel(nil)
	}
	var err error
	if t.job, err = decodeJob(msg.Subject(), msg.Data(), w.Limits, w.validator); err == nil && w.Batch != "" && t.job.Batch != w.Batch {
		err = &refusal{fmt.Errorf("this worker renders only the batch %s", w.Batch)}
	}
	if err != nil {
		w.bury(ctx, t, manifest.Record{}, err)
		end()
		return nil
	}
	log := w.Log.With("worker", w.ID, "batch", t.job.Batch, "job", t.job.Hash, "delivery", t.delivered)
	if t.delivered > 1 && w.finished(ctx, t) { // by a worker that died before it could say so
		log.Info("job was finished before")
		w.acknowledge(ctx, t)
		end()
		return nil
	}
	if t.delivered > w.Tries {
		w.bury(ctx, t, manifest.Record{}, fmt.Errorf("given up after %d deliveries: the workers that had it died or lost the queue", t.delivered-1))
		end()
		return nil
	}
	w.setCurrent(t)
	rec, img, err := w.render(ctx, t, nearly)
	w.setCurrent(nil)
	switch {
	case err == nil:
		return func() {
			w.store(ctx, t, rec, img, log)
			end()
		}
	case errors.Is(context.Cause(ctx), errCancelled):
		log.Info("job cancelled")
		w.acknowledge(ctx, t)
	case render.Lost(err): // another process may have a device that works
		w.giveBack(t, err)
	case hopeless(err) || t.delivered >= w.Tries:
		log.Error("job failed", "error", err.Error())
		w.bury(ctx, t, rec, err)
	default:
		log.Warn("job failed and is queued again", "error", err.Error())
		w.Metrics.Retried.Inc()
		if err := msg.NakWithDelay(min(time.Duration(t.delivered)*time.Second, 10*time.Second)); err != nil {
			log.Warn("giving a job back", "error", err.Error()) // the server gives it on after AckWait
		}
	}
	end()
	return nil
}

func hopeless(err error) bool {
	var refused *refusal
	return render.Classify(err) == render.Hopeless || errors.As(err, &refused)
}

// errCancelled ends the rendering of a cancelled batch's image.
var errCancelled = errors.New("the batch was cancelled")

// cancelBatch drops the picture being rendered if it belongs to a batch, and is the one of that hash ("": any).
func (w *worker) cancelBatch(id, hash string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t := w.current; t != nil && t.job.Batch == id && (hash == "" || hash == t.job.Hash) {
		t.cancel(errCancelled)
	}
}

// beat tells the server that the job is being worked on.
func (w *worker) beat(t *task, done <-chan struct{}) {
	tick := time.NewTicker(w.AckWait / 3)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			if err := t.msg.InProgress(); err != nil && !t.ended.Load() {
				w.Log.Warn("sign of life not sent", "worker", w.ID, "error", err.Error())
			}
		}
	}
}

func (w *worker) render(ctx context.Context, t *task, nearly func()) (manifest.Record, *pipeline.Image, error) {
	rec := manifest.Record{
		Hash: t.job.Hash, Index: t.job.Index, Request: t.job.Request, Started: time.Now().UTC(),
		Worker: w.ID, Attempts: t.delivered,
	}
	steps := 0
	ev := pipeline.Events{
		Start: func(n int) { steps = n },
		Step: func(n int) {
			if n == steps-1 {
				nearly()
			}
		},
		Warn: func(text string) { w.Log.Warn(text, "worker", w.ID, "batch", t.job.Batch, "job", t.job.Hash) },
	}
	if t.job.Served {
		ev = w.told(t, ev)
	}
	img, err := w.Renderer.Render(ctx, &t.job.Request, ev)
	rec.Seconds = time.Since(rec.Started).Seconds()
	rec.Device = w.Renderer.Device()
	return rec, img, err
}

// store encodes and stores a picture, publishes the result, and only then acknowledges the job.
func (w *worker) store(ctx context.Context, t *task, rec manifest.Record, img *pipeline.Image, log *slog.Logger) {
	begun := time.Now()
	patient, done := w.patient(ctx)
	defer done()
	data, err := engine.Encode(&t.job.Request, img)
	if err != nil {
		w.bury(ctx, t, rec, err)
		return
	}
	rec = batch.Complete(rec, img, data)
	told := false
	var wrong error // with the name, not with the place
	err = again(patient, func(context.Context) (err error) {
		limited, cancel := context.WithTimeout(patient, time.Minute)
		defer cancel()
		if rec.File, err = store.PutFree(limited, w.Store, t.job.File, data); err != nil {
			w.Metrics.StoreErrors.Inc()
			if store.Hopeless(err) {
				wrong = err
				return nil
			}
			if !told {
				log.Warn("the store refused the picture; trying again", "error", err.Error())
				told = true
			}
		}
		return err
	})
	switch {
	case err != nil && errors.Is(context.Cause(patient), errDrained):
		w.giveBack(t, err)
		return
	case err != nil: // cancelled
		w.acknowledge(ctx, t)
		return
	case wrong != nil:
		w.bury(ctx, t, rec, wrong)
		return
	}
	rec.Finished = time.Now().UTC()
	if err := w.publish(patient, resultSubject(t.job.Batch, statusDone, t.job.Hash), rec); err != nil {
		w.giveBack(t, err)
		return
	}
	w.acknowledge(ctx, t)
	w.Metrics.Finish.Update(time.Since(begun).Seconds())
	w.Metrics.done(rec)
	w.count(true)
	if w.OnDone != nil && !t.job.Served {
		w.OnDone(rec)
	}
	log.Info("job done", "file", rec.File, "sha256", rec.SHA256, "seconds", rec.Seconds, "prompt", t.job.Request.Prompt)
}

// finished reports whether the job's image is in the store with a result that fits.
func (w *worker) finished(ctx context.Context, t *task) bool {
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m, err := w.q.results.GetLastMsgForSubject(limited, resultSubject(t.job.Batch, statusDone, t.job.Hash))
	if err != nil {
		return false
	}
	var rec manifest.Record
	if json.Unmarshal(m.Data, &rec) != nil || rec.Hash != t.job.Hash || !store.IsFree(t.job.File, rec.File) {
		return false
	}
	sum, err := w.Store.Sum(limited, rec.File)
	return err == nil && sum == rec.SHA256
}

func (w *worker) setCurrent(t *task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current = t
	w.info.Job, w.info.Batch = "", ""
	if t != nil {
		w.info.Job, w.info.Batch = t.job.Hash, t.job.Batch
	}
}

func (w *worker) count(done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !done {
		w.info.Failed++
		return
	}
	w.info.Done++
	w.recent = append(w.recent, time.Now())
}

// show publishes what the worker does, so that darkroom queue can list it.
func (w *worker) show(ctx context.Context) {
	for {
		limited, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, _ = w.q.workers.Put(limited, w.ID, encode(w.snapshot())) // the next one comes soon
		cancel()
		select {
		case <-ctx.Done():
			gone, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			_ = w.q.workers.Delete(gone, w.ID)
			cancel()
			return
		case <-time.After(workerTTL / 5):
		}
	}
}

func (w *worker) snapshot() WorkerInfo {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for len(w.recent) > 0 && now.Sub(w.recent[0]) > time.Minute {
		w.recent = w.recent[1:]
	}
	w.info.PerMin = float64(len(w.recent)) / min(1, max(now.Sub(w.info.Since).Minutes(), 1.0/60))
	w.info.Updated, w.info.Device = now, w.Renderer.Device()
	return w.info
}
