// Package client uses a darkroom server: jobs, their events, pictures, and what there is to choose from.
//
//	c := client.New("http://127.0.0.1:7860", "")
//	job, err := c.Submit(ctx, client.Request{Settings: map[string]any{"prompt": "a red apple", "seed": 7}})
//	…
//	job, err = c.Wait(ctx, job.ID, func(e client.Event) { … })
//	data, err := c.File(ctx, job.Pictures[0].ID)
package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"darkroom/server/wire"
)

// Client talks to a server. It is safe for concurrent use.
type Client struct {
	URL  string // without a slash at its end
	Key  string // of --api-key; "" is none
	HTTP *http.Client
	// Retries is how often a request is sent again that the server could not take, or that got no answer. Jobs with a key are
	// accepted once all the same.
	Retries int
}

// New makes a client with three retries.
func New(url, key string) *Client {
	return &Client{URL: strings.TrimSuffix(url, "/"), Key: key, HTTP: http.DefaultClient, Retries: 3}
}

// Error is a server's refusal.
type Error = wire.Error

// do sends a request, and reads the answer into v: nil, *[]byte, or what JSON is read into.
func (c *Client) do(ctx context.Context, method, path, media string, body []byte, headers map[string]string, v any) error {
	for try := 0; ; try++ {
		again, wait, err := c.once(ctx, method, path, media, body, headers, v)
		if err == nil || !again || try >= c.Retries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(wait, 200*time.Millisecond<<try)):
		}
	}
}

// once sends a request once. again says whether it may be sent again.
func (c *Client) once(ctx context.Context, method, path, media string, body []byte, headers map[string]string, v any) (again bool, wait time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(body))
	if err != nil {
		return false, 0, err
	}
	c.authorize(r)
	if media != "" {
		r.Header.Set("Content-Type", media)
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	safe := method == http.MethodGet || method == http.MethodDelete || headers["Idempotency-Key"] != ""
	response, err := c.HTTP.Do(r)
	if err != nil {
		return safe && ctx.Err() == nil, 0, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return safe && ctx.Err() == nil, 0, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if response.StatusCode >= 300 {
		refused := response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After")) // none is 0
		return refused, time.Duration(seconds) * time.Second, failure(response.StatusCode, data)
	}
	switch v := v.(type) {
	case nil:
	case *[]byte:
		*v = data
	default:
		if err := json.Unmarshal(data, v); err != nil {
			return false, 0, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	return false, 0, nil
}

func (c *Client) authorize(r *http.Request) {
	if c.Key != "" {
		r.Header.Set("Authorization", "Bearer "+c.Key)
	}
}

func failure(status int, data []byte) error {
	var body wire.ErrorBody
	if err := json.Unmarshal(data, &body); err != nil || body.Error.Message == "" {
		body.Error.Message = fmt.Sprintf("status %d: %.200s", status, data)
	}
	body.Error.Status = status
	return &body.Error
}

func (c *Client) get(ctx context.Context, path string, v any) error {
	return c.do(ctx, http.MethodGet, path, "", nil, nil, v)
}

// Request is what is asked for: Settings of a picture (with count, of several), or a job File.
type Request struct {
	Settings map[string]any
	File     []byte // YAML, as darkroom batch reads it
	Priority int    // the higher, the sooner
	Key      string // of idempotency: a job with this key is accepted once; "": each is
}

// Submit submits a job. When it returns without an error, the server has the job on disk.
func (c *Client) Submit(ctx context.Context, q Request) (wire.Job, error) {
	headers := map[string]string{}
	if q.Key != "" {
		headers["Idempotency-Key"] = q.Key
	}
	media, body := "application/yaml", q.File
	if q.File == nil {
		media = "application/json"
		var err error
		if body, err = json.Marshal(map[string]any{"request": q.Settings, "priority": q.Priority}); err != nil {
			return wire.Job{}, err
		}
	}
	var job wire.Job
	err := c.do(ctx, http.MethodPost, "/v1/jobs", media, body, headers, &job)
	return job, err
}

// Job is a job.
func (c *Client) Job(ctx context.Context, id string) (job wire.Job, err error) {
	return job, c.get(ctx, "/v1/jobs/"+url.PathEscape(id), &job)
}

// Jobs lists jobs, the latest first: those in one of the states (none: all), before the one that the last list gave as Next.
func (c *Client) Jobs(ctx context.Context, before string, limit int, states ...string) (list wire.JobList, err error) {
	return list, c.get(ctx, "/v1/jobs?"+page(before, limit, "state", strings.Join(states, ",")), &list)
}

func page(before string, limit int, name, value string) string {
	q := url.Values{}
	if before != "" {
		q.Set("before", before)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	if value != "" {
		q.Set(name, value)
	}
	return q.Encode()
}

// Cancel cancels a job.
func (c *Client) Cancel(ctx context.Context, id string) (job wire.Job, err error) {
	return job, c.do(ctx, http.MethodDelete, "/v1/jobs/"+url.PathEscape(id), "", nil, nil, &job)
}

// SetPriority changes which jobs start first.
func (c *Client) SetPriority(ctx context.Context, id string, to int) (job wire.Job, err error) {
	body, err := json.Marshal(map[string]int{"priority": to})
	if err != nil {
		return job, err
	}
	return job, c.do(ctx, http.MethodPatch, "/v1/jobs/"+url.PathEscape(id), "application/json", body, nil, &job)
}

// Pictures lists pictures whose prompts have the words of a query, the latest first.
func (c *Client) Pictures(ctx context.Context, query, before string, limit int) (list wire.PictureList, err error) {
	return list, c.get(ctx, "/v1/pictures?"+page(before, limit, "query", query), &list)
}

// File returns a picture's file.
func (c *Client) File(ctx context.Context, picture string) (data []byte, err error) {
	return data, c.get(ctx, "/v1/pictures/"+url.PathEscape(picture)+"/file", &data)
}

// Upload sends a picture to start from, and returns its name in settings: upload:ID.
func (c *Client) Upload(ctx context.Context, data []byte) (name string, err error) {
	var u struct{ ID string }
	err = c.do(ctx, http.MethodPost, "/v1/files", "application/octet-stream", data, nil, &u)
	return "upload:" + u.ID, err
}

// Model is a model of the server.
type Model struct {
	Name, Family                 string
	Width, Height, Factor, Steps int
	CFG                          float64
	Scheduler                    string
	Default                      bool
	Problem                      string
}

// Models lists the server's models.
func (c *Client) Models(ctx context.Context) ([]Model, error) {
	var list struct{ Data []Model }
	err := c.get(ctx, "/v1/models", &list)
	return list.Data, err
}

// Event is a piece of progress. One of the pointers is set, as Type says.
type Event struct {
	Type     string // wire.StateEvent, …
	Job      *wire.Job
	Progress *wire.ProgressEvent
	Preview  *wire.PreviewEvent
	Picture  *wire.Picture
}

// Wait waits until a job has ended, reconnecting if needed, and calls each with its progress; each may be nil.
func (c *Client) Wait(ctx context.Context, id string, each func(Event)) (wire.Job, error) {
	if each == nil {
		each = func(Event) {}
	}
	for try := 0; ; {
		begun := time.Now()
		job, err := c.follow(ctx, id, each)
		var refused *Error
		switch {
		case err == nil:
			return job, nil
		case ctx.Err() != nil:
			return job, ctx.Err()
		case errors.As(err, &refused) && refused.Status < 500 && refused.Status != http.StatusTooManyRequests:
			return job, err
		}
		if try++; time.Since(begun) > 10*time.Second {
			try = 0
		}
		if try > max(c.Retries, 1)*4 {
			return job, err
		}
		select {
		case <-ctx.Done():
			return job, ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// follow reads a job's events until its end. A stream that ends before is an error.
func (c *Client) follow(ctx context.Context, id string, each func(Event)) (job wire.Job, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+"/v1/jobs/"+url.PathEscape(id)+"/events", nil)
	if err != nil {
		return job, err
	}
	c.authorize(r)
	response, err := c.HTTP.Do(r)
	if err != nil {
		return job, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		data, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16)) // what came of it
		return job, failure(response.StatusCode, data)
	}
	in := bufio.NewReader(response.Body)
	kind := ""
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return job, fmt.Errorf("the events of job %s ended before it did: %w", id, err)
		}
		line = strings.TrimSuffix(line, "\n")
		if word, ok := strings.CutPrefix(line, "event: "); ok {
			kind = word
		}
		text, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		e, err := event(kind, []byte(text))
		if err != nil {
			return job, err
		}
		each(e)
		if e.Type == wire.EndEvent {
			return *e.Job, nil
		}
	}
}

func event(kind string, data []byte) (e Event, err error) {
	e.Type = kind
	switch kind {
	case wire.StateEvent, wire.EndEvent:
		e.Job = &wire.Job{}
		err = json.Unmarshal(data, e.Job)
	case wire.ProgressType:
		e.Progress = &wire.ProgressEvent{}
		err = json.Unmarshal(data, e.Progress)
	case wire.PreviewType:
		e.Preview = &wire.PreviewEvent{}
		err = json.Unmarshal(data, e.Preview)
	case wire.PictureType:
		e.Picture = &wire.Picture{}
		err = json.Unmarshal(data, e.Picture)
	}
	return e, err
}
