package server

import (
	"bufio"
	"context"
	"fmt"
	"image"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"darkroom/batch/jobs"
	"darkroom/batch/queue"
	natsserver "darkroom/batch/queue/server"
	"darkroom/batch/simulated"
	"darkroom/batch/store"
	"darkroom/pipeline"
	"darkroom/server/wire"
)

// startNATS runs a queue's server until the test ends.
func startNATS(t *testing.T) (url string) {
	t.Helper()
	n, err := natsserver.Start(natsserver.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n.URL()
}

// connect connects with a queue, and opens the folder where its workers put pictures.
func connect(ctx context.Context, url, dir string) (*queue.Queue, *store.Folder, error) {
	q, err := queue.Connect(ctx, queue.Options{URL: url})
	if err != nil {
		return nil, nil, err
	}
	place, err := store.OpenFolder(dir)
	return q, place, err
}

// serveWith are the workers of a queue, for a server in a folder.
func serveWith(ctx context.Context, url, dir string) (*queue.Service, error) {
	q, place, err := connect(ctx, url, dir)
	if err != nil {
		return nil, err
	}
	id, err := QueueID(dir)
	if err != nil {
		return nil, err
	}
	return q.Serve(ctx, queue.ServiceOptions{ID: id, Name: "test", Store: place, Look: 200 * time.Millisecond})
}

// showing is a simulated device that makes previews.
type showing struct{ d *simulated.Device }

func (s showing) Render(ctx context.Context, q *jobs.Request, ev pipeline.Events) (*pipeline.Image, error) {
	step := ev.Step
	ev.Step = func(n int) {
		step(n)
		if ev.WantPreview != nil && ev.WantPreview(n) {
			_ = ev.Preview(n, image.NewNRGBA(image.Rect(0, 0, 700, 350)))
		}
	}
	return s.d.Render(ctx, q, ev)
}

func (s showing) Device() string { return s.d.Device() }

// work runs a worker until the returned function is called.
func work(t *testing.T, url, dir, id string, d *simulated.Device) (stop func()) {
	t.Helper()
	q, place, err := connect(t.Context(), url, dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- q.Work(ctx, queue.WorkerOptions{ID: id, Renderer: showing{d}, Store: place, AckWait: time.Second})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		q.Close()
		place.Close()
	})
	t.Cleanup(stop)
	return stop
}

// Workers make the pictures of a server, which tells their progress; what starts from a picture is made by the server's device.
func TestWorkersOfAQueue(t *testing.T) {
	url, dir := startNATS(t), t.TempDir()
	workers, err := serveWith(t.Context(), url, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer workers.Close()
	s := start(t, Options{Folder: dir, Engines: simulate(time.Millisecond, 1), Workers: workers})
	// Nobody is there: the job says so, and waits.
	var j wire.Job
	s.want(201, "POST", "/v1/jobs", object{"request": object{"prompt": "a", "seed": 1, "count": 3}}, &j)
	for len(j.Warnings) == 0 {
		s.want(200, "GET", "/v1/jobs/"+j.ID, nil, &j)
	}
	if !strings.Contains(j.Warnings[0], "no worker") {
		t.Errorf("warnings %q", j.Warnings)
	}
	far := &simulated.Device{Name: "far", Time: 2 * time.Second}
	work(t, url, dir, "w1", far)
	seen := map[string]int{}
	events, stop := s.jobs.Subscribe(j.ID, true)
	for e := range events {
		if seen[e.Type]++; e.Type == wire.EndEvent {
			break
		}
	}
	stop()
	if seen[wire.ProgressType] < 12 || seen[wire.PreviewType] == 0 || seen[wire.PictureType] != 3 {
		t.Errorf("events: %v", seen)
	}
	for i, r := range s.jobs.Results(j.ID) {
		if r.Err != nil || r.Record.Worker != "w1" || r.Record.Device != "simulated:far" || r.Record.Request.Seed != uint64(1+i) {
			t.Errorf("picture %d: %+v", i, r)
		}
	}
	// They are in the gallery, each once.
	var list wire.PictureList
	if s.want(200, "GET", "/v1/pictures", nil, &list); len(list.Pictures) != 3 {
		t.Errorf("%d pictures in the gallery", len(list.Pictures))
	}
	for _, p := range list.Pictures {
		if status, _, _ := s.send("GET", p.URL, "", nil); status != 200 {
			t.Errorf("%s: %d", p.URL, status)
		}
	}
	// Finished pictures are not made again.
	before := far.Rendered.Load()
	s.want(201, "POST", "/v1/jobs", object{"request": object{"prompt": "a", "seed": 2}}, &j)
	if j = s.ended(j.ID); j.State != wire.Done || far.Rendered.Load() != before {
		t.Errorf("%+v, %d pictures more", j, far.Rendered.Load()-before)
	}
	// A picture that starts from another is made here.
	s.want(201, "POST", "/v1/jobs", object{"request": object{"prompt": "a", "seed": 2, "init": "picture:" + list.Pictures[0].ID, "width": 64, "height": 64}}, &j)
	if j = s.ended(j.ID); j.State != wire.Done || s.jobs.Results(j.ID)[0].Record.Device != "simulated:0" {
		t.Errorf("%+v", j)
	}
	if text := metricsText(s); !strings.Contains(text, "darkroom_server_queue_workers 1\n") {
		t.Errorf("metrics: %s", text)
	}
}

// A job that is cancelled frees its worker at once; a picture that cannot be made fails with the worker's words.
func TestCancelAtAWorker(t *testing.T) {
	url, dir := startNATS(t), t.TempDir()
	workers, err := serveWith(t.Context(), url, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer workers.Close()
	s := start(t, Options{Folder: dir, Engines: simulate(time.Millisecond, 1), Workers: workers})
	d := &simulated.Device{Name: "far", Time: time.Minute, Fail: func(q *jobs.Request) error {
		if q.Prompt == "bad" {
			return &pipeline.UsageError{Err: fmt.Errorf("it cannot be")}
		}
		return nil
	}}
	work(t, url, dir, "w1", d)
	var j, bad wire.Job
	s.want(201, "POST", "/v1/jobs", object{"request": object{"prompt": "long", "seed": 1, "count": 5}}, &j)
	for j.Progress == nil || j.Progress.Steps == 0 {
		s.want(200, "GET", "/v1/jobs/"+j.ID, nil, &j)
	}
	s.want(201, "POST", "/v1/jobs", object{"request": object{"prompt": "bad", "seed": 1}}, &bad)
	s.want(200, "DELETE", "/v1/jobs/"+j.ID, nil, nil)
	if j = s.ended(j.ID); j.State != wire.Cancelled {
		t.Errorf("%+v", j)
	}
	if bad = s.ended(bad.ID); bad.State != wire.Failed || !strings.Contains(bad.Error, "worker w1: ") || !strings.Contains(bad.Error, "it cannot be") {
		t.Errorf("%+v", bad)
	}
	// What was cancelled can be asked for anew, and what failed, too: nothing is left of them in the queue.
	d.Fail, d.Time = nil, 10*time.Millisecond
	for _, o := range []object{{"prompt": "bad", "seed": 1}, {"prompt": "long", "seed": 1}} {
		s.want(201, "POST", "/v1/jobs", object{"request": o}, &j)
		if j = s.ended(j.ID); j.State != wire.Done {
			t.Errorf("%v: %+v", o, j)
		}
	}
}

// The variables that make this process a worker: the address of the queue, the folder, and a name.
const workerURL, workerFolder, workerName = "DARKROOM_TEST_QUEUE", "DARKROOM_TEST_STORE", "DARKROOM_TEST_WORKER"

// beWorker works until it is killed.
func beWorker(url string) {
	q, place, err := connect(context.Background(), url, os.Getenv(workerFolder))
	if err == nil {
		fmt.Println("ready")
		err = q.Work(context.Background(), queue.WorkerOptions{
			ID: os.Getenv(workerName), Renderer: &simulated.Device{Name: "far", Time: 10 * time.Millisecond}, Store: place, AckWait: time.Second, Tries: 100,
		})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func startWorker(t *testing.T, url, dir, name string) *child {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=none")
	c.Env = append(os.Environ(), workerURL+"="+url, workerFolder+"="+dir, workerName+"="+name)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("a worker does not start: %v", err)
	}
	return &child{c, ""}
}

// The server and its workers are killed again and again. Every job that was accepted is finished once.
func TestKillServerAndWorkers(t *testing.T) {
	kills, clients, each := 6, 4, 15
	if os.Getenv("DARKROOM_STORM") != "" {
		kills, clients, each = 40, 20, 60
	}
	url, dir := startNATS(t), t.TempDir()
	t.Setenv(stormQueue, url)
	var server atomic.Pointer[child]
	server.Store(startChild(t, dir))
	workers := [2]*child{startWorker(t, url, dir, "w0"), startWorker(t, url, dir, "w1")}

	var mu sync.Mutex
	accepted := map[string]bool{}
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for n := range each {
				key := fmt.Sprintf("client %d job %d", c, n)
				body := fmt.Sprintf(`{"request":{"prompt":%q,"seed":%d,"count":%d}}`, key, n, 1+n%3)
				for {
					job, status := post(server.Load().url, key, body)
					if status == 201 || status == 200 {
						mu.Lock()
						accepted[job.ID] = true
						mu.Unlock()
						break
					}
					if status != 0 && status != 503 {
						t.Errorf("%s: status %d", key, status)
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
				time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
			}
		})
	}
	for n := range kills {
		time.Sleep(time.Duration(50+rand.IntN(250)) * time.Millisecond)
		if n%2 == 0 {
			server.Load().kill()
			server.Store(startChild(t, dir))
		} else {
			i := rand.IntN(len(workers))
			workers[i].kill()
			workers[i] = startWorker(t, url, dir, fmt.Sprintf("w%d", i))
		}
	}
	all.Wait()
	last := server.Load()
	defer last.kill()
	for _, w := range workers {
		defer w.kill()
	}
	if len(accepted) != clients*each {
		t.Fatalf("%d jobs were accepted of %d", len(accepted), clients*each)
	}
	for id := range accepted {
		if job := waitFor(t, last.url, id); job.State != wire.Done || len(job.Pictures) != job.Count {
			t.Errorf("%+v", job)
		}
	}
	last.kill()
	checkRecords(t, dir, accepted)
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.png"))
	if err != nil || len(files) != clients*each/3*6 {
		t.Errorf("%d files, %v", len(files), err)
	}
	// Nothing is left in the queue.
	q, place, err := connect(t.Context(), url, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	defer place.Close()
	// A worker that was killed between a picture and its acknowledgement holds the place until another gets it again.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		now, err := q.Overview(t.Context())
		if err == nil && now.Queued[jobs.Normal] == 0 && now.Dead == 0 {
			break
		}
		if err != nil || now.Dead != 0 || time.Now().After(deadline) {
			t.Fatalf("%+v, %v", now, err)
		}
	}
}
