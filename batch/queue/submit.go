package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"darkroom/batch/jobs"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Batch is what the queue knows about a batch as a whole.
type Batch struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"` // the job file's, for people
	Place     string    `json:"place"`
	Total     int       `json:"total"`
	Submitted time.Time `json:"submitted"`
	Cancelled bool      `json:"cancelled"`
	// Round counts how often the batch was begun anew after it was cancelled or images of it had failed: what was
	// submitted in an earlier round is not taken for the same message.
	Round int `json:"round"`
}

// BatchID names a batch by its images and the place where they go: the same command always gives the same.
func BatchID(images []jobs.Image, place string) string {
	sum := sha256.New()
	fmt.Fprintln(sum, place)
	for i := range images {
		sum.Write([]byte(images[i].Hash))
		sum.Write([]byte(images[i].File))
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}

// Begin registers a batch, or finds it and takes up a cancelled one again.
func (q *Queue) Begin(ctx context.Context, b Batch) (Batch, error) {
	old, err := q.Batch(ctx, b.ID)
	if err == nil {
		b.Round, b.Submitted = old.Round, old.Submitted
		if old.Cancelled {
			b.Round++
		}
	} else if !errors.Is(err, ErrNoBatch) && !errors.Is(err, errDamaged) { // a damaged entry is written anew
		return b, err
	}
	return b, q.putBatch(ctx, b)
}

func (q *Queue) putBatch(ctx context.Context, b Batch) error {
	return again(ctx, func(ctx context.Context) error {
		_, err := q.batches.Put(ctx, b.ID, encode(b))
		return err
	})
}

// ErrNoBatch means that the queue has no batch of that name.
var ErrNoBatch = errors.New("there is no such batch in the queue: darkroom queue lists them")

// errDamaged says that what the queue keeps of a batch is not what a submitter writes.
var errDamaged = errors.New("its entry in the queue is damaged")

// Batch finds a batch.
func (q *Queue) Batch(ctx context.Context, id string) (Batch, error) {
	var b Batch
	if !isToken(id) {
		return b, fmt.Errorf("batch %q: %w", id, ErrNoBatch)
	}
	var value []byte
	err := again(ctx, func(ctx context.Context) error {
		e, err := q.batches.Get(ctx, id)
		if err == nil {
			value = e.Value()
		}
		return err
	}, jetstream.ErrKeyNotFound)
	if err == nil {
		if err = json.Unmarshal(value, &b); err != nil || b.ID != id {
			return Batch{}, fmt.Errorf("batch %q: %w", id, errDamaged)
		}
	}
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		err = fmt.Errorf("batch %q: %w", id, ErrNoBatch)
	}
	return b, err
}

// submitAtOnce is how many jobs are on their way to the server at a time.
const submitAtOnce = 256

// Submit queues images of a batch that Begin registered. An image that is queued already, or in the hands of a
// worker, is not queued again. It goes on through failures of the server until ctx ends.
func (q *Queue) Submit(ctx context.Context, b Batch, images []*jobs.Image) error {
	for len(images) > 0 {
		n := min(len(images), submitAtOnce)
		left := images[:n]
		err := again(ctx, func(ctx context.Context) (err error) {
			left, err = q.publish(ctx, b, left)
			return err
		})
		if err != nil {
			return fmt.Errorf("submitting: %w", err)
		}
		images = images[n:]
	}
	_ = q.conn.Publish(wakeSubject, nil) // a worker that misses it looks again soon
	return nil
}

// job is an image of the batch as it travels.
func (b *Batch) job(m *jobs.Image) *Job {
	return &Job{Batch: b.ID, Hash: m.Hash, Index: m.Index, File: m.File, Request: m.Request}
}

// publish sends some jobs and returns those that the server did not take.
func (q *Queue) publish(ctx context.Context, b Batch, images []*jobs.Image) (left []*jobs.Image, err error) {
	acks := make([]jetstream.PubAckFuture, len(images))
	for i, m := range images {
		j := b.job(m)
		msg := nats.NewMsg(j.subject(m.Priority))
		msg.Data = encode(j)
		if acks[i], err = q.js.PublishMsgAsync(msg,
			jetstream.WithMsgID(fmt.Sprintf("%s.%d.%s", b.ID, b.Round, m.Hash)),
			jetstream.WithExpectLastSequencePerSubject(0), // not queued already, however long ago
		); err != nil {
			return images[:], err
		}
	}
	for i, a := range acks {
		select {
		case <-a.Ok():
		case e := <-a.Err():
			if !queuedAlready(e) {
				left, err = append(left, images[i]), e
			}
		case <-ctx.Done():
			left, err = append(left, images[i]), ctx.Err()
		}
	}
	return left, err
}

func queuedAlready(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// Forget removes the results of images, so that they can be submitted again in a new round.
func (q *Queue) Forget(ctx context.Context, b Batch, hashes []string) (Batch, error) {
	if len(hashes) == 0 {
		return b, nil
	}
	for _, hash := range hashes {
		for _, subject := range []string{resultSubject(b.ID, "*", hash), deadSubject + "." + b.ID + "." + hash} {
			stream := q.results
			if strings.HasPrefix(subject, deadSubject) {
				stream = q.dead
			}
			if err := again(ctx, func(ctx context.Context) error { return stream.Purge(ctx, jetstream.WithPurgeSubject(subject)) }); err != nil {
				return b, err
			}
		}
	}
	b.Round++
	return b, q.putBatch(ctx, b)
}

// Settled are the hashes of a batch's images that have a result: true where they are done, false where they failed.
func (q *Queue) Settled(ctx context.Context, id string) (map[string]bool, error) {
	all := map[string]bool{}
	for _, status := range []string{statusFailed, statusDone} { // a failed image that was done later is done
		subjects, err := q.subjects(ctx, q.results, resultSubject(id, status, ">"))
		if err != nil {
			return nil, err
		}
		for s := range subjects {
			all[s[strings.LastIndexByte(s, '.')+1:]] = status == statusDone
		}
	}
	return all, nil
}
