package main

import (
	"encoding/json"
	"os"
	"path/filepath"
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
