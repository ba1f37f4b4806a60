package batch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/batch/simulated"
	"darkroom/batch/store"
	"darkroom/kernels/cuda"
	"darkroom/pipeline"

	"github.com/google/go-cmp/cmp"
)

// bench is an output folder with its manifest.
type bench struct {
	*testing.T
	dir    string
	images []jobs.Image
}

func newBench(t *testing.T, text string) *bench {
	t.Helper()
	l, err := jobs.Parse("jobs", []byte(text), nil, jobs.Options{Notation: jobs.YAML})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t, t.TempDir(), l.Images}
}

func (b *bench) run(ctx context.Context, change func(*Options), devices ...*simulated.Device) (Summary, error) {
	b.Helper()
	m, err := manifest.Open(b.dir)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	s, err := store.OpenFolder(b.dir)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	o := Options{Images: b.images, Manifest: m, Store: s, StorePatience: time.Millisecond}
	for _, d := range devices {
		o.Renderers = append(o.Renderers, d)
	}
	if change != nil {
		change(&o)
	}
	return Run(ctx, o)
}

// files are the contents of all images, by name.
func (b *bench) files() map[string]string {
	all := map[string]string{}
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == manifest.Name {
			continue
		}
		data, err := os.ReadFile(filepath.Join(b.dir, e.Name()))
		if err != nil {
			b.Fatal(err)
		}
		all[e.Name()] = string(data)
	}
	return all
}

func (b *bench) want(got Summary, err error, want Summary) {
	b.Helper()
	if err != nil {
		b.Error(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		b.Error(d)
	}
}

// TestResume ends a batch at any point, by cancelling, and runs it again: nothing is rendered twice, and the files are
// those of a run that was never ended.
func TestResume(t *testing.T) {
	const text = "- {prompt: [a, b], seed: 1..10}"
	whole := newBench(t, text)
	got, err := whole.run(t.Context(), nil, &simulated.Device{})
	whole.want(got, err, Summary{Total: 20, Finished: 20})

	b := newBench(t, text)
	device := &simulated.Device{Time: time.Millisecond}
	for round := 0; ; round++ {
		ctx, cancel := context.WithCancel(t.Context())
		got, err := b.run(ctx, func(o *Options) {
			o.OnEvent = func(e Event) {
				if e.Finished == 3 {
					cancel()
				}
			}
		}, device, device)
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) || round > 10 {
			t.Fatalf("round %d: %v, %+v", round, err, got)
		}
	}
	if n := device.Rendered.Load(); n != 20 {
		t.Errorf("%d images were rendered for 20", n)
	}
	if d := cmp.Diff(whole.files(), b.files()); d != "" {
		t.Errorf("the files differ from those of one run: %.300s", d)
	}
	got, err = b.run(t.Context(), nil)
	b.want(got, err, Summary{Total: 20, Kept: 20})
}

func TestChangedFiles(t *testing.T) {
	b := newBench(t, "- {prompt: a, seed: 1..3, name: '{seed}'}")
	b.run(t.Context(), nil, &simulated.Device{})
	original := b.files()
	os.Remove(filepath.Join(b.dir, "1.png"))
	os.WriteFile(filepath.Join(b.dir, "2.png"), []byte("edited"), 0o666)
	var warnings []string
	got, err := b.run(t.Context(), func(o *Options) {
		o.OnEvent = func(e Event) {
			if e.Kind == Warning {
				warnings = append(warnings, e.Text)
			}
		}
	}, &simulated.Device{})
	b.want(got, err, Summary{Total: 3, Kept: 1, Finished: 2})
	files := b.files()
	if files["1.png"] != original["1.png"] || files["2.png"] != "edited" || files["2-2.png"] != original["2.png"] {
		t.Errorf("the files are %v", len(files))
	}
	want := []string{"1.png is made again: the file is gone", "2.png is made again: the file was changed; it is kept, and the picture gets another name"}
	if d := cmp.Diff(want, warnings); d != "" {
		t.Error(d)
	}
	// Other weights: everything is made again, and nothing is replaced.
	got, err = b.run(t.Context(), func(o *Options) {
		o.ModelHash = func(*jobs.Request) (string, error) { return strings.Repeat("1", 64), nil }
	}, &simulated.Device{})
	b.want(got, err, Summary{Total: 3, Finished: 3})
}

// TestOneFailsAlone: a request that cannot be rendered fails, the others do not; what may succeed later is tried again.
func TestOneFailsAlone(t *testing.T) {
	b := newBench(t, "- {prompt: [good, bad, flaky, wrong], seed: 1..2}")
	tries := map[string]int{}
	device := &simulated.Device{Fail: func(q *jobs.Request) error {
		tries[q.Prompt]++
		switch {
		case q.Prompt == "bad":
			return errors.New("out of memory")
		case q.Prompt == "wrong":
			return &pipeline.UsageError{Err: errors.New("65×64 pixels")}
		case q.Prompt == "flaky" && tries[q.Prompt]%2 == 1:
			return errors.New("a cosmic ray")
		}
		return nil
	}}
	got, err := b.run(t.Context(), func(o *Options) { o.Retry = 2 }, device)
	b.want(got, err, Summary{Total: 8, Finished: 4, Failed: 4})
	if d := cmp.Diff(map[string]int{"good": 2, "bad": 6, "flaky": 4, "wrong": 2}, tries); d != "" {
		t.Error(d)
	}
	records, _, err := manifest.Read(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range b.images {
		r := records[m.Hash]
		if want := map[string]string{"good": "1 done ", "bad": "3 failed out of memory", "flaky": "2 done ", "wrong": "1 failed 65×64 pixels"}[m.Request.Prompt]; fmt.Sprintf("%d %s %s", r.Attempts, r.Status, r.Error) != want {
			t.Errorf("%s: %d %s %s", m.Request.Prompt, r.Attempts, r.Status, r.Error)
		}
	}
	// What failed is tried again by the next run, and only that.
	got, err = b.run(t.Context(), nil, &simulated.Device{})
	b.want(got, err, Summary{Total: 8, Kept: 4, Finished: 4})
}

func TestFailFast(t *testing.T) {
	b := newBench(t, "- {prompt: a, seed: 1..50}")
	got, err := b.run(t.Context(), func(o *Options) { o.FailFast = true }, &simulated.Device{Fail: func(q *jobs.Request) error {
		if q.Seed == 5 {
			return errors.New("no")
		}
		return nil
	}})
	b.want(got, err, Summary{Total: 50, Finished: 4, Failed: 1})
}

// TestFullDisk: a store that refuses for a moment loses nothing; one that goes on ends the batch, not the image.
func TestFullDisk(t *testing.T) {
	b := newBench(t, "- {prompt: a, seed: 1..5}")
	refusing := &refusing{}
	refusing.refusals.Store(3)
	got, err := b.run(t.Context(), func(o *Options) {
		refusing.Store, o.Store, o.StorePatience = o.Store, refusing, time.Minute
	}, &simulated.Device{})
	b.want(got, err, Summary{Total: 5, Finished: 5})
	if refusing.refusals.Load() > 0 {
		t.Error("the store was not asked again")
	}
	b = newBench(t, "- {prompt: a, seed: 1..5}")
	got, err = b.run(t.Context(), func(o *Options) {
		o.Store = &noSpace{}
	}, &simulated.Device{})
	if err == nil || !strings.HasPrefix(err.Error(), "no space left\nFinished pictures are in the manifest") || got.Failed > 0 {
		t.Errorf("%v, %+v", err, got)
	}
}

// TestWrongName: a name that cannot be written fails alone, at once.
func TestWrongName(t *testing.T) {
	b := newBench(t, "- {prompt: a, name: file}\n- {prompt: b, name: file.png/b}\n- {prompt: c}")
	got, err := b.run(t.Context(), func(o *Options) { o.StorePatience = time.Hour }, &simulated.Device{})
	b.want(got, err, Summary{Total: 3, Finished: 2, Failed: 1})
}

// team is a simulated device that renders several images at once, in the time of one.
type team struct {
	one   *simulated.Device
	sizes []int // of the batches so far
}

func (d *team) Device() string { return d.one.Device() }

func (d *team) Render(ctx context.Context, q *jobs.Request, ev pipeline.Events) (*pipeline.Image, error) {
	return d.one.Render(ctx, q, ev)
}

func (d *team) BatchSize(_ *jobs.Request, most int) int {
	if most == 0 {
		return 4
	}
	return most
}

func (d *team) RenderBatch(ctx context.Context, all []*jobs.Request, events func(int) pipeline.Events, done func(int, *pipeline.Image, error)) {
	d.sizes = append(d.sizes, len(all))
	for i, q := range all {
		img, err := d.Render(ctx, q, events(i))
		done(i, img, err)
	}
}

// TestTogether: images of equal settings are rendered at once, no more than are wanted, and not so many that another
// device has nothing to do; the files are those of one at a time.
func TestTogether(t *testing.T) {
	const text = "- {prompt: [a, b], seed: 1..5}\n- {prompt: a, width: 64, seed: [1, 2, 3]}\n- {prompt: a, steps: 3}\n- {prompt: a, model: other, seed: 1..2}\n"
	whole := newBench(t, text)
	got, err := whole.run(t.Context(), nil, &simulated.Device{})
	whole.want(got, err, Summary{Total: 16, Finished: 16})
	for _, c := range []struct {
		atOnce int
		want   []int
	}{{0, []int{4, 4, 2, 3, 2}}, {8, []int{8, 2, 3, 2}}, {1, nil}} {
		b := newBench(t, text)
		device := &team{one: &simulated.Device{}}
		got, err = b.run(t.Context(), func(o *Options) { o.Renderers, o.AtOnce = []Renderer{device}, c.atOnce })
		b.want(got, err, Summary{Total: 16, Finished: 16})
		if d := cmp.Diff(c.want, device.sizes); d != "" {
			t.Errorf("at once %d: %s", c.atOnce, d)
		}
		if d := cmp.Diff(whole.files(), b.files()); d != "" {
			t.Errorf("the files differ from those of one at a time: %.300s", d)
		}
	}
	b := newBench(t, "- {prompt: a, seed: 1..6}")
	devices := []Renderer{&team{one: &simulated.Device{Time: 50 * time.Millisecond}}, &team{one: &simulated.Device{Time: 50 * time.Millisecond}}}
	got, err = b.run(t.Context(), func(o *Options) { o.Renderers, o.AtOnce = devices, 6 })
	b.want(got, err, Summary{Total: 6, Finished: 6})
	for _, d := range devices {
		if d.(*team).one.Rendered.Load() == 0 {
			t.Error("one device did nothing")
		}
	}
}

// TestTogetherOneFails: what fails in company is tried alone, and what cannot be meant is not; the others are not
// rendered again.
func TestTogetherOneFails(t *testing.T) {
	b := newBench(t, "- {prompt: [good, bad, flaky, wrong], seed: 1..2}")
	tries := map[string]int{}
	device := &team{one: &simulated.Device{Fail: func(q *jobs.Request) error {
		tries[q.Prompt]++
		switch {
		case q.Prompt == "bad":
			return errors.New("out of memory")
		case q.Prompt == "wrong":
			return &pipeline.UsageError{Err: errors.New("65×64 pixels")}
		case q.Prompt == "flaky" && tries[q.Prompt] <= 2:
			return errors.New("a cosmic ray")
		}
		return nil
	}}}
	got, err := b.run(t.Context(), func(o *Options) { o.Renderers, o.AtOnce = []Renderer{device}, 8 })
	b.want(got, err, Summary{Total: 8, Finished: 4, Failed: 4})
	if d := cmp.Diff(map[string]int{"good": 2, "bad": 4, "flaky": 4, "wrong": 2}, tries); d != "" {
		t.Error(d)
	}
	records, _, err := manifest.Read(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range b.images {
		if r := records[m.Hash]; r.Attempts != map[string]int{"good": 1, "bad": 2, "flaky": 2, "wrong": 1}[m.Request.Prompt] {
			t.Errorf("%s: %d attempts", m.Request.Prompt, r.Attempts)
		}
	}
}

// TestOverlap: while a picture is written the device renders the next ones. The store keeps the first picture until the device
// has rendered two more, which would never happen if it waited.
func TestOverlap(t *testing.T) {
	b := newBench(t, "- {prompt: a, seed: 1..6}")
	device := &simulated.Device{}
	got, err := b.run(t.Context(), func(o *Options) {
		o.Store = &waiting{Store: o.Store, until: func() bool { return device.Rendered.Load() >= 3 }}
	}, device)
	b.want(got, err, Summary{Total: 6, Finished: 6})
}

// waiting is a store whose first file takes until something has happened, and fails if it does not happen.
type waiting struct {
	store.Store
	until func() bool
	once  sync.Once
}

func (s *waiting) Put(ctx context.Context, name string, data []byte) (err error) {
	s.once.Do(func() {
		for begun := time.Now(); !s.until(); time.Sleep(time.Millisecond) {
			if time.Since(begun) > 10*time.Second {
				err = &os.PathError{Op: "put", Path: name, Err: errors.New("the device waits for the store")}
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return s.Store.Put(ctx, name, data)
}

// besides is a device with a denoiser and a decoder, each for one call at a time. A decode takes until the next picture is
// being denoised, unless that was the last.
type besides struct {
	one      simulated.Device
	total    int
	denoiser sync.Mutex
	mu       sync.Mutex
	begun    int
}

func (d *besides) Device() string { return d.one.Device() }

func (d *besides) Render(ctx context.Context, q *jobs.Request, ev pipeline.Events) (*pipeline.Image, error) {
	d.denoiser.Lock()
	d.mu.Lock()
	d.begun++
	mine := d.begun
	d.mu.Unlock()
	img, err := d.one.Render(ctx, q, ev)
	d.denoiser.Unlock()
	for begun := time.Now(); mine < d.total; time.Sleep(time.Millisecond) {
		d.mu.Lock()
		next := d.begun > mine
		d.mu.Unlock()
		if next {
			break
		}
		if time.Since(begun) > 10*time.Second {
			return nil, errors.New("nothing is denoised beside this decode")
		}
	}
	return img, err
}

// TestDecodeBeside: with two lanes the pictures of one call are decoded while those of the next are denoised.
func TestDecodeBeside(t *testing.T) {
	b := newBench(t, "- {prompt: a, seed: 1..8}")
	device := &besides{total: 8}
	got, err := b.run(t.Context(), func(o *Options) { o.Renderers, o.Lanes = []Renderer{device}, 2 })
	b.want(got, err, Summary{Total: 8, Finished: 8})
}

// TestAllDevicesBusy: each device has a picture at the same time as all others, from the first to the last round, also where
// they take several at once.
func TestAllDevicesBusy(t *testing.T) {
	const devices, rounds = 4, 5
	var mu sync.Mutex
	inside, round := 0, make(chan struct{})
	meet := func() error { // returns when all devices are in it
		mu.Lock()
		here := round
		if inside++; inside == devices {
			inside, round = 0, make(chan struct{})
			close(here)
		}
		mu.Unlock()
		select {
		case <-here:
			return nil
		case <-time.After(10 * time.Second):
			return errors.New("another device is idle")
		}
	}
	for _, atOnce := range []int{1, 3} {
		b := newBench(t, fmt.Sprintf("- {prompt: a, seed: 1..%d}", devices*rounds))
		got, err := b.run(t.Context(), func(o *Options) {
			o.AtOnce = atOnce
			for range devices {
				o.Renderers = append(o.Renderers, &team{one: &simulated.Device{Fail: func(*jobs.Request) error { return meet() }}})
			}
		})
		b.want(got, err, Summary{Total: devices * rounds, Finished: devices * rounds})
	}
}

type refusing struct {
	store.Store
	refusals atomic.Int64
}

func (s *refusing) Put(ctx context.Context, name string, data []byte) error {
	if s.refusals.Add(-1) >= 0 {
		return errors.New("no space left")
	}
	return s.Store.Put(ctx, name, data)
}

type noSpace struct{ store.Store }

func (*noSpace) Put(context.Context, string, []byte) error { return errors.New("no space left") }

// TestGroups: each renderer stays with a model while there is work for it, urgent images come first.
func TestGroups(t *testing.T) {
	b := newBench(t, "- {prompt: x, model: [m1, m2], seed: 1..3}\n- {prompt: u, model: m2, priority: high}\n- {prompt: y, model: m1, width: [64, 32], seed: 9}")
	var images []*jobs.Image
	for i := range b.images {
		images = append(images, &b.images[i])
	}
	g := newGroups(images)
	var order []string
	for last := (*group)(nil); ; {
		var m *jobs.Image
		if m, last = g.next(last, nil); m == nil {
			break
		}
		order = append(order, fmt.Sprintf("%s%s%d/%d", m.Request.Model, m.Request.Prompt, m.Request.Seed, m.Request.Width))
	}
	want := "m2u0/0 m1x1/0 m1x2/0 m1x3/0 m1y9/64 m1y9/32 m2x1/0 m2x2/0 m2x3/0"
	if got := strings.Join(order, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestLostDevice: what a device leaves when it is lost is rendered by the others; without others the batch ends, and
// what was not begun has not failed.
func TestLostDevice(t *testing.T) {
	gone := &cuda.DeviceError{Device: "cuda:1", Doing: "waiting for the kernels", Code: 700, Text: "an illegal memory access was encountered"}
	b := newBench(t, "{prompt: a, seed: 1..8}")
	calls := 0
	bad := &simulated.Device{Name: "bad", Fail: func(*jobs.Request) error {
		if calls++; calls < 3 {
			return nil
		}
		return gone
	}}
	sum, err := b.run(t.Context(), func(o *Options) { o.Retry = 3 }, bad)
	if !errors.Is(err, gone) || sum.Finished != 2 || sum.Failed != 0 || sum.Left() != 6 || calls != 3 {
		t.Errorf("alone: %+v, %v after %d calls", sum, err, calls)
	}
	sum, err = b.run(t.Context(), nil, bad, &simulated.Device{Name: "good"})
	b.want(sum, err, Summary{Total: 8, Kept: 2, Finished: 6})

	// An image that ends every device is at fault itself.
	b = newBench(t, "{prompt: a, seed: 1..4}")
	kills := func(q *jobs.Request) error {
		if q.Seed == 2 {
			return gone
		}
		return nil
	}
	sum, err = b.run(t.Context(), nil, &simulated.Device{Name: "1", Fail: kills}, &simulated.Device{Name: "2", Fail: kills}, &simulated.Device{Name: "3", Fail: kills})
	b.want(sum, err, Summary{Total: 4, Finished: 3, Failed: 1})
}
