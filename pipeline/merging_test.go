package pipeline

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/recipe"
)

const merging = "testdata/merging"

// With merged tokens pictures are those of diffusers with tomesd's patch (train/goldens_merging.py).
func TestMergesAsTomesd(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(merging, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name, Model, Scheduler, Prompt, Negative string
		Width, Height, Steps                     int
		Ratio                                    float64
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			p := open(t, Options{Model: filepath.Join(merging, c.Model)})
			r := p.NewRequest(c.Prompt)
			r.Negative, r.Syntax, r.Seed, r.Steps, r.CFG, r.Scheduler = c.Negative, "plain", 21, c.Steps, 5, c.Scheduler
			r.Width, r.Height, r.TokenMerging = c.Width, c.Height, c.Ratio
			img, latents, _, err := p.RenderLatents(t.Context(), r, Events{})
			if err != nil {
				t.Fatal(err)
			}
			file, err := checkpoint.Open(filepath.Join(merging, c.Name+".safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			closeTo(t, "latents", latents, goldens{file}.get(t, "latents"), 1e-4)
			if dB := psnr(img.Pixels, readPNG(t, filepath.Join(merging, c.Name+".png"))); dB < 60 {
				t.Errorf("the picture is at %.1f dB from diffusers', want 60", dB)
			}
			if img.Recipe.TokenMerging != c.Ratio || FromRecipe(img.Recipe).TokenMerging != c.Ratio {
				t.Errorf("the recipe says %v", img.Recipe.TokenMerging)
			}
			if f, err := recipe.ParseParameters(img.Recipe.Parameters()); err != nil || f.Recipe.TokenMerging != c.Ratio {
				t.Errorf("%q does not give the ratio back", img.Recipe.Parameters())
			}
		})
	}
}

// A picture of a batch with merged tokens is the one that is made alone, also beside others without, with a cache and
// where weights come block by block; and the reference backend makes it too.
func TestMergingInABatch(t *testing.T) {
	model := filepath.Join(merging, "../models/sd1")
	p, low := open(t, Options{Model: model}), open(t, Options{Model: model, LowMemory: true})
	var requests []Request
	for i, ratio := range []float64{0.5, 0, 0.5, 0.75, 0.5} {
		r := p.NewRequest("a fox")
		r.Seed, r.Steps, r.CFG, r.Width, r.Height, r.TokenMerging = uint64(i), 3, 4, 64, 64, ratio
		if i == 2 {
			r.Cache = "deepcache:every=2"
		}
		requests = append(requests, r)
	}
	p.RenderBatch(t.Context(), requests, nil, func(i int, img *Image, err error) {
		if err != nil {
			t.Error(err)
			return
		}
		for _, q := range []*Pipeline{p, low} {
			alone, err := q.Render(t.Context(), requests[i], Events{})
			if err != nil {
				t.Error(err)
				return
			}
			if alone.Recipe.Result.Latents != img.Recipe.Result.Latents {
				t.Errorf("picture %d with ratio %v is another one in a batch", i, requests[i].TokenMerging)
			}
		}
	})
	slow := open(t, Options{Model: model, Backend: Ref})
	a, err := slow.Render(t.Context(), requests[0], Events{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Render(t.Context(), requests[0], Events{})
	if err != nil {
		t.Fatal(err)
	}
	if dB := psnr(a.Pixels, b.Pixels); dB < 60 {
		t.Errorf("%.1f dB between the reference and the processor", dB)
	}
}

// plainBackend hides what a backend can do besides.
type plainBackend struct{ kernels.Backend }

func TestMergingErrors(t *testing.T) {
	p := open(t, Options{Model: filepath.Join(merging, "../models/sd1")})
	r := p.NewRequest("a fox")
	r.TokenMerging = 0.8
	if _, err := p.Render(t.Context(), r, Events{}); err == nil || !strings.Contains(err.Error(), "0 to 0.75") {
		t.Errorf("0.8: %v", err)
	}
	r.TokenMerging = 0.5
	own := p.device.Backend
	p.device.Backend = plainBackend{own}
	_, err := p.Render(t.Context(), r, Events{})
	p.device.Backend = own
	if err == nil || !strings.Contains(err.Error(), "cannot merge tokens") {
		t.Errorf("on a backend that cannot: %v", err)
	}
}
