package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"darkroom/batch"
	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/batch/store"
)

// RunOptions are a batch that workers render. Batch says what and where, as for one machine; its renderers and its
// Retry are not used, since workers have their own.
type RunOptions struct {
	batch.Options
	Name  string // the job file's, for people
	Place string // of the store
	// Look is how long nothing may come before the submitter looks why: 0 is three seconds.
	Look time.Duration
}

// errBatchCancelled ends a run whose batch was cancelled.
var errBatchCancelled = errors.New("cancelled")

// redoMost is how often an image whose file is not where the worker says is asked for again.
const redoMost = 2

// gatherer is a submitter at work.
type gatherer struct {
	RunOptions
	q     *Queue
	batch Batch
	sum   batch.Summary
	todo  map[string]*jobs.Image // what has no result yet, by hash
	redo  map[string]int         // how often an image was asked for again
}

// Run submits what is not finished, and gathers the results: each image's file is verified and written down in the
// manifest. It may be ended and run again at any time; workers go on meanwhile.
func (q *Queue) Run(ctx context.Context, o RunOptions) (batch.Summary, error) {
	todo, sum, err := batch.Unfinished(ctx, o.Options)
	if err != nil || len(todo) == 0 {
		return sum, err
	}
	if o.Look <= 0 {
		o.Look = 3 * time.Second
	}
	g := &gatherer{RunOptions: o, q: q, sum: sum, todo: map[string]*jobs.Image{}, redo: map[string]int{}}
	var failed []string // in an earlier run: they are tried anew
	for _, m := range todo {
		g.todo[m.Hash] = m
		if r, ok := o.Manifest.Get(m.Hash); ok && r.Status != manifest.Done {
			failed = append(failed, m.Hash)
		}
	}
	g.batch, err = q.Begin(ctx, Batch{ID: BatchID(o.Images, o.Place), Name: o.Name, Place: o.Place, Total: len(o.Images), Submitted: time.Now().UTC()})
	if err == nil {
		g.batch, err = q.Forget(ctx, g.batch, failed)
	}
	if err != nil {
		return g.sum, err
	}
	settled, err := q.Settled(ctx, g.batch.ID)
	if err != nil {
		return g.sum, err
	}
	var submit []*jobs.Image
	for _, m := range todo {
		if _, ok := settled[m.Hash]; ok {
			continue
		}
		if n := len(encode(g.batch.job(m))); n > maxMessage {
			if err := g.refuse(ctx, m, fmt.Errorf("the request has %d bytes, but a queue takes at most %d: shorten its prompts", n, maxMessage)); err != nil {
				return g.sum, err
			}
			continue
		}
		submit = append(submit, m)
	}
	err = g.gather(ctx, submit)
	return g.sum, err
}

// refuse writes down an image that cannot be queued.
func (g *gatherer) refuse(ctx context.Context, m *jobs.Image, cause error) error {
	now := time.Now().UTC()
	r := manifest.Record{Hash: m.Hash, Index: m.Index, Request: m.Request, Status: manifest.Failed, Error: cause.Error(), Started: now, Finished: now}
	return g.take(ctx, []manifest.Record{r})
}

// gather submits and takes results in until there is one for every image.
func (g *gatherer) gather(ctx context.Context, submit []*jobs.Image) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	submitted := make(chan error, 1)
	go func() { submitted <- g.q.Submit(ctx, g.batch, batch.Ordered(submit)) }() // workers need not swap models
	results := make(chan manifest.Record, 256)
	go g.q.Results(ctx, g.batch.ID, func(r manifest.Record) bool {
		select {
		case results <- r:
			return true
		case <-ctx.Done():
			return false
		}
	})
	tick := time.NewTicker(g.Look)
	defer tick.Stop()
	allSubmitted, quiet := false, 0
	for len(g.todo) > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-submitted:
			if err != nil {
				return err
			}
			allSubmitted = true
		case r := <-results:
			quiet = 0
			if err := g.take(ctx, drain(r, results)); err != nil {
				return err
			}
		case <-tick.C:
			if quiet++; quiet >= 2 && allSubmitted {
				if err := g.look(ctx); err != nil {
					return err
				}
				quiet = 0
			}
		}
	}
	return nil
}

// drain adds what else has come, so that one sync of the disk serves many.
func drain(r manifest.Record, more <-chan manifest.Record) []manifest.Record {
	all := []manifest.Record{r}
	for len(all) < 256 {
		select {
		case r := <-more:
			all = append(all, r)
		default:
			return all
		}
	}
	return all
}

// take verifies results and writes them down.
func (g *gatherer) take(ctx context.Context, results []manifest.Record) error {
	var good []manifest.Record
	var again []*jobs.Image
	seen := map[string]bool{}
	for _, r := range results {
		m := g.todo[r.Hash]
		if m == nil || seen[r.Hash] {
			continue // of an earlier run, or told twice
		}
		if why := g.verify(ctx, r); why != nil {
			if g.redo[r.Hash]++; g.redo[r.Hash] <= redoMost {
				g.tell(batch.Event{Kind: batch.Warning, Image: m, Text: fmt.Sprintf("%s is made again: %v", r.File, why)})
				again = append(again, m)
				continue
			}
			r.Status, r.Error = manifest.Failed, notThere(r, why).Error()
		}
		seen[r.Hash] = true
		r.Index, r.Request = m.Index, m.Request // shared with the list of images
		good = append(good, r)
	}
	if len(good) > 0 {
		warn := func(text string) { g.tell(batch.Event{Kind: batch.Warning, Text: text}) }
		if err := batch.Patiently(ctx, g.StorePatience, warn, func() error { return g.Manifest.Append(good...) }); err != nil {
			return fmt.Errorf("%w\nWorkers keep rendering: run the same command again to collect their pictures", err)
		}
	}
	for _, r := range good {
		m := g.todo[r.Hash]
		delete(g.todo, r.Hash)
		kind := batch.Finished
		if r.Status == manifest.Done {
			g.sum.Finished++
		} else {
			g.sum.Failed++
			kind = batch.Failed
		}
		g.tell(batch.Event{Kind: kind, Image: m, Record: r, Device: r.Worker})
		if kind == batch.Failed && g.FailFast {
			_, err := g.q.Cancel(ctx, g.batch.ID)
			return errors.Join(errBatchCancelled, err)
		}
	}
	return g.resubmit(ctx, again)
}

// verify checks a result.
func (g *gatherer) verify(ctx context.Context, r manifest.Record) error {
	if r.Status != manifest.Done {
		return nil
	}
	return verify(ctx, g.Store, g.todo[r.Hash].File, r)
}

// verify reads the file that a worker says it wrote under a name. A shared folder may show it late.
func verify(ctx context.Context, in store.Store, name string, r manifest.Record) error {
	if !store.IsFree(name, r.File) {
		return fmt.Errorf("%.60q is not the name of its file, which is %s", r.File, name)
	}
	var wrong error
	for pause := 20 * time.Millisecond; pause < 3*time.Second; pause *= 2 {
		sum, err := in.Sum(ctx, r.File)
		if err == nil && sum == r.SHA256 {
			return nil
		}
		if wrong = err; err == nil {
			wrong = errors.New("the file is not the one that was written")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return wrong
}

// notThere says that a worker's file cannot be found.
func notThere(r manifest.Record, why error) error {
	return fmt.Errorf("the worker %s says that it wrote %s, but %w: do both have the same -o?", r.Worker, r.File, why)
}

func (g *gatherer) resubmit(ctx context.Context, images []*jobs.Image) (err error) {
	if len(images) == 0 {
		return nil
	}
	hashes := make([]string, len(images))
	for i, m := range images {
		hashes[i] = m.Hash
	}
	if g.batch, err = g.q.Forget(ctx, g.batch, hashes); err != nil {
		return err
	}
	return g.q.Submit(ctx, g.batch, images)
}

// look finds out why nothing comes: the batch was cancelled, or the server lost jobs (with its disk), which are then
// submitted again.
func (g *gatherer) look(ctx context.Context) error {
	s, err := g.q.Status(ctx, g.batch.ID)
	if errors.Is(err, ErrNoBatch) {
		if err = g.q.putBatch(ctx, g.batch); err == nil {
			s, err = g.q.Status(ctx, g.batch.ID)
		}
	}
	if err != nil {
		return err
	}
	if s.Cancelled {
		g.sum.Cancelled += len(g.todo)
		return errBatchCancelled
	}
	if s.Queued > 0 {
		return nil
	}
	settled, err := g.q.Settled(ctx, g.batch.ID)
	if err != nil {
		return err
	}
	var lost []*jobs.Image
	for hash, m := range g.todo {
		if _, ok := settled[hash]; !ok {
			lost = append(lost, m)
		}
	}
	g.batch.Round = max(g.batch.Round, s.Round)
	return g.resubmit(ctx, lost)
}

func (g *gatherer) tell(e batch.Event) {
	if g.OnEvent != nil {
		e.Summary = g.sum
		g.OnEvent(e)
	}
}

// IsCancelled reports whether a run ended because its batch was cancelled.
func IsCancelled(err error) bool { return errors.Is(err, errBatchCancelled) }
