package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"darkroom/imagefile"
	"darkroom/pipeline"
	"darkroom/recipe"
	"darkroom/server/client"
	"darkroom/server/wire"
)

// The client package: submit, wait, cancel, priorities, keys, files.
func TestClient(t *testing.T) {
	s := start(t, Options{Engines: simulate(100*time.Millisecond, 1)})
	c := client.New(s.url, "")
	ctx := t.Context()
	models, err := c.Models(ctx)
	if err != nil || len(models) != 1 || models[0].Name != "default" || models[0].Width != 256 || models[0].Steps != 25 || !models[0].Default || models[0].Family != "Stable Diffusion" {
		t.Errorf("%+v, %v", models, err)
	}
	first, err := c.Submit(ctx, client.Request{Settings: map[string]any{"prompt": "a", "seed": 1, "count": 3}, Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.Submit(ctx, client.Request{Settings: map[string]any{"prompt": "a", "seed": 1, "count": 3}, Key: "k"}); err != nil || again.ID != first.ID {
		t.Errorf("the same key: %+v, %v", again, err)
	}
	var refused *client.Error
	if _, err := c.Submit(ctx, client.Request{Settings: map[string]any{"prompt": "b"}, Key: "k"}); !errors.As(err, &refused) || refused.Status != 409 {
		t.Errorf("the key for another request: %v", err)
	}
	low, err := c.Submit(ctx, client.Request{Settings: map[string]any{"prompt": "low"}, Priority: -5})
	if err != nil {
		t.Fatal(err)
	}
	high, err := c.Submit(ctx, client.Request{File: []byte("jobs:\n  - prompt: high\n    seed: 1..4\n")})
	if err != nil || high.Count != 4 {
		t.Fatalf("%+v, %v", high, err)
	}
	if high, err = c.SetPriority(ctx, high.ID, 7); err != nil || high.Priority != 7 {
		t.Errorf("%+v, %v", high, err)
	}
	gone, err := c.Submit(ctx, client.Request{Settings: map[string]any{"prompt": "gone"}})
	if err != nil {
		t.Fatal(err)
	}
	if gone, err = c.Cancel(ctx, gone.ID); err != nil || gone.State != wire.Cancelled {
		t.Errorf("%+v, %v", gone, err)
	}
	var kinds []string
	done, err := c.Wait(ctx, low.ID, func(e client.Event) { kinds = append(kinds, e.Type) })
	if err != nil || done.State != wire.Done || len(done.Pictures) != 1 || kinds[0] != wire.StateEvent || kinds[len(kinds)-1] != wire.EndEvent || !slices.Contains(kinds, wire.PictureType) {
		t.Errorf("%+v, %v, events %v", done, err, kinds)
	}
	if data, err := c.File(ctx, done.Pictures[0].ID); err != nil || recipeOf(t, data).Prompt != "low" {
		t.Errorf("its file: %v", err)
	}
	if high, err = c.Job(ctx, high.ID); err != nil || high.State != wire.Done || !high.Ended.Before(*done.Started) {
		t.Errorf("what is urgent was not made before what is not: %+v, %v", high, err)
	}
	if _, err := c.Wait(ctx, first.ID, nil); err != nil { // its last picture may still be on its way to the disk
		t.Fatal(err)
	}
	list, err := c.Jobs(ctx, "", 2, wire.Done)
	if err != nil || len(list.Jobs) != 2 || list.Jobs[0].ID != high.ID || list.Next == "" {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err = c.Jobs(ctx, list.Next, 0); err != nil || len(list.Jobs) != 1 || list.Jobs[0].ID != first.ID {
		t.Errorf("before: %+v, %v", list, err)
	}
	if pictures, err := c.Pictures(ctx, "high", "", 0); err != nil || len(pictures.Pictures) != 4 {
		t.Errorf("%+v, %v", pictures, err)
	}
	if _, err := c.Job(ctx, "nothing"); !errors.As(err, &refused) || refused.Status != 404 {
		t.Errorf("%v", err)
	}
}

// A job that is at work ends within a step when it is cancelled, and its neighbour goes on.
func TestCancel(t *testing.T) {
	s := start(t, Options{})
	c := client.New(s.url, "")
	ctx := t.Context()
	doomed, err := c.Submit(ctx, client.Request{Settings: map[string]any{"prompt": "doomed", "steps": 200, "count": 2}})
	if err != nil {
		t.Fatal(err)
	}
	neighbour, err := c.Submit(ctx, client.Request{Settings: map[string]any{"prompt": "a neighbour", "steps": 60}})
	if err != nil {
		t.Fatal(err)
	}
	cancelled := time.Time{}
	job, err := c.Wait(ctx, doomed.ID, func(e client.Event) {
		if e.Type == wire.ProgressType && e.Progress.Step > 2 && cancelled.IsZero() {
			cancelled = time.Now()
			if _, err := c.Cancel(ctx, doomed.ID); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil || job.State != wire.Cancelled || len(job.Pictures) != 0 || time.Since(cancelled) > 10*time.Second {
		t.Errorf("%+v, %v, %v after the cancellation", job, err, time.Since(cancelled))
	}
	if job, err = c.Wait(ctx, neighbour.ID, nil); err != nil || job.State != wire.Done {
		t.Errorf("the neighbour: %+v, %v", job, err)
	}
}

// Requests of one model and size are denoised together, and each picture is the one that it is alone.
func TestTogether(t *testing.T) {
	s := start(t, Options{AtOnce: 4})
	s.jobs.Pause(true)
	var ids []string
	for i := range 4 {
		var j wire.Job
		s.want(201, "POST", "/v1/jobs", object{"request": object{"prompt": fmt.Sprintf("picture %d", i), "seed": i, "steps": 5}}, &j)
		ids = append(ids, j.ID)
	}
	s.jobs.Pause(false)
	p, err := pipeline.Open(pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var began []time.Time
	for i, id := range ids {
		j := s.ended(id)
		if j.State != wire.Done {
			t.Fatalf("%+v", j)
		}
		began = append(began, s.jobs.Results(id)[0].Record.Started)
		r := p.NewRequest(fmt.Sprintf("picture %d", i))
		r.Seed, r.Steps = uint64(i), 5
		alone, err := p.Render(t.Context(), r, pipeline.Events{})
		if err != nil {
			t.Fatal(err)
		}
		var data []byte
		s.want(200, "GET", j.Pictures[0].URL, nil, &data)
		img, err := imagefile.LoadData(data)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(img.Pix, alone.Pixels.Pix) {
			t.Errorf("picture %d is another than the one that is made alone", i)
		}
	}
	if !began[3].Equal(began[0]) {
		t.Errorf("the pictures were not rendered in one call: the calls began at %v", began)
	}
}

func TestGallery(t *testing.T) {
	s := start(t, Options{})
	img := image.NewNRGBA(image.Rect(0, 0, 64, 64))
	for i := range img.Pix {
		img.Pix[i] = 200
	}
	var buf bytes.Buffer
	if err := png.Encode(&buf, img); err != nil {
		t.Fatal(err)
	}
	var u struct {
		ID            string
		Width, Height int
	}
	s.want(201, "POST", "/v1/files", buf.Bytes(), &u)
	var j wire.Job
	s.want(201, "POST", "/v1/jobs", object{"request": object{"prompt": "a pear", "init": "upload:" + u.ID, "strength": 0.5, "steps": 4, "seed": 1}}, &j)
	j = s.ended(j.ID)
	if j.State != wire.Done || j.Pictures[0].Width != 64 || u.Width != 64 {
		t.Fatalf("%+v", j)
	}
	first := j.Pictures[0]
	s.want(201, "POST", "/v1/jobs", object{"request": object{"prompt": "a pear again", "init": "picture:" + first.ID, "steps": 4}}, &j)
	if j = s.ended(j.ID); j.State != wire.Done {
		t.Fatalf("%+v", j)
	}
	var data []byte
	r := s.want(200, "GET", first.URL, nil, &data)
	if r.Header.Get("ETag") == "" || !strings.Contains(r.Header.Get("Content-Security-Policy"), "sandbox") || r.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v", r.Header)
	}
	if status, _, _ := s.send("GET", first.URL, "", map[string]string{"If-None-Match": r.Header.Get("ETag")}); status != 304 {
		t.Errorf("the same again: %d", status)
	}
	var seen struct {
		Settings map[string]any
		Program  string
		Complete bool
	}
	if s.want(200, "POST", "/v1/inspect", data, &seen); !seen.Complete || seen.Settings["prompt"] != "a pear" || seen.Settings["seed"] != 1.0 || !strings.HasPrefix(seen.Program, "darkroom") {
		t.Errorf("%+v", seen)
	}
	s.want(204, "DELETE", "/v1/pictures/"+first.ID, nil, nil)
	s.want(410, "GET", first.URL, nil, nil)
	var list wire.PictureList
	if s.want(200, "GET", "/v1/pictures", nil, &list); len(list.Pictures) != 1 || list.Pictures[0].Prompt != "a pear again" {
		t.Errorf("%+v", list)
	}
	// A file that somebody changed is not given out.
	files, err := filepath.Glob(filepath.Join(s.o.Folder, "*", "*.png"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if err := os.WriteFile(files[0], bytes.Repeat([]byte("x"), int(list.Pictures[0].Bytes)), 0o666); err != nil {
		t.Fatal(err)
	}
	s.want(410, "GET", list.Pictures[0].URL, nil, nil)
}

func TestChoices(t *testing.T) {
	reports := t.TempDir()
	if err := os.MkdirAll(filepath.Join(reports, "one", "plots"), 0o777); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"one/index.html": "<p>a report", "one/plots/a.svg": "<svg/>", "secret": "s"} {
		if err := os.WriteFile(filepath.Join(reports, filepath.FromSlash(name)), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, Options{Reports: reports})
	var list struct{ Data []map[string]any }
	for path, least := range map[string]int{"models": 1, "schedulers": 20, "settings": len(recipe.All()) - 1, "reports": 1, "loras": 0, "embeddings": 0, "vaes": 0, "upscalers": 0} {
		s.want(200, "GET", "/v1/"+path, nil, &list)
		if len(list.Data) < least || least > 0 && list.Data[0]["name"] == "" {
			t.Errorf("%s: %v", path, list.Data)
		}
	}
	var data []byte
	if r := s.want(200, "GET", "/v1/reports/one/", nil, &data); string(data) != "<p>a report" || !strings.Contains(r.Header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("%s, %v", data, r.Header)
	}
	s.want(200, "GET", "/v1/reports/one/plots/a.svg", nil, nil)
	s.want(404, "GET", "/v1/reports/one/nothing", nil, nil)
	var tokens struct {
		Tokens, Limit, Chunks int
		Pieces                []struct{ Text string }
	}
	if s.want(200, "POST", "/v1/tokenize", object{"prompt": "a (red:1.3) apple"}, &tokens); tokens.Tokens != 3 || tokens.Limit != 22 || tokens.Chunks != 1 || tokens.Pieces[1].Text != "red" {
		t.Errorf("%+v", tokens)
	}
	if s.want(200, "POST", "/v1/tokenize", object{"prompt": strings.Repeat("apple ", 100)}, &tokens); tokens.Tokens != 100 || tokens.Chunks != 5 {
		t.Errorf("%+v", tokens)
	}
	if s.want(200, "GET", "/", nil, &data); !bytes.Contains(data, []byte("<html")) {
		t.Errorf("the page: %.100s", data)
	}
}

// The document describes every place, and each reference in it leads somewhere.
func TestOpenAPI(t *testing.T) {
	s := start(t, Options{})
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]json.RawMessage
		Components struct{ Schemas map[string]any }
	}
	var text []byte
	s.want(200, "GET", "/openapi.json", nil, &text)
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" || len(doc.Paths) < 50 {
		t.Errorf("version %s, %d paths", doc.OpenAPI, len(doc.Paths))
	}
	for _, ref := range strings.Split(string(text), `"$ref": "#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(ref, `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("no schema is called %s", name)
		}
	}
	for path, methods := range doc.Paths {
		for method := range methods {
			if path == "/v1/events" { // has no end
				continue
			}
			if r := s.do(strings.ToUpper(method), strings.NewReplacer("{id}", "x", "{name}", "x", "{file}", "x").Replace(path), "{}", nil); r.StatusCode == 405 || r.StatusCode == http.StatusNotImplemented {
				t.Errorf("%s %s: status %d", method, path, r.StatusCode)
			}
		}
	}
}
