package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/imagefile"
)

// An enlarged picture keeps its recipe, which says what enlarged it; one without a recipe gets none.
func TestUpscale(t *testing.T) {
	dir := t.TempDir()
	upscaler := "../../family/testdata/upscale/trunk.pth"
	made := filepath.Join(dir, "cat.png")
	run := func(args ...string) string {
		code, out, errs := command(t, "", args...)
		if code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, errs)
		}
		return strings.TrimSpace(out)
	}
	run("generate", "a cat", "--steps", "1", "--width", "64", "--height", "64", "--seed", "5", "-o", made, "-q")
	large := run("upscale", made, "--upscaler", upscaler, "-q")
	if want := filepath.Join(dir, "cat-x2.png"); large != want {
		t.Errorf("it is written to %s, want %s", large, want)
	}
	info, err := imagefile.Inspect(large)
	if err != nil || info.Width != 128 || info.Recipe == nil || info.Recipe.Upscale != 2 || info.Recipe.Seed != 5 || len(info.Recipe.Files) != 1 || info.Recipe.Files[0].Kind != "upscaler" {
		t.Errorf("%+v, %v", info.Recipe, err)
	}
	plain := run("upscale", "../../family/testdata/upscale/in.png", "--upscaler", upscaler, "-o", filepath.Join(dir, "plain.webp"), "--tile", "16")
	if info, err := imagefile.Inspect(plain); err != nil || info.Width != 60 || info.Recipe != nil {
		t.Errorf("a picture without a recipe: %+v, %v", info, err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"upscale", made}, 2, "--upscaler is needed"},
		{[]string{"upscale", "--upscaler", upscaler}, 2, "picture"},
		{[]string{"upscale", made, "--upscaler", "nowhere"}, 2, "no upscaler of that name"},
		{[]string{"upscale", made, "--upscaler", made}, 1, "this is a picture"},
		{[]string{"upscale", upscaler, "--upscaler", upscaler}, 1, "not a picture"},
		{[]string{"upscale", made, "--upscaler", upscaler, "--tile", "3"}, 2, "at least 16"},
		{[]string{"upscale", made, "--upscaler", upscaler, "-o", filepath.Join(dir, "x.tga")}, 2, "cannot write"},
	} {
		if code, _, errs := command(t, "", c.args...); code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("%v: exit code %d, %q; want %d and %q", c.args, code, errs, c.code, c.want)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 3 {
		t.Errorf("%d files are left, want 3", len(left))
	}
}
