package pipeline

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"darkroom/recipe"
)

// TestLCM: a consistency model whose U-Net reads the guidance scale makes the picture of diffusers' pipeline for them.
func TestLCM(t *testing.T) {
	const dir = "testdata/lcm"
	text, err := os.ReadFile(filepath.Join(dir, "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c goldenCase
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	p := open(t, Options{Model: filepath.Join(dir, "lcm")})
	c.Syntax = recipe.Plain
	img, err := p.Render(context.Background(), c.request(p), Events{})
	if err != nil {
		t.Fatal(err)
	}
	if dB := psnr(img.Pixels, readPNG(t, filepath.Join(dir, "lcm.png"))); dB < 60 {
		t.Errorf("%.1f dB from diffusers' picture", dB)
	}
	r := c.request(p)
	r.CFG = 3
	other, err := p.Render(context.Background(), r, Events{})
	if err != nil {
		t.Fatal(err)
	}
	if psnr(img.Pixels, other.Pixels) > 50 {
		t.Error("the guidance scale changes nothing")
	}
}
