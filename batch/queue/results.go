package queue

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"darkroom/batch/manifest"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	statusDone   = manifest.Done
	statusFailed = manifest.Failed
)

func resultSubject(batch, status, hash string) string {
	return strings.Join([]string{resultsSubject, batch, status, hash}, ".")
}

// Results calls found with each result of a batch, those of earlier runs first, until ctx ends or found returns false.
// It goes on through failures of the server.
func (q *Queue) Results(ctx context.Context, batch string, found func(manifest.Record) bool) error {
	next := uint64(1)
	for ctx.Err() == nil {
		var err error
		if next, err = q.resultsFrom(ctx, batch, next, found); errors.Is(err, errEnough) {
			return nil
		}
		select { // the server is away
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
	return ctx.Err()
}

var errEnough = errors.New("enough")

// resultsFrom reads from a sequence number of the stream on until something is wrong, and returns the next number.
func (q *Queue) resultsFrom(ctx context.Context, batch string, next uint64, found func(manifest.Record) bool) (uint64, error) {
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := q.js.OrderedConsumer(limited, resultsStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{resultsSubject + "." + batch + ".>"}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: next,
	})
	if err != nil {
		return next, err
	}
	messages, err := c.Messages()
	if err != nil {
		return next, err
	}
	defer messages.Stop()
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	for {
		msg, err := messages.Next()
		if err != nil {
			return next, err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return next, err
		}
		next = meta.Sequence.Stream + 1
		var r manifest.Record
		if err := json.Unmarshal(msg.Data(), &r); err != nil || r.Hash != r.Request.Hash() || !strings.HasSuffix(msg.Subject(), "."+r.Hash) {
			continue // not a worker's
		}
		if !found(r) {
			return next, errEnough
		}
	}
}
