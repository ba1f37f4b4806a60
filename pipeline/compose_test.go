package pipeline

import (
	"encoding/json"
	"image"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"darkroom/checkpoint"
	"darkroom/kernels/cpu"
	"darkroom/recipe"
)

// composeCase is a picture of train/goldens_compose.py.
type composeCase struct {
	Name, Scheduler, Prompt string
	Settings                map[string]string
}

const composed = "testdata/compose"

func composeCases(t *testing.T) []composeCase {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(composed, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []composeCase
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

// request is what the golden script computes by itself.
func (c composeCase) request(t *testing.T, p *Pipeline) Request {
	t.Helper()
	r := p.NewRequest(c.Prompt)
	r.Seed, r.Steps, r.CFG, r.Scheduler, r.Width, r.Height = 21, 6, 5, c.Scheduler, 64, 64
	var g recipe.Given
	for name, text := range c.Settings {
		if (name == "init" || name == "mask") && text != "" {
			text = filepath.Join(composed, text)
		}
		if err := g.Parse(name, text); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	g.Apply(&r.Settings)
	return r
}

// TestComposed: noises mixed, second passes, seamless pictures, prompts over steps and places are what torch makes of them;
// and the recipe makes the same picture again.
func TestComposed(t *testing.T) {
	for _, c := range composeCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			p := open(t, Options{Model: "testdata/models/sd1"})
			r := c.request(t, p)
			img, latents, calls, err := p.RenderLatents(t.Context(), r, Events{})
			if err != nil {
				t.Fatal(err)
			}
			file, err := checkpoint.Open(filepath.Join(composed, c.Name+".safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			closeTo(t, "latents", latents, goldens{file}.get(t, "latents"), 1e-4)
			if dB := psnr(img.Pixels, readPNG(t, filepath.Join(composed, c.Name+".png"))); dB < 60 {
				t.Errorf("%.1f dB from torch", dB)
			}
			if plan, err := p.Plan(r); err != nil || plan.Calls != calls {
				t.Errorf("%d calls of the model, %d planned, %v", calls, plan.Calls, err)
			}
			again := FromRecipe(img.Recipe)
			again.Init, again.Mask = r.Init, r.Mask // a recipe holds no paths
			if got := render(t, p, again); got.Recipe.Result != img.Recipe.Result {
				t.Errorf("the recipe makes another picture: %+v", img.Recipe)
			}
		})
	}
}

// TestComposedTogether: in a batch, each is as alone.
func TestComposedTogether(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	var requests []Request
	var alone []string
	for _, c := range composeCases(t) {
		r := c.request(t, p)
		requests = append(requests, r)
		alone = append(alone, render(t, p, r).Recipe.Result.Pixels)
	}
	got, errs := together(t, p, requests, nil)
	for i := range requests {
		if errs[i] != nil || got[i].Recipe.Result.Pixels != alone[i] {
			t.Errorf("request %d in a batch: %v, or another picture", i, errs[i])
		}
	}
}

// TestTileOnReference: the specification, too, sees the other side of the picture.
func TestTileOnReference(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1", Backend: Ref})
	for _, c := range composeCases(t) {
		if c.Settings["tile"] == "" {
			continue
		}
		img := render(t, p, c.request(t, p))
		if dB := psnr(img.Pixels, readPNG(t, filepath.Join(composed, c.Name+".png"))); dB < 60 {
			t.Errorf("%s: %.1f dB from torch", c.Name, dB)
		}
	}
}

// TestTileHasNoEdge: noise that is moved round gives a seamless picture that is moved round, whether it is decoded whole or
// in tiles: nothing knows where its edge is. Without --tile the edge shows.
func TestTileHasNoEdge(t *testing.T) {
	if testing.Short() && !cpu.Available {
		t.Skip("SKIPPED: takes a minute without kernels for the processor")
	}
	p := open(t, Options{})
	r := p.NewRequest("a house at night")
	r.Seed, r.Steps, r.Width, r.Height = 5, 4, 256, 384
	moved := func(r Request, rows, columns int) *image.NRGBA { // by so many latents
		m, err := p.begin(t.Context(), r, Events{})
		if err != nil {
			t.Fatal(err)
		}
		m.join(&batcher{p: p, pictures: 1}, 0, new(sync.Mutex))
		x := slices.Clone(m.x)
		for i := range x {
			c, y, col := i/(m.latentH*m.latentW), i/m.latentW%m.latentH, i%m.latentW
			m.x[(c*m.latentH+(y+rows)%m.latentH)*m.latentW+(col+columns)%m.latentW] = x[i]
		}
		if err := m.denoise(t.Context()); err != nil {
			t.Fatal(err)
		}
		img, err := m.finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return img.Pixels
	}
	for _, c := range []struct {
		tile          string
		tiled         bool
		rows, columns int
		least, most   float64 // dB
	}{
		{"both", false, 8, 8, 60, math.Inf(1)}, {"x", false, 0, 8, 60, math.Inf(1)}, {"y", false, 16, 0, 60, math.Inf(1)}, {"both", true, 12, 0, 40, math.Inf(1)},
		{"", false, 8, 8, 0, 30}, {"x", false, 8, 0, 0, 30}, {"y", false, 0, 8, 0, 30},
	} {
		r.Tile, r.Tiled = c.tile, c.tiled
		still, there := moved(r, 0, 0), moved(r, c.rows, c.columns)
		f, w, h := p.Factor(), still.Rect.Dx(), still.Rect.Dy()
		back := image.NewNRGBA(still.Rect)
		for y := range h {
			for x := range w {
				from := there.PixOffset((x+c.columns*f)%w, (y+c.rows*f)%h)
				copy(back.Pix[back.PixOffset(x, y):], there.Pix[from:from+4])
			}
		}
		if dB := psnr(still, back); dB < c.least || dB > c.most {
			t.Errorf("--tile %q, tiled %v, moved by %d rows and %d columns: %.1f dB", c.tile, c.tiled, c.rows, c.columns, dB)
		}
	}
}

// A picture in windows takes the memory of one, whatever its size; its recipe makes it again; a picture no larger than a window is as
// without.
func TestWindows(t *testing.T) {
	if testing.Short() && !cpu.Available {
		t.Skip("SKIPPED: takes a minute without kernels for the processor")
	}
	p := open(t, Options{Model: "testdata/models/sd1"})
	r := p.NewRequest("a cat AND a dog :0.5")
	r.Seed, r.Steps, r.Scheduler, r.Width, r.Height, r.Tiled = 3, 2, "euler-a", 512, 384, true
	need := func(r Request) uint64 {
		t.Helper()
		pl, err := p.plan(r)
		if err != nil {
			t.Fatal(err)
		}
		return p.needOf(pl, pl.rows()).Activations
	}
	whole := need(r)
	r.Windows = "64:overlap=0.25"
	if n := need(r); n > whole/3 {
		t.Errorf("%d bytes of activations in windows, %d without", n, whole)
	}
	img := render(t, p, r)
	if again := render(t, p, FromRecipe(img.Recipe)); again.Recipe.Result != img.Recipe.Result || img.Recipe.Windows != r.Windows {
		t.Errorf("the recipe makes another picture: %q", img.Recipe.Windows)
	}
	r.Width, r.Height = 64, 64
	small := render(t, p, r).Recipe.Result
	r.Windows = ""
	if render(t, p, r).Recipe.Result != small {
		t.Error("a picture of one window is another one")
	}
	paint := open(t, Options{Model: filepath.Join(edits, "models/inpaint")})
	q := paint.NewRequest("a cat")
	q.Seed, q.Steps, q.Init, q.Mask, q.Windows, q.Width, q.Height = 3, 2, editFile("init", 128), editFile("mask", 128), "64", 0, 0
	if img := render(t, paint, q).Pixels; img.Rect.Dx() != 128 {
		t.Errorf("inpainting in windows: %v", img.Rect)
	}
	for _, c := range []struct{ windows, tile, want string }{
		{"63", "", "multiples of 8 pixels; the nearest size is 64"}, {"64:overlap=1", "", "an overlap from 0 to 0.95"}, {"big", "", "write PIXELS"}, {"64", "x", "--windows and --tile do not go together"},
	} {
		q := r
		q.Width, q.Windows, q.Tile = 128, c.windows, c.tile
		if _, err := p.Render(t.Context(), q, Events{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []struct {
		n, side int
		overlap float64
		want    []int
	}{{24, 16, 0.5, []int{0, 8}}, {25, 16, 0.5, []int{0, 5, 9}}, {16, 16, 0.5, []int{0}}, {17, 16, 0, []int{0, 1}}, {100, 10, 0, []int{0, 10, 20, 30, 40, 50, 60, 70, 80, 90}}} {
		if got := spread(c.n, c.side, c.overlap); !slices.Equal(got, c.want) {
			t.Errorf("%d of %d with an overlap of %v: %v, want %v", c.side, c.n, c.overlap, got, c.want)
		}
	}
}
