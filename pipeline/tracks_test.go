package pipeline

import (
	"image"
	"image/color"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Halves of a prompt are the prompt, regions with one prompt are that prompt, words that change to themselves do not change,
// and the way from a prompt to itself leads nowhere: with one text encoder and with two.
func TestComposedIdentities(t *testing.T) {
	for _, model := range []string{"testdata/models/sd1", "testdata/sdxl/models/xl"} {
		p := open(t, Options{Model: model})
		r := p.NewRequest("a cat")
		r.Seed, r.Steps, r.CFG, r.Width, r.Height = 3, 4, 4, 64, 64
		want := render(t, p, r)
		for _, c := range []struct{ prompt, regions, toward string }{
			{"a cat AND a cat :0", "", ""},
			{"a cat :0.5 AND a cat :0.5", "", ""},
			{"a cat AND a dog :2 AND a dog :-2", "", ""},
			{"a dog", "left=a cat; right=a cat", ""},
			{"a dog", "0,0,100,100=a cat", ""},
			{"a dog", "top=a cat; 0,30,100,70=a cat", ""}, // where they overlap they share
			{"a [cat:cat:2]", "", ""},
			{"a [cat|cat]", "", ""},
			{"a cat", "", "0.4:a cat"},
			{"a cat", "", "0:a dog"},
			{"a dog", "", "1:a cat"},
		} {
			q := r
			q.Prompt, q.Regions, q.Toward = c.prompt, c.regions, c.toward
			got := render(t, p, q)
			if dB := psnr(got.Pixels, want.Pixels); dB < 60 {
				t.Errorf("%s: %+v: %.1f dB from the same prompt", model, c, dB)
			}
			again := FromRecipe(got.Recipe)
			if render(t, p, again).Recipe.Result != got.Recipe.Result {
				t.Errorf("%+v: the recipe makes another picture", c)
			}
		}
		other := r
		other.Prompt = "a dog"
		if dB := psnr(render(t, p, other).Pixels, want.Pixels); dB > 50 {
			t.Errorf("%s: two prompts give pictures that are %.1f dB alike: this shows nothing", model, dB)
		}
	}
}

// In the plain syntax all is text; without guidance prompts are still joined; a mask's file is a region, by its name in the recipe.
func TestTracks(t *testing.T) {
	dir := t.TempDir()
	p := open(t, Options{Model: "testdata/models/sd1"})
	left := image.NewGray(image.Rect(0, 0, 40, 40))
	for y := range 40 {
		for x := range 20 {
			left.SetGray(x, y, color.Gray{255})
		}
	}
	r := p.NewRequest("a [cat|dog] AND a [house:2] :0.5")
	r.Seed, r.Steps, r.CFG, r.Width, r.Height = 3, 4, 4, 64, 64
	rows := func(r Request) int {
		t.Helper()
		plan, err := p.Plan(r)
		if err != nil {
			t.Fatal(err)
		}
		return plan.Rows
	}
	plain := r
	plain.Syntax = "plain"
	if n, m := rows(r), rows(plain); n != 3 || m != 2 {
		t.Errorf("%d rows, in the plain syntax %d; want 3 and 2", n, m)
	}
	r.CFG = 1
	if n := rows(r); n != 3 {
		t.Errorf("%d rows without guidance, want 3", n)
	}
	free := render(t, p, r).Recipe.Result.Pixels
	r.CFG = 4
	if render(t, p, r).Recipe.Result.Pixels == free {
		t.Error("guidance makes no difference")
	}

	r.Prompt = "a meadow"
	r.Regions = "left=a cat"
	byName := render(t, p, r)
	r.Regions = savePNG(t, dir, "left.png", left) + "=a cat"
	byFile := render(t, p, r)
	if byName.Recipe.Result.Pixels != byFile.Recipe.Result.Pixels {
		t.Error("the left half and a mask of it are different regions")
	}
	if f := byFile.Recipe.Files; byFile.Recipe.Regions != "left.png=a cat" || len(f) != 1 || f[0].Kind != "region" || f[0].Name != "left.png" {
		t.Errorf("the recipe has %q and %+v", byFile.Recipe.Regions, f)
	}

	var warned []string
	r.Regions, r.Prompt = "", "half past ten :2"
	if _, err := p.Render(t.Context(), r, Events{Warn: func(s string) { warned = append(warned, s) }}); err != nil || !slices.ContainsFunc(warned, func(s string) bool { return strings.Contains(s, "ends with :2") }) {
		t.Errorf("warned of %q, %v", warned, err)
	}
}

func TestTrackErrors(t *testing.T) {
	dir := t.TempDir()
	p := open(t, Options{Model: "testdata/models/sd1"})
	black := savePNG(t, dir, "black.png", image.NewGray(image.Rect(0, 0, 8, 8)))
	for _, c := range []struct{ prompt, regions, toward, want string }{
		{"a", "left", "", "write AREA=PROMPT"},
		{"a", "left=", "", "write AREA=PROMPT"},
		{"a", "0,0,0,10=b", "", "the area is empty"},
		{"a", "0,0,101,10=b", "", "percent of the picture"},
		{"a", filepath.Join(dir, "none.png") + "=b", "", "none.png"},
		{"a", black + "=b", "", "is black"},
		{"a", "left=b AND c", "", "a region takes only one"},
		{"a", strings.Repeat("left=b;", 17), "", "at most 16"},
		{"a", "", "b", "write SHARE:PROMPT"},
		{"a", "", "1.5:b", "from 0 to 1"},
		{"a", "", "0.5:b AND c", "leads to one prompt"},
		{"a AND b", "", "0.5:c", "joins 2 with AND"},
		{strings.Repeat("a AND ", 70), "", "", "at most 64"},
		{"[a|b]" + strings.Repeat("long ", 12_000), "", "", "use less of either"},
		{strings.Repeat("(", 1001) + " AND b", "", "", "brackets are open"},
	} {
		r := p.NewRequest(c.prompt)
		r.Steps, r.Regions, r.Toward = 2, c.regions, c.toward
		if len(c.prompt) > 10_000 {
			r.Steps = 900
		}
		if _, err := p.Render(t.Context(), r, Events{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q %.40q %q: %v", c.prompt, c.regions, c.toward, err)
		}
	}
}

// Prompts are joined by models that read a picture beside the latents, too.
func TestComposedEditing(t *testing.T) {
	for model, mask := range map[string]string{filepath.Join(edits, "models/inpaint"): editFile("mask", 64), filepath.Join(steers, "models/instruct"): ""} {
		p := open(t, Options{Model: model})
		r := p.NewRequest("a cat")
		r.Seed, r.Steps, r.CFG, r.Init, r.Mask = 3, 4, 4, editFile("init", 64), mask
		r.Width, r.Height = 64, 64
		want := render(t, p, r).Pixels
		r.Prompt = "a cat :0.5 AND a cat :0.5"
		if dB := psnr(render(t, p, r).Pixels, want); dB < 60 {
			t.Errorf("%s: %.1f dB from the same prompt", model, dB)
		}
	}
}
