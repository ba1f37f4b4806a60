package pipeline

import (
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/checkpoint"
)

const edits = "testdata/edit"

func editFile(kind string, size int) string {
	return filepath.Join(edits, fmt.Sprintf("%s-%d.png", kind, size))
}

// Pictures that start from another are diffusers', with its draws in its order: image to image, and inpainting with models
// of four and of nine channels.
func TestEditsAsDiffusers(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(edits, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name, Model, Scheduler, Prompt string
		Size                           int
		Mask                           bool
		Strength                       float64
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			p := open(t, Options{Model: filepath.Join(edits, c.Model)})
			r := p.NewRequest(c.Prompt)
			r.Syntax, r.Seed, r.Steps, r.CFG, r.Scheduler = "plain", 21, 6, 5, c.Scheduler
			r.Width, r.Height, r.Init, r.Strength = 0, 0, editFile("init", c.Size), &c.Strength
			if c.Mask {
				r.Mask = editFile("mask", c.Size)
			}
			img, latents, _, err := p.RenderLatents(t.Context(), r, Events{})
			if err != nil {
				t.Fatal(err)
			}
			file, err := checkpoint.Open(filepath.Join(edits, c.Name+".safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			closeTo(t, "latents", latents, goldens{file}.get(t, "latents"), 1e-4)
			want := readPNG(t, filepath.Join(edits, c.Name+".png"))
			if c.Mask { // diffusers leaves the pixels as they were decoded; here those outside are the original's
				original, mask := readPNG(t, r.Init), readPNG(t, r.Mask)
				for i := 0; i < len(want.Pix); i += 4 {
					if mask.Pix[i] == 0 {
						if img.Pixels.Pix[i] != original.Pix[i] {
							t.Fatalf("pixel %d outside of the mask is not the original's", i/4)
						}
						copy(want.Pix[i:i+3], original.Pix[i:])
					}
				}
			}
			if dB := psnr(img.Pixels, want); dB < 60 {
				t.Errorf("%.1f dB from diffusers", dB)
			}
			again := FromRecipe(img.Recipe)
			if again.Init != filepath.Base(r.Init) || *again.Strength != c.Strength || len(img.Recipe.Files) != map[bool]int{false: 1, true: 2}[c.Mask] {
				t.Errorf("the recipe: %+v", img.Recipe)
			}
		})
	}
}

// What does not go together is reported before any work, by the name of the file and with what to do.
func TestEditErrors(t *testing.T) {
	dir := t.TempDir()
	save := func(name string, w, h int, c color.Color) string {
		img := image.NewNRGBA(image.Rect(0, 0, w, h))
		for y := range h {
			for x := range w {
				img.Set(x, y, c)
			}
		}
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := png.Encode(f, img); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
	text := filepath.Join(dir, "text.png")
	if err := os.WriteFile(text, []byte("words"), 0o666); err != nil {
		t.Fatal(err)
	}
	p := open(t, Options{Model: "testdata/models/sd1"})
	nine := open(t, Options{Model: filepath.Join(edits, "models/inpaint")})
	white, black, tall := save("white.png", 64, 64, color.White), save("black.png", 64, 64, color.Black), save("tall.png", 64, 128, color.White)
	none, little := 0.0, 0.01
	for _, c := range []struct {
		p          *Pipeline
		init, mask string
		strength   *float64
		want       string
	}{
		{p, filepath.Join(dir, "none.png"), "", nil, "--init: stat " + filepath.Join(dir, "none.png")},
		{p, text, "", nil, "--init: " + text + ": it is not a picture"},
		{p, "", white, nil, "--mask needs a picture to change: give it with --init"},
		{p, "", "", &little, "--strength needs a picture"},
		{p, white, text, nil, "--mask: " + text},
		{p, white, tall, nil, "64×128 pixels, --init " + white + " 64×64"},
		{p, white, black, nil, "is black, so nothing would be painted"},
		{p, white, "", &none, "strength 0: it must be above 0"},
		{p, white, "", &little, "leaves no step to run"},
		{nine, white, "", nil, "is an inpainting model"},
		{nine, "", "", nil, "is an inpainting model"},
	} {
		r := c.p.NewRequest("a cat")
		r.Steps, r.Init, r.Mask, r.Strength = 4, c.init, c.mask, c.strength
		if _, err := c.p.Render(t.Context(), r, Events{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("--init %s --mask %s: %v, want %q", c.init, c.mask, err, c.want)
		}
	}
}

// A picture of any size comes to the size that is asked for; a mask's edge may be soft; in a batch it is as alone.
func TestEditSizes(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	r := p.NewRequest("a cat")
	r.Steps, r.Scheduler, r.Init, r.Mask = 3, "ddim", editFile("init", 128), editFile("mask", 128)
	var requests []Request
	for _, how := range []string{"fill", "fit", "stretch"} {
		q := r
		q.Width, q.Height, q.Resize, q.MaskBlur = 96, 64, how, 8
		requests = append(requests, q)
	}
	inverted := requests[0]
	inverted.InvertMask = true
	requests = append(requests, inverted)
	seen := map[string]bool{}
	var alone []string
	for _, q := range requests {
		img := render(t, p, q)
		if b := img.Pixels.Bounds(); b.Dx() != 96 || b.Dy() != 64 {
			t.Errorf("--resize %s: %v", q.Resize, b)
		}
		seen[img.Recipe.Result.Pixels] = true
		alone = append(alone, img.Recipe.Result.Pixels)
	}
	if len(seen) != len(requests) {
		t.Errorf("%d pictures of %d requests", len(seen), len(requests))
	}
	got, errs := together(t, p, requests, nil)
	for i := range requests {
		if errs[i] != nil || got[i].Recipe.Result.Pixels != alone[i] {
			t.Errorf("request %d in a batch: %v, or another picture", i, errs[i])
		}
	}
}
