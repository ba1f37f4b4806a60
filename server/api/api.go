// Package api is the server's own API: jobs, pictures, and what there is to choose from. docs/serve.md describes it, and
// /openapi.json says it to programs.
package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"darkroom/batch/jobs"
	"darkroom/server/ask"
	"darkroom/server/dispatch"
	"darkroom/server/enlarge"
	"darkroom/server/gallery"
	"darkroom/server/trace"
	"darkroom/server/web"
	"darkroom/server/wire"
)

// API is the handlers' state.
type API struct {
	Jobs      *dispatch.Dispatcher
	Read      *ask.Reader
	Catalogue *ask.Catalogue
	Gallery   *gallery.Gallery
	Uploads   *gallery.Uploads
	MaxBody   int64
	Enlarger  *enlarge.Enlarger
	Reports   string // the folder of compare's reports; "": none
	// ReportPath is the path of a report for a browser that sends no key, with a slash at its end.
	ReportPath func(name string) string
}

// maxJobs is the largest body of a job, in bytes.
const maxJobs = 8 << 20

// postJob accepts a request, a batch file as JSON, or one as YAML.
func (a *API) postJob(w http.ResponseWriter, r *http.Request) error {
	data, err := web.ReadBody(w, r, min(maxJobs, a.MaxBody))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	s := dispatch.Submission{Trace: trace.From(r.Context()).String(), Origin: "jobs", Client: web.Client(r), Key: r.Header.Get("Idempotency-Key"), Body: hex.EncodeToString(sum[:])}
	if len(s.Key) > 255 {
		return ask.Invalid("Idempotency-Key", "more than 255 bytes")
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if strings.HasSuffix(kind, "yaml") || kind == "text/csv" || kind == "application/jsonl" || kind == "application/x-ndjson" {
		err = a.readFile(&s, data, map[string]string{"text/csv": jobs.CSV, "application/jsonl": jobs.JSONLines, "application/x-ndjson": jobs.JSONLines}[kind])
	} else {
		err = a.readJob(&s, data)
	}
	if err != nil {
		return err
	}
	id, existed, err := a.Jobs.Submit(s)
	if err != nil {
		return err
	}
	job, _ := a.Jobs.Get(id)
	w.Header().Set("Location", "/v1/jobs/"+id)
	web.JSON(w, map[bool]int{false: http.StatusCreated, true: http.StatusOK}[existed], job)
	return nil
}

// JobRequest is the body of POST /v1/jobs: one of request and jobs.
type JobRequest struct {
	Request  map[string]json.RawMessage `json:"request,omitempty" doc:"settings of a picture, and count"`
	Jobs     json.RawMessage            `json:"jobs,omitempty" doc:"a job file as darkroom batch reads it, as JSON: a list of jobs, or an object with defaults, variables and jobs"`
	Priority int                        `json:"priority,omitempty" doc:"the higher, the sooner; from -100 to 100"`
}

func (a *API) readJob(s *dispatch.Submission, data []byte) error {
	var body JobRequest
	if err := json.Unmarshal(data, &body); err != nil {
		return ask.Invalid("", "the body is not the expected JSON: %v", err)
	}
	if err := checkPriority(body.Priority); err != nil {
		return err
	}
	s.Priority = body.Priority
	switch {
	case body.Request != nil && body.Jobs != nil:
		return ask.Invalid("jobs", "request and jobs: give only one of them")
	case body.Jobs != nil:
		return a.readFile(s, body.Jobs, jobs.YAML) // JSON is YAML
	case body.Request == nil:
		return ask.Invalid("request", "it is missing: give the settings of a picture, or jobs")
	}
	asked, err := ask.Settings(body.Request)
	if err != nil {
		return err
	}
	if len(asked.Unknown) > 0 {
		slices.Sort(asked.Unknown)
		return ask.Invalid(asked.Unknown[0], "there is no such setting: GET /v1/settings lists them")
	}
	s.Requests, err = a.Read.Requests(asked)
	return err
}

func (a *API) readFile(s *dispatch.Submission, data []byte, notation string) error {
	if notation == "" {
		notation = jobs.YAML
	}
	images, err := a.Read.Images("jobs", data, notation)
	if err != nil {
		return err
	}
	for _, m := range images {
		s.Requests, s.Files = append(s.Requests, m.Request), append(s.Files, m.File)
	}
	return nil
}

func checkPriority(n int) error {
	if n < -100 || n > 100 {
		return ask.Invalid("priority", "%d: it must be from -100 to 100", n)
	}
	return nil
}

// limit reads ?limit=.
func limit(r *http.Request, usual, most int) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, ask.Invalid("limit", "%.20q: it must be a number from 1 to %d", text, most)
	}
	return n, nil
}

func (a *API) listJobs(w http.ResponseWriter, r *http.Request) error {
	n, err := limit(r, 50, 500)
	if err != nil {
		return err
	}
	var states []string
	for _, word := range strings.Split(r.URL.Query().Get("state"), ",") {
		if word == "" {
			continue
		}
		if !slices.Contains([]string{wire.Queued, wire.Running, wire.Done, wire.Failed, wire.Cancelled}, word) {
			return ask.Invalid("state", "%.20q: choose queued, running, done, failed or cancelled", word)
		}
		states = append(states, word)
	}
	web.JSON(w, http.StatusOK, a.Jobs.List(states, n, r.URL.Query().Get("before")))
	return nil
}

func noJob(id string) error { return web.NotFound("there is no job %.40q", id) }

func (a *API) getJob(w http.ResponseWriter, r *http.Request) error {
	job, ok := a.Jobs.Get(r.PathValue("id"))
	if !ok {
		return noJob(r.PathValue("id"))
	}
	web.JSON(w, http.StatusOK, job)
	return nil
}

func (a *API) cancelJob(w http.ResponseWriter, r *http.Request) error {
	if !a.Jobs.Cancel(r.PathValue("id")) {
		return noJob(r.PathValue("id"))
	}
	return a.getJob(w, r)
}

// JobChange is the body of PATCH /v1/jobs/{id}.
type JobChange struct {
	Priority *int `json:"priority" doc:"the higher, the sooner; from -100 to 100"`
}

func (a *API) changeJob(w http.ResponseWriter, r *http.Request) error {
	var body JobChange
	if err := web.Read(w, r, 1<<10, &body); err != nil {
		return err
	}
	if body.Priority == nil {
		return ask.Invalid("priority", "it is missing")
	}
	if err := checkPriority(*body.Priority); err != nil {
		return err
	}
	ok, err := a.Jobs.SetPriority(r.PathValue("id"), *body.Priority)
	if err != nil {
		return err
	}
	if !ok {
		return noJob(r.PathValue("id"))
	}
	return a.getJob(w, r)
}

// jobEvents streams a job's events: first its present state, and last its end.
func (a *API) jobEvents(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	events, stop := a.Jobs.Subscribe(id, r.URL.Query().Get("previews") != "false")
	defer stop()
	job, ok := a.Jobs.Get(id)
	if !ok {
		return noJob(id)
	}
	s := web.NewStream(w)
	if s.Send(wire.StateEvent, job) != nil {
		return nil
	}
	if wire.Ended(job.State) {
		_ = s.Send(wire.EndEvent, job)
		return nil
	}
	a.stream(r, s, events, true)
	return nil
}

// allEvents streams the events of all jobs: first the state of those that have not ended.
func (a *API) allEvents(w http.ResponseWriter, r *http.Request) error {
	events, stop := a.Jobs.Subscribe("", r.URL.Query().Get("previews") != "false")
	defer stop()
	s := web.NewStream(w)
	for _, job := range slices.Backward(a.Jobs.List([]string{wire.Queued, wire.Running}, 500, "").Jobs) {
		if s.Send(wire.StateEvent, job) != nil {
			return nil
		}
	}
	if s.Beat() != nil { // so that the answer begins
		return nil
	}
	a.stream(r, s, events, false)
	return nil
}

// stream sends events until the client is gone, the job has ended, or the client was too slow.
func (a *API) stream(r *http.Request, s *web.Stream, events <-chan wire.Event, one bool) {
	beat := time.NewTicker(web.BeatTime)
	defer beat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-beat.C:
			if s.Beat() != nil {
				return
			}
		case e, ok := <-events:
			if !ok || s.Send(e.Type, e.Data) != nil || one && e.Type == wire.EndEvent {
				return
			}
		}
	}
}
