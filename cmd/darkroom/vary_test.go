package main

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"darkroom/imagefile"
)

// The loop of making, varying and choosing: a sheet of several, variations of one of them, and of a variation.
func TestVaryAndGrid(t *testing.T) {
	model := inFolder(t, "jobs.yaml", "- prompt: a\n")
	t.Setenv("DARKROOM_HISTORY", "off")
	run := func(args ...string) []string {
		t.Helper()
		code, out, errs := command(t, "", args...)
		if code != 0 {
			t.Fatalf("%q: exit code %d, %s", args, code, errs)
		}
		return strings.Fields(out)
	}
	out := run("generate", "a cat", "--model", model, "--steps", "2", "--seed", "4", "--count", "3", "--grid", "-o", "x.png", "-q")
	if want := []string{"x-1.png", "x-2.png", "x-3.png", "x-grid.png"}; !slices.Equal(out, want) {
		t.Errorf("paths %q, want %q", out, want)
	}
	one, _ := imagefile.Inspect("x-1.png")
	all, err := imagefile.Inspect("x-grid.png")
	if err != nil || all.Width != 2*one.Width+12 || all.Height != 2*(one.Height+sheetLabel)+12 {
		t.Errorf("the sheet of three pictures of %d×%d has %d×%d, %v", one.Width, one.Height, all.Width, all.Height, err)
	}
	out = run("vary", "x-2.png", "--model", model, "--subtle", "--count", "2", "-o", "v.webp", "-q")
	if want := []string{"v-1.webp", "v-2.webp", "v-grid.webp"}; !slices.Equal(out, want) {
		t.Errorf("paths %q, want %q", out, want)
	}
	a, b := inspected(t, "v-1.webp"), inspected(t, "v-2.webp")
	if a.Seed != 5 || b.Seed != 5 || a.Variation == b.Variation || !strings.HasSuffix(a.Variation, ":0.12") || a.Result.Pixels == b.Result.Pixels {
		t.Errorf("seeds %d %d, variations %q %q", a.Seed, b.Seed, a.Variation, b.Variation)
	}
	run("vary", "v-1.webp", "--model", model, "--count", "1", "-o", "w.png", "-q")
	w := inspected(t, "w.png")
	if !strings.HasPrefix(w.Variation, a.Variation+",") {
		t.Errorf("a variation of %q is %q", a.Variation, w.Variation)
	}
	run("generate", "--from", "w.png", "--model", model, "-o", "again.png", "-q")
	if string(read(t, "again.png")) != string(read(t, "w.png")) {
		t.Error("a variation's recipe makes another file")
	}
	run("grid", "x-1.png", "w.png", "v-grid.webp", "--columns", "1", "-o", "sheet.jpg")
	if sheet, err := imagefile.Inspect("sheet.jpg"); err != nil || sheet.Height < 3*one.Height {
		t.Errorf("the sheet: %+v, %v", sheet, err)
	}
	for _, c := range []struct{ line, want string }{
		{"vary x-1.png --subtle --strong", "give only one"},
		{"vary x-1.png --variation 7", "write SEED:STRENGTH"},
		{"vary x-grid.png", "this PNG file has no recipe"},
		{"vary jobs.yaml", "neither an image with a recipe"},
		{"vary", "the picture is missing"},
		{"generate a --grid", "give --count"},
		{"grid", "name the pictures"},
		{"grid jobs.yaml", "not a picture"},
		{"grid x-1.png --columns 0", "at least 1"},
		{"grid x-1.png -o x.tga", "cannot write"},
		{"generate a --hires 1", "above 1"},
		{"generate a --hires 2:upscaler=nowhere", "no upscaler of that name"},
		{"generate a --hires 2 --init x-1.png", "give a larger --width"},
		{"generate a --hires 2 --scheduler dpm-adaptive", "needs a number of steps"},
		{"generate a --hires 2:steps=900,strength=0.1 --steps 4", "the second pass"},
		{"generate a --tile z", "choose off, x, y, both"},
	} {
		if code, out, errs := command(t, "", append(strings.Fields(c.line), "--model", model)...); code == 0 || out != "" || !strings.Contains(errs, c.want) {
			if strings.HasPrefix(c.line, "grid") {
				code, out, errs = command(t, "", strings.Fields(c.line)...)
			}
			if code == 0 || out != "" || !strings.Contains(errs, c.want) {
				t.Errorf("%s: exit code %d, %q, want %q", c.line, code, errs, c.want)
			}
		}
	}
	if left, _ := os.ReadDir("."); slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.Contains(e.Name(), ".tmp") }) {
		t.Error("something half-written is left")
	}
}

// A second pass with a network that enlarges: the recipe names its file, and makes the same bytes.
func TestHiresWithNetwork(t *testing.T) {
	upscaler, err := os.ReadFile("../../family/testdata/upscale/trunk.pth")
	if err != nil {
		t.Fatal(err)
	}
	model := inFolder(t, "jobs.yaml", "- {prompt: a, hires: ['1.5', '2:upscaler=lanczos,strength=0.5'], steps: 2, seed: 1}\n")
	t.Setenv("DARKROOM_HISTORY", "off")
	save(t, "net.pth", upscaler)
	run := func(args ...string) string {
		t.Helper()
		code, out, errs := command(t, "", append(args, "--model", model)...)
		if code != 0 {
			t.Fatalf("%q: exit code %d, %s", args, code, errs)
		}
		return out
	}
	run("generate", "a cat", "--steps", "3", "--seed", "4", "--hires", "1.5:upscaler=net.pth,steps=2", "-o", "x.png", "-q")
	r := inspected(t, "x.png")
	info, err := imagefile.Inspect("x.png")
	if err != nil || r.Hires != "1.5:upscaler=net,strength=0.7,steps=2" || len(r.Files) != 1 || r.Files[0].Kind != "upscaler" || info.Width != r.Width*3/2 {
		t.Errorf("%q, %+v, %d pixels of %d, %v", r.Hires, r.Files, info.Width, r.Width, err)
	}
	run("generate", "--from", "x.png", "--hires", "1.5:upscaler=net.pth,steps=2", "-o", "y.png", "-q")
	if string(read(t, "x.png")) != string(read(t, "y.png")) {
		t.Error("the recipe makes another file")
	}
	if out := run("batch", "jobs.yaml", "-o", "out"); strings.Count(out, ".png") != 2 {
		t.Errorf("a sweep over second passes: %q", out)
	}
}

// A prompt's {a|b} and __name__ are filled in by the seed, as in a job file, and a recipe has the words that came of it.
func TestWildcardsInGenerate(t *testing.T) {
	model := inFolder(t, "jobs.yaml", "- {prompt: 'a {red|blue} __thing__', steps: 1, seed: 1..6}\n")
	t.Setenv("DARKROOM_HISTORY", "off")
	if err := os.Mkdir("wildcards", 0o777); err != nil {
		t.Fatal(err)
	}
	save(t, "wildcards/thing.txt", []byte("cat\nboat\nhouse\n"))
	run := func(args ...string) {
		t.Helper()
		if code, _, errs := command(t, "", append(args, "--model", model, "-q")...); code != 0 {
			t.Fatalf("%q: exit code %d, %s", args, code, errs)
		}
	}
	run("generate", "a {red|blue} __thing__", "--steps", "1", "--seed", "1", "--count", "6", "-o", "x.png")
	run("batch", "jobs.yaml", "-o", "out", "--name", "{seed}")
	seen := map[string]bool{}
	for i := range 6 {
		n := strconv.Itoa(i + 1)
		got, want := inspected(t, "x-"+n+".png"), inspected(t, "out/"+n+".png")
		if got.Prompt != want.Prompt || strings.ContainsAny(got.Prompt, "{_") || got.Result != want.Result {
			t.Errorf("seed %d: %q, in a batch %q", got.Seed, got.Prompt, want.Prompt)
		}
		seen[got.Prompt] = true
	}
	if len(seen) < 2 {
		t.Errorf("six seeds give %v", seen)
	}
	run("generate", "--from", "x-2.png", "-o", "again.png")
	if string(read(t, "x-2.png")) != string(read(t, "again.png")) {
		t.Error("the recipe makes another file")
	}
	run("generate", "a {red|blue} __thing__", "--steps", "1", "--seed", "1", "--prompt-syntax", "plain", "-o", "plain.png")
	if p := inspected(t, "plain.png").Prompt; p != "a {red|blue} __thing__" {
		t.Errorf("in the plain syntax the prompt is %q", p)
	}
	if code, _, errs := command(t, "", "generate", "a __bird__", "--model", model); code != 2 || !strings.Contains(errs, "there is no bird.txt in wildcards") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	code, out, errs := command(t, "", "tokenize", "a [cat:dog:3] AND a (boat:1.2) :0.5")
	if code != 0 || !strings.Contains(out, "cat</w>") || strings.Contains(out, "dog") || !strings.Contains(errs, "up to step 25, weight 1: a dog") || !strings.Contains(errs, "weight 0.5:  a (boat:1.2)") {
		t.Errorf("tokenize: exit code %d, %s%s", code, out, errs)
	}
}
