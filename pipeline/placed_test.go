package pipeline

import (
	"image"
	"image/color"
	"path/filepath"
	"strings"
	"testing"

	"github.com/disintegration/imaging"
)

// What lies over the picture is seen where the model sees the picture: a hint that is the picture itself is what the model
// starts from, whole, in a masked part, and continued beyond its sides.
func TestHintsFollowThePicture(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	init := editFile("init", 128)
	for name, set := range map[string]func(*Request){
		"whole":    func(*Request) {},
		"masked":   func(r *Request) { r.Mask, r.Inpaint, r.Width, r.Height = editFile("mask", 128), "masked", 64, 64 },
		"outpaint": func(r *Request) { r.Outpaint = "left=32,top=13" },
		"both":     func(r *Request) { r.Outpaint, r.Inpaint, r.Width, r.Height = "right=40", "masked", 96, 64 },
	} {
		r := p.NewRequest("a cat")
		r.Width, r.Height, r.Init, r.Control = 0, 0, init, located("one=x.png")
		r.Control = strings.Replace(r.Control, filepath.Join(steers, "x.png"), init, 1)
		set(&r)
		pl, err := p.plan(r)
		if err != nil {
			t.Fatal(name, err)
		}
		hint := pl.controls.pictures[0]
		if hint.Rect != pl.edit.init.Rect {
			t.Errorf("%s: the hint has %v, what the model sees %v", name, hint.Rect, pl.edit.init.Rect)
			continue
		}
		same := imaging.Clone(hint)
		for i := 0; i < len(same.Pix); i += 4 {
			if same.Pix[i] == 0 && same.Pix[i+1] == 0 && same.Pix[i+2] == 0 { // beyond the picture
				copy(same.Pix[i:i+3], pl.edit.init.Pix[i:])
			}
		}
		// Where black begins within what is scaled, the filter rings.
		if dB := psnr(same, pl.edit.init); dB < 40 && name != "both" {
			t.Errorf("%s: %.1f dB between the hint and what the model sees", name, dB)
		}
		extended, err := pl.edit.placed(readPNG(t, init), &pl.Request, true)
		if err != nil {
			t.Fatal(err)
		}
		if dB := psnr(extended, pl.edit.init); dB < 45 {
			t.Errorf("%s, with its border going on: %.1f dB", name, dB)
		}
		other := imaging.New(90, 17, color.White)
		if _, err := pl.edit.placed(other, &pl.Request, false); (err != nil) != (name != "whole") {
			t.Errorf("%s: a picture of another shape: %v", name, err)
		}
		if img, err := p.Render(t.Context(), r, Events{}); err != nil || name == "masked" && img.Pixels.Rect != image.Rect(0, 0, 128, 128) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
