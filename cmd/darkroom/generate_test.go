package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"darkroom/imagefile"
	"darkroom/pipeline"
	"darkroom/recipe"
	sharing "darkroom/render"
)

// Flags after the prompt, before it, and a prompt that looks like a flag.
func TestWhereFlagsStand(t *testing.T) {
	dir := t.TempDir()
	for i, line := range []string{
		"a b|--steps|2|-o|FILE|--seed=5", "--steps|2|-o|FILE|--seed|5|a b", "--prompt|a b|-o|FILE|-steps|2|--seed|5", "--prompt=a b|-o=FILE|--steps=2|--seed=5",
		"-o|FILE|--steps|2|--seed|5|--|a b", "--out|FILE|--steps|1|--steps|2|--seed|5|a b",
	} {
		file := filepath.Join(dir, fmt.Sprint(i, ".png"))
		args := append([]string{"generate", "--model", tiny, "-q"}, strings.Split(strings.ReplaceAll(line, "FILE", file), "|")...)
		if code, _, errs := command(t, "", args...); code != 0 {
			t.Errorf("%s: %s", line, errs)
			continue
		}
		r := inspected(t, file)
		if r.Prompt != "a b" || r.Steps != 2 || r.Seed != 5 {
			t.Errorf("%s: prompt %q, %d steps, seed %d", line, r.Prompt, r.Steps, r.Seed)
		}
	}
	for line, want := range map[string]string{"--|-x": "-x", "--prompt=--steps": "--steps", "--prompt|-": "-", "--|--": "--", "": ""} {
		file := filepath.Join(dir, "dash.png")
		args := append([]string{"generate", "--model", tiny, "-q", "--steps", "1", "-o", file}, strings.Split(line, "|")...)
		if code, _, errs := command(t, "", args...); code != 0 {
			t.Errorf("%s: %s", line, errs)
		} else if got := inspected(t, file).Prompt; got != want {
			t.Errorf("%s: prompt %q", line, got)
		}
	}
}

func inspected(t *testing.T, file string) recipe.Recipe {
	t.Helper()
	info, err := imagefile.Inspect(file)
	if err != nil {
		t.Fatal(err)
	}
	if !info.Complete {
		t.Fatalf("%s: no recipe", file)
	}
	return *info.Recipe
}

// A value of 0 is 0.
func TestZeroMeansZero(t *testing.T) {
	r := inspected(t, render(t, "--seed", "0", "--cfg", "0", "--eta", "0", "--scheduler", "euler-a", "--negative", "", "--preview", "0"))
	if r.Seed != 0 || r.CFG != 0 || r.Eta != 0 {
		t.Errorf("seed %d, cfg %v, eta %v", r.Seed, r.CFG, r.Eta)
	}
}

// The same command line gives the same bytes, on any number of threads, and so does --from.
func TestByteForByte(t *testing.T) {
	for _, extra := range [][]string{nil, {"--scheduler", "euler-a", "--eta", "0.7", "--cfg", "3", "--negative", "a pear"}, {"--sigmas", "14,5,1,0.1", "--scheduler", "euler"},
		{"--scheduler", "dpm++2m-karras", "--noise", "torch-cuda", "--prompt-syntax", "plain", "--width", "48"}} {
		if extra != nil && extra[0] == "--sigmas" {
			extra = append(extra, "--steps", "4")
		}
		file := render(t, extra...)
		again := render(t, append(extra, "--threads", "1")...)
		if !bytes.Equal(read(t, file), read(t, again)) {
			t.Errorf("%v: two renderings differ", extra)
		}
		for _, source := range []string{file, recipeFile(t, file)} {
			path := filepath.Join(t.TempDir(), "again.png")
			code, _, errs := command(t, "", "generate", "--from", source, "--model", tiny, "-o", path)
			if code != 0 || strings.Contains(errs, "warning: the picture differs") {
				t.Fatalf("%v: exit code %d, %s", extra, code, errs)
			}
			if !bytes.Equal(read(t, file), read(t, path)) {
				t.Errorf("%v: --from %s gave another file", extra, filepath.Ext(source))
			}
		}
	}
}

// recipeFile is what inspect --json prints, in a file.
func recipeFile(t *testing.T, picture string) string {
	t.Helper()
	code, out, errs := command(t, "", "inspect", "--json", picture)
	if code != 0 {
		t.Fatal(errs)
	}
	path := filepath.Join(t.TempDir(), "recipe.json")
	save(t, path, []byte(out))
	return path
}

// Each picture of several is the one that its seed gives alone.
func TestCount(t *testing.T) {
	dir := t.TempDir()
	base := []string{"generate", "a red apple", "--model", tiny, "--steps", "2", "--quiet"}
	code, out, errs := command(t, "", append(base, "--seed", "5", "--count", "3", "-o", filepath.Join(dir, "x.png"))...)
	want := fmt.Sprintf("%[1]s/x-1.png\n%[1]s/x-2.png\n%[1]s/x-3.png\n", dir)
	if code != 0 || filepath.ToSlash(out) != filepath.ToSlash(want) || errs != "" {
		t.Fatalf("exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	alone := filepath.Join(dir, "alone.png")
	command(t, "", append(base, "--seed", "7", "-o", alone)...)
	if !bytes.Equal(read(t, filepath.Join(dir, "x-3.png")), read(t, alone)) {
		t.Error("picture 3 of seed 5 is not picture 1 of seed 7")
	}
}

// In a folder, pictures are named by prompt and seed and never replace another.
func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new") + string(filepath.Separator)
	base := []string{"generate", "A red apple, (ripe:1.2)!", "--model", tiny, "--quiet", "--seed", "5", "-o", dir}
	for _, c := range []struct{ steps, name string }{
		{"1", "a-red-apple-ripe-1-2-5.png"}, {"2", "a-red-apple-ripe-1-2-5-2.png"}, {"1", "a-red-apple-ripe-1-2-5.png"}, {"3", "a-red-apple-ripe-1-2-5-3.png"},
	} {
		code, out, errs := command(t, "", append(base, "--steps", c.steps)...)
		if code != 0 || out != filepath.Join(dir, c.name)+"\n" {
			t.Errorf("%s steps: exit code %d, stdout %q, stderr %q", c.steps, code, out, errs)
		}
	}
	if got := files(t, dir); got != "a-red-apple-ripe-1-2-5-2.png a-red-apple-ripe-1-2-5-3.png a-red-apple-ripe-1-2-5.png" {
		t.Errorf("the folder holds %s", got)
	}
	if got := sharing.BaseName("猫 "+strings.Repeat("x", 100), 1) + sharing.BaseName("🍎/../..", 2); got != "猫-1picture-2" {
		t.Errorf("names %q", got)
	}
}

// TestPromptFromStdin: a dash is stdin, as for other commands; --prompt=- is the dash.
func TestPromptFromStdin(t *testing.T) {
	for _, c := range []struct {
		stdin string
		args  []string
		want  string
	}{{"a red apple,\nripe\r\n", []string{"-"}, "a red apple,\nripe"}, {"x", []string{"--prompt=-"}, "-"}} {
		path := filepath.Join(t.TempDir(), "a.png")
		if code, _, errs := command(t, c.stdin, append([]string{"generate", "--model", tiny, "--steps", "1", "-q", "-o", path}, c.args...)...); code != 0 {
			t.Fatalf("%q: exit code %d, %s", c.args, code, errs)
		}
		_, out, _ := command(t, "", "inspect", "--json", path)
		var r struct{ Prompt string }
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.Prompt != c.want {
			t.Errorf("%q: %v, prompt %q, want %q", c.args, err, r.Prompt, c.want)
		}
	}
	if code, _, errs := command(t, "\n", "generate", "-", "--model", tiny); code != 2 || !strings.Contains(errs, "stdin, which is empty") {
		t.Errorf("an empty stdin: exit code %d, %s", code, errs)
	}
}

func TestFormats(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{"a.png": "PNG", "a.jpg": "JPEG", "a.JPEG": "JPEG", "a.webp": "WebP"} {
		path := filepath.Join(dir, name)
		code, _, errs := command(t, "", "generate", "a b", "--model", tiny, "--steps", "1", "-q", "-o", path)
		if code != 0 {
			t.Fatal(errs)
		}
		info, err := imagefile.Inspect(path)
		if err != nil || info.Format.String() != want || !info.Complete {
			t.Errorf("%s: %v, %v", name, info.Format, err)
		}
	}
	code, out, errs := command(t, "", "generate", "a b", "--model", tiny, "--steps", "1", "-q", "-o", "-", "--format", "jpg", "--quality", "30")
	if code != 0 || !strings.HasPrefix(out, "\xff\xd8\xff") || errs != "" {
		t.Errorf("stdout: exit code %d, %.4q, %q", code, out, errs)
	}
}

func TestJSONLines(t *testing.T) {
	dir := t.TempDir()
	code, out, errs := command(t, "", "generate", "a <b>", "--model", tiny, "--steps", "1", "--json", "--count", "2", "-o", dir)
	if code != 0 {
		t.Fatal(errs)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 || !strings.Contains(out, `"prompt":"a <b>"`) {
		t.Fatalf("stdout %q", out)
	}
	var first, second result
	if json.Unmarshal([]byte(lines[0]), &first) != nil || json.Unmarshal([]byte(lines[1]), &second) != nil {
		t.Fatalf("not JSON: %s", out)
	}
	var r recipe.Recipe
	if err := json.Unmarshal(second.Recipe, &r); err != nil || r.Seed != second.Seed || second.Seed != first.Seed+1 {
		t.Errorf("seeds %d, %d, recipe's %d, %v", first.Seed, second.Seed, r.Seed, err)
	}
	// The seed was drawn, and is reported.
	if !strings.Contains(errs, fmt.Sprintf("seed %d\n", first.Seed)) {
		t.Errorf("stderr %q does not tell the seed %d", errs, first.Seed)
	}
	if !strings.Contains(errs, "picture 2 of 2: step 1/1, ") {
		t.Errorf("no progress in %q", errs)
	}
}

// --from with other flags: they change the recipe, and the scheduler's own settings go with the scheduler.
func TestFromWithChanges(t *testing.T) {
	file := render(t, "--scheduler", "euler-a", "--eta", "0.3")
	path := filepath.Join(t.TempDir(), "x.png")
	code, _, errs := command(t, "", "generate", "--from", file, "--model", tiny, "--scheduler", "dpm++2m-karras", "--steps", "5", "a pear", "-o", path, "-q")
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	r := inspected(t, path)
	if r.Prompt != "a pear" || r.Name() != "dpm++2m-karras" || r.Steps != 5 || r.Seed != 7 || r.Eta != 0 {
		t.Errorf("%+v", r)
	}
}

// TestFromGuidance: guidance and noise come back from the JSON and from the text, and another guidance has its own rescale.
func TestFromGuidance(t *testing.T) {
	dir := t.TempDir()
	file := render(t, "--scheduler", "euler-a", "--guidance", "apg:eta=0,rescale=0.5", "--sde-noise", "brownian")
	first := inspected(t, file)
	if first.Guidance != "apg:eta=0" || first.Rescale != 0.5 || first.SDENoise != "brownian" {
		t.Fatalf("%+v", first)
	}
	text := filepath.Join(dir, "a.txt")
	save(t, text, []byte(first.Parameters()))
	for _, c := range []struct {
		flags          []string
		guidance       string
		rescale        float64
		noise, samePix string
	}{
		{[]string{"--from", file}, "apg:eta=0", 0.5, "brownian", first.Result.Pixels},
		{[]string{"--from", text}, "apg:eta=0", 0.5, "brownian", ""},
		{[]string{"--from", file, "--guidance", "cfg-zero"}, "cfg-zero", 0, "brownian", ""},
		{[]string{"--from", file, "--guidance", "cfg:rescale=0.25", "--sde-noise", "torch"}, "", 0.25, "", ""},
		{[]string{"--from", file, "--guidance-rescale", "0.75"}, "apg:eta=0", 0.75, "brownian", ""},
	} {
		path := filepath.Join(dir, "x.png")
		code, _, errs := command(t, "", append([]string{"generate", "--model", tiny, "-o", path, "-q"}, c.flags...)...)
		if code != 0 {
			t.Fatalf("%v: exit code %d, %s", c.flags, code, errs)
		}
		r := inspected(t, path)
		if r.Guidance != c.guidance || r.Rescale != c.rescale || r.SDENoise != c.noise || c.samePix != "" && r.Result.Pixels != c.samePix {
			t.Errorf("%v: %+v", c.flags, r)
		}
	}
	code, out, _ := command(t, "", "inspect", file)
	if code != 0 || !strings.Contains(out, "apg:eta=0") || !strings.Contains(out, "sde-noise") {
		t.Errorf("inspect:\n%s", out)
	}
}

// A text of another program gives a picture too, with what was not used said.
func TestFromParameters(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "a.txt")
	save(t, text, []byte("a cat\nNegative prompt: dog\nSteps: 4, Sampler: Euler a, CFG scale: 3, Seed: 9, Size: 40x32, Model: m, RNG: CPU, Face restoration: GFPGAN"))
	path := filepath.Join(dir, "x.png")
	code, _, errs := command(t, "", "generate", "--from", text, "--model", tiny, "-o", path, "-q")
	want := "warning: " + text + " was made by another program: the picture will be similar at best\nwarning: settings of that program that are ignored: Face restoration: GFPGAN\n"
	if code != 0 || errs != want {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	r := inspected(t, path)
	if r.Prompt != "a cat" || r.Negative != "dog" || r.Name() != "euler-a" || r.Steps != 4 || r.Seed != 9 || r.Width != 40 || r.CFG != 3 || r.Noise != "torch-cpu" {
		t.Errorf("%+v", r)
	}
}

// A recipe of a newer version may have a setting that decides the picture: it is refused, not ignored.
func TestFromNewerRecipe(t *testing.T) {
	path := recipeFile(t, render(t))
	text := strings.Replace(string(read(t, path)), "{", `{"hologram":true,`, 1)
	save(t, path, []byte(text))
	code, _, errs := command(t, "", "generate", "--from", path, "--model", tiny)
	if code != 1 || !strings.Contains(errs, `has settings that this version does not know ("hologram")`) {
		t.Errorf("exit code %d, %s", code, errs)
	}
}

// A picture from a backend that is not here is made on another, and that is said.
func TestFromOtherBackend(t *testing.T) {
	path := recipeFile(t, render(t))
	text := regexp.MustCompile(`"dtype":"fp32","backend":"\w+"`).ReplaceAllString(string(read(t, path)), `"dtype":"fp16","backend":"abacus"`)
	save(t, path, []byte(text))
	out := filepath.Join(t.TempDir(), "x.png")
	code, _, errs := command(t, "", "generate", "--from", path, "--model", tiny, "-o", out, "-q")
	if code != 0 || !strings.Contains(errs, "was made with --backend abacus --dtype fp16, which this machine cannot do") || inspected(t, out).Backend == "abacus" {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if code, _, errs := command(t, "", "generate", "--from", path, "--model", tiny, "-o", out, "--backend", "abacus"); code != 2 {
		t.Errorf("asked for: exit code %d, %s", code, errs)
	}
}

// A model that the recipe names is looked for by name, and one with other weights is reported.
func TestFromFindsTheModel(t *testing.T) {
	models := t.TempDir()
	dir := filepath.Join(models, "zsnr")
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	file := render(t)
	args := []string{"generate", "--from", file, "-o", filepath.Join(t.TempDir(), "x.png"), "-q"}
	t.Setenv("DARKROOM_MODELS", t.TempDir())
	if code, _, errs := command(t, "", args...); code != 1 || !strings.Contains(errs, `was made with the model "zsnr"`) || !strings.Contains(errs, "say where it is with --model") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	t.Setenv("DARKROOM_MODELS", models)
	if code, _, errs := command(t, "", args...); code != 0 || errs != "" {
		t.Errorf("exit code %d, %s", code, errs)
	}
	weights := filepath.Join(dir, "vae", "diffusion_pytorch_model.safetensors")
	data := read(t, weights)
	data[len(data)-2] ^= 1
	chmod(t, weights, 0o600)
	if err := os.WriteFile(weights, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command(t, "", args...); code != 0 || !strings.Contains(errs, "was made with other weights") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if code, out, errs := command(t, "", "verify", file, "-q"); code != 1 || !strings.Contains(out, "weights  differ") || !strings.Contains(errs, "the first difference is in the weights") {
		t.Errorf("verify: exit code %d, %s, %s", code, out, errs)
	}
}

// watcher is a stderr that calls f once, when a text has come.
type watcher struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	want string
	f    func()
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(p)
	if w.f != nil && strings.Contains(w.buf.String(), w.want) {
		w.f()
		w.f = nil
	}
	return len(p), nil
}

// Ctrl-C: within a second, exit code 130, where it was, and no file.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var begun time.Time
	w := &watcher{want: "picture 2 of 2: step 1/", f: func() { begun = time.Now(); cancel() }}
	dir := t.TempDir()
	code := run(ctx, &env{stdout: &bytes.Buffer{}, stderr: w}, []string{"generate", "x", "--model", tiny, "--steps", "60", "--seed", "3", "--count", "2", "--preview", "1", "-o", filepath.Join(dir, "x.png")})
	if took := time.Since(begun); took > time.Second {
		t.Errorf("it took %v", took)
	}
	errs := w.buf.String()
	if code != 130 || !strings.Contains(errs, "darkroom: interrupted while denoising picture 2 of 2 (seed 4), after step ") || !strings.Contains(errs, " of 60; 1 of 2 pictures written, none left half-written\n") {
		t.Errorf("exit code %d, stderr %s", code, errs)
	}
	if got := files(t, dir); got != "x-1.png" {
		t.Errorf("the folder holds %s", got)
	}
}

// An operation that does not end is not waited for.
func TestInterruptStuck(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	e := &env{stdin: blocked{}, stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}
	time.AfterFunc(50*time.Millisecond, cancel)
	begun := time.Now()
	code := run(ctx, e, []string{"tokenize", "--model", tiny, "--json", "-"})
	if took := time.Since(begun); code != 130 || took > 1200*time.Millisecond {
		t.Errorf("exit code %d after %v", code, took)
	}
	if got := e.stderr.(*bytes.Buffer).String(); got != "darkroom: interrupted while reading line 1\n" {
		t.Errorf("stderr %q", got)
	}
}

type blocked struct{}

func (blocked) Read([]byte) (int, error) { select {} }

// The preview is a whole picture while it is there, and gone at the end.
func TestPreview(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.png")
	seen := ""
	w := &watcher{want: "step 1/", f: func() { seen = files(t, dir) }}
	code := run(context.Background(), &env{stdout: &bytes.Buffer{}, stderr: w}, []string{"generate", "x", "--model", tiny, "--steps", "3", "--preview", "1", "-o", file})
	if code != 0 || seen != "x.preview.png" {
		t.Errorf("exit code %d, in between %q: %s", code, seen, w.buf.String())
	}
	if got := files(t, dir); got != "x.png" {
		t.Errorf("the folder holds %s", got)
	}
	// Looking does not change the picture.
	if !bytes.Equal(read(t, render(t, "--preview", "1")), read(t, render(t))) {
		t.Error("a picture with previews differs from one without")
	}
}

func TestTooLittleMemory(t *testing.T) {
	code, out, errs := command(t, "", "generate", "x", "--width", "16384", "--height", "16384", "-o", t.TempDir())
	if code == 0 {
		t.Skip("SKIPPED: this machine has memory for any picture")
	}
	if code != 1 || out != "" || !strings.HasPrefix(errs, "darkroom: not enough memory: ") || !strings.Contains(errs, " GiB free: ") || !strings.Contains(errs, "use a smaller --width and --height, or close other programs") {
		t.Errorf("exit code %d, stderr %s", code, errs)
	}
}

// damaged copies the tiny model and changes a file.
func damaged(t *testing.T, file string, change func([]byte) []byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "damaged")
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, file)
	data := change(read(t, path))
	chmod(t, path, 0o600)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Bad models: exit code 1, a message that says what and where, no picture.
func TestBadModels(t *testing.T) {
	replace := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(new), 1) }
	}
	// The last two bytes of the file are the last weight: 0x7e00 is NaN in float16.
	nan := func(b []byte) []byte { return append(b[:len(b)-2], 0x00, 0x7e) }
	for _, c := range []struct {
		name, file string
		change     func([]byte) []byte
		want       []string
	}{
		{"NaN in the weights", "unet/diffusion_pytorch_model.safetensors", nan, []string{"unet.", "NaN", "at element "}},
		{"another kind of model", "model_index.json", replace("UNet2DConditionModel", "FluxTransformer2DModel"), []string{"model_index.json: unet is a FluxTransformer2DModel", "only UNet2DConditionModel is supported"}},
		{"a setting that is not supported", "unet/config.json", replace(`"act_fn": "silu"`, `"act_fn": "mish"`), []string{"unet/config.json", `act_fn is "mish"`}},
		{"weights cut off", "vae/diffusion_pytorch_model.safetensors", func(b []byte) []byte { return b[:len(b)-100] }, []string{"vae/diffusion_pytorch_model.safetensors"}},
	} {
		dir := damaged(t, c.file, c.change)
		out := t.TempDir()
		code, stdout, errs := command(t, "", "generate", "x", "--model", dir, "--steps", "1", "-q", "-o", out)
		if code != 1 || stdout != "" {
			t.Errorf("%s: exit code %d, stdout %q", c.name, code, stdout)
		}
		for _, want := range c.want {
			if !strings.Contains(errs, want) {
				t.Errorf("%s: %q is not in %s", c.name, want, errs)
			}
		}
		if got := files(t, out); got != "" {
			t.Errorf("%s: the folder holds %s", c.name, got)
		}
	}
}

func TestReport(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{fmt.Errorf("x: %w", usagef("y")), 2},
		{fmt.Errorf("x: %w", &pipeline.UsageError{Err: errors.New("y")}), 2},
		{context.Canceled, 1}, // of something else than the user
	} {
		if got := report(context.Background(), &env{stderr: &bytes.Buffer{}}, c.err); got != c.code {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.code)
		}
	}
}

// The pictures of --count are denoised together, and a preview is of one at a time.
func TestCountTogether(t *testing.T) {
	for flags, want := range map[string]string{"": "3 at once, up to picture 3 of 3: step 2/2", "--preview=1": "picture 1 of 3: step 2/2"} {
		args := []string{"generate", "--model", tiny, "--steps", "2", "--seed", "5", "--count", "3", "-o", t.TempDir()}
		code, _, errs := command(t, "", append(args, strings.Fields(flags+" x")...)...)
		if code != 0 || !strings.Contains(errs, want) {
			t.Errorf("%s: exit code %d, stderr %s", flags, code, errs)
		}
	}
}

// A thousand million pictures are begun with the memory of one.
func TestCountWithoutEnd(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{want: "at once, up to picture", f: cancel}
	code := run(ctx, &env{stdout: &bytes.Buffer{}, stderr: w}, []string{"generate", "x", "--model", tiny, "--steps", "2", "--seed", "5", "--count", "1000000000", "-o", t.TempDir()})
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) >> 20; code != 130 || took > 500 {
		t.Errorf("exit code %d with %d MiB: %s", code, took, w.buf.String())
	}
}

// verify reads the weights, not what is remembered of them by size and time.
func TestVerifyReadsAnew(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	const unet = "unet/diffusion_pytorch_model.safetensors"
	dir := damaged(t, unet, func(b []byte) []byte { return b })
	file := filepath.Join(t.TempDir(), "x.png")
	if code, _, errs := command(t, "", "generate", "x", "--model", dir, "--steps", "1", "-q", "-o", file); code != 0 {
		t.Fatal(errs)
	}
	if code, out, errs := command(t, "", "verify", "--model", dir, file, "-q"); code != 0 {
		t.Fatal(out, errs)
	}
	path := filepath.Join(dir, unet)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	data := read(t, path)
	data[len(data)-2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := command(t, "", "verify", "--model", dir, file, "-q"); code != 1 || !strings.Contains(out, "weights  differ") {
		t.Errorf("exit code %d, %s", code, out)
	}
}

// A prompt of a megabyte is refused at once.
func TestLongPrompt(t *testing.T) {
	begun := time.Now()
	code, _, errs := command(t, "", "generate", strings.Repeat("x ", 1<<19), "--model", tiny, "-o", t.TempDir())
	if took := time.Since(begun); code != 2 || !strings.Contains(errs, "a prompt of 1048576 bytes: at most 65536 are allowed") || took > 5*time.Second {
		t.Errorf("exit code %d after %v: %s", code, took, errs)
	}
}
