package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"darkroom/compare/judge"
	"darkroom/imagefile"
	defaultjudge "darkroom/models/judge"
)

// notRun are the examples that need what is not here, by what is in them, with the reason.
var notRun = map[string]string{
	"--model ":              "a model of the user",
	"/model":                "a model of the user",
	"models/":               "a model of the user",
	".safetensors":          "a file of the user",
	".pth":                  "a file of the user",
	".mp4":                  "ffmpeg",
	"--upscaler":            "a file of the user",
	"--lora":                "a file of the user",
	"<lora:":                "a file of the user",
	"--refiner":             "a model of the user",
	"--control":             "a model of the user",
	"--preset":              "a configuration file",
	"--style":               "a configuration file",
	"--device 0,1":          "two GPUs",
	"--backend cuda":        "a GPU",
	"nats://":               "a server",
	"--queue":               "a server",
	"s3://":                 "a server",
	"--workers":             "darkroom-queue on the PATH",
	"darkroom queue":        "a server",
	"darkroom serve":        "does not end",
	"darkroom worker":       "does not end",
	"darkroom pull":         "the network",
	"darkroom models rm":    "a model of the user",
	"darkroom bench":        "minutes",
	"darkroom selftest":     "minutes",
	"darkroom history show": "a history",
	"darkroom batch status": "a batch at work",
	"darkroom completion":   "writes where shells look",
	"--backend ref":         "minutes",
	"DARKROOM_":             "a variable of the environment",
	"curl ":                 "a server",
}

var exampleLine = regexp.MustCompile(`^\s*(darkroom [a-z].*)$`)

// examples are the lines of a text that begin with "darkroom", whole and without their comments.
func examples(text string) (lines []string) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	for _, line := range strings.Split(text, "\n") {
		m := exampleLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		line, _, _ = strings.Cut(m[1], " # ")
		line, _, _ = strings.Cut(line, " | ")
		line, _, _ = strings.Cut(line, " > ")
		if line = strings.Join(strings.Fields(line), " "); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

var shellWord = regexp.MustCompile(`"([^"]*)"|'([^']*)'|(\S+)`)

// exampleWords are the arguments of an example, with its stars filled in.
func exampleWords(t *testing.T, line string) (words []string) {
	for _, m := range shellWord.FindAllStringSubmatch(line, -1) {
		w := m[1] + m[2] + m[3]
		if strings.Contains(m[3], "*") {
			names, err := filepath.Glob(w)
			if err != nil {
				t.Fatal(err)
			}
			words = append(words, names...)
			continue
		}
		words = append(words, w)
	}
	return words
}

// The examples of the README and of every help text run as they stand, and what they draw is what they ask for: the judge that comes
// with the embedded model looks at each picture.
func TestExamples(t *testing.T) {
	if testing.Short() {
		t.Skip("draws some fifty pictures with the embedded model")
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var fenced strings.Builder
	for i, part := range strings.Split(string(readme), "```") {
		if i%2 == 1 {
			fenced.WriteString(part)
		}
	}
	_, help, _ := command(t, "", "--help")
	all := append(examples(fenced.String()), examples(help)...)
	for _, c := range newApp(&env{}).cli.Commands {
		if _, after, ok := strings.Cut(c.Description, "Example"); ok {
			all = append(all, examples(after)...)
		}
	}
	if len(all) < 60 {
		t.Fatalf("%d examples were found", len(all))
	}
	looks := openJudge(t)
	samples, err := filepath.Abs("../../samples")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	t.Setenv("DARKROOM_HISTORY", filepath.Join(t.TempDir(), "history.jsonl"))
	for _, line := range []string{"darkroom generate 'a red apple' -o apple.png --seed 7", "darkroom generate 'a cat' -o cat.png --seed 1", "darkroom generate 'a cat' -o cat.webp --seed 1",
		"darkroom generate 'a cat' --count 2 -o pictures/ --seed 1", "darkroom generate 'a cat' -o a.png --seed 2", "darkroom generate 'a cat' -o b.webp --seed 3", "darkroom generate 'a cat' -o c.jpg --seed 4", "darkroom generate 'a cat' -o photo.jpg --seed 4"} {
		if code, _, errs := command(t, "", append(exampleWords(t, line)[1:], "-q")...); code != 0 {
			t.Fatalf("%s: %s", line, errs)
		}
	}
	if err := os.Symlink(samples, "samples"); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"prompts.txt": "a red apple\na cat\n", "jobs.yaml": "prompt: a red apple\ncount: 2\n", "jobs.csv": "prompt,seed\na cat,1\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ran, seen := 0, map[string]bool{}
	for _, line := range all {
		if seen[line] {
			continue
		}
		seen[line] = true
		why := ""
		for part, reason := range notRun {
			if strings.Contains(line, part) {
				why = reason
			}
		}
		if why != "" {
			t.Logf("not run: %s (%s)", line, why)
			continue
		}
		args := exampleWords(t, line)[1:]
		switch {
		case args[0] == "compare" && !strings.Contains(line, "--problem"), args[0] == "batch" && strings.Contains(line, "samples/"):
			args = append(args, "--dry-run") // what they draw is looked at elsewhere
		}
		if args[0] == "generate" && !strings.Contains(line, "--seed") && !strings.Contains(line, "--from") {
			args = append(args, "--seed", "1") // the same pictures each time
		}
		if args[0] == "walk" {
			args = append(args, "--frames", "4") // for time's sake
		}
		ran++
		code, out, errs := command(t, "", args...)
		if code != 0 {
			t.Errorf("%s\nexit code %d: %s", line, code, errs)
			continue
		}
		if args[0] != "generate" && args[0] != "batch" && args[0] != "vary" {
			continue
		}
		for _, file := range strings.Fields(out) {
			if ext := filepath.Ext(file); (ext == ".png" || ext == ".webp" || ext == ".jpg") && !strings.Contains(file, "grid") {
				looks(line, file)
			}
		}
	}
	if ran < 30 {
		t.Errorf("%d examples ran", ran)
	}
}

// changing is what a prompt changes to on the way: [sun:sunflower:0.3] ends as a sunflower.
var changing = regexp.MustCompile(`\[[^:\]]*:([^:\]]*):[^:\]]*\]`)

// openJudge returns what looks at a picture, and reports one that does not show its prompt's noun.
func openJudge(t *testing.T) func(line, file string) {
	files, ok := defaultjudge.Folder()
	if !ok {
		t.Skip("SKIPPED: this build has no judge, so nobody has looked at the examples' pictures")
	}
	j, err := judge.Open(judge.Source{FS: files, Label: "embedded"}, judge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return func(line, file string) {
		t.Helper()
		f, err := os.Open(file)
		if err != nil {
			return // a dry run names what it would write
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		p, err := imagefile.Decode(f, st.Size())
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		features, err := j.See(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		wide := make([]float64, len(features))
		for i, v := range features {
			wide[i] = float64(v)
		}
		prompt := changing.ReplaceAllString(inspected(t, file).Prompt, "$1")
		score, ok, err := j.Agreement(context.Background(), wide, prompt)
		if err != nil || !ok {
			t.Errorf("%s: the judge knows nothing of %q (%v)", line, prompt, err)
			return
		}
		// The judge gives 262 nouns; a picture that it gives to another noun rather than to its own is none to show.
		t.Logf("%s: %.0f %%", line, score)
		if score < 35 {
			t.Errorf("%s\n%s shows %q by %.0f %% only", line, file, prompt, score)
		}
	}
}
