//go:build linux

package crash

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"darkroom/batch"
	"darkroom/batch/engine"
	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/batch/queue"
	"darkroom/batch/simulated"
	"darkroom/batch/store"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"golang.org/x/sys/unix"

	"darkroom/batch/queue/server"
)

// The environment of a process that the test starts.
const (
	roleVar     = "CRASH_ROLE" // server, worker or submitter
	addressVar  = "CRASH_ADDRESS"
	dirVar      = "CRASH_DIR" // the server's folder, or the submitter's records
	placeVar    = "CRASH_PLACE"
	endpointVar = "CRASH_ENDPOINT"
	countVar    = "CRASH_COUNT"
	idVar       = "CRASH_ID"
	fullVar     = "CRASH_FULL" // set by whoever wants the long test
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		if err := play(context.Background(), role); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// play is a process's part.
func play(ctx context.Context, role string) error {
	if role == "server" {
		if _, err := server.Start(server.Options{Dir: os.Getenv(dirVar), Listen: os.Getenv(addressVar)}); err != nil {
			return err
		}
		select {}
	}
	var q *queue.Queue
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) { // the server may be down
		var err error
		if q, err = queue.Connect(ctx, queue.Options{URL: "nats://" + os.Getenv(addressVar)}); err == nil {
			break
		}
		if time.Since(begun) > time.Minute {
			return err
		}
	}
	place, err := openPlace(ctx)
	if err != nil {
		return err
	}
	if role == "worker" {
		device := &simulated.Device{Name: os.Getenv(idVar), Time: 40 * time.Millisecond}
		if os.Getenv(fullVar) != "" {
			device.Time = 200 * time.Millisecond
		}
		return q.Work(ctx, queue.WorkerOptions{ID: os.Getenv(idVar), Renderer: device, Store: place, AckWait: 2 * time.Second, Tries: 1000})
	}
	images, err := images(os.Getenv(countVar))
	if err != nil {
		return err
	}
	records, err := manifest.Open(os.Getenv(dirVar))
	if err != nil {
		return err
	}
	o := queue.RunOptions{Options: batch.Options{Images: images, Manifest: records, Store: place, StorePatience: time.Minute}, Name: "crash", Place: "test", Look: 500 * time.Millisecond}
	sum, err := q.Run(ctx, o)
	if err == nil && sum.Failed > 0 {
		err = fmt.Errorf("%d images failed", sum.Failed)
	}
	return err
}

func openPlace(ctx context.Context) (store.Store, error) {
	place := os.Getenv(placeVar)
	if !store.IsS3(place) {
		return store.OpenFolder(place)
	}
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) { // it may be refusing
		s, err := store.OpenS3(ctx, store.S3Options{URL: place, Endpoint: os.Getenv(endpointVar), Region: "us-east-1", Key: "key", Secret: "secret"})
		if err == nil || time.Since(begun) > time.Minute {
			return s, err
		}
	}
}

func images(count string) ([]jobs.Image, error) {
	l, err := jobs.Parse("jobs", []byte("- {prompt: [a, b, c], name: '{index:04}-{slug}', seed: 1.."+count+"}"), nil, jobs.Options{Notation: jobs.YAML})
	if err != nil {
		return nil, err
	}
	return l.Images, nil
}

// expected are the SHA-256 of all images, by name, from a run without faults.
func expected(t *testing.T, list []jobs.Image) map[string]string {
	want := map[string]string{}
	for i := range list {
		q := &list[i].Request
		data, err := engine.Encode(q, simulated.Paint(q))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		want[list[i].File] = hex.EncodeToString(sum[:])
	}
	return want
}

// process is a process that is started again whenever it ends, until its work is done.
type process struct {
	t     *testing.T
	role  string
	env   []string
	mu    sync.Mutex
	cmd   *exec.Cmd
	done  chan struct{} // closed when it ended by itself without an error
	kills int
}

func start(ctx context.Context, t *testing.T, role string, env ...string) *process {
	p := &process{t: t, role: role, env: append(os.Environ(), append(env, roleVar+"="+role)...), done: make(chan struct{})}
	go func() {
		for ctx.Err() == nil {
			cmd := exec.Command(os.Args[0])
			cmd.Env = p.env
			var out strings.Builder
			cmd.Stderr = &out
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			p.mu.Lock()
			err := cmd.Start()
			p.cmd = cmd
			p.mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			err = cmd.Wait()
			if err == nil {
				close(p.done)
				return
			}
			if cmd.ProcessState.ExitCode() >= 0 && ctx.Err() == nil {
				t.Logf("%s: %v: %s", role, err, out.String())
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return p
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && p.cmd.Process != nil {
		p.cmd.Process.Kill()
		p.kills++
	}
}

// fileLimit lets a running process write no byte to any file, as on a full disk, or lifts that.
func (p *process) fileLimit(full bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if full {
		limit.Cur = 0
	}
	unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil) // it may be dead
}

// count is how many images are asked for: 300 with CRASH_FULL=1.
func count() (perPrompt string, pause time.Duration) {
	if os.Getenv(fullVar) != "" {
		return "100", time.Second
	}
	return "20", 600 * time.Millisecond
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o777); err != nil {
		t.Fatal(err)
	}
	unmount := func() {}
	full, readOnly := func(c *cast, on bool) { // the limit of a process, where there is no disk to fill
		for _, w := range c.workers {
			w.fileLimit(on)
		}
	}, func(*cast, bool) {}
	if err := unix.Mount("tmpfs", out, "tmpfs", 0, "size=8m"); err == nil {
		unmount = func() { unix.Unmount(out, unix.MNT_DETACH) }
		full = func(_ *cast, on bool) { fill(filepath.Join(dir, "out", ".ballast"), on) }
		readOnly = func(_ *cast, on bool) {
			flags := uintptr(unix.MS_REMOUNT)
			if on {
				flags |= unix.MS_RDONLY
			}
			unix.Mount("tmpfs", out, "tmpfs", flags, "size=8m") // busy while a file is open for writing: another time
		}
	} else {
		t.Logf("no small disk can be made here (%v): a limit on the size of files stands for it, and no folder is made read-only", err)
	}
	defer unmount()
	run(t, dir, out, "", []func(*cast, bool){full, readOnly}, func(t *testing.T) map[string]string {
		found := map[string]string{}
		err := filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") {
				return err
			}
			data, err := os.ReadFile(path)
			sum := sha256.Sum256(data)
			found[d.Name()] = hex.EncodeToString(sum[:])
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	})
}

// fill fills a small disk to its last byte, or empties it again.
func fill(ballast string, on bool) {
	if !on {
		os.Remove(ballast)
		return
	}
	if f, err := os.Create(ballast); err == nil {
		for size := 1 << 20; size > 0; {
			if _, err := f.Write(make([]byte, size)); err != nil {
				size /= 2
			}
		}
		f.Close()
	}
}

func TestS3(t *testing.T) {
	dir := t.TempDir()
	backend := s3mem.New()
	if err := backend.CreateBucket("pictures"); err != nil {
		t.Fatal(err)
	}
	var refuse atomic.Bool
	inner := gofakes3.New(backend).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuse.Load() {
			http.Error(w, "refused", http.StatusServiceUnavailable)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	defer server.Close()
	run(t, dir, "s3://pictures/run", server.URL, []func(*cast, bool){func(_ *cast, on bool) { refuse.Store(on) }}, func(t *testing.T) map[string]string {
		found := map[string]string{}
		list, err := backend.ListBucket("pictures", &gofakes3.Prefix{}, gofakes3.ListBucketPage{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := store.OpenS3(t.Context(), store.S3Options{URL: "s3://pictures/run", Endpoint: server.URL, Region: "us-east-1", Key: "key", Secret: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Contents {
			name := strings.TrimPrefix(o.Key, "run/")
			if found[name], err = s.Sum(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		return found
	})
}

// cast are the processes of a run.
type cast struct {
	server, submitter *process
	workers           []*process
}

// run renders a batch under faults: processes are killed at random, and the faults come and go.
func run(t *testing.T, dir, place, endpoint string, faults []func(*cast, bool), found func(*testing.T) map[string]string) {
	perPrompt, pause := count()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	env := []string{addressVar + "=" + freeAddress(t), placeVar + "=" + place, endpointVar + "=" + endpoint, countVar + "=" + perPrompt}
	c := &cast{server: start(ctx, t, "server", append(env, dirVar+"="+filepath.Join(dir, "queue"))...)}
	for i := range 3 {
		c.workers = append(c.workers, start(ctx, t, "worker", append(env, fmt.Sprintf("%s=w%d", idVar, i))...))
	}
	c.submitter = start(ctx, t, "submitter", append(env, dirVar+"="+filepath.Join(dir, "records"))...)
	all := append([]*process{c.server, c.submitter}, c.workers...)
	defer func() { // last of all: nothing outlives the test
		cancel()
		for _, p := range all {
			p.kill()
		}
	}()

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed of the faults: %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	begun := time.Now()
	for round := 0; ; round++ {
		on := round%4 == 1 // a fault lasts one round of four
		fault := faults[round/4%len(faults)]
		if on {
			fault(c, true)
		}
		select {
		case <-c.submitter.done:
			if on {
				fault(c, false)
			}
			check(t, dir, perPrompt, found)
			kills := 0
			for _, p := range all {
				kills += p.kills
			}
			t.Logf("%s images in %v with %d kills (server %d, submitter %d)", perPrompt+"×3", time.Since(begun).Round(time.Millisecond), kills, c.server.kills, c.submitter.kills)
			if kills == 0 {
				t.Error("nothing was killed: the batch is too short for this test")
			}
			return
		case <-ctx.Done():
			t.Fatalf("not done after %v", time.Since(begun))
		case <-time.After(pause/2 + time.Duration(dice.Int64N(int64(pause)))):
		}
		if on {
			fault(c, false)
		}
		if time.Since(begun) < 40*time.Second { // then it may finish
			all[dice.IntN(len(all))].kill()
		}
	}
}

// check compares what is there with a run without faults, and the manifest with what is there.
func check(t *testing.T, dir, perPrompt string, found func(*testing.T) map[string]string) {
	list, err := images(perPrompt)
	if err != nil {
		t.Fatal(err)
	}
	want, got := expected(t, list), found(t)
	for name, sum := range want {
		if got[name] != sum {
			t.Errorf("%s: sha256 is %q, without faults %s", name, got[name], sum)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s should not be there", name)
		}
	}
	records, notes, err := manifest.Read(filepath.Join(dir, "records"))
	if err != nil || len(notes) > 0 {
		t.Errorf("the manifest: %v, %v", notes, err)
	}
	for _, m := range list {
		if r := records[m.Hash]; r.Status != manifest.Done || r.File != m.File || r.SHA256 != want[m.File] {
			t.Errorf("the manifest says of %s: %+v", m.File, r)
		}
	}
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
