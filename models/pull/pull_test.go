package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fill puts a model into the repository, with all that other programs keep beside it.
func (h *hub) fill() {
	h.add("model_index.json", []byte(`{"_class_name": "P", "unet": ["diffusers", "U"], "vae": ["diffusers", "V"], "text_encoder": ["transformers", "T"],
		"tokenizer": ["transformers", "K"], "scheduler": ["diffusers", "S"], "safety_checker": ["x", "y"], "image_encoder": [null, null]}`), false)
	h.add("LICENSE.md", []byte("free"), false)
	h.add("README.md", []byte("read"), false)
	h.add("old.ckpt", bytes.Repeat([]byte("c"), 5000), true)
	h.add("unet/config.json", []byte(`{}`), false)
	for i, name := range []string{
		"unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors",
		"unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.bin", "unet/diffusion_flax_model.msgpack", "unet/model.onnx",
		"vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.bin", "safety_checker/model.safetensors",
		"text_encoder/model.fp16-00001-of-00002.safetensors", "text_encoder/model.fp16-00002-of-00002.safetensors", "text_encoder/pytorch_model.bin",
		"unet_other/diffusion_pytorch_model.safetensors",
	} {
		h.add(name, bytes.Repeat([]byte{byte('a' + i)}, 1000+100*i), true)
	}
	h.add("text_encoder/model.safetensors.index.fp16.json", []byte(`{"weight_map": {}}`), false)
	h.add("text_encoder/config.json", []byte(`{}`), false)
	h.add("vae/config.json", []byte(`{}`), false)
	h.add("tokenizer/merges.txt", []byte("m"), false)
	h.add("tokenizer/vocab.json", []byte(`{}`), false)
	h.add("scheduler/scheduler_config.json", []byte(`{}`), false)
}

func get(t *testing.T, p *Puller, source string, o Options) (string, error) {
	t.Helper()
	s, err := Parse(source, p.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.Plan(context.Background(), s, o)
	if err != nil {
		return "", err
	}
	return p.Run(context.Background(), plan)
}

func TestPullsModel(t *testing.T) {
	h, dir := newHub(t), t.TempDir()
	h.fill()
	h.extra = []map[string]any{{"type": "file", "path": "../../evil.json", "size": 3}, {"type": "file", "path": "unet/../../evil.json", "size": 3},
		{"type": "file", "path": `unet\..\evil.json`, "size": 3}, {"type": "file", "path": "/etc/evil.json", "size": 3}, {"type": "file", "path": "unet/c:evil.json", "size": 3}}
	var last, total int64
	p := h.puller(dir)
	p.Progress = func(_ string, done, all int64) { last, total = done, all }
	path, err := get(t, p, "hf:o/r", Options{})
	if err != nil || path != filepath.Join(dir, "r") {
		t.Fatalf("%s, %v", path, err)
	}
	const want = "r/.pulled.json r/LICENSE.md r/model_index.json r/scheduler/scheduler_config.json r/text_encoder/config.json " +
		"r/text_encoder/model.fp16-00001-of-00002.safetensors r/text_encoder/model.fp16-00002-of-00002.safetensors r/text_encoder/model.safetensors.index.fp16.json " +
		"r/tokenizer/merges.txt r/tokenizer/vocab.json r/unet/config.json r/unet/diffusion_pytorch_model.fp16.safetensors r/vae/config.json r/vae/diffusion_pytorch_model.safetensors"
	if got := listing(t, dir); got != want {
		t.Errorf("the folder has\n%s\nwant\n%s", got, want)
	}
	data, err := os.ReadFile(filepath.Join(path, "unet/diffusion_pytorch_model.fp16.safetensors"))
	if err != nil || !bytes.Equal(data, h.content["unet/diffusion_pytorch_model.fp16.safetensors"]) {
		t.Errorf("the weights are others: %v", err)
	}
	if len(h.leaks) > 0 {
		t.Errorf("the token went to another host: %q", h.leaks)
	}
	if last != total || total == 0 {
		t.Errorf("progress ends at %d of %d", last, total)
	}
	before := len(h.requests)
	if path, err := get(t, p, "hf:o/r", Options{}); !errors.Is(err, ErrThere) || path != filepath.Join(dir, "r") {
		t.Errorf("once more: %s, %v", path, err)
	}
	if more := h.requests[before:]; strings.Contains(strings.Join(more, "\n"), "FILE") {
		t.Errorf("what is there is fetched again: %q", more)
	}
	if _, err := get(t, p, "hf:o/r", Options{Variant: "fp32"}); err == nil || !strings.Contains(err.Error(), "--name") {
		t.Errorf("other files over the same name: %v", err)
	}
	if _, err := get(t, p, "hf:o/r", Options{Variant: "int4", Name: "x"}); err == nil || !strings.Contains(err.Error(), "fp16, fp32") {
		t.Errorf("a variant that is not there: %v", err)
	}
	if _, err := get(t, p, "hf:o/r", Options{Variant: "fp32", Name: "full"}); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, filepath.Join(dir, "full/unet")); got != "config.json diffusion_pytorch_model.safetensors" {
		t.Errorf("fp32 is %s", got)
	}
	if got := listing(t, filepath.Join(dir, "full/text_encoder")); got != "config.json pytorch_model.bin" && !strings.Contains(got, "fp16") {
		t.Errorf("the encoder is %s", got)
	}
}

// TestMirrors: hubs that answer less than Hugging Face's does.
func TestMirrors(t *testing.T) {
	for _, noHead := range []bool{false, true} {
		h, dir := newHub(t), t.TempDir()
		h.fill()
		h.noTree, h.noHead = true, noHead
		path, err := get(t, h.puller(dir), "hf:o/r", Options{})
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(path, "unet/diffusion_pytorch_model.fp16.safetensors"))
		if err != nil || !bytes.Equal(data, h.content["unet/diffusion_pytorch_model.fp16.safetensors"]) {
			t.Errorf("the weights are others: %v", err)
		}
		if len(h.leaks) > 0 {
			t.Errorf("the token went to another host: %q", h.leaks)
		}
	}
}

// TestFaults: whatever the server does, the file is whole under its name, or there is an error and no file.
func TestFaults(t *testing.T) {
	data := lora(t)
	for _, c := range []struct {
		name  string
		fault func(h *hub) func(http.ResponseWriter, *http.Request, []byte) bool
		url   bool   // by address alone: no hash is known
		want  string // part of the error; "": it works
		check func(h *hub) error
	}{
		{name: "cut four times", fault: func(h *hub) func(http.ResponseWriter, *http.Request, []byte) bool {
			n := 0
			return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				if n++; n < 5 {
					cut(w, r, data, h.etag(data), 2000)
				}
				return false
			}
		}, check: func(h *hub) error {
			if !strings.Contains(h.seen(), "bytes=8000-") {
				return errors.New("it did not go on where it was cut: " + h.seen())
			}
			return nil
		}},
		{name: "cut at once, for ever", want: "run the same command again", fault: func(h *hub) func(http.ResponseWriter, *http.Request, []byte) bool {
			return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				panic(http.ErrAbortHandler)
			}
		}},
		{name: "a length too large", want: "should have", fault: func(h *hub) func(http.ResponseWriter, *http.Request, []byte) bool {
			return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				w.Header().Set("Content-Length", fmt.Sprint(len(data)+50))
				_, _ = w.Write(data)
				return true
			}
		}},
		{name: "a length too large, by address", url: true, want: "run the same command again", fault: func(h *hub) func(http.ResponseWriter, *http.Request, []byte) bool {
			return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				if r.Header.Get("Range") != "" {
					return false // 416
				}
				w.Header().Set("Content-Length", fmt.Sprint(len(data)+50))
				_, _ = w.Write(data)
				return true
			}
		}},
		{name: "a length too small, by address", url: true, want: "not a file of weights", fault: func(h *hub) func(http.ResponseWriter, *http.Request, []byte) bool {
			return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				w.Header().Set("Content-Length", fmt.Sprint(len(data)-50))
				_, _ = w.Write(data[:len(data)-50])
				return true
			}
		}},
		{name: "no length, more than promised", want: "more than", fault: func(h *hub) func(http.ResponseWriter, *http.Request, []byte) bool {
			return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				_, _ = w.Write(data)
				_ = http.NewResponseController(w).Flush()
				for range 1000 {
					if _, err := w.Write(make([]byte, 1<<16)); err != nil {
						break
					}
				}
				return true
			}
		}},
		{name: "no length", url: true, fault: func(h *hub) func(http.ResponseWriter, *http.Request, []byte) bool {
			return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				_ = http.NewResponseController(w).Flush()
				_, _ = w.Write(data)
				return true
			}
		}},
		{name: "wrong content", want: "was expected", fault: func(h *hub) func(http.ResponseWriter, *http.Request, []byte) bool {
			return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				wrong := bytes.Clone(data)
				wrong[len(wrong)-1]++
				serveRange(w, r, wrong, "", false)
				return true
			}
		}},
		{name: "a web page", want: "web page", fault: func(h *hub) func(http.ResponseWriter, *http.Request, []byte) bool {
			return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				_, _ = w.Write([]byte("<html>log in</html>"))
				return true
			}
		}},
		{name: "too many requests, then served", fault: func(h *hub) func(http.ResponseWriter, *http.Request, []byte) bool {
			n := 0
			return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				if n++; n < 4 {
					w.Header().Set("Retry-After", "0")
					w.WriteHeader([]int{0, 429, 503, 502}[n])
					return true
				}
				return false
			}
		}},
		{name: "throttled", fault: func(h *hub) func(http.ResponseWriter, *http.Request, []byte) bool {
			return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
				for len(data) > 0 {
					n := min(1000, len(data))
					_, _ = w.Write(data[:n])
					_ = http.NewResponseController(w).Flush()
					data = data[n:]
					time.Sleep(20 * time.Millisecond)
				}
				return true
			}
		}},
		{name: "stalls, then goes on", fault: func(h *hub) func(http.ResponseWriter, *http.Request, []byte) bool {
			n := 0
			return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				if n++; n > 1 {
					return false
				}
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
				_, _ = w.Write(data[:3000])
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
				return true
			}
		}},
		{name: "ranges of another place", fault: func(h *hub) func(http.ResponseWriter, *http.Request, []byte) bool {
			n := 0
			return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				if n++; n == 1 {
					cut(w, r, data, h.etag(data), 2000)
				}
				if r.Header.Get("Range") != "" {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-99/%d", len(data)))
					w.WriteHeader(http.StatusPartialContent)
					_, _ = w.Write(data[:100])
					return true
				}
				return false
			}
		}},
		{name: "redirected for ever", want: "ten redirects", fault: func(h *hub) func(http.ResponseWriter, *http.Request, []byte) bool {
			return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				http.Redirect(w, r, r.URL.String(), http.StatusFound)
				return true
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, dir := newHub(t), t.TempDir()
			h.add("ink.safetensors", data, true)
			h.fault = c.fault(h)
			source := "hf:o/r:ink.safetensors"
			if c.url {
				source = h.files.URL + "/ink.safetensors"
			}
			path, err := get(t, h.puller(dir), source, Options{})
			if len(h.leaks) > 0 {
				t.Errorf("the token went to another host: %q", h.leaks)
			}
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("error %v; want one with %q", err, c.want)
				}
				if _, err := os.Stat(filepath.Join(dir, "loras")); err == nil {
					t.Errorf("there is something under the name: %s", listing(t, dir))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.check != nil {
				if err := c.check(h); err != nil {
					t.Error(err)
				}
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) || path != filepath.Join(dir, "loras", "ink.safetensors") {
				t.Errorf("%s: %d bytes, %v", path, len(got), err)
			}
			if got := listing(t, dir); got != "loras/ink.safetensors" {
				t.Errorf("left in the folder: %s", got)
			}
		})
	}
}

// TestChangesBetweenResumes: the file is another one when the command runs again.
func TestChangesBetweenResumes(t *testing.T) {
	first, second := lora(t), lora(t)
	second[len(second)-1], second[5000] = 1, 1
	for _, c := range []struct {
		name    string
		byURL   bool
		etag    func(data []byte) string // nil: the usual
		noRange bool
	}{{name: "by hash"}, {name: "by address", byURL: true}, {name: "weak validators", byURL: true, etag: func([]byte) string { return `W/"same"` }},
		{name: "no validators", byURL: true, etag: func([]byte) string { return "" }}, {name: "no ranges", byURL: true, noRange: true}} {
		t.Run(c.name, func(t *testing.T) {
			h, dir := newHub(t), t.TempDir()
			if c.etag != nil {
				h.etag = c.etag
			}
			h.add("ink.safetensors", first, true)
			n := 6000
			h.fault = func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				defer func() { n = 0 }()
				cut(w, r, data, h.etag(data), n)
				return true
			}
			p := h.puller(dir)
			p.Tries = 1
			source := "hf:o/r:ink.safetensors"
			if c.byURL {
				source = h.files.URL + "/ink.safetensors"
			}
			if _, err := get(t, p, source, Options{}); err == nil {
				t.Fatal("no error of a connection that is cut")
			}
			h.add("ink.safetensors", second, true)
			h.fault, h.noRange = nil, c.noRange
			path, err := get(t, h.puller(dir), source, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, second) {
				t.Errorf("the file is a mixture (%v)", err)
			}
		})
	}
}

// TestGoesOn: a second command fetches only what is missing.
func TestGoesOn(t *testing.T) {
	h, dir := newHub(t), t.TempDir()
	h.fill()
	n := 700
	h.fault = func(w http.ResponseWriter, r *http.Request, data []byte) bool {
		if strings.Contains(r.URL.Path, "vae/") {
			defer func() { n = 0 }()
			cut(w, r, data, h.etag(data), n)
		}
		return false
	}
	p := h.puller(dir)
	p.Tries = 1
	if _, err := get(t, p, "hf:o/r", Options{}); err == nil {
		t.Fatal("no error")
	}
	if _, err := os.Stat(filepath.Join(dir, "r")); err == nil {
		t.Error("half a model has its name")
	}
	h.fault, h.requests = nil, nil
	if _, err := get(t, p, "hf:o/r", Options{}); err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, r := range h.requests {
		if strings.HasPrefix(r, "FILE") {
			files++
		}
	}
	if files != 1 || !strings.Contains(h.seen(), "FILE vae/diffusion_pytorch_model.safetensors bytes=700-") {
		t.Errorf("fetched:\n%s", h.seen())
	}
}

func TestRefusals(t *testing.T) {
	h, dir := newHub(t), t.TempDir()
	h.fill()
	p := h.puller(dir)
	p.FreeDisk = func(string) (uint64, bool) { return 1000, true }
	if _, err := get(t, p, "hf:o/r", Options{}); err == nil || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("a full disk: %v", err)
	}
	if strings.Contains(h.seen(), "FILE") {
		t.Error("it began although there is no room")
	}
	p.FreeDisk = nil
	for source, want := range map[string]string{
		"hf:o/none": "does not exist or is private", "hf:o/r:no.safetensors": "no file no.safetensors",
	} {
		if _, err := get(t, p, source, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", source, err, want)
		}
	}
	h.gated = true
	for token, want := range map[string]string{"": "put it into HF_TOKEN", "bad": "check that the token", "good": ""} {
		p.Token = token
		_, err := get(t, p, "hf:o/r", Options{})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "/o/r")) {
			t.Errorf("token %q: %v; want %q", token, err, want)
		}
		if err != nil && token != "" && strings.Contains(err.Error(), token+" ") {
			t.Errorf("the message tells the token: %v", err)
		}
	}
}

// TestNames: what servers call a file never leads out of the folder.
func TestNames(t *testing.T) {
	for _, c := range []struct{ disposition, path, want string }{
		{`attachment; filename="ink.safetensors"`, "/api/download/models/12", "ink.safetensors"},
		{`attachment; filename="../../../ink.safetensors"`, "/x", "ink.safetensors"},
		{`attachment; filename="..\\..\\ink.safetensors"`, "/x", "ink.safetensors"},
		{`attachment; filename="/etc/cron.d/ink.safetensors"`, "/x", "ink.safetensors"},
		{`attachment; filename=".bashrc"`, "/ink.safetensors", "ink.safetensors"},
		{`attachment; filename="CON.safetensors"`, "/ink.safetensors", "ink.safetensors"},
		{``, "/ink.safetensors", "ink.safetensors"},
		{``, "/download", ""},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c.disposition != "" {
				w.Header().Set("Content-Disposition", c.disposition)
			}
			_, _ = w.Write(lora(t))
		}))
		dir := t.TempDir()
		inner := filepath.Join(dir, "a", "b")
		p := &Puller{Folder: inner, Endpoint: Hub, Client: NewClient(), Wait: time.Millisecond}
		path, err := get(t, p, s.URL+c.path, Options{})
		s.Close()
		if c.want == "" {
			if err == nil || !strings.Contains(err.Error(), "--name") {
				t.Errorf("%v: %s, %v", c, path, err)
			}
			continue
		}
		if err != nil || path != filepath.Join(inner, "loras", c.want) {
			t.Errorf("%v: %s, %v", c, path, err)
		}
		if got := listing(t, dir); got != "a/b/loras/"+c.want {
			t.Errorf("%v: the folder has %s", c, got)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"hf:o/r": "hf:o/r", "hf:o/r@v1.0": "hf:o/r@v1.0", "hf:o/r@refs/pr/1:a/b.safetensors": "hf:o/r@refs/pr/1:a/b.safetensors", "hf:o/r:x.gguf": "hf:o/r:x.gguf",
		"https://huggingface.co/o/r": "hf:o/r", "https://huggingface.co/o/r/blob/main/a/x.safetensors": "hf:o/r@main:a/x.safetensors",
		"https://huggingface.co/o/r/resolve/main/x.safetensors?download=true": "hf:o/r@main:x.safetensors", "https://example.org/x.pt": "https://example.org/x.pt",
		"sd15": "hf:stable-diffusion-v1-5/stable-diffusion-v1-5", "SDXL-Turbo": "hf:stabilityai/sdxl-turbo",
	} {
		if s, err := Parse(text, Hub); err != nil || s.String() != want {
			t.Errorf("%s: %s, %v; want %s", text, s, err, want)
		}
	}
	for _, text := range []string{"", "sd", "o/r", "hf:o", "hf:../r", "hf:o/r/x", "hf:o/r@../x", "hf:o/r:../x", "hf:o/r:/etc/x", "hf:o/r:.git/config", "file:///etc/passwd", "ftp://x/y.pt", "https://"} {
		if s, err := Parse(text, Hub); err == nil {
			t.Errorf("%q is %+v", text, s)
		}
	}
	seen := map[string]bool{}
	for _, s := range Shorts() {
		if _, err := Parse(s.Name, Hub); err != nil || s.Licence == "" || s.About == "" || seen[s.Name] || s.SHA256 != "" && !isSHA256(s.SHA256) {
			t.Errorf("row %+v: %v", s, err)
		}
		seen[s.Name] = true
	}
}

func FuzzSafe(f *testing.F) {
	for _, s := range []string{"a/b", "../a", "a/../b", `a\b`, "c:x", "nul.txt", "a/./b", "a//b", ".x", "a\x00b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if !safe(name) {
			return
		}
		rel, err := filepath.Rel("root", filepath.Join("root", filepath.FromSlash(name)))
		if err != nil || strings.HasPrefix(rel, "..") || filepath.IsAbs(rel) || strings.ContainsAny(name, "\\:\x00") {
			t.Errorf("%q is taken for safe", name)
		}
	})
}
