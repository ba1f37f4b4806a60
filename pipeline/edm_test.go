package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/checkpoint"
	"darkroom/recipe"
)

// edmCase is a picture of train/goldens_edm.py.
type edmCase struct {
	goldenCase
	Scheduler_config          map[string]any
	Latents_mean, Latents_std []float64
	Scaling_factor            float64
}

// model is the tiny SDXL with the case's configurations.
func (c edmCase) model(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "edm")
	if err := os.CopyFS(dir, os.DirFS("testdata/sdxl/models/xl")); err != nil {
		t.Fatal(err)
	}
	change := func(name string, values map[string]any, anew bool) {
		path, all := filepath.Join(dir, name), map[string]any{}
		text, err := os.ReadFile(path)
		if err == nil && !anew {
			err = json.Unmarshal(text, &all)
		}
		maps.Copy(all, values)
		if text, err2 := json.Marshal(all); err != nil || err2 != nil || os.WriteFile(path, text, 0o666) != nil {
			t.Fatal(err, err2)
		}
	}
	change("scheduler/scheduler_config.json", c.Scheduler_config, true)
	if c.Latents_mean != nil {
		change("vae/config.json", map[string]any{"latents_mean": c.Latents_mean, "latents_std": c.Latents_std, "scaling_factor": c.Scaling_factor}, false)
	}
	change("model_index.json", map[string]any{"scheduler": []any{"diffusers", c.Scheduler_config["_class_name"]}}, false)
	return dir
}

func edmCases(t *testing.T) (cases []edmCase) {
	t.Helper()
	text, err := os.ReadFile("testdata/edm/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestEDM(t *testing.T) {
	for _, c := range edmCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			p := open(t, Options{Model: c.model(t)})
			file, err := checkpoint.Open(filepath.Join("testdata/edm", c.Name+".safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			want := goldens{file}.get(t, "latents")
			size := len(want) / c.Steps
			c.Syntax = recipe.Plain
			r := c.request(p)
			if strings.HasSuffix(c.Name, "-sde") {
				r.Scheduler = "dpm++2m-sde"
			}
			img, err := p.Render(context.Background(), r, Events{latents: func(step int, x []float32) {
				if !t.Failed() {
					closeTo(t, fmt.Sprintf("latents after step %d", step), x, want[(step-1)*size:step*size], 1e-4)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if dB := psnr(img.Pixels, readPNG(t, filepath.Join("testdata/edm", c.Name+".png"))); dB < 60 {
				t.Errorf("%.1f dB from diffusers' picture", dB)
			}
		})
	}
}

// TestEDMSamplers: on a model of the EDM kind samplers run, or say why not; more steps bring those of the ODE together.
func TestEDMSamplers(t *testing.T) {
	c := edmCases(t)[1]
	p := open(t, Options{Model: c.model(t)})
	r := p.NewRequest("a cat")
	r.Width, r.Height, r.CFG = 32, 32, 1
	var reference []float32
	for _, name := range []string{"heun", "euler", "dpm++2m", "dpm++3m", "deis", "unipc", "lms", "dpm2", "dpm++2s", "ipndm", "res-multistep", "euler-karras", "dpm++2m-exponential", "heun-sgm-uniform"} {
		r.Scheduler, r.Steps = name, 60
		_, x, _, err := p.RenderLatents(context.Background(), r, Events{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if reference == nil {
			reference = x
		}
		// The random network is rough: at 60 steps the methods of first order differ by some hundredths.
		if d := distance(x, reference); d > 0.2 {
			t.Errorf("%s ends %.3f from heun's", name, d)
		}
	}
	r.Steps = 6
	for _, name := range []string{"euler-a", "dpm++2m-sde", "dpm++3m-sde", "dpm++sde", "dpm2-a", "er-sde", "sa-solver"} {
		r.Scheduler = name
		if _, _, _, err := p.RenderLatents(context.Background(), r, Events{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"ddim", "ddpm", "pndm", "plms", "lcm", "tcd"} {
		r.Scheduler = name
		if _, err := p.plan(r); err == nil || !strings.Contains(err.Error(), "counts in timesteps") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// distance is the RMS of the difference over that of b.
func distance(a, b []float32) float64 {
	var d, all float64
	for i := range a {
		d += float64(a[i]-b[i]) * float64(a[i]-b[i])
		all += float64(b[i]) * float64(b[i])
	}
	return math.Sqrt(d / all)
}
