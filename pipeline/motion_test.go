package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/checkpoint"
	"darkroom/imagefile"
	"darkroom/recipe"
)

const films = "testdata/motion"

type filmCase struct {
	Name, Scheduler, Prompt, Negative, Betas string
	Frames, Size, Steps                      int
	CFG                                      float64
	Seed                                     uint64
}

func filmCases(t *testing.T) (cases []filmCase) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(films, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func (c filmCase) request(p *Pipeline) Request {
	r := p.NewRequest(c.Prompt)
	r.Negative, r.Syntax, r.Seed, r.Steps, r.CFG, r.Scheduler = c.Negative, "plain", c.Seed, c.Steps, c.CFG, c.Scheduler
	r.Width, r.Height = c.Size, c.Size
	r.Motion = fmt.Sprintf("%s:frames=%d", filepath.Join(films, "module"), c.Frames)
	if c.Betas != recipe.BetasLinear {
		r.Motion += ",betas=" + c.Betas
	}
	return r
}

// Films are diffusers': the noise, the latents after the first step and after the last, each frame's pixels.
func TestFilmsAsDiffusers(t *testing.T) {
	for _, c := range filmCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			p := open(t, Options{Model: "testdata/models/sd1"})
			file, err := checkpoint.Open(filepath.Join(films, c.Name+".safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			g := goldens{file}
			var last []float32
			img, err := p.Render(t.Context(), c.request(p), Events{latents: func(step int, x []float32) {
				if step == 1 {
					closeTo(t, "latents after step 1", x, g.get(t, "first"), 1e-4)
				}
				last = append(last[:0], x...)
			}})
			if err != nil {
				t.Fatal(err)
			}
			closeTo(t, "latents", last, g.get(t, "latents"), 1e-4)
			if want := hashFloats(g.get(t, "noise")); img.Recipe.Result.Noise != want {
				t.Error("the noise differs from torch's")
			}
			all := readPNG(t, filepath.Join(films, c.Name+".png"))
			if len(img.Frames) != c.Frames || img.Frames[0] != img.Pixels {
				t.Fatalf("%d frames, want %d", len(img.Frames), c.Frames)
			}
			for i, frame := range img.Frames {
				want := image.NewNRGBA(frame.Rect)
				copy(want.Pix, all.Pix[i*len(want.Pix):])
				if dB := psnr(frame, want); dB < 60 { // as pictures have it
					t.Errorf("frame %d is at %.1f dB from diffusers', want 60", i+1, dB)
				}
			}
		})
	}
}

// A film alone, among pictures and other films, and again from the recipe in its file, has the same bits.
func TestFilmsInBatches(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	cases := filmCases(t)
	film := cases[0].request(p)
	other := film
	other.Seed = 8
	still := film
	still.Motion = ""
	shorter := cases[1].request(p)
	requests := []Request{film, still, other, shorter}
	got := make([]*Image, len(requests))
	p.RenderBatch(t.Context(), requests, nil, func(i int, img *Image, err error) {
		if err != nil {
			t.Errorf("request %d: %v", i, err)
		}
		got[i] = img
	})
	for i, r := range requests {
		alone, err := p.Render(t.Context(), r, Events{})
		if err != nil {
			t.Fatal(err)
		}
		if got[i] == nil || alone.Recipe.Result != got[i].Recipe.Result {
			t.Errorf("request %d differs in a batch", i)
		}
	}
	if len(got[1].Frames) != 0 || len(got[3].Frames) != cases[1].Frames {
		t.Errorf("%d and %d frames", len(got[1].Frames), len(got[3].Frames))
	}
	r := got[0].Recipe
	if want := fmt.Sprintf("module:frames=%d,fps=8,betas=linear", cases[0].Frames); r.Motion != want {
		t.Errorf("the recipe says %q, want %q", r.Motion, want)
	}
	if len(r.Files) != 1 || r.Files[0].Kind != "motion" || len(r.Files[0].SHA256) != 64 {
		t.Errorf("files of the recipe: %v", r.Files)
	}
	for _, format := range []imagefile.Format{imagefile.PNG, imagefile.WebP} {
		var buf bytes.Buffer
		if err := imagefile.Encode(&buf, got[0].Pixels, r, got[0].Options(imagefile.Options{Format: format})); err != nil {
			t.Fatal(err)
		}
		info, err := imagefile.Read(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
		if err != nil || info.Recipe == nil || info.Recipe.Motion != r.Motion || !info.Complete {
			t.Errorf("%v: recipe %v, %v", format, info.Recipe, err)
		}
		if format != imagefile.PNG {
			continue
		}
		frames, err := imagefile.Frames(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
		if err != nil || recipe.HashPixels(frames...) != r.Result.Pixels {
			t.Errorf("%d frames are read back, %v", len(frames), err)
		}
	}
	if err := imagefile.Encode(&bytes.Buffer{}, got[0].Pixels, r, got[0].Options(imagefile.Options{Format: imagefile.JPEG})); err == nil || !strings.Contains(err.Error(), "animate") {
		t.Errorf("a film as JPEG: error %v", err)
	}
}

// What a film takes is counted: its activations grow with the frames, and the module's weights are among those that are loaded.
func TestFilmMemory(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	need := func(motion string) Need {
		r := filmCases(t)[0].request(p)
		r.Motion = motion
		pl, err := p.plan(r)
		if err != nil {
			t.Fatal(err)
		}
		return p.needOf(pl, pl.rows())
	}
	module := filepath.Join(films, "module")
	still, two, six := need(""), need(module+":frames=2"), need(module+":frames=6")
	if two.Weights <= still.Weights || six.Weights != two.Weights {
		t.Errorf("weights: %d of a picture, %d of two frames, %d of six", still.Weights, two.Weights, six.Weights)
	}
	if two.Activations <= still.Activations || six.Activations <= two.Activations {
		t.Errorf("activations: %d of a picture, %d of two frames, %d of six", still.Activations, two.Activations, six.Activations)
	}
}

func TestFilmsThatCannotBe(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	module := filepath.Join(films, "module")
	for name, c := range map[string]struct {
		change func(*Request)
		want   string
	}{
		"too many frames": {func(r *Request) { r.Motion = module + ":frames=7" }, "at most 6: ask for 6"},
		"init":            {func(r *Request) { r.Init = "x.png" }, "--motion and --init"},
		"a control":       {func(r *Request) { r.Control = located("one=ring-128.png") }, "only IP-Adapters"},
		"no module":       {func(r *Request) { r.Motion = "nothing-of-that-name" }, "no motion of that name"},
		"another file":    {func(r *Request) { r.Motion = "testdata/models/sd1/unet" }, "this is the U-Net"},
		"its options":     {func(r *Request) { r.Motion += ",speed=2" }, "no option is called"},
	} {
		r := filmCases(t)[0].request(p)
		c.change(&r)
		if err := p.Check(r); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
	xl := open(t, Options{Model: "testdata/models/odd"})
	r := xl.NewRequest("x")
	r.Motion = module
	if err := xl.Check(r); err == nil {
		t.Error("a module for another kind of U-Net is taken")
	}
}

// A film may leave out inner layers, and its frames may tile a plane.
func TestFilmsWithCacheAndTile(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	render := func(change func(*Request)) *Image {
		t.Helper()
		r := filmCases(t)[0].request(p)
		change(&r)
		img, err := p.Render(t.Context(), r, Events{})
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	plain := render(func(*Request) {})
	cached := render(func(r *Request) { r.Cache = "deepcache:every=2" })
	if len(cached.Frames) != len(plain.Frames) || cached.Recipe.Result.Latents == plain.Recipe.Result.Latents {
		t.Error("a cached film is the plain one")
	}
	if n := len(cached.Recipe.WholeCalls); n == 0 || n == cached.Recipe.Calls {
		t.Errorf("%d of %d calls are whole", n, cached.Recipe.Calls)
	}
	tiled := render(func(r *Request) { r.Tile = "both" })
	if tiled.Recipe.Result.Pixels == plain.Recipe.Result.Pixels {
		t.Error("a film that tiles is the plain one")
	}
}
