package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/batch/simulated"
	"darkroom/pipeline"
	"darkroom/server/dispatch"
	"darkroom/server/wire"
)

// simulatedEngine is a device that waits and paints.
type simulatedEngine struct{ d *simulated.Device }

func (e simulatedEngine) RenderBatch(ctx context.Context, all []*jobs.Request, events func(int) pipeline.Events, done func(int, *pipeline.Image, error)) {
	for i, q := range all {
		img, err := e.d.Render(ctx, q, events(i))
		if stop := events(i).Stop; err == nil && stop != nil {
			err = stop()
		}
		done(i, img, err)
	}
}
func (e simulatedEngine) Render(ctx context.Context, q *jobs.Request, ev pipeline.Events) (*pipeline.Image, error) {
	return e.d.Render(ctx, q, ev)
}
func (e simulatedEngine) Device() string                   { return e.d.Device() }
func (e simulatedEngine) BatchSize(*jobs.Request, int) int { return 2 }
func (e simulatedEngine) DecodesBeside() bool              { return false }
func (e simulatedEngine) Unload(time.Duration)             {}
func (e simulatedEngine) Close() error                     { return nil }

func simulate(each time.Duration, devices int) func() []dispatch.Engine {
	return func() (all []dispatch.Engine) {
		for i := range devices {
			all = append(all, simulatedEngine{&simulated.Device{Name: strconv.Itoa(i), Time: each}})
		}
		return all
	}
}

// stormFolder names the folder of the server that this process is to be, where another test process started it; stormQueue the
// address of its queue, if it has one.
const stormFolder, stormQueue = "DARKROOM_TEST_SERVER", "DARKROOM_TEST_SERVER_QUEUE"

func TestMain(m *testing.M) {
	if url := os.Getenv(workerURL); url != "" {
		beWorker(url)
	}
	if dir := os.Getenv(stormFolder); dir != "" {
		beServer(dir)
	}
	os.Exit(m.Run())
}

// beServer serves until it is killed.
func beServer(dir string) {
	o := Options{Folder: dir, History: filepath.Join(dir, "history.jsonl"), Engines: simulate(8*time.Millisecond, 2)}
	l, err := Listen(ListenOptions{Address: "127.0.0.1:0"}, &o.Security)
	if url := os.Getenv(stormQueue); err == nil && url != "" {
		o.Workers, err = serveWith(context.Background(), url, dir)
	}
	if err == nil {
		var s *Server
		if s, err = Open(o); err == nil {
			fmt.Println("http://" + l.Addr().String())
			err = s.Serve(context.Background(), l, time.Second)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// child is a server in a process of its own.
type child struct {
	cmd *exec.Cmd
	url string
}

func startChild(t *testing.T, dir string) *child {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=none")
	c.Env = append(os.Environ(), stormFolder+"="+dir, "DARKROOM_MODELS="+filepath.Join(dir, "none"))
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the server does not start: %v", err)
	}
	return &child{c, strings.TrimSpace(line)}
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// The server is killed again and again while clients send jobs. Every job that was accepted is finished after all, once, and none
// is there that nobody sent.
func TestKillStorm(t *testing.T) {
	kills, clients, each := 8, 6, 30
	if os.Getenv("DARKROOM_STORM") != "" {
		kills, clients, each = 40, 200, 10
	}
	dir := t.TempDir()
	var server atomic.Pointer[child]
	server.Store(startChild(t, dir))

	var mu sync.Mutex
	accepted := map[string]string{} // key → job
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for n := range each {
				key := fmt.Sprintf("client %d job %d", c, n)
				time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
				body := fmt.Sprintf(`{"request":{"prompt":%q,"seed":%d,"count":%d}}`, key, n, 1+n%3)
				for {
					job, status := post(server.Load().url, key, body)
					if status == 201 || status == 200 {
						mu.Lock()
						accepted[key] = job.ID
						mu.Unlock()
						break
					}
					if status != 0 && status != 503 {
						t.Errorf("%s: status %d", key, status)
						return
					}
					time.Sleep(5 * time.Millisecond) // it is being started anew
				}
			}
		})
	}
	stop := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		for range kills {
			select {
			case <-stop:
			case <-time.After(time.Duration(30+rand.IntN(200)) * time.Millisecond):
			}
			server.Load().kill()
			server.Store(startChild(t, dir))
		}
	})
	all.Wait()
	close(stop)
	killer.Wait()
	last := server.Load()
	defer last.kill()
	if len(accepted) != clients*each {
		t.Fatalf("%d jobs were accepted of %d", len(accepted), clients*each)
	}
	ids := map[string]bool{}
	for key, id := range accepted {
		ids[id] = true
		job := waitFor(t, last.url, id)
		if job.State != wire.Done || len(job.Pictures) != job.Count {
			t.Errorf("%s: %+v", key, job)
		}
	}
	if len(ids) != len(accepted) {
		t.Errorf("%d jobs for %d keys", len(ids), len(accepted))
	}
	last.kill()
	checkRecords(t, dir, ids)
}

func post(url, key, body string) (wire.Job, int) {
	r, err := http.NewRequest("POST", url+"/v1/jobs", strings.NewReader(body))
	if err != nil {
		return wire.Job{}, -1
	}
	r.Header.Set("Idempotency-Key", key)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return wire.Job{}, 0
	}
	defer response.Body.Close()
	var job wire.Job
	if err := json.NewDecoder(response.Body).Decode(&job); err != nil {
		return job, 0 // it was killed within the answer
	}
	return job, response.StatusCode
}

func waitFor(t *testing.T, url, id string) (job wire.Job) {
	t.Helper()
	for range 1200 {
		response, err := http.Get(url + "/v1/jobs/" + id)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != 200 {
			t.Fatalf("job %s: status %d, %v", id, response.StatusCode, err)
		}
		if err := json.Unmarshal(data, &job); err != nil {
			t.Fatal(err)
		}
		if wire.Ended(job.State) {
			return job
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("job %s does not end: %+v", id, job)
	return job
}

// checkRecords reads what the server wrote down: an acceptance and an end for each job, a record for each picture.
func checkRecords(t *testing.T, dir string, ids map[string]bool) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, dispatch.Records, "jobs.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	accepts, ends, pictures := map[string]int{}, map[string]int{}, map[string]int{}
	for l := range bytes.Lines(data) {
		var line struct {
			Accept *struct{ ID string }
			End    *struct{ ID, State string }
		}
		if err := json.Unmarshal(l, &line); err != nil {
			t.Errorf("%s: %v", l, err)
		}
		if line.Accept != nil {
			accepts[line.Accept.ID]++
		}
		if line.End != nil {
			ends[line.End.ID]++
		}
	}
	for id := range ids {
		if accepts[id] != 1 || ends[id] != 1 {
			t.Errorf("job %s: %d acceptances, %d ends", id, accepts[id], ends[id])
		}
	}
	if len(accepts) != len(ids) {
		t.Errorf("%d jobs in the journal, %d were sent", len(accepts), len(ids))
	}
	if data, err = os.ReadFile(filepath.Join(dir, manifest.Name)); err != nil {
		t.Fatal(err)
	}
	for l := range bytes.Lines(data) {
		var r manifest.Record
		if err := json.Unmarshal(l, &r); err != nil {
			t.Errorf("%s: %v", l, err)
		}
		pictures[r.Hash]++
	}
	for hash, n := range pictures {
		if n != 1 {
			t.Errorf("picture %s was finished %d times", hash, n)
		}
	}
}

// A server that is stopped finishes its picture, and the next one makes the rest.
func TestStopAndGoOn(t *testing.T) {
	dir := t.TempDir()
	o := Options{Folder: dir, Engines: simulate(300*time.Millisecond, 1)}
	s := start(t, o)
	var j wire.Job
	s.want(201, "POST", "/v1/jobs", object{"request": object{"prompt": "x", "seed": 1, "count": 7}}, &j)
	s.want(201, "POST", "/v1/jobs", object{"request": object{"prompt": "y", "seed": 1}, "priority": 9}, nil)
	for j.Progress == nil {
		s.want(200, "GET", "/v1/jobs/"+j.ID, nil, &j)
	}
	answered := make(chan int)
	go func() {
		r, err := http.Post(s.url+"/v1/images/generations", "application/json", strings.NewReader(`{"prompt":"z"}`))
		if err != nil {
			answered <- 0
			return
		}
		r.Body.Close()
		answered <- r.StatusCode
	}()
	for s.jobs.Status().Jobs < 3 {
		time.Sleep(time.Millisecond)
	}
	s.Drain()
	if status := <-answered; status != 503 {
		t.Errorf("a client that waits for a picture which is not begun: status %d", status)
	}
	<-s.jobs.Settled()
	s.want(200, "GET", "/v1/jobs/"+j.ID, nil, &j)
	if n := len(j.Pictures); n == 0 || n == j.Count || j.State == wire.Done {
		t.Errorf("after the stop %d of %d pictures are there, state %s", n, j.Count, j.State)
	}
	if r := s.do("POST", "/v1/jobs", object{"request": object{"prompt": "x"}}, nil); r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
		t.Errorf("a job for a server that stops: %d", r.StatusCode)
	}
	if status, text, _ := s.send("GET", "/readyz", "", nil); status != 503 {
		t.Errorf("/readyz: %d %s", status, text)
	}
	left := 0
	for _, o := range s.jobs.List(nil, 10, "").Jobs {
		left += o.Count - len(o.Pictures)
	}
	s.stop()
	o.Engines = simulate(time.Millisecond, 1)
	s = start(t, o)
	j = s.ended(j.ID)
	if j.State != wire.Done || len(j.Pictures) != 7 {
		t.Errorf("after the next start: %+v", j)
	}
	for _, o := range s.jobs.List(nil, 10, "").Jobs {
		s.ended(o.ID)
	}
	if made := s.metrics.counter("pictures_total", `{device="simulated:0"}`).Get(); made != uint64(left) {
		t.Errorf("%d pictures were made after the next start, %d were left", made, left)
	}
}

// A server that ends between a picture and the end of its job takes the picture as it is, also where it started from an upload.
func TestEndAfterThePicture(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Folder: dir})
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 64, 64))); err != nil {
		t.Fatal(err)
	}
	u, err := s.uploads.Put(picture.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var j wire.Job
	s.want(201, "POST", "/v1/jobs", object{"request": object{"prompt": "x", "seed": 1, "steps": 2, "init": "upload:" + u.ID, "width": 64, "height": 64}}, &j)
	if j = s.ended(j.ID); j.State != wire.Done {
		t.Fatalf("%+v", j)
	}
	s.stop()
	journal := filepath.Join(dir, dispatch.Records, "jobs.jsonl")
	data, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := bytes.Cut(data, []byte("\n"))
	if err := os.WriteFile(journal, append(first, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	s = start(t, Options{Folder: dir})
	if j = s.ended(j.ID); j.State != wire.Done || len(j.Pictures) != 1 {
		t.Errorf("%+v", j)
	}
	if text := metricsText(s); strings.Contains(text, "darkroom_server_pictures_total{") {
		t.Error("the picture was made again")
	}
}
