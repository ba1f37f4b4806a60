package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/checkpoint"
)

// A model in a single file, by the original code's names, makes the pictures of its folder bit for bit, and goes by the
// file's own hash. The names are checked against diffusers' in package checkpoint.
func TestSingleFileMakesThePicturesOfItsFolder(t *testing.T) {
	for _, name := range []string{"sd1", "sd2", "odd", "zsnr"} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join("testdata/models", name)
			f, err := checkpoint.OpenModel(folder, checkpoint.SingleOptions{})
			if err != nil {
				t.Fatal(err)
			}
			sets, err := checkpoint.OpenParts(f)
			if err != nil {
				t.Fatal(err)
			}
			x := &checkpoint.Export{Folder: f, Parts: map[string]checkpoint.Weights{}}
			for part, s := range sets {
				defer s.Close()
				x.Parts[part] = s
			}
			file := filepath.Join(t.TempDir(), "river.safetensors")
			if err := x.SaveFile(file); err != nil {
				t.Fatal(err)
			}
			a, b := open(t, Options{Model: folder}), open(t, Options{Model: file})
			r := a.NewRequest("a red (apple:1.3) on a table")
			if other := b.NewRequest(r.Prompt); other.Width != r.Width || other.Steps != r.Steps || other.CFG != r.CFG || other.Scheduler != r.Scheduler {
				t.Errorf("defaults %+v, the folder's are %+v", other, r)
			}
			r.Seed, r.Steps, r.Width, r.Height = 7, 3, 64, 64
			want, got := render(t, a, r), render(t, b, r)
			if want.Recipe.Result != got.Recipe.Result {
				t.Errorf("the file gives %+v, the folder %+v", got.Recipe.Result, want.Recipe.Result)
			}
			if got.Recipe.PredictionWhy == "" || want.Recipe.PredictionWhy != "" {
				t.Errorf("the recipe of the file says why: %q, that of the folder %q", got.Recipe.PredictionWhy, want.Recipe.PredictionWhy)
			}
			hash, err := b.Hash()
			raw, readErr := checkpoint.OpenSource(file)
			if err != nil || readErr != nil {
				t.Fatal(err, readErr)
			}
			defer raw.Close()
			if own, err := checkpoint.NewSourceSet("", raw).Hash(); err != nil || own != hash || b.Name() != "river" {
				t.Errorf("model %s by hash %s, the file's is %s, %v", b.Name(), hash, own, err)
			}
		})
	}
}

// An incomplete model says what it is, or what it lacks.
func TestSingleFileRefusals(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk.safetensors")
	if err := os.WriteFile(junk, []byte("<!DOCTYPE html><html>"), 0o666); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"../checkpoint/testdata/adapters/kohya-sdxl.safetensors": "this is a LoRA for SDXL: give it with --lora",
		"../checkpoint/testdata/torch/embedding.pt":              "give it with --embedding",
		"../checkpoint/testdata/torch/hostile_system.ckpt":       "posix.system is refused",
		junk:                          "a web page",
		filepath.Join(dir, "missing"): "no such file",
	} {
		_, err := Open(Options{Model: path})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
