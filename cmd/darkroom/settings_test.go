package main

import (
	"encoding/json"
	"os"
	"path/filepath"
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
	csv, err := os.ReadFile(filepath.Join("report", "results.csv"))
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
	if first != "a-cat_ddim_1.png\na-dog_ddim_1.png\n" {
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
	if code, _, errs := command(t, "", "batch", "prompts.txt", "-o", "out", "--limit", "0"); code != 2 || !strings.Contains(errs, "--limit 0: at least 1 is needed") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}
