package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"darkroom/batch/queue"
	"darkroom/batch/store"
	"darkroom/machine"
	"darkroom/models/library"
	"darkroom/pipeline"
	"darkroom/server"
	"darkroom/server/ask"
	"darkroom/server/trace"

	"github.com/urfave/cli/v2"
)

// serveOptions are the command line of serve.
type serveOptions struct {
	Queue   *queue.Options // nil: pictures are made on the devices of this machine alone
	Server  server.Options
	Listen  server.ListenOptions
	Devices deviceList
	Drain   time.Duration
	Quiet   bool
}

func serveCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "run a server: a web page, OpenAI's images API, AUTOMATIC1111's API, jobs",
		Description: `Prints the page's address. A job is saved in the output folder before it is accepted, and continues after a crash. Pictures
go there too, and into the history. Clients call models by name (darkroom models); a model is opened on first use.
docs/serve.md describes the APIs.

With --queue, workers (darkroom worker with the same -o, a shared folder) make the pictures. Those that start from a picture
are made here, because workers cannot read the server's files.

On Ctrl-C or SIGTERM, the pictures being rendered are finished; the rest waits for the next start. Logs are JSON lines on
stderr.

Examples:
   darkroom serve
   darkroom serve --model sd15 -o pictures/ --model-memory 12
   darkroom serve --listen 0.0.0.0:7860 --api-key SECRET --tls-cert cert.pem --tls-key key.pem
   darkroom serve --queue nats://10.0.0.1:4222 -o /shared/pictures`,
		Flags: append(append(append(engineFlags(), serveQueueFlags()...),
			&cli.StringFlag{Name: "listen", Usage: "HOST:PORT", DefaultText: "127.0.0.1:7860"},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "`FOLDER` for pictures and jobs", DefaultText: "pictures, beside the user's models"},
			&cli.StringFlag{Name: "reports", Usage: "`FOLDER` with reports of darkroom compare to show", DefaultText: "none"},
			&cli.StringFlag{Name: "api-key", Usage: "key that clients must send (Authorization: Bearer)", EnvVars: []string{"DARKROOM_API_KEY"}, DefaultText: "none"},
			&cli.StringFlag{Name: "api-auth", Usage: "USER:PASSWORD that clients must send (HTTP Basic)", EnvVars: []string{"DARKROOM_API_AUTH"}, DefaultText: "none"},
			&cli.BoolFlag{Name: "insecure", Usage: "accept clients from other machines without credentials"},
			&cli.StringFlag{Name: "tls-cert", Usage: "`FILE` with the server's certificate, for HTTPS"},
			&cli.StringFlag{Name: "tls-key", Usage: "`FILE` with its key"},
			&cli.StringFlag{Name: "tls-client-ca", Usage: "`FILE` with CA certificates; clients must have a certificate signed by one of them"},
			&cli.StringSliceFlag{Name: "cors", Usage: "origin of other web pages that may use the server, such as https://example.org, or *; may be repeated", DefaultText: "none"},
			&cli.StringSliceFlag{Name: "host", Usage: "name that requests may call this server by; may be repeated", DefaultText: "addresses, localhost and this machine's name"},
			&cli.Float64Flag{Name: "rate", Usage: "requests per second that one client may send", DefaultText: "any"},
			&cli.IntFlag{Name: "max-body", Usage: "largest request, in MiB", DefaultText: "64"},
			&cli.IntFlag{Name: "max-pixels", Usage: "largest picture to accept", DefaultText: "4194304"},
			&cli.IntFlag{Name: "max-steps", Usage: "most steps to accept", DefaultText: "250"},
			&cli.IntFlag{Name: "max-queue", Usage: "pictures that may wait", DefaultText: "10000"},
			&cli.StringFlag{Name: "batch-size", Usage: "how many pictures of the same size and sampler a device renders at once; does not change the pictures", DefaultText: "auto: as many as make it faster"},
			&cli.DurationFlag{Name: "idle", Usage: "how long a model stays open unused", DefaultText: "5m"},
			&cli.DurationFlag{Name: "drain", Usage: "how long to wait at exit for pictures being rendered", DefaultText: "5m", Value: 5 * time.Minute},
			&cli.StringFlag{Name: "traces", Usage: "send OpenTelemetry traces to the collector at `URL` (OTLP over HTTP)", EnvVars: []string{"OTEL_EXPORTER_OTLP_ENDPOINT"}, DefaultText: "none"},
			&cli.BoolFlag{Name: "debug", Usage: "log more"},
			&cli.StringFlag{Name: "check", Usage: "ask the server at `URL` whether it is ready, and serve nothing"},
		), parallelFlag(), memoryFlag(), quietFlag()),
		Action: func(c *cli.Context) error {
			if err := noWords(c); err != nil {
				return err
			}
			if c.IsSet("check") {
				return checkServer(c.Context, c.String("check"))
			}
			o, err := readServe(e, c)
			if err != nil {
				return err
			}
			return serve(c.Context, e, o)
		},
	}
}

// readServe reads the command line, the configuration file and the environment.
func readServe(e *env, c *cli.Context) (o serveOptions, err error) {
	o.Listen = server.ListenOptions{Address: c.String("listen"), Cert: c.String("tls-cert"), Key: c.String("tls-key"), ClientCA: c.String("tls-client-ca"), Insecure: c.Bool("insecure")}
	if o.Listen.Address == "" {
		o.Listen.Address = "127.0.0.1:7860"
	}
	engine, devices, err := readEngines(c)
	if err != nil {
		return o, err
	}
	config, err := readConfig()
	if err != nil {
		return o, err
	}
	base, err := standing(config)
	if err != nil {
		return o, err
	}
	if engine.Model == "" {
		engine.Model = base.Model
	}
	if engine.Model, err = library.Find(engine.Model); err != nil {
		return o, &usageError{"serve", err.Error()}
	}
	for _, name := range []string{"model", "vae", "backend", "dtype", "init", "mask"} { // of this machine, and of devices
		base.Drop(name)
	}
	level := slog.LevelInfo
	if c.Bool("debug") {
		level = slog.LevelDebug
	}
	if c.Bool("quiet") {
		level = slog.LevelWarn
	}
	o.Quiet, o.Drain = c.Bool("quiet"), c.Duration("drain")
	o.Server = server.Options{
		Folder: c.String("out"), History: machine.HistoryFile(), Reports: c.String("reports"), Memory: gibibytes(c), Idle: c.Duration("idle"), Queue: c.Int("max-queue"),
		Limits: ask.Limits{Pixels: c.Int("max-pixels"), Steps: c.Int("max-steps")}, Base: base, MaxBody: int64(c.Int("max-body")) << 20,
		Security: server.Security{Key: c.String("api-key"), Basic: c.String("api-auth"), CORS: c.StringSlice("cors"), Hosts: c.StringSlice("host"), Rate: c.Float64("rate")},
		Log:      slog.New(slog.NewJSONHandler(e.stderr, &slog.HandlerOptions{Level: level})),
	}
	if to := c.String("traces"); to != "" {
		headers, err := trace.ParseHeaders(os.Getenv("OTEL_EXPORTER_OTLP_HEADERS"))
		if err != nil {
			return o, usagef("OTEL_EXPORTER_OTLP_HEADERS: %v", err)
		}
		o.Server.Traces, err = trace.Open(trace.Options{Endpoint: to, Headers: headers, Service: os.Getenv("OTEL_SERVICE_NAME"), Version: pipeline.Version(), Log: o.Server.Log})
		if err != nil {
			return o, usagef("--traces %v", err)
		}
	}
	if c.IsSet("queue") {
		to := readQueueFlags(c)
		o.Queue = &to
	}
	if o.Server.AtOnce, err = batchSize(c); err != nil {
		return o, err
	}
	if o.Server.Devices, err = devices.engines(engine); err != nil {
		return o, err
	}
	return o, o.check(c)
}

func (o *serveOptions) check(c *cli.Context) error {
	for _, name := range []string{"max-body", "max-pixels", "max-steps", "max-queue"} {
		if c.IsSet(name) && c.Int(name) < 1 {
			return usagef("--%s %d: it must be at least 1", name, c.Int(name))
		}
	}
	if auth := o.Server.Security.Basic; auth != "" && (!strings.Contains(auth, ":") || strings.HasPrefix(auth, ":") || strings.HasSuffix(auth, ":")) {
		return usagef("--api-auth: USER:PASSWORD is needed")
	}
	if err := server.CheckOrigins(o.Server.Security.CORS); err != nil {
		return usagef("--cors %v", err)
	}
	if o.Server.Folder == "" {
		folders := machine.UserModelFolders()
		if len(folders) == 0 {
			return usagef("-o is missing: name a folder for pictures")
		}
		o.Server.Folder = filepath.Join(filepath.Dir(folders[0]), "pictures")
	}
	return nil
}

// serveQueueFlags say how to reach a queue whose workers make the pictures.
func serveQueueFlags() []cli.Flag {
	flags := queueFlags()
	first := *flags[0].(*cli.StringFlag)
	first.Usage, first.DefaultText = "address of a NATS server with JetStream, whose workers make the pictures", "none: they are made on this machine"
	flags[0] = &first
	return flags
}

// connect connects the server with the queue's workers, if there is to be a queue.
func (o *serveOptions) connect(ctx context.Context) (disconnect func(), err error) {
	if o.Queue == nil {
		return func() {}, nil
	}
	id, err := server.QueueID(o.Server.Folder)
	if err != nil {
		return nil, err
	}
	place, err := store.OpenFolder(o.Server.Folder)
	if err != nil {
		return nil, err
	}
	o.Queue.OnState = func(text string) { o.Server.Log.Warn(text) }
	q, err := queue.Connect(ctx, *o.Queue)
	if err != nil {
		return nil, errors.Join(err, place.Close())
	}
	hangUp := func() {
		q.Close()
		place.Close()
	}
	if o.Server.Workers, err = q.Serve(ctx, queue.ServiceOptions{ID: id, Name: "darkroom serve on " + hostName(), Store: place}); err != nil {
		hangUp()
		return nil, err
	}
	return func() {
		o.Server.Workers.Close()
		hangUp()
	}, nil
}

// checkServer is for scripts that monitor a server.
func checkServer(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/readyz", nil)
	if err != nil {
		return usagef("--check %s: an address such as http://127.0.0.1:7860 is needed", url)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000)) // what came of it
		return fmt.Errorf("%s: it is not ready: %s", url, strings.TrimSpace(string(text)))
	}
	return nil
}

// pageAddress is the page's address on this machine.
func pageAddress(a net.Addr, tls bool) string {
	scheme := "http"
	if tls {
		scheme = "https"
	}
	host := a.String()
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		host = fmt.Sprintf("127.0.0.1:%d", tcp.Port)
	}
	return scheme + "://" + host + "/"
}

// serve runs the server until it is told to stop.
func serve(ctx context.Context, e *env, o serveOptions) error {
	listener, err := server.Listen(o.Listen, &o.Server.Security)
	if err != nil {
		return &usageError{"serve", err.Error()}
	}
	disconnect, err := o.connect(ctx)
	if err != nil {
		listener.Close()
		return err
	}
	defer disconnect()
	s, err := server.Open(o.Server)
	if err != nil {
		listener.Close()
		return err
	}
	if _, err := fmt.Fprintln(e.stdout, pageAddress(listener.Addr(), o.Listen.Cert != "")); err != nil {
		return err
	}
	defer o.Server.Traces.Close()
	e.drain.Store(true) // the pictures in work are waited for
	return s.Serve(ctx, listener, o.Drain)
}
