package pipeline

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"darkroom/guidance"
)

// latentsOf renders and gives the latents after each step.
func latentsOf(t *testing.T, p *Pipeline, r Request) (steps [][]float32, img *Image) {
	t.Helper()
	img, err := p.Render(context.Background(), r, Events{latents: func(_ int, x []float32) { steps = append(steps, append([]float32{}, x...)) }})
	if err != nil {
		t.Fatal(err)
	}
	return steps, img
}

func same(a, b []float32) bool { return hashFloats(a) == hashFloats(b) }

// rms is the root mean square of the difference.
func rms(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		sum += float64(a[i]-b[i]) * float64(a[i]-b[i])
	}
	return math.Sqrt(sum / float64(len(a)))
}

// TestGuidanceMethods: each method gives a picture of its own, the same one again although some remember what they saw, and
// again from its recipe.
func TestGuidanceMethods(t *testing.T) {
	needsSpeed(t)
	p := open(t, Options{Model: "testdata/models/sd1"})
	r := p.NewRequest("a red apple")
	r.Negative, r.Seed, r.Steps, r.Scheduler = "a dog", 5, 4, "euler"
	seen := map[string]string{}
	for _, spec := range []string{
		"", "cfg:rescale=0.7", "cfg:start=0.5", "cfg:stop=0.5", "cfg:low=0.3", "cfg:high=3", "cfg-zero", "cfg-zero:zero=1", "apg", "apg:eta=0,momentum=-0.5",
		"dynamic:mimic=3", "perp-neg", "perp-neg:negative=2,rescale=0.5",
	} {
		r.Guidance = spec
		img := render(t, p, r)
		if other, ok := seen[img.Recipe.Result.Latents]; ok {
			t.Errorf("%q and %q give the same picture", spec, other)
		}
		seen[img.Recipe.Result.Latents] = spec
		if again := render(t, p, r); again.Recipe.Result != img.Recipe.Result {
			t.Errorf("%q differs the second time: something was remembered from one picture to the next", spec)
		}
		text, err := json.Marshal(img.Recipe)
		if err != nil {
			t.Fatal(err)
		}
		back := img.Recipe
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if again := render(t, p, FromRecipe(back)); again.Recipe.Result != img.Recipe.Result {
			t.Errorf("%q: the picture from the recipe %s differs", spec, text)
		}
	}
	for _, info := range guidance.Methods() {
		found := false
		for _, spec := range seen {
			found = found || strings.HasPrefix(spec, info.Name) || spec == "" && info.Name == "cfg"
		}
		if !found {
			t.Errorf("no test of %s", info.Name)
		}
	}
}

// TestRescaleBothWays: the flag and the key are one, in the recipe too.
func TestRescaleBothWays(t *testing.T) {
	p := small(t)
	a, b := p.NewRequest("a cat"), p.NewRequest("a cat")
	a.Steps, b.Steps = 2, 2
	a.Rescale, b.Guidance = 0.5, "cfg:rescale=0.5"
	one, two := render(t, p, a).Recipe, render(t, p, b).Recipe
	if one.Result != two.Result || two.Rescale != 0.5 || two.Guidance != "" {
		t.Errorf("%+v\n%+v", one, two)
	}
}

// TestGuidanceInterval: where there is no guidance the prediction is that without guidance, bit for bit, and the U-Net is
// asked about the prompt alone.
func TestGuidanceInterval(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	r := p.NewRequest("a red apple")
	r.Negative, r.Seed, r.Steps, r.Scheduler = "a dog", 5, 6, "ddim"
	full, _ := latentsOf(t, p, r)
	plain := r
	plain.CFG = 1
	none, _ := latentsOf(t, p, plain)

	r.Guidance = "cfg:start=0.5"
	late, _ := latentsOf(t, p, r)
	for i := range 6 {
		if got, want := same(late[i], none[i]), i < 3; got != want {
			t.Errorf("start=0.5, step %d: like without guidance is %v, want %v", i+1, got, want)
		}
	}
	r.Guidance = "cfg:stop=0.5"
	early, _ := latentsOf(t, p, r)
	for i := range 6 {
		if got, want := same(early[i], full[i]), i < 3; got != want {
			t.Errorf("stop=0.5, step %d: like with guidance is %v, want %v", i+1, got, want)
		}
	}
	if p.model.Denoiser.Part().Size().Rows != 1 {
		t.Errorf("after guidance ended the batch is %d", p.model.Denoiser.Part().Size().Rows)
	}
	r.Guidance = "cfg:low=100000"
	never, _ := latentsOf(t, p, r)
	if !same(never[5], none[5]) {
		t.Error("guidance above a level that is never reached is not the same as none")
	}
}

// TestPerpNeg asks about the empty prompt only where the negative prompt is another one.
func TestPerpNeg(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	r := p.NewRequest("a red apple")
	r.Seed, r.Steps, r.Scheduler = 5, 3, "ddim"
	cfg, _ := latentsOf(t, p, r)
	r.Guidance = "perp-neg"
	alone, _ := latentsOf(t, p, r)
	// e + s·(p − w·(n − …)) with n = 0 is uncond + s·(cond − uncond), but for rounding, which 3 steps pass on.
	if d := rms(alone[2], cfg[2]); d > 1e-4 {
		t.Errorf("perp-neg without a negative prompt is %.2g from cfg", d)
	}
	if p.model.Denoiser.Part().Size().Rows != 2 {
		t.Errorf("the batch is %d, want 2: empty and negative prompt are one", p.model.Denoiser.Part().Size().Rows)
	}
	r.Negative = "a dog"
	render(t, p, r)
	if p.model.Denoiser.Part().Size().Rows != 3 {
		t.Errorf("the batch is %d, want 3", p.model.Denoiser.Part().Size().Rows)
	}
}

// TestBrownian: the same picture each time, another than with the generator's noise, and one that converges as steps are
// added: more steps see the same path.
func TestBrownian(t *testing.T) {
	needsSpeed(t)
	p := open(t, Options{Model: "testdata/models/sd1"})
	r := p.NewRequest("a red apple")
	r.Seed, r.Scheduler, r.CFG = 5, "dpm++2m-sde-karras", 1
	end := func(source string, steps int) []float32 {
		r.SDENoise, r.Steps = source, steps
		x, img := latentsOf(t, p, r)
		if img.Recipe.SDENoise != strings.TrimSuffix(source, SDETorch) {
			t.Errorf("the recipe has %q", img.Recipe.SDENoise)
		}
		if again := render(t, p, FromRecipe(img.Recipe)); again.Recipe.Result != img.Recipe.Result {
			t.Errorf("%s: the picture from the recipe differs", source)
		}
		return x[steps-1]
	}
	torch, brownian := rms(end(SDETorch, 16), end(SDETorch, 32)), rms(end(SDEBrownian, 16), end(SDEBrownian, 32))
	t.Logf("from 16 to 32 steps: torch %.3g, brownian %.3g", torch, brownian)
	if brownian > torch/2 {
		t.Errorf("from 16 to 32 steps a Brownian path's picture moves by %.3g, the generator's by %.3g: it should be much less", brownian, torch)
	}
	if same(end("", 4), end(SDEBrownian, 4)) || !same(end("", 4), end(SDETorch, 4)) {
		t.Error("torch must be the default, and brownian another")
	}
}

// TestNothingToDo: what has no effect is said, and is not in the recipe.
func TestNothingToDo(t *testing.T) {
	p := small(t)
	r := p.NewRequest("a cat")
	r.Steps, r.Scheduler, r.SDENoise, r.CFG, r.Guidance = 2, "ddim", SDEBrownian, 1, "apg"
	var warnings []string
	img, err := p.Render(context.Background(), r, Events{Warn: func(w string) { warnings = append(warnings, w) }})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(warnings, "\n")
	for _, want := range []string{"--sde-noise brownian does nothing: ddim draws no noise", "--guidance apg does nothing at --cfg 1"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q among the warnings:\n%s", want, text)
		}
	}
	if img.Recipe.SDENoise != "" || img.Recipe.Guidance != "" {
		t.Errorf("recipe %+v", img.Recipe)
	}
}
