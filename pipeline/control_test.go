package pipeline

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/checkpoint"
	"darkroom/recipe"
)

const steers = "testdata/steer"

type steerCase struct {
	Name, Model, Scheduler, Prompt, Control string
	Size                                    int
	Init, Mask, Depth                       bool
	Strength                                *float64
	ImageCFG                                *float64 `json:"image_guidance_scale"`
	Tolerance                               float64
}

func steerCases(t *testing.T) (cases []steerCase) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(steers, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

// located puts folders before the names of networks and pictures.
func located(control string) string {
	list, err := recipe.ParseControls(control)
	if err != nil {
		panic(err)
	}
	for i := range list {
		list[i].Model, list[i].Image = filepath.Join(steers, "nets", list[i].Model), filepath.Join(steers, list[i].Image)
	}
	return recipe.FormatControls(list)
}

func (c steerCase) request(p *Pipeline) Request {
	r := p.NewRequest(c.Prompt)
	r.Syntax, r.Seed, r.Steps, r.CFG, r.Scheduler = "plain", 21, 6, 5, c.Scheduler
	r.Width, r.Height, r.Control, r.Strength, r.ImageCFG = c.Size, c.Size, located(c.Control), c.Strength, c.ImageCFG
	if c.Init {
		r.Init = editFile("init", c.Size)
	}
	if c.Mask {
		r.Mask = editFile("mask", c.Size)
	}
	if c.Depth {
		r.Depth = filepath.Join(steers, fmt.Sprintf("%s-%d.png", c.Name, c.Size))
	}
	return r
}

// Pictures that others steer are diffusers'.
func TestSteeredAsDiffusers(t *testing.T) {
	plain := readPNG(t, filepath.Join(steers, "none.png"))
	for _, c := range steerCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			p := open(t, Options{Model: filepath.Join(steers, c.Model)})
			r := c.request(p)
			img, latents, _, err := p.RenderLatents(t.Context(), r, Events{})
			if err != nil {
				t.Fatal(err)
			}
			file, err := checkpoint.Open(filepath.Join(steers, c.Name+".safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			closeTo(t, "latents", latents, goldens{file}.get(t, "latents"), c.Tolerance)
			want := readPNG(t, filepath.Join(steers, c.Name+".png"))
			if c.Name != "none" && want.Rect == plain.Rect {
				if dB := psnr(want, plain); dB > 35 {
					t.Errorf("what steers hardly changes the picture (%.1f dB): the case shows nothing", dB)
				}
			}
			if c.Mask {
				original, mask := readPNG(t, r.Init), readPNG(t, r.Mask)
				for i := 0; i < len(want.Pix); i += 4 {
					if mask.Pix[i] == 0 {
						copy(want.Pix[i:i+3], original.Pix[i:])
					}
				}
			}
			demanded := 60.0
			if c.Tolerance > 1e-3 {
				demanded = 50
			}
			if dB := psnr(img.Pixels, want); dB < demanded {
				t.Errorf("%.1f dB from diffusers", dB)
			}
			again := FromRecipe(img.Recipe)
			if list, err := recipe.ParseControls(again.Control); err != nil || strings.ContainsAny(again.Control, "/\\") || len(img.Recipe.Files) < len(list) {
				t.Errorf("the recipe: %q (%v), files %+v", again.Control, err, img.Recipe.Files)
			}
		})
	}
}
