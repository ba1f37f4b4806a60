package jobs

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"darkroom/recipe"

	"github.com/google/go-cmp/cmp"
)

// TestPromptFile reads AUTOMATIC1111's "Prompts from file": a prompt a line, with that program's names and with ours.
func TestPromptFile(t *testing.T) {
	text := "# comment\n\na red apple, ripe -- and (sweet:1.2)\n" +
		"a blue table --steps 12 --seed 7\n" +
		`--prompt "a \"cat\"" --negative_prompt leaf, stem --sampler_name "DPM++ 2M Karras" --cfg_scale 5 --width 64 --height 32 --n_iter 2 --do_not_save_grid true` + "\n" +
		"--prompt a dog --sampler euler-a --seed=1..2\r\n"
	got := mustParse(t, text, Options{Notation: Prompts})
	var lines []string
	for _, m := range got {
		text, err := m.Request.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%d %s", m.Line, text))
	}
	cat := `"prompt":"a \"cat\"","negative":"leaf, stem","seed":%d,"cfg":5,"scheduler":"dpm++2m","sigmas":"karras","width":64,"height":32}`
	want := []string{
		`3 {"prompt":"a red apple, ripe -- and (sweet:1.2)","seed":0}`,
		`4 {"prompt":"a blue table","seed":7,"steps":12}`,
		"5 {" + fmt.Sprintf(cat, 0), "5 {" + fmt.Sprintf(cat, 1),
		`6 {"prompt":"a dog","seed":1,"scheduler":"euler-a"}`, `6 {"prompt":"a dog","seed":2,"scheduler":"euler-a"}`,
	}
	if d := cmp.Diff(want, lines); d != "" {
		t.Error(d)
	}
	if byExtension("my.TXT") != Prompts {
		t.Error("a .txt file is not read as prompts")
	}
}

// TestOver: the command line replaces what jobs say, sweeps too, and voids what it makes void.
func TestOver(t *testing.T) {
	over := func(values map[string]any) Options {
		return Options{Notation: YAML, Over: Request{Given: recipe.NewGiven(values)}}
	}
	text := "- {prompt: [a, b], steps: [20, 40], scheduler: euler-a, eta: 0.5, sigmas: karras}"
	var lines []string
	for _, m := range mustParse(t, text, over(map[string]any{"steps": 4, "scheduler": "ddim"})) {
		text, _ := m.Request.MarshalJSON()
		lines = append(lines, string(text))
	}
	want := []string{`{"prompt":"a","seed":0,"steps":4,"scheduler":"ddim"}`, `{"prompt":"b","seed":0,"steps":4,"scheduler":"ddim"}`}
	if d := cmp.Diff(want, lines); d != "" {
		t.Error(d)
	}
	if _, err := Parse("f", []byte(text), nil, over(map[string]any{"steps": 0})); err == nil || err.Error() != "f:1: steps: 0: it must be from 1 to 10000" {
		t.Error(err)
	}
}

// TestRandomSeeds: -1 and random draw; the same number to draw from gives the same seeds, another gives others; the same job
// twice gets two.
func TestRandomSeeds(t *testing.T) {
	text := "- {prompt: a, seed: random}\n- {prompt: a, seed: -1}\n- {prompt: b, seed: [random, 3, -1], count: 2}\n"
	seeds := func(o Options) (s []uint64) {
		o.Notation = YAML
		l, err := Parse("f", []byte(text), nil, o)
		if err != nil {
			t.Fatal(err)
		}
		if !l.Drawn {
			t.Error("no seed was drawn")
		}
		for _, m := range l.Images {
			s = append(s, m.Request.Seed)
		}
		return s
	}
	a, again, other := seeds(Options{Draw: 1}), seeds(Options{Draw: 1}), seeds(Options{Draw: 2})
	if d := cmp.Diff(a, again); d != "" || len(a) != 8 {
		t.Errorf("%d pictures: %s", len(a), d)
	}
	different := map[uint64]bool{}
	for _, s := range append(a, other...) {
		different[s] = true
		if s > 1<<32 {
			t.Errorf("seed %d has more than 32 bits", s)
		}
	}
	if a[3] != a[2]+1 || a[4] != 3 || a[5] != 4 || len(different) != 14 { // 3 and 4 are in both
		t.Errorf("seeds %d, then %d", a, other)
	}
	if all := seeds(Options{Draw: 1, RandomSeeds: true}); len(all) != 4 || all[3] != all[2]+1 || all[0] == all[1] {
		t.Errorf("--seed random gives %d", all)
	}
}

// TestSettledNames: a name has what the model decides, and what it is asked for.
func TestSettledNames(t *testing.T) {
	asked := 0
	o := Options{
		Notation: YAML, Name: "{date}/{model}_{scheduler}_{steps}_{cfg}_{width}x{height}_{prompt}_{negative}", Date: time.Date(2026, 1, 31, 9, 0, 0, 0, time.UTC),
		Settle: func(q *Request) (recipe.Settings, bool) {
			asked++
			s := recipe.Settings{Steps: 25, CFG: 7.5, Scheduler: "ddim", Width: 512, Height: 512}
			q.Apply(&s)
			return s, q.Model != "gone"
		},
	}
	m := mustParse(t, "- {prompt: 'a red apple', steps: 4}\n- {prompt: b, negative: 'leaf, stem', model: /m/sd15, cfg: 0}\n- {prompt: c, model: gone}", o)
	want := []string{"2026-01-31/default_ddim_4_7.5_512x512_a-red-apple_none.png", "2026-01-31/sd15_ddim_25_0_512x512_b_leaf-stem.png", "2026-01-31/gone_default_0_default_0x0_c_none.png"}
	for i, want := range want {
		if m[i].File != want {
			t.Errorf("%s, not %s", m[i].File, want)
		}
	}
	asked, o.Name = 0, "{seed}-{slug}"
	if mustParse(t, "- {prompt: a}", o); asked != 0 {
		t.Error("a model is asked for a name that needs none")
	}
}

// TestDirective: %YAML before the document is none.
func TestDirective(t *testing.T) {
	for _, text := range []string{"%YAML 1.2\n---\n- prompt: a\n", "# c\n%YAML 1.2\n# d\n---\nprompt: a\n", "---\n- prompt: a\n", "%YAML 1.2\r\n---\r\n- prompt: a\r\n"} {
		if m := mustParse(t, text, Options{Notation: YAML}); len(m) != 1 || strings.Contains(text, "- prompt") && m[0].Line != 1+strings.Count(text[:strings.Index(text, "prompt")], "\n") {
			t.Errorf("%q gives %+v", text, m)
		}
	}
}
