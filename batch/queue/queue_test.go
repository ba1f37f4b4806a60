package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/batch/queue/server"
	"darkroom/batch/simulated"
	"darkroom/batch/store"
	"darkroom/pipeline"
	"darkroom/recipe"

	"github.com/nats-io/nats.go"
)

// plant is a server with a store, for a test.
type plant struct {
	*testing.T
	url   string
	dir   string
	store *store.Folder
	q     *Queue
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	t.Parallel() // most of the time, tests wait
	s, err := server.Start(server.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	p := &plant{T: t, url: s.URL(), dir: t.TempDir()}
	if p.store, err = store.OpenFolder(p.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.store.Close() })
	p.q = p.connect()
	return p
}

func (p *plant) connect() *Queue {
	p.Helper()
	q, err := Connect(p.Context(), Options{URL: p.url})
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(q.Close)
	return q
}

// work starts a worker; the returned function drains it and waits.
func (p *plant) work(o WorkerOptions) (drain func()) {
	ctx, cancel := context.WithCancel(context.Background())
	if o.Store == nil {
		o.Store = p.store
	}
	if o.AckWait == 0 {
		o.AckWait = 2 * time.Second
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.q.Work(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
			p.Error(err)
		}
	})
	drain = sync.OnceFunc(func() { cancel(); wg.Wait() })
	p.Cleanup(drain)
	return drain
}

func parse(t testing.TB, text string) []jobs.Image {
	t.Helper()
	l, err := jobs.Parse("jobs", []byte(text), nil, jobs.Options{Notation: jobs.YAML})
	if err != nil {
		t.Fatal(err)
	}
	return l.Images
}

func pointers(images []jobs.Image) (list []*jobs.Image) {
	for i := range images {
		list = append(list, &images[i])
	}
	return list
}

func (p *plant) submit(images []jobs.Image) Batch {
	p.Helper()
	b, err := p.q.Begin(p.Context(), Batch{ID: BatchID(images, p.dir), Total: len(images), Submitted: time.Now()})
	if err == nil {
		err = p.q.Submit(p.Context(), b, pointers(images))
	}
	if err != nil {
		p.Fatal(err)
	}
	return b
}

// gather waits for n results of a batch.
func (p *plant) gather(b Batch, n int) map[string]manifest.Record {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 30*time.Second)
	defer cancel()
	got := map[string]manifest.Record{}
	if err := p.q.Results(ctx, b.ID, func(r manifest.Record) bool { got[r.Hash] = r; return len(got) < n }); err != nil {
		p.Fatalf("%d results of %d: %v", len(got), n, err)
	}
	return got
}

func (p *plant) status(b Batch, want string) {
	p.Helper()
	var got string
	for range 100 { // acknowledgements come after results
		s, err := p.q.Status(p.Context(), b.ID)
		if err != nil {
			p.Fatal(err)
		}
		if got = fmt.Sprintf("%d done, %d failed, %d queued", s.Done, s.Failed, s.Queued); got == want {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.Errorf("%s, not %s", got, want)
}

// TestWorkers renders a batch with several workers: every image once, right, and submitting again queues nothing.
func TestWorkers(t *testing.T) {
	p := newPlant(t)
	images := parse(t, "- {prompt: [a, b], seed: 1..20}")
	b := p.submit(images)
	p.submit(images)
	p.status(b, "0 done, 0 failed, 40 queued")
	devices := make([]*simulated.Device, 3)
	for i := range devices {
		devices[i] = &simulated.Device{Name: fmt.Sprint(i), Time: 5 * time.Millisecond}
		p.work(WorkerOptions{ID: fmt.Sprintf("w%d", i), Renderer: devices[i]})
	}
	got := p.gather(b, 40)
	total := int64(0)
	for _, d := range devices {
		total += d.Rendered.Load()
		if d.Rendered.Load() == 0 {
			t.Error("a worker had nothing to do")
		}
	}
	if total != 40 {
		t.Errorf("%d images were rendered for 40", total)
	}
	for _, m := range images {
		r := got[m.Hash]
		sum, err := p.store.Sum(t.Context(), m.File)
		if err != nil || r.SHA256 != sum || r.Status != manifest.Done || r.Pixels != simulated.Paint(&m.Request).Recipe.Result.Pixels {
			t.Fatalf("%s: %+v, %v", m.File, r, err)
		}
	}
	p.status(b, "40 done, 0 failed, 0 queued")
	if done, err := p.q.Settled(t.Context(), b.ID); err != nil || len(done) != 40 || !done[images[0].Hash] {
		t.Errorf("%d are finished, %v", len(done), err)
	}
}

// TestPriorities: urgent jobs are rendered first, whenever they were submitted.
func TestPriorities(t *testing.T) {
	p := newPlant(t)
	images := parse(t, "- {prompt: low, priority: low}\n- {prompt: normal}\n- {prompt: high, priority: high, seed: 1..2}")
	b := p.submit(images)
	var mu sync.Mutex
	var order []string
	p.work(WorkerOptions{ID: "w", Renderer: &simulated.Device{}, OnDone: func(r manifest.Record) {
		mu.Lock()
		order = append(order, r.Request.Prompt)
		mu.Unlock()
	}})
	p.gather(b, 4)
	p.status(b, "4 done, 0 failed, 0 queued")
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(order, " "); got != "high high normal low" && got != "high high normal" {
		t.Errorf("the order is %s", got)
	}
}

// TestFailures: what fails is tried again and then dead; what cannot succeed is dead at once; retry brings the dead back.
func TestFailures(t *testing.T) {
	p := newPlant(t)
	images := parse(t, "- {prompt: [good, bad, wrong]}")
	var mu sync.Mutex
	tries := map[string]int{}
	healed := false
	device := &simulated.Device{Fail: func(q *jobs.Request) error {
		mu.Lock()
		defer mu.Unlock()
		tries[q.Prompt]++
		switch {
		case healed || q.Prompt == "good":
			return nil
		case q.Prompt == "wrong":
			return &pipeline.UsageError{Err: errors.New("65×64 pixels")}
		}
		return errors.New("out of memory")
	}}
	p.work(WorkerOptions{ID: "w", Renderer: device, Tries: 2})
	b := p.submit(images)
	got := p.gather(b, 3)
	for _, m := range images {
		r := got[m.Hash]
		if want := map[string]string{"good": "done 1 ", "bad": "failed 2 out of memory", "wrong": "failed 1 65×64 pixels"}[m.Request.Prompt]; fmt.Sprintf("%s %d %s", r.Status, r.Attempts, r.Error) != want {
			t.Errorf("%s: %s %d %s", m.Request.Prompt, r.Status, r.Attempts, r.Error)
		}
	}
	p.status(b, "1 done, 2 failed, 0 queued")
	mu.Lock()
	healed = true
	mu.Unlock()
	if n, err := p.q.Retry(t.Context(), b.ID); n != 2 || err != nil {
		t.Errorf("%d jobs are queued again, %v", n, err)
	}
	p.status(b, "3 done, 0 failed, 0 queued")
	if n, err := p.q.Retry(t.Context(), b.ID); n != 0 || err != nil {
		t.Errorf("%d jobs are queued a second time, %v", n, err)
	}
	if _, err := p.q.Retry(t.Context(), "nothing"); !errors.Is(err, ErrNoBatch) {
		t.Error(err)
	}
}

// TestWrongName: a job whose name cannot be written is dead, and does not hold up its worker.
func TestWrongName(t *testing.T) {
	p := newPlant(t)
	if err := os.WriteFile(filepath.Join(p.dir, "file"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	images := parse(t, "- {prompt: a, name: file/a}\n- {prompt: b}")
	p.work(WorkerOptions{ID: "w", Renderer: &simulated.Device{}})
	b := p.submit(images)
	got := p.gather(b, 2)
	if r := got[images[0].Hash]; r.Status != manifest.Failed || !strings.HasPrefix(r.Error, "cannot write file/a.png in ") {
		t.Errorf("%s %s", r.Status, r.Error)
	}
	p.status(b, "1 done, 1 failed, 0 queued")
}

// TestWorkerDies: a job whose worker says nothing more is given to another; a job of which every worker dies is dead.
func TestWorkerDies(t *testing.T) {
	p := newPlant(t)
	images := parse(t, "- {prompt: a}")
	b := p.submit(images)
	// A worker that dies takes a job and is never heard of again.
	dying := func(ackWait time.Duration) {
		q := p.connect()
		c := &worker{WorkerOptions: WorkerOptions{AckWait: ackWait}, q: q}
		var err error
		if c.consumers, err = q.consumers(t.Context(), ackWait); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if msg, err := c.fetch(t.Context()); err != nil {
				t.Fatal(err)
			} else if msg != nil {
				q.Close()
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatal("no job is delivered")
	}
	dying(200 * time.Millisecond)
	dying(200 * time.Millisecond)
	device := &simulated.Device{}
	drain := p.work(WorkerOptions{ID: "w", Renderer: device, Tries: 2, AckWait: 200 * time.Millisecond})
	r := p.gather(b, 1)[images[0].Hash]
	if want := "given up after 2 deliveries: the workers that had it died or lost the queue"; r.Error != want || device.Rendered.Load() != 0 {
		t.Errorf("%s, %d rendered", r.Error, device.Rendered.Load())
	}
	drain()
	p.q.Retry(t.Context(), b.ID)
	dying(200 * time.Millisecond)
	p.work(WorkerOptions{ID: "w", Renderer: device, Tries: 2, AckWait: 200 * time.Millisecond})
	p.status(b, "1 done, 0 failed, 0 queued")
}

// TestLongJob: signs of life keep a job that takes longer than AckWait with its worker.
func TestLongJob(t *testing.T) {
	p := newPlant(t)
	b := p.submit(parse(t, "- {prompt: a}"))
	slow, other := &simulated.Device{Time: 1500 * time.Millisecond}, &simulated.Device{Time: 1500 * time.Millisecond}
	p.work(WorkerOptions{ID: "w1", Renderer: slow, AckWait: 600 * time.Millisecond})
	p.work(WorkerOptions{ID: "w2", Renderer: other, AckWait: 600 * time.Millisecond})
	p.gather(b, 1)
	if n := slow.Rendered.Load() + other.Rendered.Load(); n != 1 {
		t.Errorf("the image was rendered %d times", n)
	}
}

func TestCancelAndDrain(t *testing.T) {
	p := newPlant(t)
	images := parse(t, "- {prompt: a, seed: 1..30}")
	device := &simulated.Device{Time: 100 * time.Millisecond}
	b := p.submit(images)
	drain := p.work(WorkerOptions{ID: "w", Renderer: device})
	p.gather(b, 2)
	drain() // it finishes the image that it is at
	n := int(device.Rendered.Load())
	p.status(b, fmt.Sprintf("%d done, 0 failed, %d queued", n, 30-n))

	s, err := p.q.Cancel(t.Context(), b.ID)
	if err != nil || s.Queued != 0 || !s.Cancelled {
		t.Errorf("%+v, %v", s, err)
	}
	p.work(WorkerOptions{ID: "w", Renderer: device})
	time.Sleep(300 * time.Millisecond)
	if int(device.Rendered.Load()) != n {
		t.Error("images of a cancelled batch are rendered")
	}
	// The same command again takes it up.
	p.submit(images)
	p.gather(b, 30)
}

func TestCancelWhileRendering(t *testing.T) {
	p := newPlant(t)
	b := p.submit(parse(t, "- {prompt: a}"))
	device := &simulated.Device{Time: time.Hour}
	drain := p.work(WorkerOptions{ID: "w", Renderer: device})
	for range 200 {
		if o, err := p.q.Overview(t.Context()); err != nil {
			t.Fatal(err)
		} else if o.Held[jobs.Normal] == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond)
	if _, err := p.q.Cancel(t.Context(), b.ID); err != nil {
		t.Fatal(err)
	}
	drain() // would take an hour
	if device.Rendered.Load() != 0 {
		t.Error("rendered")
	}
}

// TestHostileJobs puts onto the queue what no submitter of ours would: each is refused, and nothing is written.
func TestHostileJobs(t *testing.T) {
	p := newPlant(t)
	device := &simulated.Device{}
	job := func(change func(*Job)) []byte {
		j := Job{Batch: "b", File: "x.png", Request: jobs.Request{Given: recipe.NewGiven(map[string]any{"prompt": "a"})}}
		change(&j)
		if j.Hash == "" {
			j.Hash = j.Request.Hash()
		}
		return encode(j)
	}
	hash := (&jobs.Request{Given: recipe.NewGiven(map[string]any{"prompt": "a"})}).Hash()
	cases := map[string]struct {
		data []byte
		want string
	}{
		"json":    {[]byte("{"), "the job is not valid JSON: unexpected end of JSON input"},
		"types":   {[]byte(`{"batch": 3}`), "the job is not valid JSON: json: cannot unmarshal number into Go struct field Job.batch of type string"},
		"hash":    {job(func(j *Job) { j.Hash = hash; j.Request.Seed = 1 }), "the request does not have the hash that the job names"},
		"parent":  {job(func(j *Job) { j.File = "../x.png" }), `file name "../x.png": it leads out of the output folder`},
		"abs":     {job(func(j *Job) { j.File = "/etc/passwd" }), `file name "/etc/passwd": it is absolute: name a file below the output folder`},
		"pixels":  {job(func(j *Job) { j.Request.Width, j.Request.Height = 16384, 16384 }), "16384×16384 pixels: this worker takes at most 4194304 in all (--max-pixels)"},
		"steps":   {job(func(j *Job) { j.Request.Steps = 9999 }), "9999 steps: this worker takes at most 250 (--max-steps)"},
		"sigmas":  {job(func(j *Job) { j.Request.Sigmas = strings.Repeat("2,", 999) + "1" }), "1000 sigmas: this worker takes at most 250 steps (--max-steps)"},
		"slow":    {job(func(j *Job) { j.Request.Backend = "ref" }), "the backend ref is too slow for a worker"},
		"below 0": {job(func(j *Job) { j.Request.Width = -8 }), "a size, a number of steps or a quality below 0"},
		"prompt":  {job(func(j *Job) { j.Request.Prompt = strings.Repeat("a", 20000) }), "the prompt is longer than the 16384 bytes that this worker takes"},
		"batch":   {job(func(j *Job) { j.Batch = "other" }), "the job contradicts its subject"},
		"sampler": {job(func(j *Job) { j.Request.Scheduler = "nonsense" }), `scheduler: no sampler is called "nonsense"; nearest: `},
	}
	p.work(WorkerOptions{ID: "w", Renderer: device})
	for name, c := range cases {
		h := hash
		var j Job
		if decoded, err := decodeJob("darkroom.jobs.normal.b."+hash, c.data, Limits{}.withDefaults(), jobs.NewValidator()); err == nil || decoded == nil {
			if err == nil {
				t.Errorf("%s: no error", name)
				continue
			}
		} else {
			j = *decoded
		}
		if j.Hash != "" && isToken(j.Hash) {
			h = j.Hash
		}
		p.q.results.Purge(t.Context())
		p.q.conn.PublishMsg(&nats.Msg{Subject: "darkroom.jobs.normal.b." + h, Data: c.data})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		var m string
		for m == "" && ctx.Err() == nil {
			if msg, err := p.q.dead.GetLastMsgForSubject(ctx, "darkroom.dead.b."+h); err == nil {
				m = string(msg.Data)
			}
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
		if want := string(encode(c.want)); !strings.Contains(m, `"error":`+strings.TrimSuffix(want, `"`)) {
			t.Errorf("%s: %s", name, m)
		}
		p.q.dead.Purge(t.Context())
	}
	entries, _ := os.ReadDir(p.dir)
	if device.Rendered.Load() != 0 || len(entries) > 0 {
		t.Errorf("%d rendered, %d files", device.Rendered.Load(), len(entries))
	}
}

func TestServerListensCarefully(t *testing.T) {
	_, err := server.Start(server.Options{Dir: t.TempDir(), Listen: "0.0.0.0:0"})
	if err == nil || !strings.Contains(err.Error(), "without a token") {
		t.Errorf("%v", err)
	}
}

// TestMain is also the server's program for TestStartServer.
func TestMain(m *testing.M) {
	if slices.Equal(os.Args[1:], []string{"--stdin"}) {
		os.Exit(server.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// TestStartServer starts the server as a process: it serves with the options that it was given, says what is wrong, and ends when it is
// told to.
func TestStartServer(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(ServerVariable, self)
	dir := t.TempDir()
	s, err := StartServer(ServerOptions{Dir: dir, Listen: "127.0.0.1:0", Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Connect(t.Context(), Options{URL: s.URL()}); err == nil {
		t.Error("connected without the token")
	}
	q, err := Connect(t.Context(), Options{URL: s.URL(), Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	q.Close()
	s.Close()
	if _, err := Connect(t.Context(), Options{URL: s.URL(), Token: "secret"}); err == nil {
		t.Error("connected to a server that was closed")
	}
	if _, err := StartServer(ServerOptions{Dir: dir, Listen: "0.0.0.0:0"}); err == nil || !strings.Contains(err.Error(), "without a token") {
		t.Errorf("listening for everybody: %v", err)
	}
	t.Setenv(ServerVariable, filepath.Join(dir, "none"))
	if _, err := StartServer(ServerOptions{Dir: dir}); err == nil || !strings.Contains(err.Error(), "starting the queue's server") {
		t.Errorf("no program: %v", err)
	}
	t.Setenv(ServerVariable, "")
	t.Setenv("PATH", dir)
	if _, err := StartServer(ServerOptions{Dir: dir}); err == nil || !strings.Contains(err.Error(), "build it with go build -o FOLDER ./cmd/darkroom-queue") {
		t.Errorf("no program: %v", err)
	}
}

func TestToken(t *testing.T) {
	s, err := server.Start(server.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Connect(t.Context(), Options{URL: s.URL()}); err == nil {
		t.Error("connected without the token")
	}
	q, err := Connect(t.Context(), Options{URL: s.URL(), Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	q.Close()
	if got := redact("nats://user:secret@host:4222"); got != "nats://…@host:4222" {
		t.Error(got)
	}
}

func FuzzDecodeJob(f *testing.F) {
	f.Add(encode(Job{Batch: "b", Hash: (&jobs.Request{}).Hash(), File: "a.png"}))
	f.Add([]byte(`{"request":{"cfg":1e999}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := decodeJob("darkroom.jobs.normal.b."+(&jobs.Request{}).Hash(), data, Limits{}.withDefaults(), jobs.NewValidator())
		if err == nil && !filepath.IsLocal(j.File) {
			t.Fatal(j.File)
		}
	})
}
