package pipeline

import (
	"encoding/json"
	"image"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"darkroom/checkpoint"
	"darkroom/kernels/cpu"
	"darkroom/recipe"
)

// cacheCase is a picture of train/goldens_cache.py.
type cacheCase struct {
	Name, Model, Scheduler, Prompt, Negative, Cache string
	Size, Steps, Calls                              int
	Whole                                           []int
}

const caches = "testdata/cache"

func cacheCases(t *testing.T) (cases []cacheCase) {
	text, err := os.ReadFile(filepath.Join(caches, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func (c cacheCase) request(p *Pipeline) Request {
	r := p.NewRequest(c.Prompt)
	r.Negative, r.Syntax, r.Seed, r.Steps, r.CFG, r.Scheduler = c.Negative, "plain", 21, c.Steps, 5, c.Scheduler
	r.Width, r.Height, r.Cache = c.Size, c.Size, c.Cache
	return r
}

// With step caching pictures are those of diffusers' U-Net whose inner layers' result, or cross-attention's, is kept and
// put back.
func TestCachesAsDiffusers(t *testing.T) {
	for _, c := range cacheCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			p := open(t, Options{Model: filepath.Join(caches, c.Model)})
			img, latents, _, err := p.RenderLatents(t.Context(), c.request(p), Events{})
			if err != nil {
				t.Fatal(err)
			}
			if r := img.Recipe; !slices.Equal(r.WholeCalls, c.Whole) || r.Calls != c.Calls || r.Cache == "" {
				t.Errorf("whole calls %v of %d, want %v of %d", r.WholeCalls, r.Calls, c.Whole, c.Calls)
			}
			file, err := checkpoint.Open(filepath.Join(caches, c.Name+".safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			closeTo(t, "latents", latents, goldens{file}.get(t, "latents"), 1e-4)
			if dB := psnr(img.Pixels, readPNG(t, filepath.Join(caches, c.Name+".png"))); dB < 60 {
				t.Errorf("the picture is at %.1f dB from diffusers', want 60", dB)
			}
		})
	}
}

// A picture of a batch is the one that is made alone, whatever the others leave out; and what a cache keeps of one picture
// does not reach the next.
func TestCacheInABatch(t *testing.T) {
	p := open(t, Options{Model: filepath.Join(caches, "../models/sd1")})
	var requests []Request
	for i, cache := range []string{"", "deepcache:every=2", "firstblock:threshold=0.15", "deepcache:every=3,layers=1", "", "firstblock:threshold=0.4",
		"tgate:gate=3", "tgate:gate=5", "tgate:gate=2"} {
		r := p.NewRequest("a fox")
		r.Seed, r.Steps, r.CFG, r.Width, r.Height, r.Cache = uint64(i), 7, 4, 64, 64, cache
		if i%2 == 1 {
			r.Guidance = "cfg:stop=0.5" // fewer rows towards the end
		}
		requests = append(requests, r)
	}
	var alone []*image.NRGBA
	for _, r := range requests {
		img, err := p.Render(t.Context(), r, Events{})
		if err != nil {
			t.Fatal(err)
		}
		alone = append(alone, img.Pixels)
	}
	p.RenderBatch(t.Context(), requests, nil, func(i int, img *Image, err error) {
		if err != nil {
			t.Error(err)
			return
		}
		if !slices.Equal(img.Pixels.Pix, alone[i].Pix) {
			t.Errorf("picture %d with cache %q is another one in a batch", i, requests[i].Cache)
		}
		made := FromRecipe(img.Recipe)
		if made.Cache != requests[i].Cache {
			t.Errorf("the recipe says cache %q, not %q", made.Cache, requests[i].Cache)
		}
	})
}

// With threshold 0 firstblock changes nothing, to the bit.
func TestCacheOfNothing(t *testing.T) {
	p := open(t, Options{Model: filepath.Join(caches, "../models/sd1"), LowMemory: true})
	r := p.NewRequest("a fox")
	r.Steps, r.Width, r.Height = 4, 64, 64
	want, err := p.Render(t.Context(), r, Events{})
	if err != nil {
		t.Fatal(err)
	}
	r.Cache = "firstblock:threshold=0"
	got, err := p.Render(t.Context(), r, Events{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Pixels.Pix, want.Pixels.Pix) {
		t.Error("a cache that is never used gives another picture")
	}
	if len(got.Recipe.WholeCalls) != 4 {
		t.Errorf("whole calls %v, want all 4", got.Recipe.WholeCalls)
	}
	text := got.Recipe.Parameters()
	if f, err := recipe.ParseParameters(text); err != nil || f.Recipe.Cache != r.Cache {
		t.Errorf("%q does not give the cache back", text)
	}
}

func TestCacheErrors(t *testing.T) {
	p := open(t, Options{Model: filepath.Join(caches, "../models/sd1")})
	for cache, part := range map[string]string{
		"deepcach":                  "no cache is called",
		"deepcache:every=1":         "want a number",
		"deepcache:layers=60":       "the up path of this model's U-Net",
		"firstblock:every=2":        "no key",
		"tgate:gate=0":              "want a number",
		"deepcache:every=2,every=3": "twice",
	} {
		r := p.NewRequest("a fox")
		r.Cache = cache
		if _, err := p.Render(t.Context(), r, Events{}); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want an error with %q", cache, err, part)
		}
	}
	r := p.NewRequest("a fox AND a table")
	r.Cache = "tgate"
	if _, err := p.Render(t.Context(), r, Events{}); err == nil || !strings.Contains(err.Error(), "several") {
		t.Errorf("several prompts with tgate: %v", err)
	}
}

// A gate at the end leaves the picture as it is, to what another order of sums gives, and warns that it does nothing. One
// before it gives another picture, also where weights come block by block.
func TestGateAtTheEnd(t *testing.T) {
	p := open(t, Options{Model: filepath.Join(caches, "../models/sd1")})
	low := open(t, Options{Model: filepath.Join(caches, "../models/sd1"), LowMemory: true})
	render := func(p *Pipeline, cache string) (*Image, string) {
		t.Helper()
		warned := ""
		r := p.NewRequest("a fox")
		r.Steps, r.CFG, r.Width, r.Height, r.Cache = 4, 5, 64, 64, cache
		img, err := p.Render(t.Context(), r, Events{Warn: func(text string) { warned += text }})
		if err != nil {
			t.Fatal(err)
		}
		return img, warned
	}
	want, _ := render(p, "")
	last, warned := render(p, "tgate:gate=4")
	if dB := psnr(last.Pixels, want.Pixels); dB < 60 || !strings.Contains(warned, "does nothing in 4 steps") {
		t.Errorf("%.1f dB from the picture without a gate, and the warning %q", dB, warned)
	}
	early, _ := render(p, "tgate:gate=1")
	if dB := psnr(early.Pixels, want.Pixels); dB > 50 {
		t.Errorf("%.1f dB: the gate changes nothing", dB)
	}
	streamed, _ := render(low, "tgate:gate=1")
	if streamed.Recipe.Result.Latents != early.Recipe.Result.Latents { // which are decoded in tiles
		t.Error("with --low-memory the latents are others")
	}
}

// T-GATE with ControlNets, adapters and image prompts: a gate at the end leaves the picture as it is, and an earlier one
// gives a picture that the control still steers.
func TestGateWithControls(t *testing.T) {
	if testing.Short() && !cpu.Available {
		t.Skip("SKIPPED: takes a minute without kernels for the processor")
	}
	for _, c := range steerCases(t) {
		if c.ImageCFG != nil || c.Control == "" || c.Init || c.Mask {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			p := open(t, Options{Model: filepath.Join(steers, c.Model)})
			render := func(cache, control string) *Image {
				t.Helper()
				r := c.request(p)
				r.Cache, r.Control = cache, control
				img, err := p.Render(t.Context(), r, Events{})
				if err != nil {
					t.Fatal(err)
				}
				return img
			}
			want, last := render("", located(c.Control)), render("tgate:gate=6", located(c.Control))
			if dB := psnr(last.Pixels, want.Pixels); dB < 55 { // another order of float32 sums, over 6 steps
				t.Errorf("%.1f dB from the picture without a gate", dB)
			}
			if dB := psnr(render("tgate:gate=1", located(c.Control)).Pixels, render("tgate:gate=1", "").Pixels); dB > 50 {
				t.Errorf("%.1f dB: the control does nothing", dB)
			}
		})
	}
}
