package server

import (
	"context"
	"encoding/json"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hostileSeeds are bodies that clients send, to be damaged.
var hostileSeeds = []string{
	`{"request":{"prompt":"a red apple","seed":7,"steps":4,"count":2,"lora":"x:0.5","init":"upload:0123","hires":"2:upscaler=latent","sigmas":"karras"},"priority":1}`,
	`{"jobs":[{"prompt":"{a|b} __c__ ${d}","seed":"1..3","steps":[1,2]}]}`,
	"defaults: {steps: 2}\nvariables: {d: [x, y]}\njobs:\n  - prompt: a ${d}\n    seed: random\n",
	`{"prompt":"a pear","n":1,"size":"64x64","stream":false,"partial_images":1,"output_format":"webp","output_compression":50,"response_format":"url","background":"auto"}`,
	`{"prompt":"a pear","steps":2,"width":64,"height":64,"sampler_name":"Euler a","scheduler":"Karras","override_settings":{"sd_model_checkpoint":"default"},"alwayson_scripts":{"x":{"args":[{}]}},"seed":-1,"enable_hr":true}`,
	`{"prompt":"a pear","init_images":["iVBORw0KGgo="],"mask":"data:image/png;base64,AAAA","denoising_strength":0.5}`,
	"--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nx\r\n--b\r\nContent-Disposition: form-data; name=\"image[]\"; filename=\"../../x.png\"\r\n\r\n\x89PNG\r\n\x1a\n\r\n--b--\r\n",
	`{"image":"iVBORw0KGgo=","upscaling_resize":2,"upscaler_1":"../x"}`,
	`{"model":"default","prompt":"a (b:1.2) [c] <lora:d:1>","prompt_syntax":"weighted"}`,
	`{"priority":5}`, `{}`, `[]`, `null`, `{"sd_model_checkpoint":"default","x":null}`,
}

var hostilePaths = []string{
	"POST /v1/jobs", "GET /v1/jobs?limit=5&before=x&state=done", "GET /v1/jobs/../../x", "DELETE /v1/jobs/x", "PATCH /v1/jobs/x", "GET /v1/jobs/x/events",
	"GET /v1/pictures?query=a&limit=0", "GET /v1/pictures/x/file", "GET /v1/pictures/x/thumbnail", "DELETE /v1/pictures/x", "POST /v1/files", "POST /v1/inspect", "POST /v1/tokenize",
	"GET /v1/models", "GET /v1/models/x", "GET /v1/reports/x/y", "POST /v1/images/generations", "POST /v1/images/edits", "POST /v1/images/variations",
	"POST /sdapi/v1/txt2img", "POST /sdapi/v1/img2img", "GET /sdapi/v1/progress", "POST /sdapi/v1/interrupt", "POST /sdapi/v1/png-info", "POST /sdapi/v1/options", "GET /sdapi/v1/options",
	"POST /sdapi/v1/extra-single-image", "POST /sdapi/v1/extra-batch-images", "GET /openapi.json", "GET /metrics", "GET /", "GET /static/x",
}

var hostileTypes = []string{"application/json", "application/yaml", "text/csv", "application/jsonl", "multipart/form-data; boundary=b", "multipart/form-data", "", "text/html"}

// hostile is a server whose answers are looked at.
type hostile struct {
	*testServer
	outside string // a folder that nothing may be written to
}

func newHostile(t testing.TB) *hostile {
	dir := t.TempDir()
	inside := filepath.Join(dir, "inside")
	if err := os.Mkdir(inside, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("a secret of this machine"), 0o666); err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Folder: inside, Engines: simulate(0, 1), MaxBody: 1 << 20, Queue: 50, Log: slog.New(slog.DiscardHandler)})
	return &hostile{s, dir}
}

// try has the handler answer, which may not fail by itself, or give out the secret.
func (h *hostile) try(t *testing.T, place, media, body string) {
	t.Helper()
	method, path, _ := strings.Cut(place, " ")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	p, query, _ := strings.Cut(path, "?")
	r.URL.Path, r.URL.RawQuery, r.RemoteAddr = p, query, "127.0.0.1:1"
	r.Header.Set("Content-Type", media)
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, r)
	switch {
	case w.Code == http.StatusInternalServerError:
		t.Errorf("%s with %q %q: %d: %.300s", place, media, body, w.Code, w.Body)
	case strings.Contains(w.Body.String(), "a secret of this machine"):
		t.Errorf("%s with %q gives out what it may not", place, body)
	case w.Code >= 400 && w.Code != http.StatusServiceUnavailable && strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && !json.Valid(w.Body.Bytes()):
		t.Errorf("%s with %q: no JSON: %.200s", place, body, w.Body)
	}
}

// check says whether anything was written where nothing may be.
func (h *hostile) check(t *testing.T) {
	t.Helper()
	entries, err := fs.ReadDir(os.DirFS(h.outside), ".")
	if err != nil || len(entries) != 2 {
		t.Errorf("the folder outside has %v, %v", entries, err)
	}
}

// damage changes a text as somebody would who looks for holes.
func damage(r *rand.Rand, text string) string {
	b := []byte(text)
	words := []string{`"`, "{", "}", "[", "]", "\x00", "-1", "1e400", "99999999999999999999", "../../secret", "upload:../../secret", "picture:secret", "null", "true", "\xff", ":", ",", "0x", "NaN", strings.Repeat("[", 2000), "\u202e"}
	for range 1 + r.IntN(4) {
		at := r.IntN(len(b) + 1)
		switch r.IntN(4) {
		case 0:
			b = append(b[:at:at], append([]byte(words[r.IntN(len(words))]), b[at:]...)...)
		case 1:
			b = b[:at]
		case 2:
			if at < len(b) {
				b[at] = byte(r.IntN(256))
			}
		case 3:
			end := min(at+r.IntN(12), len(b))
			b = append(b[:at:at], append([]byte(words[r.IntN(len(words))]), b[end:]...)...)
		}
	}
	return string(b)
}

// Damaged requests: no crash, no error of the server's own, nothing read or written outside its folders.
func TestHostile(t *testing.T) {
	n := 3000
	if testing.Short() {
		n = 1000
	}
	if os.Getenv("DARKROOM_STORM") != "" {
		n = 100_000
	}
	h := newHostile(t)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range n {
		place, media := hostilePaths[r.IntN(len(hostilePaths))], hostileTypes[r.IntN(len(hostileTypes))]
		if r.IntN(8) == 0 {
			method, path, _ := strings.Cut(place, " ")
			place = method + " /" + damage(r, path[1:])
		}
		if h.try(t, place, media, damage(r, hostileSeeds[r.IntN(len(hostileSeeds))])); t.Failed() {
			t.Fatalf("at request %d of seed %d", i, seed)
		}
	}
	h.check(t)
	h.want(200, "GET", "/v1/models", nil, nil)
}

func FuzzRequest(f *testing.F) {
	for i, s := range hostileSeeds {
		f.Add(uint8(i), uint8(0), s)
		f.Add(uint8(16+i), uint8(4), s)
	}
	h := newHostile(f)
	f.Fuzz(func(t *testing.T, place, media uint8, body string) {
		h.try(t, hostilePaths[int(place)%len(hostilePaths)], hostileTypes[int(media)%len(hostileTypes)], body)
	})
}
