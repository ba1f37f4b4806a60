package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/batch/store"
	"darkroom/pipeline"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Service has pictures made one by one, for a server whose own journal says which are to be made. In the queue, all of them are
// one batch. A picture that is asked for again after a crash is found in the queue, in the hands of a worker, or finished.
type Service struct {
	o       ServiceOptions
	q       *Queue
	batch   Batch
	stop    []*nats.Subscription
	end     context.CancelFunc
	workers atomic.Int64

	mu     sync.Mutex
	orders map[string][]*order // by the hashes of their requests
}

// ServiceOptions say for whom pictures are made. All fields but Look are required.
type ServiceOptions struct {
	ID    string // of the batch: always the same for the same server
	Name  string // of the server, for people
	Store store.Store
	// Look is how long nothing may come of a picture before the service looks why; 0 is three seconds.
	Look time.Duration
}

// Picture is a picture to make.
type Picture struct {
	Index    int
	File     string // where it is to go in the store
	Priority int    // above 0 is urgent, below 0 the opposite
	Request  jobs.Request
	Previews int // that are made whether or not anybody watches, evenly spaced
}

// Watcher is told of a picture's progress. All fields are required.
type Watcher struct {
	Start   func(worker string, steps int) // a worker has begun; again, if it died and another one has
	Step    func(step int)
	Preview func(step int, jpeg []byte)
	Watched func() bool // whether anybody looks at previews
}

// order is a picture under way.
type order struct {
	results chan manifest.Record
	news    chan progress
}

// Serve begins a service. It is to be closed before the queue.
func (q *Queue) Serve(ctx context.Context, o ServiceOptions) (*Service, error) {
	if o.Look <= 0 {
		o.Look = 3 * time.Second
	}
	s := &Service{o: o, q: q, orders: map[string][]*order{}}
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	for subject, handle := range map[string]nats.MsgHandler{
		resultSubject(o.ID, "*", "*"):       s.result,
		progressSubject + "." + o.ID + ".*": s.progress,
		cancelSubject + "." + o.ID:          s.cancelled,
	} {
		sub, err := q.conn.Subscribe(subject, handle)
		if err != nil {
			s.unsubscribe()
			return nil, err
		}
		s.stop = append(s.stop, sub)
	}
	ctx, s.end = context.WithCancel(context.WithoutCancel(ctx))
	s.count(ctx)
	go s.keep(ctx)
	return s, nil
}

func (s *Service) begin(ctx context.Context) (err error) {
	s.batch, err = s.q.Begin(ctx, Batch{ID: s.o.ID, Name: s.o.Name, Place: s.o.Store.String(), Submitted: time.Now().UTC()})
	return err
}

// Close ends the service. Pictures under way stay in the queue.
func (s *Service) Close() {
	s.end()
	s.unsubscribe()
}

func (s *Service) unsubscribe() {
	for _, sub := range s.stop {
		_ = sub.Unsubscribe() // the connection is closed next
	}
}

// keep counts the workers now and then, and writes the batch anew before the queue forgets it.
func (s *Service) keep(ctx context.Context) {
	count, renew := time.NewTicker(workerTTL/5), time.NewTicker(keepResults/4)
	defer count.Stop()
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-count.C:
			s.count(ctx)
		case <-renew.C:
			_ = s.begin(ctx) // it tries until ctx ends
		}
	}
}

func (s *Service) count(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if names, err := keys(limited, s.q.workers); err == nil {
		s.workers.Store(int64(len(names)))
	}
}

// Workers is how many workers there are, as far as is known.
func (s *Service) Workers() int { return int(s.workers.Load()) }

// Room is how many pictures may usefully be under way at once: what a worker renders, and what it takes next. The others wait
// where their order can be changed.
func (s *Service) Room() int { return 2 * max(s.Workers(), 1) }

// Takes reports whether workers can make a picture: they cannot read files of the server.
func (s *Service) Takes(q *jobs.Request) bool { return travels(q) == nil }

// Make has a picture made and returns its record when its file is there. The file's name is that of the picture, or one that
// store.PutFree gives it. When ctx ends, the picture stays in the queue: see Withdraw. When the record is kept elsewhere, call
// Settle.
func (s *Service) Make(ctx context.Context, p Picture, w Watcher) (manifest.Record, error) {
	job := &Job{Batch: s.o.ID, Hash: p.Request.Hash(), Index: p.Index, File: p.File, Request: p.Request, Served: true, Previews: p.Previews}
	if n := len(encode(job)); n > maxMessage {
		return manifest.Record{}, &pipeline.UsageError{Err: fmt.Errorf("the request has %d bytes, but a queue takes at most %d: shorten its prompts", n, maxMessage)}
	}
	o := s.enter(job.Hash)
	defer s.leave(job.Hash, o)
	if r, ok := s.done(ctx, job.Hash); ok && verify(ctx, s.o.Store, p.File, r) == nil { // by a worker, while this server was away
		return r, nil
	}
	for try := 0; ; try++ {
		if err := s.submit(ctx, job, jobs.Priorities[1-max(min(p.Priority, 1), -1)]); err != nil {
			return manifest.Record{}, err
		}
		r, err := s.wait(ctx, job, o, w)
		switch {
		case errors.Is(err, errLost):
			continue
		case err != nil:
			return r, err
		case r.Status != manifest.Done:
			return r, &WorkerError{r.Worker, r.Error}
		}
		why := verify(ctx, s.o.Store, p.File, r)
		if why == nil {
			return r, nil
		}
		if try >= redoMost {
			return r, notThere(r, why)
		}
	}
}

// WorkerError is what a worker says of a picture that it could not make.
type WorkerError struct{ Worker, Text string }

func (e *WorkerError) Error() string { return "worker " + e.Worker + ": " + e.Text }

// errLost says that a job is neither queued nor finished.
var errLost = errors.New("the queue has lost the job")

func (s *Service) enter(hash string) *order {
	o := &order{make(chan manifest.Record, 4), make(chan progress, 64)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders[hash] = append(s.orders[hash], o)
	return o
}

func (s *Service) leave(hash string, o *order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var others []*order
	for _, other := range s.orders[hash] {
		if other != o {
			others = append(others, other)
		}
	}
	if s.orders[hash] = others; len(others) == 0 {
		delete(s.orders, hash)
	}
}

// done is the result of a picture that is finished.
func (s *Service) done(ctx context.Context, hash string) (manifest.Record, bool) {
	return s.last(ctx, statusDone, hash)
}

// last is the latest result of a picture with a status.
func (s *Service) last(ctx context.Context, status, hash string) (r manifest.Record, ok bool) {
	_ = again(ctx, func(ctx context.Context) error { // without a result, it is submitted
		m, err := s.q.results.GetLastMsgForSubject(ctx, resultSubject(s.o.ID, status, hash))
		if err == nil {
			ok = json.Unmarshal(m.Data, &r) == nil && r.Hash == hash
		}
		return err
	}, jetstream.ErrMsgNotFound)
	return r, ok
}

// submit queues a job, unless it is queued or in the hands of a worker. Results of earlier times are forgotten.
func (s *Service) submit(ctx context.Context, j *Job, priority string) error {
	if err := s.Settle(ctx, j.Hash); err != nil {
		return err
	}
	msg := nats.NewMsg(j.subject(priority))
	msg.Data = encode(j)
	id := fmt.Sprintf("%s.%s.%d", s.o.ID, j.Hash, time.Now().UnixNano())
	err := again(ctx, func(ctx context.Context) error {
		_, err := s.q.js.PublishMsg(ctx, msg, jetstream.WithMsgID(id), jetstream.WithExpectLastSequencePerSubject(0))
		if queuedAlready(err) {
			return nil
		}
		return err
	}, nats.ErrMaxPayload)
	if err != nil {
		return fmt.Errorf("submitting: %w", err)
	}
	_ = s.q.conn.Publish(wakeSubject, nil) // a worker that misses it looks again soon
	return nil
}

// wait waits for the result of a job that was submitted.
func (s *Service) wait(ctx context.Context, j *Job, o *order, w Watcher) (manifest.Record, error) {
	watch := time.NewTicker(watchTime / 5)
	defer watch.Stop()
	quiet, worker, missed := time.Now(), "", 0
	for {
		select {
		case <-ctx.Done():
			return manifest.Record{}, context.Cause(ctx)
		case r := <-o.results:
			return r, nil
		case p := <-o.news:
			quiet, missed = time.Now(), 0
			switch {
			case p.Preview != nil:
				w.Preview(p.Step, p.Preview)
			case p.Step == 0 || p.Worker != worker:
				worker = p.Worker
				w.Start(worker, p.Steps)
				if p.Step > 0 {
					w.Step(p.Step)
				}
			default:
				w.Step(p.Step)
			}
		case <-watch.C:
			if w.Watched() {
				_ = s.q.conn.Publish(strings.Join([]string{watchSubject, j.Batch, j.Hash}, "."), nil) // again in a second
			}
			if time.Since(quiet) < s.o.Look {
				continue
			}
			quiet = time.Now()
			if r, ok := s.told(ctx, j.Hash); ok {
				return r, nil
			}
			queued, err := s.q.subjects(ctx, s.q.jobs, jobsSubject+".*."+j.Batch+"."+j.Hash)
			if err != nil {
				return manifest.Record{}, err
			}
			if len(queued) > 0 {
				missed = 0
			} else if missed++; missed > 1 { // not just between the result and the acknowledgement
				return manifest.Record{}, errLost
			}
		}
	}
}

// told is a result whose message was missed.
func (s *Service) told(ctx context.Context, hash string) (manifest.Record, bool) {
	for _, status := range []string{statusDone, statusFailed} {
		if r, ok := s.last(ctx, status, hash); ok {
			return r, true
		}
	}
	return manifest.Record{}, false
}

// result takes in a result as it is published.
func (s *Service) result(m *nats.Msg) {
	var r manifest.Record
	if err := json.Unmarshal(m.Data, &r); err != nil || !strings.HasSuffix(m.Subject, "."+r.Hash) {
		return // not a worker's
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.orders[r.Hash] {
		select {
		case o.results <- r:
		default: // it has several already
		}
	}
}

func (s *Service) progress(m *nats.Msg) {
	var p progress
	if json.Unmarshal(m.Data, &p) != nil || p.Step < 0 || p.Steps < p.Step {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.orders[m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]] {
		select {
		case o.news <- p:
		default: // the next one comes soon
		}
	}
}

// cancelled notes that somebody has cancelled all pictures in the queue (darkroom batch cancel): those under way fail, and later
// ones are taken again.
func (s *Service) cancelled(m *nats.Msg) {
	if len(m.Data) > 0 { // one picture: see Withdraw
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = s.begin(ctx) // its entry only says that it was cancelled
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	for hash, all := range s.orders {
		for _, o := range all {
			select {
			case o.results <- manifest.Record{Hash: hash, Status: manifest.Failed, Error: "the batch was cancelled in the queue (darkroom batch cancel)", Worker: "none"}:
			default:
			}
		}
	}
}

// Settle forgets the results of a picture, whose record is kept elsewhere.
func (s *Service) Settle(ctx context.Context, hash string) error {
	return again(ctx, func(ctx context.Context) error {
		if err := s.q.dead.Purge(ctx, jetstream.WithPurgeSubject(deadSubject+"."+s.o.ID+"."+hash)); err != nil {
			return err
		}
		return s.q.results.Purge(ctx, jetstream.WithPurgeSubject(resultSubject(s.o.ID, "*", hash)))
	})
}

// Withdraw takes a picture out of the queue, and from the worker that has it, unless it is under way for somebody else.
func (s *Service) Withdraw(ctx context.Context, hash string) error {
	s.mu.Lock()
	wanted := len(s.orders[hash]) > 0
	s.mu.Unlock()
	if wanted {
		return nil
	}
	for _, p := range jobs.Priorities {
		err := again(ctx, func(ctx context.Context) error {
			return s.q.jobs.Purge(ctx, jetstream.WithPurgeSubject(strings.Join([]string{jobsSubject, p, s.o.ID, hash}, ".")))
		})
		if err != nil {
			return err
		}
	}
	return s.q.conn.Publish(cancelSubject+"."+s.o.ID, []byte(hash))
}
