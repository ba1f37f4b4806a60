package main

import (
	"image/gif"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/imagefile"
)

// A film in each format that needs no other program; the one with a recipe says how it is made again.
func TestAnimate(t *testing.T) {
	model, err := filepath.Abs("../../pipeline/testdata/models/sd1")
	if err != nil {
		t.Fatal(err)
	}
	module, err := filepath.Abs("../../pipeline/testdata/motion/module")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	base := []string{"animate", "a red apple", "--model", model, "--motion", module, "--width", "64", "--height", "64", "--steps", "2", "--seed", "3", "--frames", "3", "-q"}
	for _, name := range []string{"x.png", "x.webp", "x.gif"} {
		code, out, errs := command(t, "", append(base, "--fps", "5", "-o", name)...)
		if code != 0 || out != name+"\n" {
			t.Fatalf("%s: exit code %d, %q, %s", name, code, out, errs)
		}
	}
	f, err := os.Open("x.gif")
	if err != nil {
		t.Fatal(err)
	}
	film, err := gif.DecodeAll(f)
	f.Close()
	if err != nil || len(film.Image) != 3 || film.Delay[0] != 20 {
		t.Errorf("the GIF: %v, %d frames", err, len(film.Image))
	}
	for _, name := range []string{"x.png", "x.webp"} {
		info, err := imagefile.Inspect(name)
		if err != nil || info.Recipe == nil || info.Recipe.Motion != "module:frames=3,fps=5,betas=linear" {
			t.Errorf("%s: %v, %v", name, info.Recipe, err)
		}
	}
	if code, out, errs := command(t, "", "verify", "x.png", "--model", model); code == 0 || !strings.Contains(errs, "motion") {
		t.Errorf("verify without the module: exit code %d, %q, %s", code, out, errs)
	}
	if code, _, errs := command(t, "", "generate", "a red apple", "--model", model, "--motion", module+":frames=2", "--steps", "1", "--width", "64", "--height", "64", "-o", "y.jpg", "-q"); code == 0 || !strings.Contains(errs, "darkroom animate") {
		t.Errorf("a film as JPEG: exit code %d, %s", code, errs)
	}
	code, out, errs := command(t, "", "inspect", module)
	if code != 0 || !strings.Contains(out+errs, "motion module") {
		t.Errorf("inspect of the module: exit code %d, %q, %s", code, out, errs)
	}
	for want, args := range map[string][]string{
		"--motion is missing":   {"animate", "a"},
		"the prompt is missing": {"animate", "--motion", module},
		"from 2 to":             {"animate", "a", "--motion", module, "--frames", "1"},
		"use .webp":             {"animate", "a", "--motion", module, "-o", "x.bmp"},
		"darkroom animate":      {"walk", "a", "b", "--motion", module},
	} {
		if code, _, errs := command(t, "", args...); code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%q: exit code %d, %s, want %q", args, code, errs, want)
		}
	}
}
