package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"darkroom/recipe"
)

// TestMadeUpSetting puts a row into the table of settings, and nothing anywhere else: it arrives in flags and their help,
// completion, job files and their schema, sweeps, compare's axes, recipes, parameters, inspect, --from and the history.
func TestMadeUpSetting(t *testing.T) {
	defer recipe.Add(recipe.Setting{Name: "made-up", Aliases: []string{"makeup"}, Group: recipe.PictureGroup, Kind: recipe.NumberKind, Low: 0, High: 2, Default: "0", About: "a setting of this test"})()
	model := inFolder(t, "jobs.yaml", "- {prompt: a, made_up: [0.5, 1.5], steps: 1}\n")
	t.Setenv("DARKROOM_HISTORY", filepath.Join(t.TempDir(), "history.db"))
	run := func(args ...string) string {
		t.Helper()
		code, out, errs := command(t, "", args...)
		if code != 0 {
			t.Fatalf("%q: exit code %d, %s", args, code, errs)
		}
		return out
	}
	has := func(what, text, part string) {
		t.Helper()
		if !strings.Contains(text, part) {
			t.Errorf("%s: %q is not in %s", what, part, text)
		}
	}
	has("help", run("generate", "--help"), "a setting of this test")
	has("completion", run("__complete", "generate", "--made"), "--made-up")
	run("generate", "a", "--model", model, "--steps", "1", "--made_up", "1.5", "-o", "x.png", "-q")
	var r recipe.Recipe
	if err := json.Unmarshal([]byte(run("inspect", "--json", "x.png")), &r); err != nil || r.Extra["made-up"] != 1.5 {
		t.Errorf("the recipe has %v, %v", r.Extra, err)
	}
	p, err := recipe.ParseParameters(r.Parameters())
	if err != nil || p.Recipe.Extra["made-up"] != 1.5 || len(p.Unused) != 0 {
		t.Errorf("%q gives %+v, %v", r.Parameters(), p.Recipe.Extra, err)
	}
	has("inspect", run("inspect", "x.png"), "made-up")
	run("generate", "--from", "x.png", "--makeup", "0", "-o", "y.png", "-q", "--model", model)
	if strings.Contains(run("inspect", "--json", "y.png"), "made_up") {
		t.Error("0 is the default, and is written down")
	}
	run("generate", "--from", "x.png", "-o", "z.png", "-q", "--model", model)
	has("--from", run("inspect", "--json", "z.png"), `"made_up":1.5`)
	has("history", run("history", "show", "1"), "--made-up 1.5")

	has("schema", run("batch", "schema"), `"made_up"`)
	lines := run("batch", "jobs.yaml", "--model", model, "--dry-run", "--json")
	has("sweep", lines, `"made_up":0.5`)
	has("sweep", lines, `"made_up":1.5`)
	save(t, "wrong.yaml", []byte("- {prompt: a, made-up: 3}\n"))
	if code, _, errs := command(t, "", "batch", "wrong.yaml", "--dry-run"); code != 2 || !strings.Contains(errs, "made-up: 3: it must be from 0 to 2") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	run("compare", "--model", model, "--schedulers", "ddim", "--steps", "1", "--made-up", "0.5,1", "--prompt", "a", "--reference-steps", "0", "--judge", "none", "-o", "report", "-q")
	csv, err := os.ReadFile(filepath.Join("report", "pictures.csv"))
	if err != nil {
		t.Fatal(err)
	}
	has("compare", string(csv), "sde_noise,made_up,prompt")
	has("compare", string(csv), "--made-up 0.5")
}

// TestNamesOfOthers: flags that people bring from other programs are ours by another name.
func TestNamesOfOthers(t *testing.T) {
	model := inFolder(t, "jobs.yaml", "- prompt: a\n")
	code, _, errs := command(t, "", "generate", "a cat", "--model", model, "-n", "2", "-W", "64", "-H", "32", "--sampler", "euler-a", "--cfg_scale", "3", "--negative_prompt", "dog",
		"--num_inference_steps=2", "--seed", "random", "-o", "x.png")
	if code != 0 {
		t.Fatal(errs)
	}
	a, b := inspected(t, "x-1.png"), inspected(t, "x-2.png")
	if a.Width != 64 || a.Height != 32 || a.Scheduler != "euler-a" || a.CFG != 3 || a.Negative != "dog" || a.Steps != 2 || b.Seed != a.Seed+1 || a.Seed > 1<<32 {
		t.Errorf("%+v, seed %d", a, b.Seed)
	}
	if !strings.Contains(errs, "seed "+strconv.FormatUint(a.Seed, 10)+"\n") {
		t.Errorf("the seed that was drawn is not told: %s", errs)
	}
	code, _, errs = command(t, "", "generate", "--from", "x-1.png", "--seed", "-1", "--model", model, "-o", "y.png", "-q")
	if code != 0 || inspected(t, "y.png").Seed == a.Seed {
		t.Errorf("--from with --seed -1: exit code %d, %s", code, errs)
	}
}

// TestBatchWords: a file of prompts, values of the command line, the first pictures alone, and seeds that stay when the
// batch goes on.
func TestBatchWords(t *testing.T) {
	model := inFolder(t, "prompts.txt", "a cat --steps 9\na dog\na fox\n")
	batch := func(want string, args ...string) string {
		t.Helper()
		code, out, errs := command(t, "", append([]string{"batch", "prompts.txt", "-o", "out", "--model", model, "--steps", "1", "--seed", "random"}, args...)...)
		if code != 0 || !strings.Contains(errs, want) {
			t.Fatalf("exit code %d, %s; want %q", code, errs, want)
		}
		return out
	}
	first := batch("2 rendered", "--limit", "2", "--name", "{slug}_{scheduler}_{steps}")
	paths := strings.Fields(first) // in the order in which pictures are finished
	slices.Sort(paths)
	if !slices.Equal(paths, []string{"a-cat_ddim_1.png", "a-dog_ddim_1.png"}) {
		t.Errorf("paths %q", first)
	}
	cat := inspected(t, "out/a-cat_ddim_1.png")
	if cat.Steps != 1 || cat.Seed == 0 {
		t.Errorf("%d steps, seed %d", cat.Steps, cat.Seed)
	}
	batch("1 rendered, 2 kept", "--name", "{slug}_{scheduler}_{steps}")
	if fox := inspected(t, "out/a-fox_ddim_1.png"); fox.Seed == cat.Seed {
		t.Errorf("two prompts have the seed %d", fox.Seed)
	}
	batch("3 rendered", "--name", "{slug}_{scheduler}_{steps}", "--cfg", "2")
	if code, _, errs := command(t, "", "batch", "prompts.txt", "-o", "out", "--limit", "0"); code != 2 || !strings.Contains(errs, "--limit 0: it must be at least 1") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}

// TestConfig: flags stand over presets, presets over the environment, the environment over the file, the file over the
// model; a recipe that is read over the environment and the file.
func TestConfig(t *testing.T) {
	model := inFolder(t, "config.yaml", `
defaults: {model: MODEL, steps: 3, cfg_scale: 4, format: webp, quality: 80, scheduler: euler-a, eta: 0.5}
presets:
  quick: {steps: 2, sampler: ddim}
  wide: {width: 64}
styles:
  film: {prompt: "{prompt}, 35mm", negative: cartoon, cfg: 2}
  old: {prompt: faded}
`)
	text := strings.ReplaceAll(string(read(t, "config.yaml")), "MODEL", model)
	save(t, "config.yaml", []byte(text))
	save(t, "jobs.yaml", []byte("- {prompt: a, steps: 1, format: png}\n- {prompt: b, format: png}\n"))
	t.Setenv("DARKROOM_CONFIG", "config.yaml")
	generate := func(args ...string) recipe.Recipe {
		t.Helper()
		code, out, errs := command(t, "", append([]string{"generate", "-q"}, args...)...)
		if code != 0 {
			t.Fatalf("%q: exit code %d, %s", args, code, errs)
		}
		return inspected(t, strings.TrimSpace(out))
	}
	check := func(what string, r recipe.Recipe, want string) {
		t.Helper()
		if got := fmt.Sprintf("%s|%s|%d steps|cfg %v|%s eta %v|%d", r.Prompt, r.Negative, r.Steps, r.CFG, r.Scheduler, r.Eta, r.Width); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	check("file", generate("a cat"), "a cat||3 steps|cfg 4|euler-a eta 0.5|32") // a WebP file of quality 80
	t.Setenv("DARKROOM_STEPS", "4")
	check("environment", generate("a cat", "-o", "x.png"), "a cat||4 steps|cfg 4|euler-a eta 0.5|32")
	check("presets", generate("a cat", "--preset", "quick,wide"), "a cat||2 steps|cfg 4|ddim eta 0|64")
	check("flags", generate("a cat", "--preset", "quick", "--steps", "1", "--cfg", "0", "-o", "flags.png"), "a cat||1 steps|cfg 0|ddim eta 0|32")
	check("styles", generate("a cat", "--style", "film,old", "--negative", "dog"), "a cat, 35mm, faded|dog, cartoon|4 steps|cfg 2|euler-a eta 0.5|32")
	check("--from", generate("--from", "flags.png", "--model", model, "-o", "y.png"), "a cat||1 steps|cfg 0|ddim eta 0|32")
	check("--from with a style", generate("--from", "flags.png", "--model", model, "--style", "old", "-o", "z.png"), "a cat, faded||1 steps|cfg 0|ddim eta 0|32")

	_, lines, _ := command(t, "", "batch", "jobs.yaml", "--dry-run", "--json")
	if strings.Count(lines, `"steps":1`) != 1 || strings.Count(lines, `"steps":4`) != 1 || strings.Count(lines, `"cfg":4`) != 2 {
		t.Errorf("a batch without flags: %s", lines)
	}
	if _, lines, _ = command(t, "", "batch", "jobs.yaml", "--preset", "quick", "--dry-run", "--json"); strings.Count(lines, `"steps":2`) != 2 || strings.Contains(lines, `"eta"`) {
		t.Errorf("a batch with a preset: %s", lines)
	}
	for _, c := range []struct{ line, config, want string }{
		{"generate a --preset quik", text, `darkroom: --preset: no preset is called "quik"; nearest: quick (there are ["quick" "wide"])` + "\nSee: darkroom generate --help\n"},
		{"generate a --style x", "presets: {}", `darkroom: --style: no style is called "x": the configuration file has no styles` + "\nSee: darkroom generate --help\n"},
		{"generate a", "defaults: {step: 3}", "darkroom: config.yaml:1: no setting is called \"step\"; nearest: steps\n"},
		{"generate a", "defaults:\n  steps: many\n  cfg: [1, 2]\n  noise: white", "darkroom: config.yaml:2: steps: \"many\" is text, but a whole number is needed, without quotes, or a range such as \"1..100\"\nconfig.yaml:3: cfg: one value is needed, and this is a list\nconfig.yaml:4: noise: \"white\": choose torch-cpu, torch-cuda\n"},
		{"generate a", "preset: {}", "darkroom: config.yaml:1: unknown field \"preset\"; nearest: presets (there are defaults, presets and styles)\n"},
	} {
		save(t, "config.yaml", []byte(c.config))
		if code, out, errs := command(t, "", strings.Fields(c.line)...); code != 2 || out != "" || errs != c.want {
			t.Errorf("%s: exit code %d, %q, want %q", c.config, code, errs, c.want)
		}
	}
	t.Setenv("DARKROOM_STEPS", "0")
	t.Setenv("DARKROOM_CONFIG", "off")
	if code, _, errs := command(t, "", "generate", "a"); code != 2 || errs != "darkroom: DARKROOM_STEPS=0: 0: it must be from 1 to 10000\n" {
		t.Errorf("exit code %d, %q", code, errs)
	}
}
