package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/draw"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"darkroom/scheduler"
)

// samplerCase is one picture of train/goldens_samplers.py.
type samplerCase struct {
	Scheduler, Model, Prompt, Negative, Guidance string
	SDENoise                                     string `json:"sde_noise"`
	Seed                                         uint64
	Steps, Width, Height                         int
	CFG                                          float64
	Eta                                          *float64
	Config                                       map[string]any // over the model's scheduler_config.json; all of it where it names a class
}

func (c samplerCase) String() string {
	name := fmt.Sprintf("%s %s, %d steps", c.Model, c.Scheduler, c.Steps)
	if c.Guidance != "" {
		name += ", " + c.Guidance
	}
	if len(c.Config) > 0 {
		name += fmt.Sprint(", ", c.Config)
	}
	return name
}

// elsewhere are the samplers that diffusers does not have, or has with an error, and what proves them: see "Agreement with
// other programs" in docs/schedulers.md. All have golden trajectories in scheduler/testdata.
var elsewhere = map[string]string{
	"ipndm":               "the paper's formula; diffusers' IPNDMScheduler knows Dance Diffusion's levels only",
	"dpm-fast":            "k-diffusion",
	"dpm-adaptive":        "k-diffusion",
	"dpm++2s-a":           "k-diffusion",
	"dpm++3m-sde":         "k-diffusion; the sign of diffusers' third-order term is wrong",
	"er-sde":              "the paper's formulas",
	"res-multistep":       "the paper's formulas",
	"gradient-estimation": "the paper's formulas",
	"restart":             "the order and the distribution on a Gaussian mixture",
	"euler-cfg++":         "the paper's formulas",
	"dpm++2m-cfg++":       "the paper's formulas",
}

// TestEverySampler: pictures of every sampler and guidance that diffusers has are diffusers', at 50 dB and more.
func TestEverySampler(t *testing.T) {
	if testing.Short() {
		t.Skip("short: its 130 pictures are drawn without -short, by make check")
	}
	text, err := os.ReadFile("testdata/samplers/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []samplerCase
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	var (
		models = map[string]*Pipeline{}
		sheets = map[string]*image.NRGBA{}
		bottom = map[string]int{} // of what was used of a sheet
	)
	for _, c := range cases {
		if models[c.Model] == nil {
			models[c.Model] = open(t, Options{Model: filepath.Join("testdata/models", c.Model)})
			sheets[c.Model] = readPNG(t, filepath.Join("testdata/samplers", c.Model+".png"))
		}
		want := image.NewNRGBA(image.Rect(0, 0, c.Width, c.Height))
		draw.Draw(want, want.Rect, sheets[c.Model], image.Pt(0, bottom[c.Model]), draw.Src)
		bottom[c.Model] += c.Height
		t.Run(c.String(), func(t *testing.T) {
			p := models[c.Model]
			was := p.model.Sampling
			defer func() { p.model.Sampling = was }()
			p.model.Sampling = c.schedulerConfig(t)
			r := p.NewRequest(c.Prompt)
			r.Negative, r.Syntax, r.Seed, r.Steps, r.CFG, r.Scheduler = c.Negative, "plain", c.Seed, c.Steps, c.CFG, c.Scheduler
			r.Width, r.Height, r.Eta, r.Guidance, r.SDENoise = c.Width, c.Height, c.Eta, c.Guidance, c.SDENoise
			img, err := p.Render(context.Background(), r, Events{})
			if err != nil {
				t.Fatal(err)
			}
			dB := psnr(img.Pixels, want)
			t.Logf("%.1f dB", dB)
			if !(dB >= 50) {
				t.Errorf("the picture is at %.1f dB from diffusers', want 50", dB)
			}
		})
	}
	for _, info := range scheduler.Names() {
		if has := slices.ContainsFunc(cases, func(c samplerCase) bool { return c.Scheduler == info.Name }); has == (elsewhere[info.Name] != "") {
			t.Errorf("%s: a picture by diffusers is there: %v; elsewhere: %q", info.Name, has, elsewhere[info.Name])
		}
	}
	for model, sheet := range sheets {
		if bottom[model] != sheet.Rect.Dy() {
			t.Errorf("%s.png: %d of %d rows were compared", model, bottom[model], sheet.Rect.Dy())
		}
	}
}

func (c samplerCase) schedulerConfig(t *testing.T) scheduler.Config {
	t.Helper()
	values := map[string]any{}
	if c.Config["_class_name"] == nil {
		file, err := os.ReadFile(filepath.Join("testdata/models", c.Model, "scheduler/scheduler_config.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(file, &values); err != nil {
			t.Fatal(err)
		}
	}
	maps.Copy(values, c.Config)
	text, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	config, err := scheduler.ParseConfig("scheduler_config.json", text)
	if err != nil {
		t.Fatal(err)
	}
	return config
}
