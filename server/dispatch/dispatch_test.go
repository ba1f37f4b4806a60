package dispatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"darkroom/batch/jobs"
	"darkroom/batch/simulated"
	"darkroom/pipeline"
	"darkroom/server/wire"
)

// painter paints, and counts.
type painter struct {
	d     *simulated.Device
	calls *atomic.Int64
	fail  func(*jobs.Request) error
}

func (e painter) Render(ctx context.Context, q *jobs.Request, ev pipeline.Events) (*pipeline.Image, error) {
	if e.fail != nil {
		if err := e.fail(q); err != nil {
			return nil, err
		}
	}
	e.calls.Add(1)
	return e.d.Render(ctx, q, ev)
}
func (e painter) RenderBatch(ctx context.Context, all []*jobs.Request, events func(int) pipeline.Events, done func(int, *pipeline.Image, error)) {
	for i, q := range all {
		img, err := e.Render(ctx, q, events(i))
		done(i, img, err)
	}
}
func (e painter) BatchSize(*jobs.Request, int) int { return 1 }
func (e painter) Device() string                   { return "test" }
func (e painter) DecodesBeside() bool              { return false }
func (e painter) Unload(time.Duration)             {}
func (e painter) Close() error                     { return nil }

// world is a dispatcher at work.
type world struct {
	*Dispatcher
	calls  atomic.Int64
	cancel context.CancelFunc
}

func open(t *testing.T, o Options, each time.Duration, fail func(*jobs.Request) error) *world {
	t.Helper()
	w := &world{}
	o.Engines = func() []Engine { return []Engine{painter{&simulated.Device{Time: each}, &w.calls, fail}} }
	o.Resolve = func(q *jobs.Request) (jobs.Request, error) { return *q, nil }
	var err error
	if w.Dispatcher, err = Open(o); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	go w.Run(ctx)
	return w
}

func (w *world) end(t *testing.T) {
	t.Helper()
	w.cancel()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func request(prompt string, seed uint64) jobs.Request {
	var q jobs.Request
	q.Set("prompt", prompt)
	q.Set("seed", seed)
	return q
}

func (w *world) submit(t *testing.T, s Submission) string {
	t.Helper()
	id, _, err := w.Submit(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A long life leaves a short journal, which tells of the latest jobs.
func TestJournalIsShortened(t *testing.T) {
	dir := t.TempDir()
	w := open(t, Options{Folder: dir, Keep: 20}, 0, nil)
	var last string
	for i := range 700 {
		last = w.submit(t, Submission{Requests: []jobs.Request{request("x", uint64(i%50))}, Origin: "jobs"})
	}
	if _, err := w.Wait(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	w.end(t)
	data, err := os.ReadFile(filepath.Join(dir, Records, journalName))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(data, []byte("\n")); n > 1100 {
		t.Errorf("the journal has %d lines of 700 jobs, 20 of which are kept", n)
	}
	if n := w.calls.Load(); n != 50 {
		t.Errorf("%d pictures were rendered for 50 requests", n)
	}
	w = open(t, Options{Folder: dir, Keep: 20}, 0, nil)
	defer w.end(t)
	if j, ok := w.Get(last); !ok || j.State != wire.Done || len(j.Pictures) != 1 {
		t.Errorf("after the next start: %+v, %v", j, ok)
	}
	if n := w.calls.Load(); n != 0 {
		t.Errorf("%d pictures were rendered again", n)
	}
}

// A line that was cut or damaged is left out; what is whole counts.
func TestDamagedJournal(t *testing.T) {
	dir := t.TempDir()
	w := open(t, Options{Folder: dir}, 0, nil)
	first := w.submit(t, Submission{Requests: []jobs.Request{request("first", 1)}})
	if _, err := w.Wait(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	w.end(t)
	path := filepath.Join(dir, Records, journalName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	second := strings.ReplaceAll(strings.SplitAfter(string(data), "\n")[0], first, "another")
	if err := os.WriteFile(path, []byte(string(data)+"damaged\n"+second+`{"accept":{"id":"cut`), 0o600); err != nil {
		t.Fatal(err)
	}
	w = open(t, Options{Folder: dir}, 0, nil)
	for id, want := range map[string]bool{first: true, "another": true, "cut": false} {
		if _, ok := w.Get(id); ok != want {
			t.Errorf("job %s is there: %v", id, ok)
		}
	}
	if j, err := w.Wait(t.Context(), "another"); err != nil || j.State != wire.Done || w.calls.Load() != 0 {
		t.Errorf("%+v, %v: its picture was there", j, err)
	}
	third := w.submit(t, Submission{Requests: []jobs.Request{request("third", 1)}})
	w.end(t)
	w = open(t, Options{Folder: dir}, 0, nil)
	defer w.end(t)
	if j, err := w.Wait(t.Context(), third); err != nil || j.State != wire.Done {
		t.Errorf("what was accepted after the damage: %+v, %v", j, err)
	}
}

// A picture that cannot be made fails its job alone; the job says why after the next start, too, and the same request is tried again.
func TestFailures(t *testing.T) {
	dir := t.TempDir()
	bad := func(q *jobs.Request) error {
		if q.Prompt == "bad" {
			return &pipeline.UsageError{Err: errors.New("it cannot be")}
		}
		return nil
	}
	w := open(t, Options{Folder: dir}, 0, bad)
	id := w.submit(t, Submission{Requests: []jobs.Request{request("good", 1), request("bad", 1), request("good", 2)}})
	j, err := w.Wait(t.Context(), id)
	if err != nil || j.State != wire.Failed || len(j.Pictures) != 2 || j.Error != "it cannot be" {
		t.Errorf("%+v, %v", j, err)
	}
	if r := w.Results(id); len(r) != 3 || !IsUsage(r[1].Err) || r[0].Err != nil {
		t.Errorf("%+v", r)
	}
	w.end(t)
	w = open(t, Options{Folder: dir}, 0, nil)
	defer w.end(t)
	if j, ok := w.Get(id); !ok || j.State != wire.Failed || j.Error != "it cannot be" || len(j.Pictures) != 2 {
		t.Errorf("after the next start: %+v", j)
	}
	again := w.submit(t, Submission{Requests: []jobs.Request{request("bad", 1)}})
	if j, err := w.Wait(t.Context(), again); err != nil || j.State != wire.Done {
		t.Errorf("the same request again: %+v, %v", j, err)
	}
}

// The same picture for several clients at once is made once, and one of them may go.
func TestSamePicture(t *testing.T) {
	w := open(t, Options{Folder: t.TempDir()}, 100*time.Millisecond, nil)
	defer w.end(t)
	w.Pause(true)
	var ids []string
	for range 4 {
		ids = append(ids, w.submit(t, Submission{Requests: []jobs.Request{request("x", 1)}}))
	}
	w.Pause(false)
	for w.Status().Running == 0 {
		time.Sleep(time.Millisecond)
	}
	w.Cancel(ids[2])
	for i, id := range ids {
		want := wire.Done
		if i == 2 {
			want = wire.Cancelled
		}
		if j, err := w.Wait(t.Context(), id); err != nil || j.State != want {
			t.Errorf("job %d: %+v, %v", i, j, err)
		}
	}
	if n := w.calls.Load(); n != 1 {
		t.Errorf("the picture was made %d times", n)
	}
}

func TestFull(t *testing.T) {
	w := open(t, Options{Folder: t.TempDir(), Queue: 3}, 0, nil)
	defer w.end(t)
	w.Pause(true)
	w.submit(t, Submission{Requests: []jobs.Request{request("a", 1), request("a", 2)}})
	if _, _, err := w.Submit(Submission{Requests: []jobs.Request{request("b", 1), request("b", 2)}}); !errors.Is(err, ErrFull) {
		t.Errorf("two more of three: %v", err)
	}
	id := w.submit(t, Submission{Requests: []jobs.Request{request("c", 1)}, Priority: 5})
	if j, _ := w.Get(id); j.Position != 0 {
		t.Errorf("what is urgent is at position %d", j.Position)
	}
	w.Pause(false)
	if _, err := w.Wait(t.Context(), id); err != nil {
		t.Error(err)
	}
}

// Two servers in one folder would make one picture twice.
func TestOneServerAFolder(t *testing.T) {
	dir := t.TempDir()
	w := open(t, Options{Folder: dir}, 0, nil)
	defer w.end(t)
	if _, err := Open(Options{Folder: dir, Resolve: func(q *jobs.Request) (jobs.Request, error) { return *q, nil }}); err == nil || !strings.Contains(err.Error(), "another darkroom") {
		t.Errorf("a second one: %v", err)
	}
}

// Somebody who reads no events holds nobody up.
func TestSlowSubscriber(t *testing.T) {
	w := open(t, Options{Folder: t.TempDir()}, 0, nil)
	defer w.end(t)
	slow, stop := w.Subscribe("", true)
	defer stop()
	id := ""
	for i := range 400 {
		id = w.submit(t, Submission{Requests: []jobs.Request{request(fmt.Sprint(i), 1)}})
	}
	if _, err := w.Wait(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	n := 0
	for range slow { // closed, as the events did not fit
		n++
	}
	if n == 0 || n > 256 {
		t.Errorf("%d events", n)
	}
}

// What comes while the dispatcher is closed is refused.
func TestSubmitWhileClosing(t *testing.T) {
	w := open(t, Options{Folder: t.TempDir()}, 0, nil)
	ended := make(chan error)
	go func() {
		for i := uint64(0); ; i++ {
			if _, _, err := w.Submit(Submission{Requests: []jobs.Request{request("x", i)}}); err != nil {
				ended <- err
				return
			}
		}
	}()
	time.Sleep(20 * time.Millisecond)
	w.end(t)
	if err := <-ended; !errors.Is(err, ErrStopping) {
		t.Errorf("error %v", err)
	}
}
