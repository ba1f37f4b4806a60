package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// A character may come in two writes; what steers is visible, and text is text.
func TestOutput(t *testing.T) {
	text := "a ü 猫 🍎\tb\n\x1b[31m\x00\x7f\r\u009b2J\u202egnp\u2028 \xff."
	want := "a ü 猫 🍎\tb\n" + `\u001b[31m\u0000\u007f\u000d\u009b2J\u202egnp\u2028` + " \ufffd."
	for size := 1; size < 9; size++ {
		var got bytes.Buffer
		o := &output{name: "stdout", w: &got}
		for rest := []byte(text); len(rest) > 0; {
			n := min(size, len(rest))
			if _, err := o.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if got.String() != want {
			t.Errorf("%d bytes at once: %q", size, got.String())
		}
	}
}

// Nothing that comes from outside reaches the terminal raw, and JSON stays JSON.
func TestNothingSteers(t *testing.T) {
	const evil = "a\x1b]0;x\x07 \u009bred \u202egnp\u2066 \x7f"
	dir := t.TempDir()
	t.Setenv("DARKROOM_HISTORY", filepath.Join(dir, "history.db"))
	models := filepath.Join(dir, "models")
	if err := os.CopyFS(filepath.Join(models, evil[:len(evil)-1]), os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DARKROOM_MODELS", models)
	picture := filepath.Join(dir, "x.png")
	if code, _, errs := command(t, "", "generate", evil, "--model", tiny, "--steps", "1", "-q", "-o", picture); code != 0 {
		t.Fatal(errs)
	}
	prompt, err := json.Marshal(map[string]any{"prompt": evil, "model": tiny, "steps": 1})
	if err != nil {
		t.Fatal(err)
	}
	jobs, broken := filepath.Join(dir, "jobs.jsonl"), filepath.Join(dir, "broken.jsonl")
	save(t, jobs, append(prompt, '\n'))
	save(t, broken, []byte(`{"prompt": "a", "`+strings.ReplaceAll(evil, "\x1b", `\u001b`)+`": 1}`+"\n"))
	for _, line := range []string{
		"history", "history|--json", "history|show|1", "history|show|1|--json", "inspect|" + picture, "inspect|--json|" + picture, "models", "models|--json",
		"inspect|" + filepath.Join(models, evil[:len(evil)-1]), "batch|--dry-run|" + jobs, "batch|--dry-run|--json|" + jobs, "batch|--dry-run|" + broken,
		"inspect|" + evil, "generate|a|--scheduler|" + evil, "generate|a|--model|" + evil, "tokenize|" + evil, "batch|-o|" + dir + "|" + jobs, "batch|--json|-o|" + dir + "|" + jobs, "--" + evil,
		evil,
	} {
		_, out, errs := command(t, "", strings.Split(line, "|")...)
		for _, text := range []string{out, errs} {
			if i := strings.IndexFunc(text, func(c rune) bool { return steers(c) && c != '\n' && c != '\t' }); i >= 0 {
				t.Errorf("%q: %q at %d", line, text[max(0, i-30):min(len(text), i+30)], i)
			}
		}
		if strings.Contains(line, "--json") {
			for _, l := range strings.Split(strings.TrimSpace(out), "\n") {
				if !json.Valid([]byte(l)) {
					t.Errorf("%q: not JSON: %.200q", line, l)
				}
			}
		}
		if len(out)+len(errs) == 0 {
			t.Errorf("%q: nothing", line)
		}
	}
}

// A message quotes at most 200 characters of what was read.
func TestMessagesAreShort(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("x", 100_000)
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		save(t, path, []byte(text))
		return path
	}
	for _, args := range [][]string{
		{"generate", "a", "--scheduler", long}, {"generate", "a", "--sigmas", long}, {"generate", "a", "--guidance", long}, {"generate", "a", "--steps", long},
		{"generate", "a", "--model", long}, {"generate", "a", "--" + long}, {"generate", long, "b"}, {long}, {"history", "show", long},
		{"batch", "--dry-run", file("field.yaml", "- {prompt: a, "+long+": 1}")}, {"batch", "--dry-run", file("value.jsonl", `{"prompt": "a", "scheduler": "`+long+`"}`)},
		{"batch", "--dry-run", file("csv.csv", "prompt,"+long+"\na,1\n")}, {"batch", "--dry-run", file("broken.yaml", "- {prompt: a, steps: "+long+"}")},
		{"inspect", file("x.txt", long)}, {"generate", "--from", file("y.txt", "a\nSteps: "+long+", Sampler: "+long)},
	} {
		code, out, errs := command(t, "", args...)
		if code == 0 || len(errs) > 2500 {
			t.Errorf("%.40q: exit code %d, %d bytes: %.300q", args, code, len(out)+len(errs), errs)
		}
		if i := strings.Index(errs, `"`+strings.Repeat("x", 201)); i >= 0 {
			t.Errorf("%.40q: more than 200 characters are quoted", args)
		}
	}
	text := "a \"" + strings.Repeat("ü", 300) + "\" b " + strings.Repeat("y", 1500) + " \"ok\"\n" + strings.Repeat("z ", 20_000)
	if got := cutLong(text); !strings.Contains(got, `"`+strings.Repeat("ü", 200)+`…" b `+strings.Repeat("y", 1000)+`… "ok"`) || len(got) > mostMessage+100 || !utf8.ValidString(got) {
		t.Errorf("%d bytes: %.2000q", len(got), got)
	}
}

// fullDisk refuses everything after so many bytes.
type fullDisk struct{ left int }

func (w *fullDisk) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(p), nil
}

// A result that could not be written is a failure, whichever command has it and however late.
func TestFullStdout(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DARKROOM_HISTORY", filepath.Join(dir, "history.db"))
	picture := filepath.Join(dir, "x.png")
	if code, _, errs := command(t, "", "generate", "a", "--model", tiny, "--steps", "1", "--seed", "1", "-q", "-o", picture); code != 0 {
		t.Fatal(errs)
	}
	jobs := filepath.Join(dir, "jobs.jsonl")
	save(t, jobs, []byte(fmt.Sprintf("{\"prompt\": \"a\", \"model\": %q, \"steps\": 1}\n", tiny)))
	for _, line := range []string{
		"--help", "help|generate", "generate|--help", "history", "history|--json", "history|show|1", "inspect|" + picture, "inspect|--json|" + picture, "inspect|" + tiny,
		"models", "models|--json", "tokenize|--model|" + tiny + "|a b", "tokenize|--json|a b", "verify|--model|" + tiny + "|" + picture, "verify|--json|--model|" + tiny + "|" + picture,
		"devices", "devices|--json", "schedulers", "schedulers|--json", "guidance", "version", "version|--json", "completion|bash",
		"batch|--dry-run|" + jobs, "batch|--dry-run|--json|" + jobs, "batch|-q|-o|" + dir + "/1|" + jobs, "batch|-q|--json|-o|" + dir + "/2|" + jobs,
		"generate|a|--steps|1|-q|--model|" + tiny + "|-o|" + dir + "/3/", "generate|a|--steps|1|-q|--json|--model|" + tiny + "|-o|" + dir + "/4/", "generate|a|--steps|1|-q|--model|" + tiny + "|-o|-",
	} {
		var errs bytes.Buffer
		code := run(context.Background(), &env{stdin: strings.NewReader(""), stdout: &fullDisk{}, stderr: &errs}, strings.Split(line, "|"))
		if code != 1 || !strings.Contains(errs.String(), "no space left on device") {
			t.Errorf("%s: exit code %d, stderr %q", line, code, errs.String())
		}
	}
	if code := run(context.Background(), &env{stdout: &fullDisk{left: 1 << 20}, stderr: io.Discard}, []string{"version"}); code != 0 {
		t.Errorf("with room: exit code %d", code)
	}
}
