package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"darkroom/batch/history"
	"darkroom/recipe"

	"darkroom/batch/queue"
	"darkroom/batch/queue/server"
)

// TestMain keeps the tests' pictures out of the user's history, and is the queue's server for the tests of workers.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" { // batch --workers starts this very program
		main()
	}
	if slices.Equal(os.Args[1:], []string{"--stdin"}) {
		os.Exit(server.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	self, err := os.Executable()
	if err == nil {
		err = os.Setenv(queue.ServerVariable, self)
	}
	if err != nil {
		panic(err)
	}
	if err := os.Setenv("DARKROOM_HISTORY", "off"); err != nil {
		panic(err)
	}
	if err := os.Setenv("DARKROOM_CONFIG", "off"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestGenerateHistory: generate writes down what it made, and the command that history shows makes the same file, in
// another folder.
func TestGenerateHistory(t *testing.T) {
	model, err := filepath.Abs(tiny)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("DARKROOM_HISTORY", filepath.Join(dir, "state", "history.jsonl"))
	relative, err := filepath.Rel(dir, model)
	if err != nil {
		t.Fatal(err)
	}
	prompt := "it's a \"red\" apple;\n$HOME `ls` -x \\"
	for i, extra := range [][]string{
		{"-o", "a.png", "--negative", "a 'pear'", "--cfg", "3.25", "--guidance-rescale", "0.5", "--scheduler", "euler-a", "--eta", "0.25", "--seed", "18446744073709551615"},
		{"-o", "b.webp", "--sigmas", "14,5,1,0.1", "--scheduler", "euler", "--noise", "torch-cuda", "--prompt-syntax", "plain", "--width", "48", "--height", "32"},
		{"-o", "c.jpg", "--quality", "40", "--guidance", "apg:eta=0.5,norm=2", "--negative", "", "--backend", "ref"},
		{"--seed", "3"},
		{"-o", "e.png", "--low-memory", "--width", "96", "--height", "96", "--seed", "4"}, // in tiles: other pixels
	} {
		args := slices.Concat([]string{"generate", "--model", relative, "--steps", "4", "--quiet", "--prompt=" + prompt}, extra)
		if slices.Contains(extra, "--sigmas") {
			args = slices.DeleteFunc(args, func(a string) bool { return a == "--steps" || a == "4" })
		}
		code, file, errs := command(t, "", args...)
		if code != 0 {
			t.Fatal(errs)
		}
		file = strings.TrimSpace(file)
		_, line, _ := command(t, "", "history", "--limit", "1", "--json")
		var entry history.Entry
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if entry.File != filepath.Join(dir, file) || entry.ID != int64(2*i+1) || entry.Request.Prompt != prompt || entry.Bytes != int64(len(read(t, file))) || entry.Model != model {
			t.Errorf("the entry is %+v", entry)
		}
		if tiled := slices.Contains(extra, "--low-memory"); tiled != strings.Contains(entry.Command(), "--vae-tiling") {
			t.Errorf("in tiles: %v, and the command is %s", tiled, entry.Command())
		}
		words := shellWords(t, entry.Command())
		again := filepath.Join(t.TempDir(), "again"+filepath.Ext(file))
		t.Chdir(t.TempDir())
		if code, _, errs := command(t, "", append(words, "-o", again, "--quiet")...); code != 0 {
			t.Fatalf("%q: %s", words, errs)
		}
		t.Chdir(dir)
		if !bytes.Equal(read(t, file), read(t, again)) {
			t.Errorf("%s makes another file", entry.Command())
		}
	}
}

// shellWords has a shell take a command line of darkroom apart.
func shellWords(t *testing.T, line string) []string {
	t.Helper()
	out, err := exec.Command("sh", "-c", `darkroom() { printf '%s\0' "$@"; }; `+line).Output()
	if err != nil {
		t.Skip("no shell: ", err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

// TestCommandHasEveryFlag: no setting that decides a picture is missing from the command.
func TestCommandHasEveryFlag(t *testing.T) {
	var entry history.Entry
	for _, set := range recipe.All() {
		entry.Request.Set(set.Name, map[recipe.Kind]any{recipe.TextKind: "x", recipe.WholeKind: 7, recipe.NumberKind: 0.5, recipe.SeedKind: uint64(7), recipe.SwitchKind: true}[set.Kind])
	}
	elsewhere := []string{"device", "threads", "from", "count", "out", "preview", "quiet", "json", "low-memory", "parallel", "preset", "style", "grid", "wildcards", "c2pa-cert", "c2pa-key"} // not of the picture
	for _, f := range generateCommand(&env{}).Flags {
		name := f.Names()[0]
		if slices.Contains(elsewhere, name) {
			continue
		}
		if line := entry.Command() + " "; !strings.Contains(line, "--"+name+" ") && !strings.Contains(line, "--"+name+"=") {
			t.Errorf("--%s is not in %s", name, line)
		}
	}
}

// TestHistoryFails: a history that cannot be written is a warning, told once; DARKROOM_HISTORY=off is none.
func TestHistoryFails(t *testing.T) {
	model := inFolder(t, "jobs.yaml", twoApples)
	t.Setenv("DARKROOM_HISTORY", filepath.Join(model, "model_index.json", "history.jsonl")) // below a file
	code, out, errs := command(t, "", "generate", "a", "--model", model, "--steps", "1", "--count", "2", "-o", "x.png", "-q")
	if code != 0 || out != "x-1.png\nx-2.png\n" || strings.Count(errs, "warning: no history is kept: ") != 1 {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	code, _, errs = command(t, "", "batch", "jobs.yaml", "-o", "out", "-q")
	if code != 0 || strings.Count(errs, "warning: no history is kept: ") != 1 {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
	t.Setenv("DARKROOM_HISTORY", "off")
	t.Setenv("HOME", t.TempDir())
	code, _, errs = command(t, "", "generate", "a", "--model", model, "--steps", "1", "-o", "y.png", "-q")
	if code != 0 || errs != "" {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
	if _, err := os.Stat(filepath.Join(os.Getenv("HOME"), ".local")); err == nil {
		t.Error("there is a history after all")
	}
}
