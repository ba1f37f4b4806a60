package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"darkroom/batch"
	"darkroom/batch/engine"
	"darkroom/batch/manifest"
	"darkroom/batch/queue"
	"darkroom/batch/store"
	"darkroom/models/library"
	"darkroom/pipeline"

	"github.com/urfave/cli/v2"
)

// queueFlags say how to reach a queue.
func queueFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "queue", Usage: "address of a NATS server with JetStream", DefaultText: queue.DefaultURL, EnvVars: []string{"DARKROOM_QUEUE"}},
		&cli.StringFlag{Name: "queue-token", Usage: "token of the queue", EnvVars: []string{"DARKROOM_QUEUE_TOKEN"}},
		&cli.StringFlag{Name: "queue-creds", Usage: "credentials `FILE` of the queue (JWT and NKey)"},
		&cli.StringFlag{Name: "queue-nkey", Usage: "`FILE` with an NKey seed for the queue"},
		&cli.StringFlag{Name: "queue-ca", Usage: "`FILE` with CA certificates for the queue's server"},
		&cli.StringFlag{Name: "queue-cert", Usage: "`FILE` with this client's certificate"},
		&cli.StringFlag{Name: "queue-key", Usage: "`FILE` with its key"},
	}
}

func readQueueFlags(c *cli.Context) queue.Options {
	return queue.Options{
		URL: c.String("queue"), Token: c.String("queue-token"), Creds: c.String("queue-creds"), NKey: c.String("queue-nkey"),
		CA: c.String("queue-ca"), Cert: c.String("queue-cert"), Key: c.String("queue-key"), Name: "darkroom " + hostName(),
	}
}

// workerOptions are the command line of worker.
type workerOptions struct {
	Engine   pipeline.Options
	Memory   uint64
	Queue    queue.Options
	Embedded bool
	Server   queue.ServerOptions
	Out      string
	ID       string
	Limits   queue.Limits
	Tries    int
	AckWait  time.Duration
	Metrics  string // HOST:PORT; "": none
	AnyModel bool   // paths of models are taken too
	Parent   bool   // instructions come on stdin, and the worker ends when that does

	orders orders // with Parent
}

// orders are what batch --workers tells a worker, in a line of JSON on its standard input: neither the token nor what may
// be rendered is seen by other users.
type orders struct {
	Token  string   `json:"token"`
	Batch  string   `json:"batch"`
	Models []string `json:"models"` // the only ones that may be opened, as requests name them
}

// obey reads the orders, and ends the program when the other end is gone, however that came.
func (o *workerOptions) obey(e *env) error {
	in := bufio.NewReader(e.stdin)
	line, err := in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &o.orders)
	}
	if err != nil {
		return usagef("--parent: instructions are to come on standard input: %v", err)
	}
	o.Queue.Token = o.orders.Token
	go func() {
		_, _ = io.Copy(io.Discard, in)
		e.status.sweep()
		os.Exit(exitInterrupted)
	}()
	return nil
}

func workerCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "worker",
		Usage: "render jobs from a queue, on one device",
		Description: `Pulls one job at a time, writes the picture to -o (a folder that all workers and the submitter share, or a
bucket), and acknowledges the job when the picture is there. Run one worker per GPU. On SIGTERM or Ctrl-C, it
finishes its picture and takes no more.

Jobs name models as darkroom models lists them; paths are refused unless --any-model is given. Logs are JSON lines on
stderr.

With --embedded the worker starts the queue's server too, the program darkroom-queue, which is built beside darkroom; its
jobs are kept in a folder and survive a restart.

Examples:
   darkroom worker --queue nats://10.0.0.1:4222 -o /shared/pictures --device 1
   darkroom worker --embedded -o pictures/ --metrics 127.0.0.1:9464
   AWS_ENDPOINT_URL=https://minio:9000 darkroom worker --queue tls://queue:4222 --queue-creds w.creds -o s3://pictures/run1`,
		Flags: append(append(append(engineFlags(), queueFlags()...),
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "shared `FOLDER`, or s3://BUCKET/PREFIX"},
			&cli.StringFlag{Name: "id", Usage: "the worker's name", DefaultText: "host, process and device"},
			&cli.BoolFlag{Name: "embedded", Usage: "start the queue's server too"},
			&cli.StringFlag{Name: "listen", Usage: "HOST:PORT of the embedded server", DefaultText: "127.0.0.1:4222"},
			&cli.StringFlag{Name: "listen-cert", Usage: "`FILE` with the embedded server's certificate, for TLS"},
			&cli.StringFlag{Name: "listen-key", Usage: "`FILE` with its key"},
			&cli.StringFlag{Name: "queue-dir", Usage: "folder of the embedded server", DefaultText: "in the user's cache"},
			&cli.StringFlag{Name: "metrics", Usage: "serve Prometheus metrics on HOST:PORT, at /metrics", DefaultText: "no"},
			&cli.IntFlag{Name: "max-pixels", Usage: "largest picture to accept", DefaultText: "4194304"},
			&cli.IntFlag{Name: "max-steps", Usage: "most steps to accept", DefaultText: "250"},
			&cli.IntFlag{Name: "tries", Usage: "how many times a job is delivered before it is given up", DefaultText: "5"},
			&cli.DurationFlag{Name: "ack-wait", Usage: "how long a worker may be silent before its job goes to another", DefaultText: "30s"},
			&cli.BoolFlag{Name: "parent", Hidden: true, Usage: "instructions come on standard input, and the worker ends when that does"},
			&cli.BoolFlag{Name: "any-model", Usage: "accept model paths too: only for queues that nobody else can write to"},
		), memoryFlag()),
		Action: func(c *cli.Context) error {
			if err := noWords(c); err != nil {
				return err
			}
			o := workerOptions{
				Memory: gibibytes(c), Queue: readQueueFlags(c), Embedded: c.Bool("embedded"), Out: c.String("out"), ID: c.String("id"),
				Limits: queue.Limits{Pixels: c.Int("max-pixels"), Steps: c.Int("max-steps")}, Tries: c.Int("tries"), AckWait: c.Duration("ack-wait"),
				Metrics: c.String("metrics"), AnyModel: c.Bool("any-model"), Parent: c.Bool("parent"),
				Server: queue.ServerOptions{Dir: c.String("queue-dir"), Listen: c.String("listen"), Token: c.String("queue-token"), Cert: c.String("listen-cert"), Key: c.String("listen-key")},
			}
			var err error
			if o.Engine, err = readEngineFlags(c); err != nil {
				return err
			}
			o.Limits.Reference = o.Engine.Backend == pipeline.Ref
			switch {
			case o.Out == "":
				return &usageError{"worker", "-o is missing: name the folder that workers and submitters share, or s3://BUCKET/PREFIX"}
			case o.Embedded && c.IsSet("queue"):
				return usagef("--embedded starts its own queue, but --queue names another: give only one")
			}
			return work(c.Context, e, o)
		},
	}
}

// work runs a worker until it is told to drain.
func work(ctx context.Context, e *env, o workerOptions) error {
	log := slog.New(slog.NewJSONHandler(e.stderr, nil))
	if o.Parent {
		if err := o.obey(e); err != nil {
			return err
		}
	}
	if o.Embedded {
		if o.Server.Dir == "" {
			cache, err := os.UserCacheDir()
			if err != nil {
				return fmt.Errorf("a folder for the queue: %w: give --queue-dir", err)
			}
			o.Server.Dir = filepath.Join(cache, "darkroom", "queue")
		}
		s, err := queue.StartServer(o.Server)
		if err != nil {
			return err
		}
		defer s.Close()
		o.Queue.URL, o.Queue.Token = s.URL(), o.Server.Token
		if o.Queue.CA == "" {
			o.Queue.CA = o.Server.Cert // its own certificate, if nobody else vouches for it
		}
		log.Info("queue started", "url", s.URL(), "folder", o.Server.Dir)
	}
	place, done, err := openStore(ctx, o.Out)
	if err != nil {
		return err
	}
	defer done()
	metrics := queue.NewMetrics()
	stop, err := serveMetrics(o.Metrics, metrics)
	if err != nil {
		return err
	}
	defer stop()
	eng := engine.New(engine.Options{
		Pipeline: o.Engine, Budget: o.Memory, Resolve: o.resolve,
		OnModel: func(name string, opened bool) {
			metrics.Model(name, opened)
			log.Info(map[bool]string{true: "model opened", false: "model closed"}[opened], "model", name)
		},
	})
	defer eng.Close()
	o.Queue.OnState = func(text string) { log.Warn(text) }
	q, err := queue.Connect(ctx, o.Queue)
	if err != nil {
		return err
	}
	defer q.Close()
	if o.ID == "" {
		o.ID = workerID(o.Engine)
	}
	past := newHistoryLog()
	defer past.close()
	e.drain.Store(true) // the picture that it is at is waited for
	return q.Work(ctx, queue.WorkerOptions{
		ID: o.ID, Batch: o.orders.Batch, Renderer: eng, Store: place, Limits: o.Limits, Tries: o.Tries, AckWait: o.AckWait, Log: log, Metrics: metrics,
		OnDone: func(r manifest.Record) {
			if err := past.add(historyEntry(r, place)); err != nil {
				log.Warn(err.Error())
			}
		},
	})
}

// resolve finds a model for a job that came over the network: by name among those that are installed here.
func (o *workerOptions) resolve(model string) (string, error) {
	if o.Parent {
		if !slices.Contains(o.orders.Models, model) {
			return "", &pipeline.UsageError{Err: fmt.Errorf("model %.60q is not one of this batch", model)}
		}
		return library.Find(model)
	}
	if model != o.Engine.Model && !o.AnyModel && (strings.ContainsAny(model, `/\`) || model == "." || model == "..") {
		return "", &pipeline.UsageError{Err: fmt.Errorf("model %q: this worker takes names of models (darkroom models), not paths", model)}
	}
	if model == o.Engine.Model || o.AnyModel {
		return library.Find(model)
	}
	if o.Engine.Model != "" && model == library.NameOf(o.Engine.Model) { // as a server calls it
		return library.Find(o.Engine.Model)
	}
	if path, ok := library.Named(model); ok {
		return path, nil
	}
	return "", &pipeline.UsageError{Err: fmt.Errorf("model %q is not installed on this worker", model)}
}

func workerID(o pipeline.Options) string {
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, strings.ToLower(hostName()))
	return fmt.Sprintf("%.40s-%d-%d", name, os.Getpid(), o.Device)
}

func serveMetrics(address string, metrics *queue.Metrics) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--metrics %s: %w", address, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		metrics.Write(w)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(listener)
	return func() { server.Close() }, nil
}

// runRemote submits a batch to a queue and gathers what workers render.
func runRemote(ctx context.Context, e *env, o batchOptions, options batch.Options, place store.Store) (batch.Summary, error) {
	o.Queue.OnState = func(text string) { fmt.Fprintln(e.stderr, "warning: "+text) }
	q, err := queue.Connect(ctx, o.Queue)
	if err != nil {
		return batch.Summary{Total: len(options.Images)}, err
	}
	defer q.Close()
	if !o.Quiet {
		fmt.Fprintf(e.stderr, "batch %s\n", queue.BatchID(options.Images, place.String()))
	}
	return q.Run(ctx, queue.RunOptions{Options: options, Name: filepath.Base(o.Jobs), Place: place.String()})
}

// runWorkers starts a queue and workers on this machine, each a process: one that crashes is started again and takes
// nothing with it.
func runWorkers(ctx context.Context, e *env, o batchOptions, options batch.Options, place store.Store) (batch.Summary, error) {
	nothing := batch.Summary{Total: len(options.Images)}
	dir := filepath.Join(filepath.Dir(manifestPath(o)), ".queue")
	tell := orders{Token: rand.Text(), Batch: queue.BatchID(options.Images, place.String())}
	for i := range options.Images {
		if model := options.Images[i].Request.Model; !slices.Contains(tell.Models, model) {
			tell.Models = append(tell.Models, model)
		}
	}
	s, err := queue.StartServer(queue.ServerOptions{Dir: dir, Listen: "127.0.0.1:0", Token: tell.Token})
	if err != nil {
		return nothing, err
	}
	defer os.RemoveAll(dir) // the manifest is the truth
	defer s.Close()
	program, err := os.Executable()
	if err != nil {
		return nothing, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	devices := []int{0}
	if o.Engine.Backend == pipeline.CUDA {
		list := o.Devices
		list.all = list.all || !list.given
		if devices, err = list.resolve(); err != nil {
			return nothing, err
		}
	}
	var workers sync.WaitGroup
	for i := range o.Workers {
		device := devices[i%len(devices)]
		workers.Go(func() { keepWorking(ctx, e, o, tell, program, s.URL(), i, device) })
	}
	o.Queue = queue.Options{URL: s.URL(), Token: tell.Token, Name: o.Queue.Name}
	sum, err := runRemote(ctx, e, o, options, place)
	cancel()
	workers.Wait()
	return sum, err
}

func manifestPath(o batchOptions) string {
	return filepath.Join(o.records(), manifest.Name)
}

// keepWorking runs a worker process, and another when it ends before ctx does.
func keepWorking(ctx context.Context, e *env, o batchOptions, tell orders, program, url string, i, device int) {
	for n := 0; ctx.Err() == nil; n++ {
		args := []string{"worker", "--queue", url, "-o", o.Out, "--id", fmt.Sprintf("worker-%d", i+1), "--parent", "--ack-wait", "10s"}
		if o.Engine.Backend != "" {
			args = append(args, "--backend", o.Engine.Backend)
		}
		if o.Engine.Backend == pipeline.CUDA {
			args = append(args, "--device", fmt.Sprint(device))
		}
		if o.Engine.LowMemory {
			args = append(args, "--low-memory")
		}
		if o.Engine.Threads > 0 {
			args = append(args, "--threads", fmt.Sprint(o.Engine.Threads))
		}
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it drains
		cmd.WaitDelay = 10 * time.Second
		var last lastLine
		cmd.Stderr = &last
		err := runChild(cmd, tell)
		if ctx.Err() != nil {
			return
		}
		fmt.Fprintf(e.stderr, "warning: worker %d ended (%v) and is being restarted: %s\n", i+1, errOr(err, "by itself"), last.text)
		select {
		case <-ctx.Done():
		case <-time.After(min(time.Duration(n+1)*200*time.Millisecond, 5*time.Second)):
		}
	}
}

// runChild runs a worker that ends when this process does, even when that is killed: the pipe that is its standard input
// is closed then.
func runChild(cmd *exec.Cmd, tell orders) error {
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		return err
	}
	wrong := json.NewEncoder(in).Encode(tell)
	return errors.Join(cmd.Wait(), wrong)
}

func errOr(err error, text string) error {
	if err == nil {
		return errors.New(text)
	}
	return err
}

// lastLine keeps the last line of a log.
type lastLine struct{ text string }

func (l *lastLine) Write(p []byte) (int, error) {
	if lines := strings.Split(strings.TrimSpace(string(p)), "\n"); lines[len(lines)-1] != "" {
		l.text = lines[len(lines)-1]
	}
	return len(p), nil
}
