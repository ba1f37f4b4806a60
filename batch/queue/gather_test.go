package queue

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"darkroom/batch"
	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/batch/simulated"

	"github.com/google/go-cmp/cmp"
)

// run runs a batch as a submitter does, with its manifest in the plant's folder.
func (p *plant) run(ctx context.Context, images []jobs.Image, change func(*RunOptions)) (batch.Summary, error) {
	p.Helper()
	m, err := manifest.Open(p.dir)
	if err != nil {
		p.Fatal(err)
	}
	defer m.Close()
	o := RunOptions{Options: batch.Options{Images: images, Manifest: m, Store: p.store}, Name: "test", Place: p.dir, Look: 300 * time.Millisecond}
	if change != nil {
		change(&o)
	}
	return p.q.Run(ctx, o)
}

func (p *plant) want(want, got batch.Summary, err error) {
	p.Helper()
	if err != nil {
		p.Error(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		p.Error(d)
	}
}

// TestSubmitterResumes: a submitter that ends is taken up again; what was done meanwhile is gathered, nothing is
// rendered twice.
func TestSubmitterResumes(t *testing.T) {
	p := newPlant(t)
	images := parse(t, "- {prompt: a, seed: 1..40}")
	device := &simulated.Device{Time: 10 * time.Millisecond}
	p.work(WorkerOptions{ID: "w", Renderer: device})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := p.run(ctx, images, func(o *RunOptions) {
		o.OnEvent = func(e batch.Event) {
			if e.Finished == 5 {
				cancel()
			}
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	got, err := p.run(t.Context(), images, nil)
	p.want(batch.Summary{Total: 40, Kept: got.Kept, Finished: 40 - got.Kept}, got, err)
	if n := device.Rendered.Load(); n != 40 || got.Kept < 5 {
		t.Errorf("%d rendered for 40, %d kept", n, got.Kept)
	}
	got, err = p.run(t.Context(), images, nil)
	p.want(batch.Summary{Total: 40, Kept: 40}, got, err)

	// A file that is gone is made again, though the queue has a result for it.
	if err := os.Remove(filepath.Join(p.dir, images[3].File)); err != nil {
		t.Fatal(err)
	}
	got, err = p.run(t.Context(), images, nil)
	p.want(batch.Summary{Total: 40, Kept: 39, Finished: 1}, got, err)
}

// TestGroupedByModel: a job file that mixes models is rendered model by model, so that a worker with room for one does not
// swap it at every job.
func TestGroupedByModel(t *testing.T) {
	p := newPlant(t)
	images := parse(t, "- {prompt: a, seed: [1, 2, 3], model: [m1, m2]}\n- {prompt: b, model: m1}\n- {prompt: u, model: m2, priority: high}")
	ctx, cancel := context.WithCancel(t.Context())
	submitted := make(chan struct{})
	go func() { // nobody works yet
		defer close(submitted)
		_, _ = p.run(ctx, images, nil)
	}()
	id := BatchID(images, p.dir)
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if s, err := p.q.Status(t.Context(), id); err == nil && s.Queued == len(images) {
			break
		}
		if time.Since(begun) > 10*time.Second {
			t.Fatal("the jobs are not queued")
		}
	}
	cancel()
	<-submitted
	var mu sync.Mutex
	var order []string
	p.work(WorkerOptions{ID: "w", Renderer: &simulated.Device{Fail: func(q *jobs.Request) error {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, q.Model)
		return nil
	}}})
	got, err := p.run(t.Context(), images, nil)
	p.want(batch.Summary{Total: 8, Kept: got.Kept, Finished: 8 - got.Kept}, got, err)
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(order, " "); got != "m2 m1 m1 m1 m1 m2 m2 m2" {
		t.Errorf("the order is %s", got)
	}
}

// TestFailedAgain: what failed in one run is tried again by the next.
func TestFailedAgain(t *testing.T) {
	p := newPlant(t)
	images := parse(t, "- {prompt: [good, bad]}")
	bad := true
	device := &simulated.Device{Fail: func(q *jobs.Request) error {
		if q.Prompt == "bad" && bad {
			return errors.New("out of memory")
		}
		return nil
	}}
	drain := p.work(WorkerOptions{ID: "w", Renderer: device, Tries: 1})
	got, err := p.run(t.Context(), images, nil)
	p.want(batch.Summary{Total: 2, Finished: 1, Failed: 1}, got, err)
	drain()
	bad = false
	p.work(WorkerOptions{ID: "w", Renderer: device, Tries: 1})
	got, err = p.run(t.Context(), images, nil)
	p.want(batch.Summary{Total: 2, Kept: 1, Finished: 1}, got, err)
}

// TestCancelledRun: a submitter whose batch is cancelled elsewhere ends.
func TestCancelledRun(t *testing.T) {
	p := newPlant(t)
	images := parse(t, "- {prompt: a, seed: 1..3}")
	time.AfterFunc(time.Second, func() { p.q.Cancel(context.Background(), BatchID(images, p.dir)) })
	got, err := p.run(t.Context(), images, nil)
	if !IsCancelled(err) || got.Cancelled != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestLostServer: jobs that the server lost are submitted again.
func TestLostServer(t *testing.T) {
	p := newPlant(t)
	images := parse(t, "- {prompt: a, seed: 1..3}")
	time.AfterFunc(time.Second, func() {
		p.q.jobs.Purge(context.Background())
		p.work(WorkerOptions{ID: "w", Renderer: &simulated.Device{}})
	})
	got, err := p.run(t.Context(), images, nil)
	p.want(batch.Summary{Total: 3, Finished: 3}, got, err)
}
