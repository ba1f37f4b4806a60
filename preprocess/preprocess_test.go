package preprocess

import (
	"fmt"
	"image"
	"image/color"
	"path/filepath"
	"strings"
	"testing"

	"github.com/disintegration/imaging"
)

func load(t *testing.T, name string) *image.NRGBA {
	t.Helper()
	img, err := imaging.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return imaging.Clone(img)
}

func apply(t *testing.T, name string, img *image.NRGBA, o Options) *image.NRGBA {
	t.Helper()
	out, err := Apply(name, img, o)
	if err != nil {
		t.Fatal(err)
	}
	if out.Rect.Size() != img.Rect.Size() || !out.Opaque() {
		t.Fatalf("%s gives %v of %v", name, out.Rect, img.Rect)
	}
	return out
}

// differing is the share of pixels that differ by more than so much.
func differing(a, b *image.NRGBA, by int) float64 {
	n := 0
	for i := 0; i < len(a.Pix); i += 4 {
		if d := int(a.Pix[i]) - int(b.Pix[i]); d > by || -d > by {
			n++
		}
	}
	return float64(n) / float64(len(a.Pix)/4)
}

// Edges are OpenCV's, pixel by pixel.
func TestCannyAsOpenCV(t *testing.T) {
	for _, name := range []string{"in", "noise"} {
		img := load(t, name+".png")
		for _, o := range []Options{{}, {250, 640}} {
			want := fmt.Sprintf("canny-%s-%v-%v.png", name, or(o.Low, 100), or(o.High, 200))
			if d := differing(apply(t, "canny", img, o), load(t, want), 0); d > 0 {
				t.Errorf("%s: %.2f %% of the pixels differ", want, 100*d)
			}
		}
	}
}

// Lightness is OpenCV's to a level of 255, brightness Pillow's exactly.
func TestGreysAsOthers(t *testing.T) {
	img := load(t, "in.png")
	if d := differing(apply(t, "recolour", img, Options{}), load(t, "lightness.png"), 1); d > 0 {
		t.Errorf("recolour: %.2f %% of the pixels differ", 100*d)
	}
	if d := differing(apply(t, "grey", img, Options{}), load(t, "grey.png"), 0); d > 0 {
		t.Errorf("grey: %.2f %% of the pixels differ", 100*d)
	}
}

// A step of brightness, a line of ink, and what is left of details: by hand.
func TestOthers(t *testing.T) {
	img := imaging.New(32, 32, color.NRGBA{240, 240, 240, 255})
	for y := range 32 {
		for x := 15; x < 18; x++ {
			img.Set(x, y, color.NRGBA{20, 30, 40, 255})
		}
	}
	at := func(name string, o Options, x int) uint8 { return apply(t, name, img, o).NRGBAAt(x, 16).R }
	for _, c := range []struct {
		name string
		o    Options
		x    int
		want uint8
	}{
		{"scribble", Options{}, 16, 255}, {"scribble", Options{}, 10, 0}, {"scribble", Options{Low: 10}, 16, 0},
		{"sketch", Options{}, 16, 255}, {"sketch", Options{}, 2, 0},
		{"edges", Options{}, 14, 255}, {"edges", Options{}, 4, 0}, {"edges", Options{}, 16, 0},
		{"invert", Options{}, 4, 15}, {"invert", Options{}, 16, 235},
		{"tile", Options{}, 2, 240}, {"tile", Options{Low: 1}, 16, 20},
	} {
		if got := at(c.name, c.o, c.x); got != c.want {
			t.Errorf("%s %+v at %d: %d, want %d", c.name, c.o, c.x, got, c.want)
		}
	}
	if v := at("tile", Options{}, 16); v < 60 || v > 200 {
		t.Errorf("tile leaves the line at %d", v)
	}
	part := imaging.New(40, 40, color.Black).SubImage(image.Rect(3, 5, 20, 11)).(*image.NRGBA)
	for _, name := range Names() {
		apply(t, name, part, Options{})
		apply(t, name, imaging.New(1, 1, color.White), Options{})
	}
	if err := Check("cany"); err == nil || !strings.Contains(err.Error(), "canny") {
		t.Errorf("error %v", err)
	}
}
