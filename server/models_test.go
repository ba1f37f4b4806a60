package server

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"darkroom/server/wire"
)

// library puts models into a folder that servers look at.
func library(t *testing.T, s *testServer) {
	t.Helper()
	root := t.TempDir()
	for name, from := range map[string]string{"sd1": "sd1", "v-pred": "zsnr"} {
		if err := os.CopyFS(filepath.Join(root, name), os.DirFS("../pipeline/testdata/models/"+from)); err != nil {
			t.Fatal(err)
		}
	}
	vae := filepath.Join(root, "vae")
	if err := os.MkdirAll(vae, 0o777); err != nil {
		t.Fatal(err)
	}
	weights, err := os.ReadFile("../pipeline/testdata/models/sd1/vae/diffusion_pytorch_model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(vae, "other.safetensors"), weights, 0o666); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DARKROOM_MODELS", root)
	s.want(200, "POST", "/sdapi/v1/refresh-checkpoints", nil, nil)
}

// TestEmbeddingsByWord: for clients of AUTOMATIC1111's API the name of an embedding in a prompt is enough.
func TestEmbeddingsByWord(t *testing.T) {
	s := start(t, Options{})
	library(t, s)
	if err := os.CopyFS(filepath.Join(os.Getenv("DARKROOM_MODELS"), "embeddings"), os.DirFS("../pipeline/testdata/adapted/embeddings")); err != nil {
		t.Fatal(err)
	}
	for prompt, want := range map[string]string{"a (swirl:1.2)": "swirl.safetensors", "a twirl": ""} {
		var out struct{ Images [][]byte }
		s.want(200, "POST", "/sdapi/v1/txt2img", object{"prompt": "a cat", "negative_prompt": prompt, "steps": 1, "width": 64, "height": 64, "override_settings": object{"sd_model_checkpoint": "sd1"}}, &out)
		if got := recipeOf(t, out.Images[0]).Embedding; got != want {
			t.Errorf("%q: the recipe has the embedding %q", prompt, got)
		}
	}
	for prompt, want := range map[string]any{"a swirl": "auto", "a swirly": nil} {
		var seen struct{ Settings map[string]any }
		if s.want(200, "POST", "/v1/inspect", withText(t, prompt+"\nSteps: 1, Sampler: Euler, CFG scale: 2, Seed: 1, Size: 64x64"), &seen); seen.Settings["embedding"] != want || seen.Settings["prompt"] != prompt {
			t.Errorf("%q, read from a picture: %v", prompt, seen.Settings)
		}
	}
}

// withText is a PNG with parameters as another program writes them.
func withText(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
		t.Fatal(err)
	}
	const header = 8 + 25 // the signature and IHDR
	chunk := append([]byte("tEXtparameters\x00"), text...)
	out := binary.BigEndian.AppendUint32(bytes.Clone(b.Bytes()[:header]), uint32(len(chunk)-4))
	out = binary.BigEndian.AppendUint32(append(out, chunk...), crc32.ChecksumIEEE(chunk))
	return append(out, b.Bytes()[header:]...)
}

// Models go by their names in all three APIs, several at once, and are closed when nobody uses them.
func TestModels(t *testing.T) {
	s := start(t, Options{Idle: 300 * time.Millisecond})
	library(t, s)
	var list struct {
		Data []struct {
			ID      string
			Width   int
			Factor  int
			Default bool
			Problem string
		}
	}
	s.want(200, "GET", "/v1/models", nil, &list)
	if len(list.Data) != 3 || list.Data[0].ID != "default" || !list.Data[0].Default || list.Data[1].ID != "sd1" || list.Data[1].Width == 0 || list.Data[1].Factor != 8 || list.Data[1].Problem != "" {
		t.Errorf("%+v", list)
	}
	var j wire.Job
	s.want(201, "POST", "/v1/jobs", object{"request": object{"model": "sd1", "prompt": "a", "steps": 2, "width": 64, "height": 64, "seed": 1}}, &j)
	if j = s.ended(j.ID); j.State != wire.Done {
		t.Fatalf("%+v", j)
	}
	var data []byte
	s.want(200, "GET", j.Pictures[0].URL, nil, &data)
	if c := recipeOf(t, data); c.Model != "sd1" {
		t.Errorf("%+v", c)
	}
	var p wire.Picture
	s.want(200, "GET", "/v1/pictures/"+j.Pictures[0].ID, nil, &p)
	if text := string(p.Settings); strings.Contains(text, "/") || !strings.Contains(text, `"model":"sd1"`) || !strings.Contains(text, `"scheduler"`) {
		t.Errorf("the gallery tells %s", text)
	}
	var images struct {
		Data []struct {
			B64 string `json:"b64_json"`
		}
	}
	s.want(200, "POST", "/v1/images/generations", object{"model": "v-pred", "prompt": "a", "steps": 2, "size": "64x64"}, &images)
	if c := recipeOf(t, unbase64(t, images.Data[0].B64)); c.Model != "v-pred" {
		t.Errorf("%+v", c)
	}
	var out struct{ Images []string }
	s.want(200, "POST", "/sdapi/v1/txt2img", object{"prompt": "a", "steps": 2, "width": 64, "height": 64, "override_settings": object{"sd_model_checkpoint": "sd1", "sd_vae": "other.safetensors", "CLIP_stop_at_last_layers": 2}}, &out)
	if c := recipeOf(t, unbase64(t, out.Images[0])); c.Model != "sd1" || c.VAE != "other" || c.ClipSkip != 1 {
		t.Errorf("%+v", c)
	}
	s.want(200, "POST", "/sdapi/v1/options", object{"sd_model_checkpoint": "v-pred"}, nil)
	s.want(200, "POST", "/sdapi/v1/txt2img", object{"prompt": "a", "steps": 2, "width": 64, "height": 64}, &out)
	if c := recipeOf(t, unbase64(t, out.Images[0])); c.Model != "v-pred" {
		t.Errorf("with the option: %+v", c)
	}
	var options map[string]json.RawMessage
	if s.want(200, "GET", "/sdapi/v1/options", nil, &options); string(options["sd_model_checkpoint"]) != `"v-pred"` {
		t.Errorf("%s", options["sd_model_checkpoint"])
	}
	for range 100 { // all are closed after a while
		text := metricsText(s)
		if strings.Contains(text, `darkroom_server_models_total{model="sd1",event="closed"} `) && strings.Contains(text, `darkroom_server_models_total{model="v-pred",event="closed"} `) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("models that nobody uses stay open")
}
