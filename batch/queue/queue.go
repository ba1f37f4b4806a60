// Package queue spreads a batch over machines with NATS JetStream. Submitters put jobs into a work-queue stream,
// workers pull one at a time for each device, write the image to a store that all share, publish the result and
// acknowledge the job only then. A worker, a submitter or the server may die at any point: what is not acknowledged is
// delivered again, what is done twice has the same bytes, and what is submitted twice is queued once.
//
//	darkroom.jobs.PRIORITY.BATCH.HASH    work queue: deleted when acknowledged
//	darkroom.results.BATCH.STATUS.HASH   the last result of each image; kept for some days
//	darkroom.dead.BATCH.HASH             jobs that failed for good, for batch retry
//	darkroom.wake, darkroom.cancel.BATCH without a stream: there is something new; stop it
//	darkroom.progress.BATCH.HASH         without a stream: steps and previews, of pictures that a server waits for
//	darkroom.watch.BATCH.HASH            without a stream: somebody looks at its previews
package queue

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"darkroom/batch/jobs"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// DefaultURL is where a server on this machine listens.
const DefaultURL = "nats://127.0.0.1:4222"

// Options say how to reach a server. Everything but the URL is what NATS has under the same name.
type Options struct {
	URL   string // "" is DefaultURL; several may stand with commas between them
	Token string
	Creds string // a credentials file: JWT and NKey
	NKey  string // a file with an NKey seed
	CA    string // a file of certificates that sign the server's
	Cert  string // the client's certificate
	Key   string // and its key
	Name  string // of this client, for the server's lists

	// Replicas is how many servers of a cluster keep each stream; 0 is 1.
	Replicas int
	// OnState is called when the connection is lost and found again; may be nil.
	OnState func(text string)
}

// The streams and buckets.
const (
	jobsStream    = "DARKROOM_JOBS"
	resultsStream = "DARKROOM_RESULTS"
	deadStream    = "DARKROOM_DEAD"
	batchBucket   = "darkroom-batches"
	workerBucket  = "darkroom-workers"

	jobsSubject    = "darkroom.jobs"
	resultsSubject = "darkroom.results"
	deadSubject    = "darkroom.dead"
	wakeSubject    = "darkroom.wake"
	cancelSubject  = "darkroom.cancel"

	progressSubject = "darkroom.progress"
	watchSubject    = "darkroom.watch"
)

// keepResults is how long results and dead jobs are kept: a submitter may be away for that long.
const keepResults = 14 * 24 * time.Hour

// Queue is a connection with its streams.
type Queue struct {
	conn    *nats.Conn
	js      jetstream.JetStream
	jobs    jetstream.Stream
	results jetstream.Stream
	dead    jetstream.Stream
	batches jetstream.KeyValue
	workers jetstream.KeyValue
}

// Connect connects and sees to it that the streams are there. Once connected, a lost connection is sought again for
// ever.
func Connect(ctx context.Context, o Options) (*Queue, error) {
	conn, err := dial(o)
	if err != nil {
		return nil, err
	}
	q := &Queue{conn: conn}
	if err := q.prepare(ctx, max(o.Replicas, 1)); err != nil {
		url := conn.ConnectedUrlRedacted()
		conn.Close()
		if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrJetStreamNotEnabled) {
			err = errors.New("its JetStream is off: start nats-server with -js")
		}
		return nil, fmt.Errorf("queue %s: %w", url, err)
	}
	return q, nil
}

func dial(o Options) (*nats.Conn, error) {
	if o.URL == "" {
		o.URL = DefaultURL
	}
	if o.OnState == nil {
		o.OnState = func(string) {}
	}
	options := []nats.Option{
		nats.Name(o.Name), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond),
		nats.Timeout(5 * time.Second), nats.PingInterval(5 * time.Second), nats.MaxPingsOutstanding(3),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				o.OnState("the connection to the queue is lost: " + err.Error())
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) { o.OnState("connected to the queue again: " + c.ConnectedUrlRedacted()) }),
	}
	if o.Token != "" {
		options = append(options, nats.Token(o.Token))
	}
	if o.Creds != "" {
		options = append(options, nats.UserCredentials(o.Creds))
	}
	if o.NKey != "" {
		nkey, err := nats.NkeyOptionFromSeed(o.NKey)
		if err != nil {
			return nil, fmt.Errorf("the NKey in %s: %w", o.NKey, err)
		}
		options = append(options, nkey)
	}
	if o.CA != "" {
		options = append(options, nats.RootCAs(o.CA))
	}
	if (o.Cert == "") != (o.Key == "") {
		return nil, errors.New("a client's certificate and its key belong together: give both")
	}
	if o.Cert != "" {
		options = append(options, nats.ClientCert(o.Cert, o.Key))
	}
	if o.CA != "" || o.Cert != "" {
		options = append(options, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
		// Secure replaces the configuration that RootCAs and ClientCert extend: they must come after it.
		last := len(options) - 1
		options = append([]nats.Option{options[last]}, options[:last]...)
	}
	conn, err := nats.Connect(o.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("connecting to the queue %s: %w", redact(o.URL), err)
	}
	return conn, nil
}

// redact takes the password or token out of a URL.
func redact(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	if at := strings.LastIndexByte(rest, '@'); ok && at >= 0 {
		return scheme + "://…@" + rest[at+1:]
	}
	return url
}

func (q *Queue) prepare(ctx context.Context, replicas int) (err error) {
	if q.js, err = jetstream.New(q.conn, jetstream.WithPublishAsyncMaxPending(512), jetstream.WithPublishAsyncTimeout(10*time.Second)); err != nil {
		return err
	}
	stream := func(c jetstream.StreamConfig) jetstream.Stream {
		if err != nil {
			return nil
		}
		c.Storage, c.Replicas, c.MaxMsgSize = jetstream.FileStorage, replicas, maxMessage
		var s jetstream.Stream
		s, err = q.js.CreateStream(ctx, c)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // of another version or with other replicas: as it is
			s, err = q.js.Stream(ctx, c.Name)
		}
		return s
	}
	q.jobs = stream(jetstream.StreamConfig{Name: jobsStream, Subjects: []string{jobsSubject + ".>"}, Retention: jetstream.WorkQueuePolicy, Duplicates: 2 * time.Minute})
	q.results = stream(jetstream.StreamConfig{Name: resultsStream, Subjects: []string{resultsSubject + ".>"}, MaxMsgsPerSubject: 1, MaxAge: keepResults})
	q.dead = stream(jetstream.StreamConfig{Name: deadStream, Subjects: []string{deadSubject + ".>"}, MaxMsgsPerSubject: 1, MaxAge: keepResults})
	if err != nil {
		return err
	}
	if q.batches, err = q.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: batchBucket, TTL: keepResults, Replicas: replicas}); err != nil {
		return err
	}
	q.workers, err = q.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: workerBucket, TTL: workerTTL, Storage: jetstream.MemoryStorage})
	return err
}

// Close closes the connection.
func (q *Queue) Close() { q.conn.Close() }

// maxMessage is the largest job or result, in bytes: a prompt, and everything else that a request has.
const maxMessage = 4*jobs.MaxPrompt + 1<<16

// Job is a job as it travels.
type Job struct {
	Batch   string       `json:"batch"`
	Hash    string       `json:"hash"`
	Index   int          `json:"index"`
	File    string       `json:"file"`
	Request jobs.Request `json:"request"`
	// Served says that a server waits for the picture: its progress is published, and the server writes the history.
	Served   bool `json:"served,omitempty"`
	Previews int  `json:"previews,omitempty"` // that are published whether or not anybody watches
}

// subject is where the job is queued.
func (j *Job) subject(priority string) string {
	return strings.Join([]string{jobsSubject, priority, j.Batch, j.Hash}, ".")
}

// tokens are the priority, the batch and the hash in a job's subject, which the server vouches for; "" where they are
// not as they should be.
func tokens(subject string) (priority, batch, hash string) {
	t := strings.Split(subject, ".")
	if len(t) != 5 || jobs.Rank(t[2]) < 0 || !isToken(t[3]) || !isToken(t[4]) {
		return "", "", ""
	}
	return t[2], t[3], t[4]
}

// isToken reports whether s may stand in a subject: it is what batches and hashes are made of.
func isToken(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "0123456789abcdefghijklmnopqrstuvwxyz-") == ""
}

// encode is v as JSON. What is queued is made of plain fields: it cannot fail.
func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("queue: " + err.Error())
	}
	return data
}

// again calls try until it succeeds, ctx ends, or the error is one that comes again.
func again(ctx context.Context, try func(context.Context) error, hopeless ...error) error {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		limited, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := try(limited)
		cancel()
		if err == nil {
			return nil
		}
		for _, h := range hopeless {
			if errors.Is(err, h) {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(pause):
		}
	}
}
