package jobs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"darkroom/pipeline"
	"darkroom/recipe"

	"github.com/google/go-cmp/cmp"
)

func mustParse(t *testing.T, text string, o Options) []Image {
	t.Helper()
	l, err := Parse("jobs", []byte(text), testWildcards(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l.Images
}

func testWildcards() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	return fstest.MapFS{
		"animal.txt":     file("# comment\ncat\r\n\ndog\n__bird__\n"),
		"bird.txt":       file("\ufeffowl\nrobin"),
		"sub/light.txt":  file("dawn\ndusk"),
		"loop.txt":       file("a __loop__"),
		"one.txt":        file("__two__"),
		"two.txt":        file("x\n${cycle}"),
		"empty.txt":      file("# nothing\n"),
		"latin1.txt":     file("caf\xe9"),
		"unbalanced.txt": file("fine\n{a|b"),
	}
}

// TestNotations gives the same jobs in the three notations: the same images must come of it.
func TestNotations(t *testing.T) {
	yaml := `
# comment
defaults:
  steps: 20
jobs:
  - prompt: "a red apple, \"ripe\""
    seed: 1..3
    cfg: 7.5
    guidance_rescale: 0.5
  - prompt: |
      two
      lines, and a comma
    negative: ""
    width: 64
    steps: 5
`
	jsonl := `# comment
{"defaults": {"steps": 20}}

{"prompt": "a red apple, \"ripe\"", "seed": "1..3", "cfg": 7.5, "guidance-rescale": 0.5}
// another
{"prompt": "two\nlines, and a comma", "negative": "", "width": 64, "steps": 5}
`
	csv := "prompt,seed,cfg,guidance-rescale,negative,width,steps\r\n" +
		"# comment\r\n" +
		"\"a red apple, \"\"ripe\"\"\",1..3,7.5,0.5,,,20\r\n"
	want := mustParse(t, yaml, Options{Notation: YAML})
	if len(want) != 4 {
		t.Fatalf("%d images, not 4", len(want))
	}
	requests := func(images []Image) (q []Request) {
		for _, m := range images {
			q = append(q, m.Request)
		}
		return q
	}
	if d := cmp.Diff(requests(want), requests(mustParse(t, jsonl, Options{Notation: JSONLines}))); d != "" {
		t.Errorf("JSON lines differ from YAML: %s", d)
	}
	// An empty cell means "not given", so CSV cannot say negative: "".
	if d := cmp.Diff(requests(want)[:3], requests(mustParse(t, csv, Options{Notation: CSV}))); d != "" {
		t.Errorf("CSV differs from YAML: %s", d)
	}
	for notation, text := range map[string]string{YAML: yaml, JSONLines: jsonl, CSV: csv} {
		if got := guess(text); got != notation {
			t.Errorf("%s is taken for %s", notation, got)
		}
		for name, changed := range map[string]string{"byte-order mark": "\ufeff" + text, "CRLF": strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")} {
			a, b := mustParse(t, text, Options{Notation: notation}), mustParse(t, changed, Options{Notation: notation})
			if d := cmp.Diff(requests(a), requests(b)); d != "" {
				t.Errorf("%s with %s differs: %s", notation, name, d)
			}
		}
	}
	q := want[3].Request
	if !q.Has("negative") || q.Negative != "" || q.Width != 64 || q.Prompt != "two\nlines, and a comma" {
		t.Errorf("the second job became %+v", q)
	}
}

func TestSweeps(t *testing.T) {
	list := func(text string) string {
		var s []string
		for _, m := range mustParse(t, text, Options{Notation: YAML}) {
			cfg := "-"
			if m.Request.Has("cfg") {
				cfg = fmt.Sprint(m.Request.CFG)
			}
			s = append(s, fmt.Sprintf("%s/%d/%s", m.Request.Prompt, m.Request.Seed, cfg))
		}
		return strings.Join(s, " ")
	}
	for _, c := range []struct{ jobs, want string }{
		{"- {prompt: [a, b], seed: 1..2}", "a/1/- a/2/- b/1/- b/2/-"},
		{"- {seed: 1..2, prompt: [a, b]}", "a/1/- b/1/- a/2/- b/2/-"},
		{"- {prompt: [a, b], seed: 1..2, cfg: 3, sweep: zip}", "a/1/3 b/2/3"},
		{"- {prompt: a, cfg: 0.1..0.4 by 0.1}", "a/0/0.1 a/0/0.2 a/0/0.3 a/0/0.4"},
		{"- {prompt: a, cfg: [1, 2..3, 4.5]}", "a/0/1 a/0/2 a/0/3 a/0/4.5"},
		{"- {prompt: a, seed: 1..10 by 4}", "a/1/- a/5/- a/9/-"},
		{"- {prompt: a, seed: 7, count: 3}", "a/7/- a/8/- a/9/-"},
		{"- {prompt: a, seed: 18446744073709551614..18446744073709551615}", "a/18446744073709551614/- a/18446744073709551615/-"},
		{"defaults: {seed: 1..2, cfg: 5}\njobs: [{prompt: a}, {prompt: b, seed: 9}]", "a/1/5 a/2/5 b/9/5"},
		{"- {prompt: a}\n- {prompt: a}\n- {prompt: b}", "a/0/- b/0/-"}, // the same request twice is one image
		{"{prompt: a, seed: [1, 2]}", "a/1/- a/2/-"},
		{"- {prompt: 'a {b|c|d {e|f}}', expand: all}", "a b/0/- a c/0/- a d e/0/- a d f/0/-"},
		{"- {prompt: 'a {b|c}', expand: none}", "a {b|c}/0/-"},
		{"- {prompt: 'a \\{b\\|c\\} \\(d:1\\)'}", "a {b|c} \\(d:1\\)/0/-"},
		{"- {prompt: 'snake_case __ x'}", "snake_case __ x/0/-"},
		{"variables: {v: [x, '{y|z}'], w: 3}\njobs: [{prompt: '${v} ${w}', expand: all}]", "x 3/0/- y 3/0/- z 3/0/-"},
		{"- {prompt: '__animal__ at __sub/light__', expand: all}", "cat at dawn/0/- cat at dusk/0/- dog at dawn/0/- dog at dusk/0/- owl at dawn/0/- owl at dusk/0/- robin at dawn/0/- robin at dusk/0/-"},
	} {
		if got := list(c.jobs); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.jobs, got, c.want)
		}
	}
}

// TestSeedChooses: an alternative is a function of the text and the seed alone, and all are taken.
func TestSeedChooses(t *testing.T) {
	a := mustParse(t, "- {prompt: 'a {red|green|blue} __animal__', seed: 1..200}", Options{Notation: YAML})
	b := mustParse(t, "- {prompt: other, seed: 1..3}\n- {prompt: 'a {red|green|blue} __animal__', seed: 100..150, steps: 3}", Options{Notation: YAML})
	for i, m := range b[3:] {
		if got, want := m.Request.Prompt, a[99+i].Request.Prompt; got != want {
			t.Errorf("seed %d: %q here and %q there", m.Request.Seed, got, want)
		}
	}
	count := map[string]int{}
	for _, m := range a {
		count[strings.Fields(m.Request.Prompt)[1]]++
	}
	for _, color := range []string{"red", "green", "blue"} {
		if count[color] < 40 { // 66.7 are expected, σ is 6.7: 4σ below
			t.Errorf("%s was chosen %d times of 200", color, count[color])
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"", "a-red-apple-crème-7-HASH"},
		{"{index:04}-{seed}-{slug}", "0001-7-a-red-apple-crème"},
		{"{model}/{scheduler}/{steps}-{cfg}-{width}x{height}", "sd15/euler-a/20-7.5-512x0"},
		{"{slug:8}_{job}", "a-red-ap_1"},
	} {
		m := mustParse(t, "- {prompt: 'A red/apple, crème!', seed: 7, model: /data/sd15, scheduler: euler-a, steps: 20, cfg: 7.5, width: 512}", Options{Notation: YAML, Name: c.name})[0]
		want := strings.ReplaceAll(c.want, "HASH", m.Hash[:10]) + ".png"
		if m.File != want {
			t.Errorf("%q gives %q, not %q", c.name, m.File, want)
		}
	}
	m := mustParse(t, "- {prompt: [a, b, C], name: same, format: webp}\n- {prompt: con, name: '{slug}'}", Options{Notation: YAML})
	files := []string{"same.webp", "same-" + m[1].Hash[:10] + ".webp", "same-" + m[2].Hash[:10] + ".webp", "con-picture.png"}
	for i, want := range files {
		if m[i].File != want {
			t.Errorf("image %d is %q, not %q", i, m[i].File, want)
		}
	}
}

// TestHash: equal requests have equal hashes and others have not.
func TestHash(t *testing.T) {
	hashes := map[string]string{}
	for _, job := range []string{
		"{prompt: a}", "{prompt: b}", "{prompt: a, negative: ''}", "{prompt: a, seed: 1}", "{prompt: a, steps: 1}", "{prompt: a, cfg: 0}", "{prompt: a, cfg: 1}",
		"{prompt: a, eta: 0, scheduler: ddim}", "{prompt: a, scheduler: ddim}", "{prompt: a, sigmas: karras}", "{prompt: a, width: 8}", "{prompt: a, height: 8}",
		"{prompt: a, noise: torch-cuda}", "{prompt: a, prompt-syntax: plain}", "{prompt: a, clip-skip: 1}", "{prompt: a, model: x}", "{prompt: a, dtype: fp32}",
		"{prompt: a, backend: ref}", "{prompt: a, format: jpg}", "{prompt: a, format: jpg, quality: 90}", "{prompt: a, guidance-rescale: 0.5}",
	} {
		h := mustParse(t, job, Options{Notation: YAML})[0].Hash
		if other, ok := hashes[h]; ok {
			t.Errorf("%s and %s have one hash", job, other)
		}
		hashes[h] = job
	}
	a := mustParse(t, "{prompt: a, seed: 3, name: x, priority: high}", Options{Notation: YAML})[0]
	b := mustParse(t, "- {prompt: z}\n- {seed: 2, count: 2, prompt: a}", Options{Notation: YAML})[2]
	if a.Hash != b.Hash {
		t.Error("a name, a priority or a place in the file changes the hash")
	}
	// printf 'darkroom request 1\n{"prompt":"a","seed":3}\n' | sha256sum: hashes are in manifests and file names, which outlive the
	// program's version.
	if want := "a8e3abcd9c4c8318e7393c0927dcd2e65e617ee3cb0b1ed3c1188b3cedbbde25"; a.Hash != want {
		t.Errorf("the hash of the request is %s, not %s", a.Hash, want)
	}
}

func TestFill(t *testing.T) {
	model := pipeline.Request{Settings: recipe.Settings{Negative: "ugly", Steps: 25, CFG: 7.5, Scheduler: "euler", Sigmas: "karras", Width: 64, Height: 64, Syntax: "weighted", Noise: "torch-cpu"}}
	fill := func(job string) pipeline.Request {
		return mustParse(t, job, Options{Notation: YAML})[0].Request.Fill(model)
	}
	want := model
	want.Prompt = "a"
	if d := cmp.Diff(want, fill("{prompt: a}")); d != "" {
		t.Error(d)
	}
	zero := 0.0
	want.Negative, want.Seed, want.CFG, want.Scheduler, want.Sigmas, want.Eta = "", 3, 0, "ddim", "", &zero
	if d := cmp.Diff(want, fill("{prompt: a, negative: '', seed: 3, cfg: 0, scheduler: ddim, eta: 0}")); d != "" {
		t.Error(d)
	}
	want.Guidance, want.Rescale, want.SDENoise = "apg:eta=0", 0.5, "brownian"
	if d := cmp.Diff(want, fill("{prompt: a, negative: '', seed: 3, cfg: 0, scheduler: ddim, eta: 0, guidance: 'apg:eta=0', guidance_rescale: 0.5, sde-noise: brownian}")); d != "" {
		t.Error(d)
	}
	if r := fill("{prompt: a, sigmas: '9,3,1'}"); r.Steps != 0 || r.Sigmas != "9,3,1" || r.Scheduler != "euler" {
		t.Errorf("a list of sigmas gives %d steps of %s with %q", r.Steps, r.Scheduler, r.Sigmas)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("wildcards/animal.txt", "cat\n")
	file := write("my.yaml", "- prompt: a __animal__\n")
	l, err := ReadFile(file, nil, Options{})
	if err != nil || l.Images[0].Request.Prompt != "a cat" {
		t.Fatalf("%v, %v", l, err)
	}
	l, err = ReadFile("-", strings.NewReader("prompt,seed\nx,1..2\n"), Options{})
	if err != nil || len(l.Images) != 2 {
		t.Fatalf("%v, %v", l, err)
	}
	// A link out of the folder of wildcards is not followed.
	secret := write("secret.txt", "the secret\n")
	if err := os.Symlink(secret, filepath.Join(dir, "wildcards", "link.txt")); err != nil {
		t.Skip("no links here")
	}
	_, err = ReadFile(write("link.yaml", "- prompt: a __link__\n"), nil, Options{})
	if err == nil || !strings.HasSuffix(err.Error(), "link.txt in "+filepath.Join(dir, "wildcards")+" cannot be read: path escapes from parent") {
		t.Errorf("a link out of the folder: %v", err)
	}
}

func TestFieldsAreThoseOfGenerate(t *testing.T) {
	// The flags of generate that decide a picture or its file; cmd/darkroom checks the list against the flags.
	for _, name := range []string{"prompt", "negative", "seed", "steps", "cfg", "guidance-rescale", "guidance", "scheduler", "sigmas", "eta", "sde-noise", "width", "height", "noise", "prompt-syntax", "clip-skip", "model", "dtype", "backend", "count", "format", "quality"} {
		if !slices.Contains(Fields(), name) {
			t.Errorf("field %q of generate is missing", name)
		}
	}
}
