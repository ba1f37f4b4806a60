package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"darkroom/batch/queue"
	"darkroom/models/library"
	"darkroom/pipeline"
)

// TestWorker runs a worker with its own queue, has it render a batch, looks at both from outside, and ends it.
func TestWorker(t *testing.T) {
	inFolder(t, "jobs.yaml", twoApples)
	p, err := pipeline.Open(pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	address, metrics := freeAddress(t), freeAddress(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var log lockedBuffer
	ended := make(chan int, 1)
	go func() {
		e := &env{stdin: strings.NewReader(""), stdout: io.Discard, stderr: &log}
		ended <- run(ctx, e, []string{"worker", "--embedded", "--listen", address, "--queue-dir", "queue", "-o", "out", "--metrics", metrics, "--any-model", "--id", "w1"})
	}()
	for i := 0; !strings.Contains(log.String(), "worker started"); i++ {
		if i == 500 {
			t.Fatalf("the worker does not start: %s", log.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	url := "nats://" + address
	code, out, errs := command(t, "", "batch", "jobs.yaml", "-o", "out", "--queue", url)
	if code != 0 || len(strings.Fields(out)) != 2 {
		t.Fatalf("exit code %d, stdout %q, stderr %q, worker %s", code, out, errs, log.String())
	}
	id := strings.Fields(errs)[1] // batch ID
	code, out, _ = command(t, "", "batch", "status", id, "--queue", url)
	if want := "batch " + id + " (jobs.yaml): 2 of 2 done, 0 failed, 0 queued\n"; code != 0 || out != want {
		t.Errorf("exit code %d, status %q, not %q", code, out, want)
	}
	code, out, _ = command(t, "", "queue", "--queue", url, "--json")
	var all queue.Overview
	if err := json.Unmarshal([]byte(out), &all); code != 0 || err != nil || len(all.Batches) != 1 || len(all.Workers) != 1 || all.Workers[0].ID != "w1" {
		t.Errorf("exit code %d, queue %s", code, out)
	}
	if code, out, _ = command(t, "", "queue", "--queue", url); code != 0 || !strings.Contains(out, id) || !strings.Contains(out, "w1") {
		t.Errorf("exit code %d, queue %s", code, out)
	}
	response, err := http.Get("http://" + metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	page, _ := io.ReadAll(response.Body)
	if !strings.Contains(string(page), `darkroom_worker_images_total{device="`+p.Backend()+`"} 2`) || !strings.Contains(string(page), "darkroom_worker_render_seconds_count 2") {
		t.Errorf("metrics: %s", page)
	}
	interrupt()
	select {
	case code := <-ended:
		if code != 0 || !strings.Contains(log.String(), `"msg":"worker drained","worker":"w1","done":2,"failed":0`) {
			t.Errorf("exit code %d, log %s", code, log.String())
		}
	case <-time.After(20 * time.Second):
		t.Error("the worker does not end")
	}
}

// TestModelsOfJobs: a job names models, not paths, unless the worker says otherwise.
func TestModelsOfJobs(t *testing.T) {
	root := t.TempDir()
	t.Setenv("DARKROOM_MODELS", root)
	o := workerOptions{}
	for _, model := range []string{"/etc", "../" + filepath.Base(root), `a\b`, "..", "missing"} {
		if path, err := o.resolve(model); err == nil {
			t.Errorf("%s is opened as %s", model, path)
		}
	}
	for _, model := range []string{"", "default"} {
		if path, err := o.resolve(model); err != nil || path != "default" {
			t.Errorf("%q: %s, %v", model, path, err)
		}
	}
	o.Engine = pipeline.Options{Model: tiny} // what the worker itself was started with
	for _, name := range []string{tiny, library.NameOf(tiny)} {
		if path, err := o.resolve(name); err != nil || path != tiny {
			t.Errorf("%s: %s, %v", name, path, err)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
