// Package server is darkroom serve: an HTTP API that existing clients speak, a queue that survives restarts, and a web page.
//
//	openai, sdapi, api (handlers) → ask (requests, checked) → dispatch (jobs, journal, devices) → gallery (pictures)
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"darkroom/batch/engine"
	"darkroom/batch/history"
	"darkroom/batch/jobs"
	"darkroom/batch/manifest"
	"darkroom/batch/queue"
	"darkroom/pipeline"
	"darkroom/recipe"
	"darkroom/server/api"
	"darkroom/server/ask"
	"darkroom/server/dispatch"
	"darkroom/server/enlarge"
	"darkroom/server/gallery"
	"darkroom/server/openai"
	"darkroom/server/openapi"
	"darkroom/server/page"
	"darkroom/server/sdapi"
	"darkroom/server/trace"
	"darkroom/server/web"
)

// Options describe a server. Folder is required.
type Options struct {
	Folder  string // of pictures and records
	History string // the file of the history; "" or "off": one in Folder
	Reports string // the folder of reports of darkroom compare; "": none

	Devices []pipeline.Options // one a device; their Model is the server's
	Memory  uint64             // bytes for models on a device; 0: 8 GiB
	Idle    time.Duration      // after which models are closed; 0: five minutes
	AtOnce  int                // pictures that a device renders at once, at most; 0: as many as make it faster
	Queue   int                // pictures that may wait; 0: 10,000
	Limits  ask.Limits
	Base    recipe.Given // what holds where requests say nothing

	Security Security
	MaxBody  int64 // bytes of a request's body; 0: 64 MiB
	Log      *slog.Logger
	Traces   *trace.Exporter // nil: no traces

	// Workers make the pictures that need no files of this machine; nil: all are made on Devices.
	Workers *queue.Service

	// Engines are who renders; nil: engines on Devices. For tests.
	Engines func() []dispatch.Engine
}

// Server is an open server.
type Server struct {
	o         Options
	jobs      *dispatch.Dispatcher
	catalogue *ask.Catalogue
	gallery   *gallery.Gallery
	uploads   *gallery.Uploads
	history   *history.History
	metrics   *metricSet
	handler   http.Handler
	document  []byte // OpenAPI
}

// Open opens a server's folder and goes on with the jobs in it, once Run is called.
func Open(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxBody == 0 {
		o.MaxBody = 64 << 20
	}
	if len(o.Devices) == 0 {
		o.Devices = []pipeline.Options{{}}
	}
	s := &Server{o: o, metrics: newMetrics()}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.closeRest())
	}
	if err := s.route(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) open() (err error) {
	o := &s.o
	s.catalogue = ask.NewCatalogue(o.Devices[0].Model, o.Devices[0].HashCache)
	reader := s.reader()
	engines := o.Engines
	if engines == nil {
		engines = s.engines
	}
	records := filepath.Join(o.Folder, dispatch.Records)
	pixels := o.Limits.Pixels
	if pixels == 0 {
		pixels = 4 << 20
	}
	if s.uploads, err = gallery.OpenUploads(filepath.Join(records, "uploads"), 4*pixels); err != nil {
		return err
	}
	past := o.History
	if past == "" || past == "off" {
		past = filepath.Join(records, "history.jsonl")
	}
	if s.history, err = history.Open(past); err != nil {
		return err
	}
	if s.gallery, err = gallery.Open(s.history, o.Folder); err != nil {
		return err
	}
	// Last, as it looks at requests that were accepted earlier.
	s.jobs, err = dispatch.Open(dispatch.Options{
		Folder: o.Folder, Engines: engines, AtOnce: o.AtOnce, Queue: o.Queue, Idle: o.Idle, Log: o.Log,
		Resolve:   reader.Resolve,
		ModelHash: s.modelHash(reader),
		Workers:   o.Workers,
		Ended:     s.ended,
		Abroad:    s.abroad,
		Made: func(r manifest.Record, resolved jobs.Request, c recipe.Recipe) error {
			s.metrics.made(r)
			if resolved.Model == "" {
				resolved.Model = o.Devices[0].Model
			}
			return s.gallery.Add(r, resolved, c)
		},
	})
	return err
}

// ended measures a picture, and tells of its way.
func (s *Server) ended(e dispatch.Ended) {
	s.metrics.ended(e)
	parent, ok := trace.Parse(e.Trace)
	if s.o.Traces == nil || !ok {
		return
	}
	picture := trace.Span{Context: parent.Child(), Parent: parent.Span, Name: "picture", Start: e.Accepted, End: e.Stored, Attributes: map[string]any{
		"darkroom.job": e.Job, "darkroom.picture": e.Index, "darkroom.origin": e.Origin, "darkroom.cancelled": e.Cancel,
	}}
	if e.Err != nil && !e.Cancel {
		picture.Error = e.Err.Error()
	}
	if r := &e.Record; e.Err == nil {
		for name, v := range map[string]any{"device": r.Device, "worker": r.Worker, "steps": r.Steps, "width": r.Width, "height": r.Height, "model_hash": r.ModelHash} {
			if v != "" {
				picture.Attributes["darkroom."+name] = v
			}
		}
	}
	s.o.Traces.Add(picture)
	for _, stage := range e.Stages() {
		s.o.Traces.Add(trace.Span{Context: picture.Child(), Parent: picture.Span, Name: stage.Name, Start: stage.Start, End: stage.End})
	}
}

// abroad is a request that names the server's model, which workers do not know.
func (s *Server) abroad(q *jobs.Request) jobs.Request {
	out := *q
	if out.Model == "" {
		out.Set("model", s.catalogue.Default())
	}
	return out
}

// modelHash tells the hash of the weights that a request would use; nil where others than models render.
func (s *Server) modelHash(reader *ask.Reader) func(*jobs.Request) (string, error) {
	if s.o.Engines != nil {
		return nil
	}
	return func(q *jobs.Request) (string, error) {
		resolved, err := reader.Resolve(q)
		if err != nil {
			return "", err
		}
		return s.catalogue.ModelHash(&resolved)
	}
}

// reader reads requests.
func (s *Server) reader() *ask.Reader {
	return &ask.Reader{
		Limits: s.o.Limits, Catalogue: s.catalogue, Base: s.o.Base,
		Upload:  func(id string) (string, error) { return s.uploads.Path(id) },
		Picture: func(id string) (string, error) { return s.gallery.Path(id) },
	}
}

// engines opens a renderer for each device. Models are opened when they are asked for.
func (s *Server) engines() (all []dispatch.Engine) {
	for _, as := range s.o.Devices {
		as.Model = "" // requests are resolved to paths
		all = append(all, engine.New(engine.Options{
			Pipeline: as, Budget: s.o.Memory,
			Resolve: func(model string) (string, error) {
				if model == "" {
					return s.o.Devices[0].Model, nil
				}
				return model, nil
			},
			OnModel: func(name string, opened bool) {
				s.metrics.model(name, opened)
				s.o.Log.Info(map[bool]string{true: "model opened", false: "model closed"}[opened], "model", name)
			},
		}))
	}
	return all
}

// route puts the handlers together.
func (s *Server) route() error {
	reader := s.reader()
	enlarger := &enlarge.Enlarger{Device: s.o.Devices[0]}
	own := &api.API{
		Jobs: s.jobs, Read: reader, Catalogue: s.catalogue, Gallery: s.gallery, Uploads: s.uploads, Enlarger: enlarger, MaxBody: s.o.MaxBody,
		Reports: s.o.Reports, ReportPath: s.o.Security.reportPath,
	}
	images := &openai.API{Jobs: s.jobs, Read: reader, Catalogue: s.catalogue, Uploads: s.uploads, MaxBody: s.o.MaxBody, Link: s.link}
	webui := &sdapi.API{Jobs: s.jobs, Read: reader, Catalogue: s.catalogue, Uploads: s.uploads, Enlarger: enlarger, MaxBody: s.o.MaxBody, Folder: filepath.Join(s.o.Folder, dispatch.Records)}
	mux := http.NewServeMux()
	described := append(own.Routes(), images.Routes()...)
	for _, r := range described {
		r.Mount(mux, fail(s.o.Log, web.Error))
	}
	for _, r := range webui.Routes() {
		r.Mount(mux, fail(s.o.Log, sdapi.Error))
		described = append(described, r)
	}
	s.status(mux)
	mux.Handle("GET /{$}", page.Handler())
	mux.Handle("GET /static/", page.Handler())
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		web.Error(w, web.NotFound("%s %.100s: there is no such place: see /openapi.json", r.Method, r.URL.Path))
	})
	mux.HandleFunc("/sdapi/", func(w http.ResponseWriter, r *http.Request) {
		sdapi.Error(w, web.NotFound("%s %.100s: there is no such place", r.Method, r.URL.Path))
	})
	document, err := openapi.Document(pipeline.Version(), described, api.SettingSchemas())
	if err != nil {
		return fmt.Errorf("describing the API: %w", err)
	}
	s.document = document
	s.handler, err = s.o.Security.wrap(s, mux)
	return err
}

// fail answers with an error, and logs those that are this program's.
func fail(log *slog.Logger, answer func(http.ResponseWriter, error)) func(http.ResponseWriter, *http.Request, error) {
	return func(w http.ResponseWriter, r *http.Request, err error) {
		if r.Context().Err() != nil {
			log.Info("the client has gone", "request", requestID(r), "path", r.URL.Path)
			return
		}
		if web.Failure(err).Status >= 500 {
			log.Error("a request failed", "request", requestID(r), "path", r.URL.Path, "error", err)
		}
		answer(w, err)
	}
}

// status answers for those who watch over the server.
func (s *Server) status(mux *http.ServeMux) {
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		web.Bytes(w, http.StatusOK, s.document)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		web.Bytes(w, http.StatusOK, []byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		text, status := "ready\n", http.StatusOK
		switch now := s.jobs.Status(); {
		case now.Draining:
			text, status = "stopping\n", http.StatusServiceUnavailable
		case now.Lost != nil:
			text, status = "no device is left\n", http.StatusServiceUnavailable
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		web.Bytes(w, status, []byte(text))
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(10 * time.Second))
		workers := 0
		if s.o.Workers != nil {
			workers = s.o.Workers.Workers()
		}
		s.metrics.write(w, s.jobs.Status(), workers)
	})
}

// Handler answers requests.
func (s *Server) Handler() http.Handler { return s.handler }

// Run renders until ctx ends or Drain is called.
func (s *Server) Run(ctx context.Context) { s.jobs.Run(ctx) }

// Drain makes Run end after the pictures being rendered.
func (s *Server) Drain() { s.jobs.Drain() }

// Close waits for Run and closes everything.
func (s *Server) Close() error { return errors.Join(s.jobs.Close(), s.closeRest()) }

func (s *Server) closeRest() error {
	var errs []error
	if s.uploads != nil {
		errs = append(errs, s.uploads.Close())
	}
	if s.history != nil {
		errs = append(errs, s.history.Close())
	}
	if s.catalogue != nil {
		errs = append(errs, s.catalogue.Close())
	}
	return errors.Join(errs...)
}

// link is the address of a picture for a client, with a signature that opens this picture alone, without a key.
func (s *Server) link(r *http.Request, id string) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	if p := r.Header.Get("X-Forwarded-Proto"); p == "http" || p == "https" {
		scheme = p
	}
	path := "/v1/pictures/" + id + "/file"
	if s.o.Security.open() {
		return scheme + "://" + r.Host + path
	}
	return scheme + "://" + r.Host + path + "?" + signature + "=" + s.o.Security.sign(strings.TrimPrefix(path, "/"))
}
