package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/checkpoint"
	"darkroom/kernels/ref"
	"darkroom/recipe"
)

const (
	refinerBase = "testdata/sdxl/models/xl"
	refinerLast = "testdata/refiner/models/xl-refiner"
)

// refineCase is a picture of train/goldens_refiner.py.
type refineCase struct {
	goldenCase
	Start, Score, Negative_score *float64
	Original, Crop, Target       []int
}

func (c refineCase) request(t *testing.T, p *Pipeline) Request {
	t.Helper()
	c.Syntax = recipe.Plain
	r := c.goldenCase.request(p)
	g := recipe.Of(r.Settings)
	set := func(names []string, values []int) {
		for i, v := range values {
			g.Set(names[i], v)
		}
	}
	set([]string{"original-height", "original-width"}, c.Original)
	set([]string{"crop-top", "crop-left"}, c.Crop)
	set([]string{"target-height", "target-width"}, c.Target)
	if c.Score != nil {
		g.Set("aesthetic-score", *c.Score)
		g.Set("negative-aesthetic-score", *c.Negative_score)
	}
	if c.Start != nil {
		g.Set("refiner", recipe.FormatRefiner(refinerLast, *c.Start))
	}
	g.Apply(&r.Settings)
	return r
}

// TestRefiner compares base and refiner together, and the size conditions, with diffusers.
func TestRefiner(t *testing.T) {
	const dir = "testdata/refiner"
	text, err := os.ReadFile(filepath.Join(dir, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []refineCase
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			o := Options{Model: refinerBase}
			if c.Start != nil {
				o.Refiner = refinerLast
			}
			p := open(t, o)
			file, err := checkpoint.Open(filepath.Join(dir, c.Name+".safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			want := goldens{file}.get(t, "latents")
			size, steps := len(want)/c.Steps, 0
			r := c.request(t, p)
			img, err := p.Render(context.Background(), r, Events{Start: func(n int) { steps = n }, latents: func(step int, x []float32) {
				if !t.Failed() {
					closeTo(t, fmt.Sprintf("latents after step %d", step), x, want[(step-1)*size:step*size], 1e-4)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if steps != c.Steps {
				t.Errorf("%d steps were announced", steps)
			}
			if dB := psnr(img.Pixels, readPNG(t, filepath.Join(dir, c.Name+".png"))); dB < 60 {
				t.Errorf("%.1f dB from diffusers' picture", dB)
			}
			if c.Start == nil {
				return
			}
			if want := recipe.FormatRefiner("xl-refiner", *c.Start); img.Recipe.Refiner != want || len(img.Recipe.Files) != 1 || img.Recipe.Files[0].Kind != "refiner" || len(img.Recipe.Files[0].SHA256) != 64 {
				t.Errorf("the recipe says %q, %+v", img.Recipe.Refiner, img.Recipe.Files)
			}
		})
	}
}

// A batch's pictures are those that are made alone, with refiners of different starts, or none of it left; so are those with
// weights that come block by block.
func TestRefinerBatch(t *testing.T) {
	p := open(t, Options{Model: refinerBase, Refiner: refinerLast})
	var requests []Request
	for i, start := range []string{"0.3", "0.6", "0.8"} {
		r := p.NewRequest("a cat")
		r.Steps, r.Seed, r.Width, r.Height, r.Refiner = 4+i, uint64(i), 64, 64, "x:start="+start
		requests = append(requests, r)
	}
	low := open(t, Options{Model: refinerBase, Refiner: refinerLast, LowMemory: true, Backend: p.device.Backend.Info().Kind})
	var together [3]recipe.Result
	p.RenderBatch(context.Background(), requests, nil, func(i int, img *Image, err error) {
		if err != nil {
			t.Fatal(err)
		}
		together[i] = img.Recipe.Result
	})
	for i, r := range requests {
		if alone := render(t, p, r).Recipe.Result; alone != together[i] {
			t.Errorf("picture %d: %+v alone, %+v together", i, alone, together[i])
		}
		r.Tiled = false
		if got := render(t, low, r).Recipe.Result; got.Latents != together[i].Latents {
			t.Errorf("picture %d differs with little memory", i)
		}
	}
}

// TestRefinerOfSecondPass: with a second pass the refiner makes its last steps.
func TestRefinerOfSecondPass(t *testing.T) {
	p, plain := open(t, Options{Model: refinerBase, Refiner: refinerLast}), open(t, Options{Model: refinerBase})
	r := p.NewRequest("a cat")
	r.Steps, r.Width, r.Height, r.Hires, r.Refiner = 4, 48, 48, "2:strength=0.9", "x:start=0.6"
	steps, last := 0, 0
	img, err := p.Render(context.Background(), r, Events{Start: func(n int) { steps = n }, Step: func(n int) { last = n }})
	if err != nil {
		t.Fatal(err)
	}
	if steps != 8 || last != 8 {
		t.Errorf("%d steps announced, %d made", steps, last)
	}
	if img.Recipe.Refiner != "xl-refiner:start=0.6" || img.Recipe.Result.Latents == render(t, plain, r).Recipe.Result.Latents {
		t.Errorf("the refiner changes nothing: %+v", img.Recipe)
	}
}

func TestRefinerRefusals(t *testing.T) {
	for spec, want := range map[string]string{
		refinerLast + ":start=1":       "above 0 and below 1",
		refinerLast + ":start=x":       "above 0 and below 1",
		"testdata/none":                "no such folder",
		"testdata/sdxl/models/xl-none": "no such folder",
	} {
		if p, err := Open(Options{Model: refinerBase, Refiner: spec}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", spec, err, want)
			if err == nil {
				p.Close()
			}
		}
	}
	p := open(t, Options{Model: refinerBase, Refiner: refinerLast})
	r := p.NewRequest("a cat")
	r.Steps, r.Refiner = 4, "x:start=0.9999"
	if _, err := p.Render(context.Background(), r, Events{}); err == nil || !strings.Contains(err.Error(), "begins after") {
		t.Errorf("a late start: %v", err)
	}
	r.Steps, r.Scheduler = 4, "dpm-adaptive"
	if _, err := p.Render(context.Background(), r, Events{}); err == nil || !strings.Contains(err.Error(), "share") {
		t.Errorf("dpm-adaptive: %v", err)
	}
	sd1 := open(t, Options{Model: "testdata/models/sd1"})
	r = sd1.NewRequest("a cat")
	r.Steps = 1
	r.Extra = map[string]any{"original-width": 100, "aesthetic-score": 7.0}
	pl, err := sd1.plan(r)
	if err != nil || !strings.Contains(strings.Join(pl.warnings, " "), "--original-width does nothing") || !strings.Contains(strings.Join(pl.warnings, " "), "--aesthetic-score does nothing") {
		t.Errorf("%v, warnings %q", err, pl.warnings)
	}
}

// TestRefinerNeedIsTaken: with a refiner, too, no more memory is taken than was estimated.
func TestRefinerNeedIsTaken(t *testing.T) {
	for _, low := range []bool{false, true} {
		p := open(t, Options{Model: refinerBase, Refiner: refinerLast, Backend: Ref, LowMemory: low})
		b := &counting{Backend: ref.New(0)}
		p.device.Backend = b
		r := p.NewRequest("a cat")
		r.Steps, r.Width, r.Height, r.Refiner = 3, 64, 64, "x:start=0.5"
		need := p.need(r.Width, r.Height, 2, low)
		render(t, p, r)
		if uint64(b.most) > need.Total() {
			t.Errorf("low memory %v: %d bytes were taken, %d estimated", low, b.most, need.Total())
		}
	}
}
