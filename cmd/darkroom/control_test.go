package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/imagefile"
)

// Controls on the command line and in a batch: repeated flags with commas, --from, folders, changed pictures.
func TestControlCommand(t *testing.T) {
	model, err := filepath.Abs("../../pipeline/testdata/models/sd1")
	if err != nil {
		t.Fatal(err)
	}
	steer, err := filepath.Abs("../../pipeline/testdata/steer")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	t.Setenv("DARKROOM_HISTORY", "off")
	t.Setenv("DARKROOM_MODELS", t.TempDir())
	if err := os.CopyFS(filepath.Join(os.Getenv("DARKROOM_MODELS"), "controlnet"), os.DirFS(filepath.Join(steer, "nets"))); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) []string {
		t.Helper()
		code, out, errs := command(t, "", args...)
		if code != 0 {
			t.Fatalf("%q: exit code %d, %s", args, code, errs)
		}
		return strings.Fields(out)
	}
	ring, err := os.ReadFile(filepath.Join(steer, "ring-64.png"))
	if err != nil {
		t.Fatal(err)
	}
	save(t, "ring.png", ring)
	if out := run("preprocess", "canny", "ring.png", "--low", "50"); out[0] != "ring-canny.png" {
		t.Errorf("the edges are in %q", out)
	}
	run("generate", "a", "--model", model, "--steps", "2", "--seed", "4", "--width", "64", "--height", "64", "-o", "x.png", "-q",
		"--control", "one-ldm=ring.png:scale=0.5,end=0.9", "--control", "t2i-original=ring.png:pre=canny,low=50")
	r := inspected(t, "x.png")
	if want := "one-ldm=ring.png:scale=0.5,end=0.9;t2i-original=ring.png:pre=canny,low=50"; r.Control != want || len(r.Files) != 4-1 {
		t.Errorf("the recipe says %q with %+v, want %q", r.Control, r.Files, want)
	}
	run("generate", "--from", "x.png", "--model", model, "-o", "y.png", "-q")
	if again := inspected(t, "y.png"); again.Result != r.Result {
		t.Errorf("--from gives %+v, want %+v", again.Result, r.Result)
	}
	for args, want := range map[string]string{
		"generate a --control x":             "MODEL=IMAGE is needed",
		"generate a --control nothing=x.png": "no control of that name",
		"preprocess cany x.png":              "nearest: canny",
		"preprocess canny":                   "a preprocessor's name and a picture",
		"preprocess canny nothing.png":       "nothing.png",
	} {
		if code, _, errs := command(t, "", strings.Fields(args)...); code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%s: exit code %d, %s", args, code, errs)
		}
	}

	if err := os.Mkdir("hints", 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		save(t, "hints/"+name+".png", ring)
	}
	save(t, "jobs.yaml", []byte("- {prompt: x, control: 'one=hints', width: 64, height: 64, steps: 1, name: '{init}'}\n"))
	batch := func() []string {
		run("batch", "jobs.yaml", "--model", model, "-o", "out", "-q")
		found, err := filepath.Glob("out/*.png")
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if found := batch(); strings.Join(found, " ") != "out/a.png out/b.png out/c.png" {
		t.Errorf("pictures %q", found)
	}
	edges, err := os.ReadFile("ring-canny.png")
	if err != nil {
		t.Fatal(err)
	}
	save(t, "hints/b.png", edges)
	if found := batch(); len(found) != 4 {
		t.Errorf("after one of three was changed, pictures %q", found)
	}
	if found := batch(); len(found) != 4 {
		t.Errorf("after none was changed, pictures %q", found)
	}
	if info, err := imagefile.Inspect("out/a.png"); err != nil || info.Recipe.Control != "one=a.png" {
		t.Errorf("%+v, %v", info, err)
	}
}
