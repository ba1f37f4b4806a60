package pipeline

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/checkpoint"
)

// unetAlone writes a model's U-Net into a file by itself.
func unetAlone(t *testing.T, model, file string) {
	t.Helper()
	f, err := checkpoint.OpenModel(model, checkpoint.SingleOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sets, err := checkpoint.OpenParts(f)
	if err != nil {
		t.Fatal(err)
	}
	x := &checkpoint.Export{Folder: f, Parts: map[string]checkpoint.Weights{"unet": sets["unet"]}}
	for _, s := range sets {
		defer s.Close()
	}
	if err := x.SaveFile(file); err != nil {
		t.Fatal(err)
	}
}

// TestUNetAlone: a file of a U-Net takes the other parts from a model that is named, or that is here and fits.
func TestUNetAlone(t *testing.T) {
	for _, model := range []string{"testdata/models/sd1", "testdata/sdxl/models/xl"} {
		t.Run(filepath.Base(model), func(t *testing.T) {
			models := t.TempDir()
			t.Setenv("DARKROOM_MODELS", models)
			file := filepath.Join(t.TempDir(), "river.safetensors")
			unetAlone(t, model, file)
			whole := open(t, Options{Model: model})
			r := whole.NewRequest("a cat")
			r.Steps, r.Width, r.Height = 2, 32, 32
			want := render(t, whole, r).Recipe.Result

			if p, err := Open(Options{Model: file}); err == nil || !strings.Contains(err.Error(), "--parts") || !strings.Contains(err.Error(), "text_encoder") {
				t.Errorf("with nothing to borrow from: %v", err)
				if err == nil {
					p.Close()
				}
			}
			for _, other := range []string{"testdata/models/odd", model} { // the first does not fit
				if err := os.CopyFS(filepath.Join(models, filepath.Base(other)), os.DirFS(other)); err != nil {
					t.Fatal(err)
				}
			}
			named, found := open(t, Options{Model: file, Parts: model}), open(t, Options{Model: file})
			for _, p := range []*Pipeline{named, found} {
				var warned string
				img, err := p.Render(context.Background(), r, Events{Warn: func(text string) { warned += text }})
				if err != nil {
					t.Fatal(err)
				}
				if img.Recipe.Result != want {
					t.Error("the picture is not the whole model's")
				}
				if !strings.Contains(warned, "using those of "+filepath.Base(model)) || img.Recipe.Parts != filepath.Base(model) {
					t.Errorf("warned: %s; the recipe says %q", warned, img.Recipe.Parts)
				}
				if hash, err := checkpoint.HashFile(file, ""); err != nil || img.Recipe.ModelHash != hash || len(img.Recipe.Files) != 1 || img.Recipe.Files[0].Kind != "parts" {
					t.Errorf("model hash %s, the file's is %s, %v; files %+v", img.Recipe.ModelHash, hash, err, img.Recipe.Files)
				}
			}
		})
	}
	if _, err := Open(Options{Model: "testdata/models/sd1", Parts: "testdata/models/sd2"}); err == nil || !strings.Contains(err.Error(), "lacks nothing") {
		t.Errorf("parts for a whole model: %v", err)
	}
}
