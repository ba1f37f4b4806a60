package pipeline

import (
	"os"
	"path/filepath"
	"testing"

	"darkroom/checkpoint"
)

// CosXL's editing model is diffusers': beside the noise it reads the picture's latents as scaled as those that are denoised.
func TestCosXLEditsAsDiffusers(t *testing.T) {
	var c edmCase
	for _, one := range edmCases(t) {
		if one.Name == "cosxl" {
			c = one
		}
	}
	dir := c.model(t)
	const unet = "testdata/edm/edit-unet"
	for _, name := range []string{"config.json", "diffusion_pytorch_model.safetensors"} {
		data, err := os.ReadFile(filepath.Join(unet, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "unet", name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	p := open(t, Options{Model: dir})
	r := p.NewRequest(c.Prompt)
	r.Syntax, r.Seed, r.Steps, r.CFG, r.Width, r.Height, r.Init = "plain", 7, 5, 4, 64, 64, editFile("init", 64)
	img, latents, _, err := p.RenderLatents(t.Context(), r, Events{})
	if err != nil {
		t.Fatal(err)
	}
	file, err := checkpoint.Open("testdata/edm/cosxl-edit.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	closeTo(t, "latents", latents, goldens{file}.get(t, "latents"), 1e-4)
	if dB := psnr(img.Pixels, readPNG(t, "testdata/edm/cosxl-edit.png")); dB < 60 {
		t.Errorf("the picture is at %.1f dB from diffusers', want 60", dB)
	}
}
