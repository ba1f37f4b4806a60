package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"darkroom/checkpoint"
	"darkroom/recipe"
)

// TestTAESD compares pictures that TAESD decodes, and encodes, with diffusers', from each layout of its weights.
func TestTAESD(t *testing.T) {
	const dir = "testdata/taesd"
	text, err := os.ReadFile(filepath.Join(dir, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		goldenCase
		Init     string
		Strength *float64
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		for _, vae := range []string{"taesd", "taesd_decoder.pth", "taesd_comfy.safetensors"} {
			if c.Init != "" && vae == "taesd_decoder.pth" {
				continue // it has no encoder
			}
			t.Run(c.Name+"-"+vae, func(t *testing.T) {
				p := open(t, Options{Model: "testdata/models/sd1", VAE: filepath.Join(dir, vae)})
				file, err := checkpoint.Open(filepath.Join(dir, c.Name+".safetensors"))
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				want := goldens{file}.get(t, "latents")
				c.Syntax = recipe.Plain
				r := c.request(p)
				if c.Init != "" {
					r.Init, r.Strength = filepath.Join(dir, c.Init), c.Strength
				}
				size := 4 * 8 * 8
				img, err := p.Render(context.Background(), r, Events{latents: func(step int, x []float32) {
					if !t.Failed() {
						closeTo(t, fmt.Sprintf("latents after step %d", step), x, want[(step-1)*size:step*size], 1e-4)
					}
				}})
				if err != nil {
					t.Fatal(err)
				}
				if dB := psnr(img.Pixels, readPNG(t, filepath.Join(dir, c.Name+".png"))); dB < 60 {
					t.Errorf("%.1f dB from diffusers' picture", dB)
				}
				i := slices.IndexFunc(img.Recipe.Files, func(f recipe.File) bool { return f.Kind == "vae" })
				if i < 0 || len(img.Recipe.Files[i].SHA256) != 64 {
					t.Errorf("the recipe names %+v", img.Recipe.Files)
				}
				if hash := open(t, Options{Model: "testdata/models/sd1", VAE: filepath.Join(dir, "taesd")}); img.Recipe.ModelHash == "" || mustHash(t, hash) != img.Recipe.ModelHash {
					t.Error("the model's hash depends on the autoencoder's file")
				}
			})
		}
	}
	p := open(t, Options{Model: "testdata/models/sd1", VAE: filepath.Join(dir, "taesd_decoder.pth")})
	r := p.NewRequest("a cat")
	r.Steps, r.Init = 2, filepath.Join(dir, "start.png")
	if _, err := p.Render(context.Background(), r, Events{}); err == nil {
		t.Error("a decoder alone encodes a picture")
	}
}

func mustHash(t *testing.T, p *Pipeline) string {
	t.Helper()
	hash, err := p.Hash()
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// TestTAESDPreview: previews are TAESD's where it is among the user's autoencoders, and change nothing of the picture.
func TestTAESDPreview(t *testing.T) {
	models := t.TempDir()
	t.Setenv("DARKROOM_MODELS", models)
	preview := func() (seen *image.NRGBA, result recipe.Result) {
		p := open(t, Options{Model: "testdata/models/sd1"})
		r := p.NewRequest("a cat")
		r.Steps, r.Width, r.Height = 4, 64, 64
		img, err := p.Render(context.Background(), r, Events{PreviewEvery: 2, Preview: func(_ int, picture *image.NRGBA) error { seen = picture; return nil }})
		if err != nil {
			t.Fatal(err)
		}
		return seen, img.Recipe.Result
	}
	whole, result := preview()
	if err := os.CopyFS(filepath.Join(models, "vae", "taesd"), os.DirFS("testdata/taesd/taesd")); err != nil {
		t.Fatal(err)
	}
	small, again := preview()
	if result != again {
		t.Errorf("the picture is %+v with the one preview and %+v with the other", result, again)
	}
	if whole == nil || small == nil || slices.Equal(whole.Pix, small.Pix) {
		t.Error("the preview is not TAESD's")
	}
}
