package pipeline

import (
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/kernels/cpu"
	"darkroom/recipe"

	"github.com/disintegration/imaging"
)

// gradient is a picture without edges of any size.
func gradient(w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.SetNRGBA(x, y, color.NRGBA{uint8(40 + 150*x/w), uint8(60 + 150*y/h), 120, 255})
		}
	}
	return img
}

func savePNG(t *testing.T, dir, name string, img image.Image) string {
	t.Helper()
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

// A picture that is continued has the size that was asked for, its own pixels where nothing fades, and no seam where it does;
// sizes need not be multiples of anything.
func TestOutpaint(t *testing.T) {
	if testing.Short() && !cpu.Available {
		t.Skip("SKIPPED: takes a minute without kernels for the processor")
	}
	dir := t.TempDir()
	p := open(t, Options{})
	for _, c := range []struct {
		w, h  int
		sides recipe.Sides
		text  string
	}{
		{256, 256, recipe.Sides{Left: 128, Right: 48}, "left=128,right=48"},
		{101, 67, recipe.Sides{Top: 13, Right: 30}, "top=13,right=30"},
	} {
		was := gradient(c.w, c.h)
		r := p.NewRequest("a boat on the sea")
		r.Seed, r.Steps, r.Width, r.Height = 3, 6, 0, 0
		r.Init, r.Outpaint = savePNG(t, dir, "was.png", was), c.text
		made := render(t, p, r)
		img := made.Pixels
		if w, h := img.Rect.Dx(), img.Rect.Dy(); w != c.w+c.sides.Left+c.sides.Right || h != c.h+c.sides.Top+c.sides.Bottom {
			t.Fatalf("%s of %d×%d pixels gives %d×%d", c.text, c.w, c.h, w, h)
		}
		blend := min(max(min(c.w, c.h)/5, 8), 48)
		same := was.Rect.Inset(0)
		if c.sides.Left > 0 {
			same.Min.X += blend
		}
		if c.sides.Right > 0 {
			same.Max.X -= blend
		}
		if c.sides.Top > 0 {
			same.Min.Y += blend
		}
		for y := same.Min.Y; y < same.Max.Y; y++ {
			for x := same.Min.X; x < same.Max.X; x++ {
				if was.NRGBAAt(x, y) != img.NRGBAAt(x+c.sides.Left, y+c.sides.Top) {
					t.Fatalf("%s: pixel %d,%d is not the original's", c.text, x, y)
				}
			}
		}
		// At the original's border neighbours differ no more than the worst of others, or than a quarter of what they would if the
		// original did not fade out there.
		apart := func(x int, other func(y int) color.NRGBA) float64 {
			sum := 0
			for y := range img.Rect.Dy() {
				a, b := img.NRGBAAt(x, y), other(y)
				sum += max(int(a.R)-int(b.R), int(b.R)-int(a.R))
			}
			return float64(sum) / float64(img.Rect.Dy())
		}
		most := 0.0
		border := map[int]float64{} // column beyond the original -> its difference from the next
		for x := 1; x < img.Rect.Dx(); x++ {
			mean := apart(x, func(y int) color.NRGBA { return img.NRGBAAt(x-1, y) })
			switch {
			case x == c.sides.Left && c.sides.Left > 0:
				border[x-1] = mean
			case x == c.sides.Left+c.w:
				border[x] = mean
			default:
				most = max(most, mean)
			}
		}
		for x, mean := range border {
			hard := apart(x, func(y int) color.NRGBA { return was.NRGBAAt(min(max(x-c.sides.Left, 0), c.w-1), max(y-c.sides.Top, 0)) })
			if mean > max(most, hard/4) {
				t.Errorf("%s: %.1f at the border, at most %.1f elsewhere, %.1f if it did not fade out", c.text, mean, most, hard)
			}
		}
		again := FromRecipe(made.Recipe)
		again.Init = r.Init
		if render(t, p, again).Recipe.Result != made.Recipe.Result {
			t.Errorf("%s: the recipe makes another picture", c.text)
		}
	}
}

// What is masked is painted at the model's size and put back: the picture keeps its size, and its pixels where the mask is
// 0; the mask may be the picture's transparent part.
func TestInpaintMasked(t *testing.T) {
	dir := t.TempDir()
	p := open(t, Options{Model: "testdata/models/sd1"})
	was := gradient(301, 203)
	mask := image.NewGray(was.Rect)
	holed := imaging.Clone(was)
	for y := 150; y < 190; y++ {
		for x := 20; x < 45; x++ {
			mask.SetGray(x, y, color.Gray{255})
			holed.SetNRGBA(x, y, color.NRGBA{})
		}
	}
	tiny := image.NewGray(was.Rect)
	tiny.SetGray(300, 202, color.Gray{255})
	init := savePNG(t, dir, "was.png", was)
	for _, c := range []struct {
		name, init, mask string
		padding          any
		blur             int
		white            *image.Gray
	}{
		{"a file", init, savePNG(t, dir, "mask.png", mask), nil, 0, mask},
		{"no padding", init, savePNG(t, dir, "mask.png", mask), 0, 0, mask},
		{"more than the picture", init, savePNG(t, dir, "mask.png", mask), 1000, 0, mask},
		{"blurred", init, savePNG(t, dir, "mask.png", mask), 8, 6, mask},
		{"transparency", savePNG(t, dir, "holed.png", holed), "alpha", 16, 0, mask},
		{"a pixel in the corner", init, savePNG(t, dir, "tiny.png", tiny), 0, 0, tiny},
	} {
		r := p.NewRequest("a cat")
		r.Seed, r.Steps, r.Width, r.Height = 3, 3, 0, 0
		r.Init, r.Mask, r.Inpaint, r.MaskBlur = c.init, c.mask, "masked", c.blur
		if c.padding != nil {
			r.Extra = map[string]any{"padding": c.padding}
		}
		made := render(t, p, r)
		if made.Pixels.Rect != was.Rect {
			t.Fatalf("%s: %v", c.name, made.Pixels.Rect)
		}
		painted, spread := 0, 2*c.blur
		for y := range was.Rect.Dy() {
			for x := range was.Rect.Dx() {
				near := false // the mask, as far as it is blurred
				for j := max(y-spread, 0); j <= min(y+spread, 202) && !near; j++ {
					for i := max(x-spread, 0); i <= min(x+spread, 300) && !near; i++ {
						near = c.white.GrayAt(i, j).Y > 0
					}
				}
				same := was.NRGBAAt(x, y) == made.Pixels.NRGBAAt(x, y)
				if !near && !same {
					t.Fatalf("%s: pixel %d,%d is not the original's", c.name, x, y)
				}
				if near && !same {
					painted++
				}
			}
		}
		if painted == 0 {
			t.Errorf("%s: nothing was painted", c.name)
		}
		again := FromRecipe(made.Recipe)
		again.Init, again.Mask = r.Init, r.Mask
		if render(t, p, again).Recipe.Result != made.Recipe.Result {
			t.Errorf("%s: the recipe makes another picture: %+v", c.name, made.Recipe)
		}
	}
}

// What cannot be meant is reported with the name of the flag or the file.
func TestInpaintErrors(t *testing.T) {
	dir := t.TempDir()
	p := open(t, Options{Model: "testdata/models/sd1"})
	init := savePNG(t, dir, "was.png", gradient(64, 64))
	black := savePNG(t, dir, "black.png", image.NewGray(image.Rect(0, 0, 64, 64)))
	empty := filepath.Join(dir, "empty.png")
	if err := os.WriteFile(empty, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ init, mask, inpaint, outpaint, want string }{
		{"", "", "", "left=8", "--outpaint needs a picture"},
		{"", "", "masked", "", "--inpaint needs a picture"},
		{init, "", "masked", "", "needs a mask: give it with --mask"},
		{init, black, "masked", "", "is black, so nothing would be painted"},
		{init, empty, "masked", "", empty + " is empty"},
		{init, "alpha", "", "", "has no transparent part"},
		{init, black, "other", "", "choose whole or masked"},
		{init, "", "", "left", "write left=N"},
		{init, "", "", "left=-1", "write left=N"},
		{init, "", "", "up=8", "write left=N"},
		{init, "", "", "left=0", "no side has more than 0 pixels"},
		{init, "", "", "left=16384", "more than the 16384 allowed per side"},
	} {
		r := p.NewRequest("a cat")
		r.Steps, r.Width, r.Height = 2, 0, 0
		r.Init, r.Mask, r.Inpaint, r.Outpaint = c.init, c.mask, c.inpaint, c.outpaint
		if _, err := p.Render(t.Context(), r, Events{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
