package queue

import (
	"bytes"
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
	"darkroom/batch/queue/server"
	"darkroom/batch/simulated"
	"darkroom/batch/store"

	"github.com/nats-io/nats.go"
)

// A message of any bytes is buried, and the worker goes on. Names that do not belong to pictures are refused.
func TestOneMessageStopsNobody(t *testing.T) {
	p := newPlant(t)
	images := parse(t, "- {prompt: a, seed: 1..2}")
	p.work(WorkerOptions{ID: "w", Renderer: &simulated.Device{}})
	subject := "darkroom.jobs.high.b." + strings.Repeat("0", 64)
	named := func(name string) []byte {
		j := Job{Batch: "b", Hash: images[0].Hash, File: name, Request: images[0].Request}
		return encode(j)
	}
	for name, data := range map[string][]byte{
		"NULs": make([]byte, 300_000), "quotes": bytes.Repeat([]byte{'"'}, maxMessage), "JSON": encode(strings.Repeat("x", maxMessage-2)), "empty": nil,
		"php": named("shell.php"), "page": named("page.html"), "manifest": named(manifest.Name), "none": named("x"), "case": named("x.PNG"),
	} {
		if err := p.q.conn.PublishMsg(&nats.Msg{Subject: subject, Data: data}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name == "php" || name == "manifest" {
			if _, err := decodeJob("darkroom.jobs.high.b."+images[0].Hash, data, Limits{}.withDefaults(), jobs.NewValidator()); err == nil || !strings.Contains(err.Error(), "extension .png") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	b := p.submit(images)
	if got := p.gather(b, 2); len(got) != 2 {
		t.Errorf("%d results", len(got))
	}
}

// A worker of one batch renders no other's jobs.
func TestWorkerOfOneBatch(t *testing.T) {
	p := newPlant(t)
	device := &simulated.Device{}
	b := p.submit(parse(t, "- {prompt: a}"))
	p.work(WorkerOptions{ID: "w", Renderer: device, Batch: "another"})
	for hash, r := range p.gather(b, 1) {
		if r.Status != manifest.Failed || !strings.Contains(r.Error, "renders only the batch another") || device.Rendered.Load() > 0 {
			t.Errorf("%s: %s %s", hash, r.Status, r.Error)
		}
	}
}

// fullStore refuses every picture.
type fullStore struct{ store.Store }

func (fullStore) Put(context.Context, string, []byte) error {
	return errors.New("no space left on device")
}

// hangingStore says nothing until it is no longer asked.
type hangingStore struct{ store.Store }

func (hangingStore) Put(ctx context.Context, _ string, _ []byte) error {
	<-ctx.Done()
	return ctx.Err()
}

// A worker that is told to end does, with an error, though the disk is full, the store hangs or the server is away.
func TestDrainEnds(t *testing.T) {
	for _, name := range []string{"full", "hanging", "away"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := server.Start(server.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
			if err != nil {
				t.Fatal(err)
			}
			away := sync.OnceFunc(s.Close)
			defer away()
			q, err := Connect(t.Context(), Options{URL: s.URL()})
			if err != nil {
				t.Fatal(err)
			}
			defer q.Close()
			folder, err := store.OpenFolder(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer folder.Close()
			images := parse(t, "- {prompt: a}")
			b, err := q.Begin(t.Context(), Batch{ID: "b", Total: 1})
			if err != nil {
				t.Fatal(err)
			}
			if err := q.Submit(t.Context(), b, pointers(images)); err != nil {
				t.Fatal(err)
			}
			begun := make(chan struct{})
			device := &simulated.Device{Time: 300 * time.Millisecond, Fail: func(*jobs.Request) error { close(begun); return nil }}
			o := WorkerOptions{ID: "w", Renderer: device, Store: map[string]store.Store{"full": fullStore{folder}, "hanging": hangingStore{folder}, "away": folder}[name]}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- q.Work(ctx, o) }()
			<-begun
			if name == "away" {
				away()
			}
			told := time.Now()
			cancel()
			select {
			case err := <-ended:
				if err == nil || !strings.Contains(err.Error(), "goes back to the queue") {
					t.Errorf("error %v", err)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("the worker does not end")
			}
			if took := time.Since(told); took > 15*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// One folder has one server.
func TestOneServerAFolder(t *testing.T) {
	dir := t.TempDir()
	s, err := server.Start(server.Options{Dir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Start(server.Options{Dir: dir, Listen: "127.0.0.1:0"}); err == nil || !strings.Contains(err.Error(), "is in use by another server") {
		t.Errorf("error %v", err)
	}
	s.Close()
	if s, err = server.Start(server.Options{Dir: dir, Listen: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// A result books its own file alone, an entry that belongs to no batch stops nobody, and a request that is too large for a
// message fails alone.
func TestNothingIsTrusted(t *testing.T) {
	p := newPlant(t)
	images := parse(t, "- {prompt: a, seed: 1, name: one}\n- {prompt: a, seed: 2, name: two}\n- {prompt: "+strings.Repeat("x", 60_000)+"}")
	fat := "\""
	for len(encode(fat)) < maxMessage {
		fat += fat
	}
	images[2].Request.Negative = fat // as expansion would not make it
	images[2].Hash = images[2].Request.Hash()
	if err := os.WriteFile(filepath.Join(p.dir, "two.png"), []byte("a user's"), 0o666); err != nil {
		t.Fatal(err)
	}
	book, err := manifest.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	id := BatchID(images, p.dir)
	for key, text := range map[string]string{id: "no JSON", "other": `{"id": "else"}`} {
		if _, err := p.q.batches.Put(t.Context(), key, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.q.Overview(t.Context()); err != nil {
		t.Error(err)
	}
	sum, err := p.store.Sum(t.Context(), "two.png")
	if err != nil {
		t.Fatal(err)
	}
	forged := manifest.Record{Hash: images[0].Hash, Request: images[0].Request, Status: manifest.Done, File: "two.png", SHA256: sum}
	if _, err := p.q.js.Publish(t.Context(), resultSubject(id, statusDone, forged.Hash), encode(forged)); err != nil {
		t.Fatal(err)
	}
	p.work(WorkerOptions{ID: "w", Renderer: &simulated.Device{}})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got, err := p.q.Run(ctx, RunOptions{Options: batch.Options{Images: images, Manifest: book, Store: p.store, StorePatience: time.Second}, Name: "x", Place: p.dir, Look: 200 * time.Millisecond})
	if err != nil || got.Finished != 2 || got.Failed != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for i, want := range []string{"one.png", "two-2.png"} {
		if r, _ := book.Get(images[i].Hash); r.File != want {
			t.Errorf("image %d is booked as %q", i, r.File)
		}
	}
	if r, _ := book.Get(images[2].Hash); !strings.Contains(r.Error, "a queue takes at most") {
		t.Errorf("the large request: %+v", r.Error)
	}
}
