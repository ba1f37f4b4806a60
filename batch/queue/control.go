package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"darkroom/batch/jobs"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Status counts what became of a batch so far.
type Status struct {
	Batch
	Done   int `json:"done"`
	Failed int `json:"failed"`
	Queued int `json:"queued"` // waiting or in the hands of a worker
}

// Status asks the server for a batch's counts.
func (q *Queue) Status(ctx context.Context, id string) (Status, error) {
	b, err := q.Batch(ctx, id)
	if err != nil {
		return Status{}, err
	}
	s := Status{Batch: b}
	for _, p := range jobs.Priorities {
		subjects, err := q.subjects(ctx, q.jobs, jobsSubject+"."+p+"."+id+".>")
		if err != nil {
			return s, err
		}
		s.Queued += len(subjects)
	}
	done, err := q.subjects(ctx, q.results, resultSubject(id, statusDone, ">"))
	if err != nil {
		return s, err
	}
	failed, err := q.subjects(ctx, q.results, resultSubject(id, statusFailed, ">"))
	if err != nil {
		return s, err
	}
	s.Done = len(done)
	for subject := range failed { // a failed image that was done later is done
		if _, ok := done[strings.Replace(subject, "."+statusFailed+".", "."+statusDone+".", 1)]; !ok {
			s.Failed++
		}
	}
	return s, nil
}

// subjects are those of a stream that match, with their numbers of messages.
func (q *Queue) subjects(ctx context.Context, s jetstream.Stream, filter string) (found map[string]uint64, err error) {
	err = again(ctx, func(ctx context.Context) error {
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
		if err == nil {
			found = info.State.Subjects
		}
		return err
	})
	return found, err
}

// Cancel removes a batch's jobs from the queue and tells workers to drop those they are rendering.
func (q *Queue) Cancel(ctx context.Context, id string) (Status, error) {
	b, err := q.Batch(ctx, id)
	if err != nil {
		return Status{}, err
	}
	b.Cancelled = true
	if err := q.putBatch(ctx, b); err != nil {
		return Status{}, err
	}
	for _, p := range jobs.Priorities {
		err := again(ctx, func(ctx context.Context) error {
			return q.jobs.Purge(ctx, jetstream.WithPurgeSubject(jobsSubject+"."+p+"."+id+".>"))
		})
		if err != nil {
			return Status{}, err
		}
	}
	if err := q.conn.Publish(cancelSubject+"."+id, nil); err != nil {
		return Status{}, err
	}
	return q.Status(ctx, id)
}

// Dead is a job that failed for good.
type Dead struct {
	Job      json.RawMessage `json:"job"` // as it was queued
	Priority string          `json:"priority"`
	Error    string          `json:"error"`
	Worker   string          `json:"worker"`
	Attempts int             `json:"attempts"`
	At       time.Time       `json:"at"`
}

// Retry queues a batch's dead jobs again and returns how many they are.
func (q *Queue) Retry(ctx context.Context, id string) (int, error) {
	b, err := q.Batch(ctx, id)
	if err != nil {
		return 0, err
	}
	subjects, err := q.subjects(ctx, q.dead, deadSubject+"."+id+".>")
	if err != nil {
		return 0, err
	}
	b.Round++
	b.Cancelled = false
	if err := q.putBatch(ctx, b); err != nil {
		return 0, err
	}
	n := 0
	for subject := range subjects {
		hash := subject[strings.LastIndexByte(subject, '.')+1:]
		ok, err := q.revive(ctx, b, subject, hash)
		if err != nil {
			return n, err
		}
		if !ok {
			continue
		}
		n++
	}
	return n, q.conn.Publish(wakeSubject, nil)
}

// revive queues one dead job. The failure is forgotten first, so that the next one is not taken for it, and the dead job
// is removed last, so that a crash loses nothing.
func (q *Queue) revive(ctx context.Context, b Batch, subject, hash string) (bool, error) {
	var d Dead
	var sequence uint64
	var data []byte
	err := again(ctx, func(ctx context.Context) error {
		m, err := q.dead.GetLastMsgForSubject(ctx, subject)
		if err != nil {
			return err
		}
		sequence, data = m.Sequence, m.Data
		return nil
	}, jetstream.ErrMsgNotFound)
	if err != nil {
		return false, err
	}
	if json.Unmarshal(data, &d) != nil || jobs.Rank(d.Priority) < 0 || !json.Valid(d.Job) {
		return false, nil // it never was a job
	}
	msg := nats.NewMsg(strings.Join([]string{jobsSubject, d.Priority, b.ID, hash}, "."))
	msg.Data = d.Job
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error {
			return q.results.Purge(ctx, jetstream.WithPurgeSubject(resultSubject(b.ID, statusFailed, hash)))
		},
		func(ctx context.Context) error {
			_, err := q.js.PublishMsg(ctx, msg, jetstream.WithMsgID(fmt.Sprintf("%s.%d.%s", b.ID, b.Round, hash)), jetstream.WithExpectLastSequencePerSubject(0))
			if queuedAlready(err) {
				return nil
			}
			return err
		},
		func(ctx context.Context) error {
			err := q.dead.DeleteMsg(ctx, sequence)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				return nil
			}
			return err
		},
	} {
		if err := again(ctx, step); err != nil {
			return false, err
		}
	}
	return true, nil
}

// Overview is the queue as a whole.
type Overview struct {
	Queued  map[string]int `json:"queued"` // by priority, with those in the hands of workers
	Held    map[string]int `json:"held"`   // by priority: in the hands of workers
	Dead    int            `json:"dead"`
	Batches []Status       `json:"batches"`
	Workers []WorkerInfo   `json:"workers"`
}

// Overview asks the server for everything that darkroom queue shows.
func (q *Queue) Overview(ctx context.Context) (Overview, error) {
	o := Overview{Queued: map[string]int{}, Held: map[string]int{}}
	for _, p := range jobs.Priorities {
		subjects, err := q.subjects(ctx, q.jobs, jobsSubject+"."+p+".>")
		if err != nil {
			return o, err
		}
		o.Queued[p] = len(subjects)
		c, err := q.js.Consumer(ctx, jobsStream, consumerName(p))
		if err == nil {
			o.Held[p] = c.CachedInfo().NumAckPending
		} else if !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return o, err
		}
	}
	info, err := q.dead.Info(ctx)
	if err != nil {
		return o, err
	}
	o.Dead = int(info.State.Msgs)
	ids, err := keys(ctx, q.batches)
	if err != nil {
		return o, err
	}
	for _, id := range ids {
		s, err := q.Status(ctx, id)
		if errors.Is(err, errDamaged) || errors.Is(err, ErrNoBatch) {
			continue
		}
		if err != nil {
			return o, err
		}
		o.Batches = append(o.Batches, s)
	}
	slices.SortFunc(o.Batches, func(a, b Status) int { return a.Submitted.Compare(b.Submitted) })
	names, err := keys(ctx, q.workers)
	if err != nil {
		return o, err
	}
	for _, name := range names {
		e, err := q.workers.Get(ctx, name)
		if err != nil {
			continue // it left just now
		}
		var w WorkerInfo
		if json.Unmarshal(e.Value(), &w) == nil {
			o.Workers = append(o.Workers, w)
		}
	}
	slices.SortFunc(o.Workers, func(a, b WorkerInfo) int { return strings.Compare(a.ID, b.ID) })
	return o, nil
}

func keys(ctx context.Context, kv jetstream.KeyValue) ([]string, error) {
	list, err := kv.Keys(ctx)
	if errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, nil
	}
	return list, err
}
