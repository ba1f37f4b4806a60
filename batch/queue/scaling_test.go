package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"darkroom/batch"
	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/batch/simulated"
	"darkroom/pipeline"
)

// TestScaling renders with many simulated devices of 200 ms an image: they must be busy nearly all the time. With
// SCALING=1, on a machine that does nothing else, 64 workers and 95%; else 8 workers for a second and 50%, which rules
// out that they wait for each other, and holds on a machine that runs other tests beside this one.
func TestScaling(t *testing.T) {
	workers, rounds, least := 8, 6, 0.50
	if os.Getenv("SCALING") != "" {
		workers, rounds, least = 64, 40, 0.95
	}
	const each = 200 * time.Millisecond
	p := newPlant(t)
	images := parse(t, fmt.Sprintf("- {prompt: a, seed: 1..%d}", workers*rounds))
	b := p.submit(images)
	devices := make([]*simulated.Device, workers)
	var mu sync.Mutex
	spans := map[string][][2]time.Time{} // of each worker's images
	metrics := NewMetrics()
	place := &memory{sums: map[string]string{}}
	for i := range devices {
		devices[i] = &simulated.Device{Time: each}
		p.work(WorkerOptions{ID: fmt.Sprintf("w%d", i), Renderer: devices[i], Store: place, AckWait: 30 * time.Second, Metrics: metrics, OnDone: func(r manifest.Record) {
			mu.Lock()
			defer mu.Unlock()
			spans[r.Worker] = append(spans[r.Worker], [2]time.Time{r.Started, r.Started.Add(time.Duration(r.Seconds * float64(time.Second)))})
		}})
	}
	p.gather(b, len(images))
	p.status(b, fmt.Sprintf("%d done, 0 failed, 0 queued", len(images)))
	mu.Lock()
	defer mu.Unlock()
	use, span := utilisation(spans)
	t.Logf("%d workers, %d images, %v: %.1f%% busy; fetching a job takes %.2f ms, encoding, storing and acknowledging %.2f ms in the median",
		workers, len(images), span.Round(time.Millisecond), 100*use, 1000*median(t, metrics, "fetch_seconds"), 1000*median(t, metrics, "finish_seconds"))
	if use < least {
		t.Errorf("the devices are busy %.1f%% of the time, less than %.0f%%", 100*use, 100*least)
	}
}

// utilisation is the share of the time in which the devices render, between the moment when the last of them has begun
// and that when the first has nothing more to do.
func utilisation(spans map[string][][2]time.Time) (share float64, window time.Duration) {
	var from, to time.Time
	for _, s := range spans {
		slices.SortFunc(s, func(a, b [2]time.Time) int { return a[0].Compare(b[0]) })
		if s[0][0].After(from) {
			from = s[0][0]
		}
		if end := s[len(s)-1][1]; to.IsZero() || end.Before(to) {
			to = end
		}
	}
	busy := time.Duration(0)
	for _, s := range spans {
		for _, i := range s {
			begin, end := i[0], i[1]
			if begin.Before(from) {
				begin = from
			}
			if end.After(to) {
				end = to
			}
			busy += max(end.Sub(begin), 0)
		}
	}
	window = to.Sub(from)
	return busy.Seconds() / (window.Seconds() * float64(len(spans))), window
}

// memory is a store that takes no time: how fast a disk syncs is not what is measured.
type memory struct {
	mu   sync.Mutex
	sums map[string]string
}

func (m *memory) Put(_ context.Context, name string, data []byte) error {
	sum := sha256.Sum256(data)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sums[name] = hex.EncodeToString(sum[:])
	return nil
}

func (m *memory) Sum(_ context.Context, name string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sums[name], nil
}

func (m *memory) String() string { return "memory" }

// median reads a histogram's median: the upper end of its bucket.
func median(t *testing.T, m *Metrics, name string) float64 {
	t.Helper()
	var page strings.Builder
	m.Write(&page)
	var bounds, counts []float64
	for _, b := range regexp.MustCompile(`(?m)^darkroom_worker_`+name+`_bucket\{le="([^"]+)"\} (\d+)$`).FindAllStringSubmatch(page.String(), -1) {
		bound, err1 := strconv.ParseFloat(b[1], 64)
		count, err2 := strconv.ParseFloat(b[2], 64)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		bounds, counts = append(bounds, bound), append(counts, count)
	}
	if len(counts) == 0 {
		t.Fatalf("no histogram %s in\n%s", name, page.String())
	}
	for i, n := range counts {
		if 2*n >= counts[len(counts)-1] {
			return bounds[i]
		}
	}
	return 0
}

// TestOverhead measures what the queue adds to an image of a device that takes no time, with one worker: fetching,
// since all else is done while the next image is rendered.
func TestOverhead(t *testing.T) {
	p := newPlant(t)
	images := parse(t, "- {prompt: a, seed: 1..300}")
	b := p.submit(images)
	var gaps []float64 // milliseconds between the end of an image and the start of the next
	var end time.Time
	device := &timed{inner: &simulated.Device{Time: 20 * time.Millisecond}, gap: func(begun, ended time.Time) {
		if !end.IsZero() {
			gaps = append(gaps, begun.Sub(end).Seconds()*1000)
		}
		end = ended
	}}
	drain := p.work(WorkerOptions{ID: "w", Renderer: device})
	p.gather(b, len(images))
	drain()
	slices.Sort(gaps)
	at := gaps[len(gaps)/2]
	t.Logf("between two images: median %.2f ms, 95%% below %.2f ms", at, gaps[len(gaps)*95/100])
	most := 2.0 // ms, the promise
	if os.Getenv("SCALING") == "" {
		most = 20 // beside other tests
	}
	if at > most {
		t.Errorf("the queue adds %.2f ms to an image, more than %v", at, most)
	}
}

// timed tells when each image was begun and ended.
type timed struct {
	inner *simulated.Device
	gap   func(begun, ended time.Time)
}

func (d *timed) Render(ctx context.Context, q *jobs.Request, ev pipeline.Events) (*pipeline.Image, error) {
	begun := time.Now()
	defer func() { d.gap(begun, time.Now()) }()
	return d.inner.Render(ctx, q, ev)
}

func (d *timed) Device() string { return d.inner.Device() }

// TestManyJobs submits 100,000 jobs (10,000 without SCALING=1) and gathers nothing: the submitter must stay small.
func TestManyJobs(t *testing.T) {
	n := 10_000
	if os.Getenv("SCALING") != "" {
		n = 100_000
	}
	p := newPlant(t)
	before := heap()
	images := parse(t, fmt.Sprintf("- {prompt: a red apple on a wooden table in the morning light, seed: 1..%d, steps: 20, cfg: 7.5}", n))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	records, err := manifest.Open(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer records.Close()
	peak := uint64(0)
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapInuse)
			}
		}
	})
	begun := time.Now()
	done := make(chan error, 1)
	run, end := context.WithCancel(ctx)
	go func() {
		_, err := p.q.Run(run, RunOptions{Options: batch.Options{Images: images, Manifest: records, Store: p.store}, Place: p.dir})
		done <- err
	}()
	b := Batch{ID: BatchID(images, p.dir)}
	for queued := 0; queued < n; time.Sleep(200 * time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("%d of %d jobs are queued", queued, n)
		}
		if s, err := p.q.jobs.Info(ctx); err == nil {
			queued = int(s.State.Msgs)
		}
	}
	took := time.Since(begun)
	end()
	<-done
	close(stop)
	watch.Wait()
	runtime.KeepAlive(images)
	mib := float64(peak-min(before, peak)) / (1 << 20)
	t.Logf("%d jobs of batch %s queued in %v (%.0f a second), %.0f MiB of heap at most, with the server's in the same process", n, b.ID, took.Round(time.Millisecond), float64(n)/took.Seconds(), mib)
	if mib > 300 {
		t.Errorf("%.0f MiB of heap for %d jobs, more than 300", mib, n)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
