package pipeline

import (
	"context"
	"encoding/json"
	"image"
	"image/draw"
	"os"
	"path/filepath"
	"testing"
)

// TestEverySamplerOfXL: pictures of SDXL by every sampler that diffusers has, of several sizes and with long prompts, are diffusers'.
func TestEverySamplerOfXL(t *testing.T) {
	const dir = "testdata/sdxl"
	text, err := os.ReadFile(filepath.Join(dir, "samplers.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []samplerCase
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	sheet, bottom := readPNG(t, filepath.Join(dir, "samplers.png")), 0
	models := map[string]*Pipeline{}
	for _, c := range cases {
		if models[c.Model] == nil {
			models[c.Model] = open(t, Options{Model: filepath.Join(dir, "models", c.Model)})
		}
		want := image.NewNRGBA(image.Rect(0, 0, c.Width, c.Height))
		draw.Draw(want, want.Rect, sheet, image.Pt(0, bottom), draw.Src)
		bottom += c.Height
		t.Run(c.String(), func(t *testing.T) {
			p := models[c.Model]
			r := p.NewRequest(c.Prompt)
			r.Negative, r.Syntax, r.Seed, r.Steps, r.CFG, r.Scheduler, r.Width, r.Height = c.Negative, "plain", c.Seed, c.Steps, c.CFG, c.Scheduler, c.Width, c.Height
			img, err := p.Render(context.Background(), r, Events{})
			if err != nil {
				t.Fatal(err)
			}
			if dB := psnr(img.Pixels, want); !(dB >= 60) {
				t.Errorf("the picture is at %.1f dB from diffusers', want 60", dB)
			} else {
				t.Logf("%.1f dB", dB)
			}
		})
	}
	if bottom != sheet.Rect.Dy() {
		t.Errorf("%d of %d rows were compared", bottom, sheet.Rect.Dy())
	}
}
