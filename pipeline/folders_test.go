package pipeline

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// changedModel is a copy of a tiny model with some of its files replaced.
func changedModel(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "models", name))); err != nil {
		t.Fatal(err)
	}
	for file, text := range files {
		path := filepath.Join(dir, file)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestSchedulerClasses: model_index.json names one class and scheduler_config.json another, as in folders of the hub. diffusers
// takes the class of the first with the values of the second; train/goldens_folders.py drew its pictures.
func TestSchedulerClasses(t *testing.T) {
	dir := filepath.Join("testdata", "folders")
	text, err := os.ReadFile(filepath.Join(dir, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name, Index string
		Config      json.RawMessage
	}
	if err := json.Unmarshal(text, &cases); err != nil || len(cases) < 3 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	index, err := os.ReadFile(filepath.Join("testdata", "models", "sd1", "model_index.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			model := changedModel(t, "sd1", map[string]string{
				"model_index.json":                strings.Replace(string(index), `"DDIMScheduler"`, `"`+c.Index+`"`, 1),
				"scheduler/scheduler_config.json": string(c.Config),
			})
			p, err := Open(Options{Model: model, Backend: Ref})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			r := p.NewRequest("a red apple")
			r.Syntax, r.Seed, r.Steps, r.CFG, r.Width, r.Height = "plain", 7, 6, 7.5, 64, 64
			img, err := p.Render(context.Background(), r, Events{})
			if err != nil {
				t.Fatal(err)
			}
			if dB := psnr(img.Pixels, readPNG(t, filepath.Join(dir, c.Name+".png"))); dB < 60 {
				t.Errorf("the picture is at %.1f dB from diffusers', want 60", dB)
			}
		})
	}
}

// A class that is not known is named, with the file that names it.
func TestSchedulerClassUnknown(t *testing.T) {
	index, err := os.ReadFile(filepath.Join("testdata", "models", "sd1", "model_index.json"))
	if err != nil {
		t.Fatal(err)
	}
	model := changedModel(t, "sd1", map[string]string{"model_index.json": strings.Replace(string(index), `"DDIMScheduler"`, `"ScoreSdeVeScheduler"`, 1)})
	_, err = Open(Options{Model: model, Backend: Ref})
	if err == nil || !strings.Contains(err.Error(), "model_index.json: scheduler: the scheduler class ScoreSdeVeScheduler is not supported") {
		t.Errorf("error %v", err)
	}
}

// sample_size may be a height and a width.
func TestSampleSizeOfTwo(t *testing.T) {
	config, err := os.ReadFile(filepath.Join("testdata", "models", "sd1", "unet", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(config), `"sample_size": 16`, `"sample_size": [8, 12]`, 1)
	if changed == string(config) {
		t.Fatal("the model's sample_size is not 16")
	}
	p, err := Open(Options{Model: changedModel(t, "sd1", map[string]string{"unet/config.json": changed}), Backend: Ref})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if r := p.NewRequest("x"); r.Height != 8*p.Factor() || r.Width != 12*p.Factor() {
		t.Errorf("%d×%d pixels", r.Width, r.Height)
	}
}
