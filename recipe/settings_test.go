package recipe

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTable: every row says what it is, and its places hold values of its kind.
func TestTable(t *testing.T) {
	for _, s := range All() {
		if s.About == "" || s.Name != strings.ToLower(s.Name) || strings.Contains(s.Name, "_") {
			t.Errorf("%+v: a row needs help, and a name as flags spell it", s)
		}
		if s.Default == "" && s.Kind != SwitchKind {
			t.Errorf("%s: the help does not say what holds where nothing is given", s.Name)
		}
		var to Settings
		v := map[Kind]any{TextKind: "x", WholeKind: 7, NumberKind: 0.5, SeedKind: uint64(1<<64 - 1), SwitchKind: true}[s.Kind]
		s.put(&to, v)
		if got := s.Get(&to); got != v {
			t.Errorf("%s: %v was put in and %v comes out", s.Name, v, got)
		}
		var r Recipe
		s.intoRecipe(&r, v)
		if got := s.FromRecipe(&r); got != v && s.InRecipe() {
			t.Errorf("%s: %v was put into a recipe and %v comes out", s.Name, v, got)
		}
		s.reset(&to)
		if d := cmp.Diff(Settings{}, to); d != "" {
			t.Errorf("%s: after reset: %s", s.Name, d)
		}
		if s.Choices != nil && !slices.Contains(s.Choices(), s.Choices()[0]) {
			t.Errorf("%s has no choices", s.Name)
		}
		for _, name := range s.Voids {
			if _, ok := Lookup(name); !ok {
				t.Errorf("%s voids %s, which is not a setting", s.Name, name)
			}
		}
	}
}

// TestLookup finds settings by the names that people bring from other programs.
func TestLookup(t *testing.T) {
	for name, want := range map[string]string{"cfg_scale": "cfg", "negative_prompt": "negative", "num_inference_steps": "steps", "guidance_scale": "cfg", "sampler": "scheduler", "W": "width", "guidance_rescale": "guidance-rescale", "w": "", "": ""} {
		s, ok := Lookup(name)
		if !ok && want != "" || ok && s.Name != want {
			t.Errorf("%q is %+v, not %q", name, s, want)
		}
	}
}

func given(t *testing.T, words ...string) Given {
	t.Helper()
	var g Given
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		if err := g.Parse(name, value); err != nil {
			t.Fatalf("%s: %v", w, err)
		}
	}
	return g
}

// TestApply: a given value replaces the old one, 0 and "" too, and what it makes void goes back to its default.
func TestApply(t *testing.T) {
	eta := 0.5
	old := Settings{Prompt: "a", Negative: "n", Steps: 20, CFG: 7, Rescale: 0.7, Guidance: "apg", Scheduler: "euler-a", Sigmas: "karras", Eta: &eta, ClipSkip: 1, Width: 64}
	listed := old
	listed.Sigmas, listed.Steps = "9,3,1", 3
	for _, c := range []struct {
		name  string
		given []string
		old   Settings
		want  func(s *Settings)
	}{
		{"nothing", nil, old, func(*Settings) {}},
		{"zeros", []string{"negative=", "cfg=0", "clip-skip=0", "seed=0", "guidance-rescale=0", "eta=0"}, old, func(s *Settings) {
			s.Negative, s.CFG, s.ClipSkip, s.Rescale, s.Eta = "", 0, 0, 0, new(float64)
		}},
		{"a scheduler voids sigmas and eta", []string{"scheduler=ddim"}, old, func(s *Settings) { s.Scheduler, s.Sigmas, s.Eta = "ddim", "", nil }},
		{"unless they are given beside it", []string{"scheduler=ddim", "sigmas=beta"}, old, func(s *Settings) { s.Scheduler, s.Sigmas, s.Eta = "ddim", "beta", nil }},
		{"a guidance voids its rescale", []string{"guidance=cfg"}, old, func(s *Settings) { s.Guidance, s.Rescale = "cfg", 0 }},
		{"a list of levels decides the steps", []string{"sigmas=9,3,1"}, old, func(s *Settings) { s.Sigmas, s.Steps = "9,3,1", 0 }},
		{"unless they are given beside it", []string{"sigmas=9,3,1", "steps=3"}, old, func(s *Settings) { s.Sigmas, s.Steps = "9,3,1", 3 }},
		{"steps void a list of levels", []string{"steps=9"}, listed, func(s *Settings) { s.Sigmas, s.Steps = "", 9 }},
		{"and no name", []string{"steps=9"}, old, func(s *Settings) { s.Steps = 9 }},
	} {
		want, got := c.old, c.old
		c.want(&want)
		g := given(t, c.given...)
		g.Apply(&got)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

// TestOver: a command line over a preset applies as the two would one after the other.
func TestOver(t *testing.T) {
	for _, c := range [][2]string{
		{"scheduler=euler-a sigmas=karras eta=0.5 steps=9", "scheduler=ddim"}, {"sigmas=9,3,1", "steps=4"}, {"steps=4", "sigmas=9,3,1"},
		{"guidance=apg guidance-rescale=0.5 cfg=3", "guidance=cfg negative="}, {"cfg=3", "cfg=0"},
	} {
		before, g := given(t, strings.Fields(c[0])...), given(t, strings.Fields(c[1])...)
		one := Settings{Steps: 20, CFG: 7, Scheduler: "heun", Negative: "n"}
		two := one
		before.Apply(&one)
		g.Apply(&one)
		both := g.Over(before)
		both.Apply(&two)
		if d := cmp.Diff(one, two); d != "" {
			t.Errorf("%s over %s: %s", c[1], c[0], d)
		}
	}
}

// TestGivenJSON: what is read is what was written; zeros that mean the default are left out.
func TestGivenJSON(t *testing.T) {
	g := given(t, "prompt=<a & b>", "seed=18446744073709551615", "cfg=0", "negative=", "eta=0", "clip-skip=0", "guidance-rescale=0.25", "sigmas=9,3", "width=64", "vae-tiling=true", "dtype=fp32")
	text, err := g.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"dtype":"fp32","prompt":"<a & b>","negative":"","seed":18446744073709551615,"cfg":0,"guidance_rescale":0.25,"sigmas":"9,3","eta":0,"width":64,"vae_tiling":true}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	var back Given
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	again, _ := back.MarshalJSON()
	if string(again) != want || back.Has("clip-skip") || !back.Has("eta") || back.Eta == nil {
		t.Errorf("%s becomes %s", want, again)
	}
	if err := json.Unmarshal([]byte(`{"steps":"many"}`), &back); err == nil || err.Error() != "steps is not a whole number" {
		t.Errorf("a wrong type: %v", err)
	}
}

// TestFlags: the words, taken as a command line, give the same again.
func TestFlags(t *testing.T) {
	g := given(t, "prompt=-a 'red' apple", "negative=", "cfg=0", "eta=-1e-7", "scheduler=ddim", "vae-tiling=true", "model=/m/x", "quality=9", "format=jpg", "steps=3")
	want := []string{"--prompt=-a 'red' apple", "--negative=", "--steps", "3", "--cfg", "0", "--scheduler", "ddim", "--eta", "-1e-07", "--model", "/m/x", "--vae-tiling", "--format", "jpg", "--quality", "9"}
	if d := cmp.Diff(want, g.Flags()); d != "" {
		t.Error(d)
	}
	if c := g.Command(); !strings.HasPrefix(c, `darkroom generate '--prompt=-a '\''red'\'' apple' --negative= --steps 3`) {
		t.Error(c)
	}
}

// TestRecipeSettings: a recipe's settings and back are the same recipe.
func TestRecipeSettings(t *testing.T) {
	r := sample()
	for _, sigmas := range []string{"", "karras", "14.6,6.1,0.03"} {
		r.Sigmas, r.SigmaList = sigmas, nil
		if list, ok := ParseLevels(sigmas); ok {
			r.Sigmas, r.SigmaList, r.Steps = "", list, len(list)
		}
		s := r.Settings()
		if s.Sigmas != sigmas {
			t.Errorf("sigmas %q, not %q", s.Sigmas, sigmas)
		}
		back := Recipe{Version: r.Version, Numerics: r.Numerics, Model: r.Model, ModelHash: r.ModelHash, Prediction: r.Prediction,
			DType: r.DType, Backend: r.Backend, Device: r.Device, DecodeDType: r.DecodeDType, Result: r.Result, Unknown: r.Unknown}
		back.Set(s)
		if d := cmp.Diff(r, back); d != "" {
			t.Error(d)
		}
	}
}

// TestAdd: a setting that only the table knows is parsed, applied, written and read like any other.
func TestAdd(t *testing.T) {
	remove := Add(Setting{Name: "made-up", Group: PictureGroup, Kind: NumberKind, Low: 0, High: 2, Default: "0", About: "for this test"})
	defer remove()
	g := given(t, "prompt=a", "made-up=1.5")
	text, err := json.Marshal(g)
	if err != nil || string(text) != `{"prompt":"a","seed":0,"made_up":1.5}` {
		t.Errorf("%s, %v", text, err)
	}
	var back Given
	if err := json.Unmarshal(text, &back); err != nil || !back.Has("made-up") || back.Extra["made-up"] != 1.5 {
		t.Errorf("%+v, %v", back, err)
	}
	if c := g.Command(); c != "darkroom generate --prompt=a --seed 0 --made-up 1.5" && c != "darkroom generate --prompt=a --made-up 1.5" {
		t.Error(c)
	}
	var to, other Settings
	g.Apply(&to)
	r := sample()
	r.Set(to)
	text, err = r.MarshalJSON()
	if err != nil || !strings.Contains(string(text), `,"made_up":1.5`) {
		t.Errorf("the recipe is %s, %v", text, err)
	}
	var read Recipe
	if err := json.Unmarshal(text, &read); err != nil || read.Settings().Extra["made-up"] != 1.5 || len(read.Unknown) != len(r.Unknown) {
		t.Errorf("%+v, %v", read, err)
	}
	other = to
	zero := given(t, "made-up=0")
	zero.Apply(&other)
	if to.Extra["made-up"] != 1.5 || other.Extra["made-up"] != 0.0 {
		t.Errorf("%v and %v share a value", to.Extra, other.Extra)
	}
	remove()
	if _, ok := Lookup("made-up"); ok {
		t.Error("the setting stays after its removal")
	}
}

// TestLists: names and lists of levels in one value; ways of guidance with keys; a prompt is one.
func TestLists(t *testing.T) {
	for in, want := range map[string]string{
		"karras": "karras", "karras,exponential": "karras|exponential", "14.6,6.1,0.03": "14.6,6.1,0.03", "karras,14.6,6.1,10,1,beta,3,2": "karras|14.6,6.1|10,1|beta|3,2",
		"5,5": "5|5",
	} {
		s, _ := Lookup("sigmas")
		if got := strings.Join(s.List(in), "|"); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	for name, c := range map[string][2]string{"guidance": {"cfg,apg:eta=0,norm=2,dynamic", "cfg|apg:eta=0,norm=2|dynamic"}, "steps": {"4, 8", "4|8"}, "negative": {"a, b", "a, b"}} {
		s, _ := Lookup(name)
		if got := strings.Join(s.List(c[0]), "|"); got != c[1] {
			t.Errorf("%s %s: %s, want %s", name, c[0], got, c[1])
		}
	}
}
