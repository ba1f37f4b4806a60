package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Many clients at once on the embedded model: each gets its picture, progress is told quickly meanwhile, and memory stays.
func TestLoad(t *testing.T) {
	clients, requests, most := 16, 48, 5*time.Second // a machine that does other things, too
	if os.Getenv("DARKROOM_STORM") != "" {
		clients, requests, most = 200, 2000, 50*time.Millisecond
	}
	s := start(t, Options{})
	transport := &http.Transport{MaxIdleConnsPerHost: clients, MaxConnsPerHost: 0}
	client := &http.Client{Transport: transport}
	defer transport.CloseIdleConnections()
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var next, answered atomic.Int64
	var half atomic.Uint64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(requests) {
					return
				}
				body := fmt.Sprintf(`{"prompt":"picture %d","seed":%d,"steps":2,"width":64,"height":64}`, n, n)
				response, err := client.Post(s.url+"/sdapi/v1/txt2img", "application/json", strings.NewReader(body))
				if err != nil {
					t.Errorf("request %d: %v", n, err)
					return
				}
				var out struct {
					Images []string
					Info   string
				}
				err = json.NewDecoder(response.Body).Decode(&out)
				response.Body.Close()
				if err != nil || response.StatusCode != 200 || len(out.Images) != 1 {
					t.Errorf("request %d: status %d, %d pictures, %v", n, response.StatusCode, len(out.Images), err)
					return
				}
				if c := recipeOf(t, unbase64(t, out.Images[0])); c.Seed != uint64(n) || c.Prompt != fmt.Sprintf("picture %d", n) {
					t.Errorf("request %d got the picture of %q, seed %d", n, c.Prompt, c.Seed)
				}
				if answered.Add(1) == int64(requests/2) {
					half.Store(heap())
				}
			}
		})
	}
	stop := make(chan struct{})
	var times []time.Duration
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			begun := time.Now()
			response, err := client.Get(s.url + "/sdapi/v1/progress?skip_current_image=true")
			if err != nil {
				t.Error(err)
				return
			}
			_, err = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if err != nil {
				t.Error(err)
			}
			times = append(times, time.Since(begun))
		}
	})
	begun := time.Now()
	all.Wait()
	took := time.Since(begun)
	close(stop)
	watcher.Wait()
	slices.Sort(times)
	p99 := times[len(times)*99/100]
	end := heap()
	t.Logf("%d requests of %d clients in %v; progress: median %v, p99 %v; heap %d MiB at half, %d MiB at the end",
		requests, clients, took, times[len(times)/2], p99, half.Load()>>20, end>>20)
	if answered.Load() != int64(requests) {
		t.Errorf("%d of %d requests were answered", answered.Load(), requests)
	}
	if p99 > most {
		t.Errorf("progress is told after %v (p99), want %v", p99, most)
	}
	if before := half.Load(); end > before+before/2+32<<20 {
		t.Errorf("the heap has %d MiB, %d at half of the requests", end>>20, before>>20)
	}
}

// What the server adds to a picture's time: reading, the journal, the store, the answer.
func TestOverhead(t *testing.T) {
	most := 1.0 // on a machine that does other things, too
	if os.Getenv("DARKROOM_STORM") != "" {
		most = 0.03
	}
	const picture = 400 * time.Millisecond // of a fast GPU; others take longer
	s := start(t, Options{Engines: simulate(picture, 1)})
	var times []time.Duration
	for i := range 5 {
		begun := time.Now()
		s.want(200, "POST", "/sdapi/v1/txt2img", object{"prompt": "x", "seed": i}, nil)
		times = append(times, time.Since(begun))
	}
	slices.Sort(times)
	median := times[len(times)/2]
	if over := float64(median-picture) / float64(picture); over > most {
		t.Errorf("a picture of %v takes %v: %.1f %% more, want at most %.0f %%", picture, median, 100*over, 100*most)
	} else {
		t.Logf("%.2f %% more than the picture's own time", 100*over)
	}
}
