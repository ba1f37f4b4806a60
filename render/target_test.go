package render

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"darkroom/pipeline"
	"darkroom/recipe"
)

// painted is a picture of one colour, of a recipe that is the same for all.
func painted(c uint8) *pipeline.Image {
	img := image.NewNRGBA(image.Rect(0, 0, 8, 8))
	for i := range img.Pix {
		img.Pix[i] = c
	}
	img.Set(0, 0, color.NRGBA{A: 255})
	return &pipeline.Image{Pixels: img, Recipe: recipe.Recipe{Prompt: "a red apple", Seed: 7}}
}

// Of many that write into a folder at once, each gets a name of its own; none is lost, and the same picture is there once.
func TestWriteAtOnce(t *testing.T) {
	dir := t.TempDir()
	const programs, pictures = 8, 6
	var all sync.WaitGroup
	paths := make([][]string, programs)
	for n := range programs {
		all.Go(func() {
			target := Target{Folder: dir, Count: pictures}
			for i := range pictures {
				path, data, err := target.Write(i, painted(uint8(n*pictures+i)))
				if err != nil {
					t.Error(err)
					return
				}
				if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, data) {
					t.Errorf("%s does not hold what was written: %v", path, err)
				}
				paths[n] = append(paths[n], path)
			}
		})
	}
	all.Wait()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != programs*pictures {
		t.Errorf("%d files of %d pictures, %v", len(entries), programs*pictures, err)
	}
	again, _, err := (&Target{Folder: dir}).Write(0, painted(3))
	if err != nil || again != paths[0][3] {
		t.Errorf("the same picture went to %s and %s, %v", paths[0][3], again, err)
	}
}

// A name that cannot be had is an error, not a search without end.
func TestWriteNowhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, _, err := (&Target{Folder: file}).Write(0, painted(1)); err == nil || !strings.Contains(err.Error(), "cannot write") {
		t.Errorf("error %v", err)
	}
}

// A preview replaces and removes its own file alone: not a user's of that name, not what a link of that name points to, and
// not a file that took its place.
func TestPreview(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	save := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(path(name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	save("x.preview.png", "a user's")
	save("letter", "another")
	if err := os.Symlink("letter", path("x.preview-2.png")); err != nil {
		t.Skip("SKIPPED: no links here")
	}
	if err := os.Symlink("not there", path("x.preview-3.png")); err != nil {
		t.Fatal(err)
	}
	p := (&Target{File: path("x.png")}).Preview(0, "x", 1)
	for c := range uint8(3) {
		if err := p.Show(painted(c).Pixels); err != nil {
			t.Fatal(err)
		}
	}
	want := "letter x.preview-2.png x.preview-3.png x.preview-4.png x.preview.png"
	if got := names(t, dir); got != want {
		t.Errorf("the folder holds %s, want %s", got, want)
	}
	if err := os.Remove(path("x.preview-4.png")); err != nil {
		t.Fatal(err)
	}
	save("x.preview-4.png", "a user's too")
	if err := p.Show(painted(9).Pixels); err != nil {
		t.Fatal(err)
	}
	p.Remove()
	p.Remove()
	if got := names(t, dir); got != want {
		t.Errorf("at the end the folder holds %s, want %s", got, want)
	}
	for name, want := range map[string]string{"x.preview.png": "a user's", "letter": "another", "x.preview-4.png": "a user's too"} {
		if got, err := os.ReadFile(path(name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func TestBaseName(t *testing.T) {
	for want, prompt := range map[string]string{"a-red-apple-7": "A red, (apple)!", "picture-7": "🍎/../..", "猫-7": "猫 " + strings.Repeat("x", 1<<20),
		strings.Repeat("猫", 16) + "-7": strings.Repeat("猫", 50) + "，狗", strings.Repeat("x", 47) + "-7": strings.Repeat("x", 47) + "é", "ผลไม้-7": "ผลไม้", "a-7": "a ❤️"} {
		if got := BaseName(prompt, 7); got != want {
			t.Errorf("%.20s: %s, want %s", prompt, got, want)
		}
	}
	if got := fmt.Sprint((&Target{File: "a/x.webp", Count: 2}).path(1)); got != "a/x-2.webp" {
		t.Error(got)
	}
}
