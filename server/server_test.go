package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"darkroom/imagefile"
	"darkroom/recipe"
	"darkroom/server/wire"
)

// testServer is a server on the embedded model that is at work.
type testServer struct {
	t testing.TB
	*Server
	url  string
	stop func()
}

func start(t testing.TB, o Options) *testServer {
	t.Helper()
	if o.Folder == "" {
		o.Folder = t.TempDir()
	}
	if o.History == "" {
		o.History = filepath.Join(o.Folder, "history.jsonl")
	}
	t.Setenv("DARKROOM_MODELS", t.TempDir())
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	go s.Run(ctx)
	ts := &testServer{t: t, Server: s, url: h.URL}
	stopped := false
	ts.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		h.CloseClientConnections()
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(ts.stop)
	return ts
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

// do sends a request with a JSON body (nil: none) and reads the answer into v.
func (s *testServer) do(method, path string, body, v any) *http.Response {
	s.t.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		in = bytes.NewReader(b)
	case string:
		in = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		in = bytes.NewReader(text)
	}
	r, err := http.NewRequest(method, s.url+path, in)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	switch v := v.(type) {
	case nil:
	case *[]byte:
		*v = data
	default:
		if err := json.Unmarshal(data, v); err != nil {
			s.t.Fatalf("%s %s: %v: %.300s", method, path, err, data)
		}
	}
	return response
}

// want fails the test unless the answer has the status.
func (s *testServer) want(status int, method, path string, body, v any) *http.Response {
	s.t.Helper()
	var data []byte
	r := s.do(method, path, body, &data)
	if r.StatusCode != status {
		s.t.Fatalf("%s %s: status %d, want %d: %.500s", method, path, r.StatusCode, status, data)
	}
	if v != nil {
		if raw, ok := v.(*[]byte); ok {
			*raw = data
		} else if err := json.Unmarshal(data, v); err != nil {
			s.t.Fatalf("%s %s: %v: %.300s", method, path, err, data)
		}
	}
	return r
}

// ended waits until a job has ended.
func (s *testServer) ended(id string) wire.Job {
	s.t.Helper()
	for range 600 {
		var j wire.Job
		if s.want(200, "GET", "/v1/jobs/"+id, nil, &j); wire.Ended(j.State) {
			return j
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatal("the job does not end")
	return wire.Job{}
}

type object = map[string]any

// recipeOf is the recipe in a picture's file.
func recipeOf(t *testing.T, data []byte) recipe.Recipe {
	t.Helper()
	info, err := imagefile.InspectData(data)
	if err != nil {
		t.Fatal(err)
	}
	if !info.Complete {
		t.Fatal("the picture has no recipe")
	}
	return *info.Recipe
}

func unbase64(t *testing.T, text string) []byte {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestJob(t *testing.T) {
	s := start(t, Options{})
	var j wire.Job
	r := s.want(201, "POST", "/v1/jobs", object{"request": object{"prompt": "a red apple", "seed": 7, "steps": 4, "count": 3}}, &j)
	if r.Header.Get("Location") != "/v1/jobs/"+j.ID || j.Count != 3 {
		t.Errorf("location %q, job %+v", r.Header.Get("Location"), j)
	}
	j = s.ended(j.ID)
	if j.State != wire.Done || len(j.Pictures) != 3 {
		t.Fatalf("%+v", j)
	}
	for i, p := range j.Pictures {
		if p.Seed != uint64(7+i) || p.Width != 256 || p.Missing {
			t.Errorf("picture %d: %+v", i, p)
		}
		var data []byte
		s.want(200, "GET", p.URL, nil, &data)
		if c := recipeOf(t, data); c.Seed != p.Seed || c.Steps != 4 || c.Prompt != "a red apple" {
			t.Errorf("picture %d has the recipe %+v", i, c)
		}
		if r := s.want(200, "GET", p.Thumbnail, nil, &data); r.Header.Get("Content-Type") != "image/jpeg" {
			t.Errorf("thumbnail: %v", r.Header)
		}
	}
	var list, rest wire.PictureList
	s.want(200, "GET", "/v1/pictures?query=RED&limit=2", nil, &list)
	s.want(200, "GET", "/v1/pictures?query=red&before="+list.Next, nil, &rest)
	seen := map[string]bool{}
	for _, p := range append(list.Pictures, rest.Pictures...) {
		seen[p.ID] = true
	}
	if len(list.Pictures) != 2 || len(rest.Pictures) != 1 || len(seen) != 3 || list.Next == "" || rest.Next != "" {
		t.Errorf("%+v and %+v", list, rest)
	}
	s.want(200, "GET", "/v1/pictures?query=blue", nil, &list)
	if len(list.Pictures) != 0 {
		t.Errorf("a word that no prompt has finds %+v", list)
	}
}

// readEvents reads server-sent events until the stream ends.
func readEvents(t *testing.T, body io.Reader) (types []string, data []string) {
	t.Helper()
	in := bufio.NewScanner(body)
	in.Buffer(nil, 32<<20)
	for in.Scan() {
		if kind, ok := strings.CutPrefix(in.Text(), "event: "); ok {
			types = append(types, kind)
		} else if text, ok := strings.CutPrefix(in.Text(), "data: "); ok {
			data = append(data, text)
		}
	}
	if len(types) != len(data) {
		t.Errorf("%d types of %d events", len(types), len(data))
	}
	return types, data
}

func TestEvents(t *testing.T) {
	s := start(t, Options{})
	var j wire.Job
	s.want(201, "POST", "/v1/jobs", object{"request": object{"prompt": "a pear", "steps": 30, "count": 2}}, &j)
	response, err := http.Get(s.url + "/v1/jobs/" + j.ID + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	types, data := readEvents(t, response.Body)
	count := map[string]int{}
	for _, k := range types {
		count[k]++
	}
	if types[0] != "state" || types[len(types)-1] != "end" || count["picture"] != 2 || count["progress"] < 30 || count["preview"] < 1 {
		t.Errorf("events %v", count)
	}
	var last wire.Job
	if err := json.Unmarshal([]byte(data[len(data)-1]), &last); err != nil || last.State != wire.Done || len(last.Pictures) != 2 {
		t.Errorf("%v: %+v", err, last)
	}
	for i, k := range types {
		var p wire.PreviewEvent
		if k != "preview" {
			continue
		}
		if err := json.Unmarshal([]byte(data[i]), &p); err != nil {
			t.Fatal(err)
		}
		b64, ok := strings.CutPrefix(p.Image, "data:image/jpeg;base64,")
		if img, err := imagefile.LoadData(unbase64(t, b64)); !ok || err != nil || img.Bounds().Dx() != 256 {
			t.Errorf("preview %v", err)
		}
	}
}

func TestGenerations(t *testing.T) {
	s := start(t, Options{})
	var out struct {
		Data []struct {
			B64  string `json:"b64_json"`
			Seed uint64 `json:"seed"`
		} `json:"data"`
		Size string
	}
	for range 2 { // the second is the first one's pictures
		s.want(200, "POST", "/v1/images/generations", object{"prompt": "a red apple", "n": 2, "seed": 5, "num_inference_steps": 3, "guidance_scale": 2, "size": "128x64"}, &out)
		if len(out.Data) != 2 || out.Size != "128x64" {
			t.Fatalf("%+v", out)
		}
		for i, d := range out.Data {
			if c := recipeOf(t, unbase64(t, d.B64)); c.Seed != uint64(5+i) || c.Steps != 3 || c.CFG != 2 || c.Height != 64 {
				t.Errorf("picture %d: %+v", i, c)
			}
		}
	}
	if n := s.metrics.counter("pictures_total", `{device="`+deviceName(s)+`"}`).Get(); n != 2 {
		t.Errorf("%d pictures were rendered, want 2", n)
	}
}

func deviceName(s *testServer) string {
	for name := range strings.Lines(metricsText(s)) {
		if rest, ok := strings.CutPrefix(name, `darkroom_server_pictures_total{device="`); ok {
			device, _, _ := strings.Cut(rest, `"`)
			return device
		}
	}
	return ""
}

func metricsText(s *testServer) string {
	var text []byte
	s.want(200, "GET", "/metrics", nil, &text)
	return string(text)
}

func TestTxt2img(t *testing.T) {
	s := start(t, Options{})
	var out struct {
		Images []string
		Info   string
	}
	s.want(200, "POST", "/sdapi/v1/txt2img", object{
		"prompt": "a red apple", "negative_prompt": "blurry", "steps": 4, "cfg_scale": 3, "seed": 11, "sampler_name": "DPM++ 2M", "scheduler": "Karras", "batch_size": 2, "n_iter": 1, "width": 100, "height": 128,
	}, &out)
	var info struct {
		Seed      uint64
		AllSeeds  []uint64 `json:"all_seeds"`
		Width     int
		Infotexts []string
		Sampler   string `json:"sampler_name"`
	}
	if err := json.Unmarshal([]byte(out.Info), &info); err != nil {
		t.Fatal(err)
	}
	if len(out.Images) != 2 || fmt.Sprint(info.AllSeeds) != "[11 12]" || info.Width != 96 || info.Sampler != "DPM++ 2M Karras" || len(info.Infotexts) != 2 {
		t.Fatalf("%d images, %+v", len(out.Images), info)
	}
	for i, text := range info.Infotexts {
		f, err := recipe.ParseParameters(text)
		if err != nil {
			t.Fatal(err)
		}
		c := recipeOf(t, unbase64(t, out.Images[i]))
		if f.Recipe.Seed != c.Seed || f.Recipe.Scheduler != "dpm++2m" || c.Sigmas != "karras" || f.Recipe.Negative != "blurry" || c.Steps != 4 || f.Recipe.CFG != 3 {
			t.Errorf("infotext %q of %+v", text, c)
		}
	}
}
