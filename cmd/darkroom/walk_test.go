package main

import (
	"fmt"
	"image/gif"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"darkroom/imagefile"
	"darkroom/pipeline"
)

// A walk passes each prompt and each seed, at even steps; a loop ends before it comes to the first again.
func TestWalkWay(t *testing.T) {
	for _, c := range []struct {
		o    walkOptions
		want []string
	}{
		{walkOptions{Prompts: []string{"a", "b"}, Seeds: []uint64{1}, Frames: 3}, []string{"a|1||", "a|1|0.5:b|", "b|1||"}},
		{walkOptions{Prompts: []string{"a", "b", "c"}, Seeds: []uint64{1}, Frames: 5}, []string{"a|1||", "a|1|0.5:b|", "b|1||", "b|1|0.5:c|", "c|1||"}},
		{walkOptions{Prompts: []string{"a", "b"}, Seeds: []uint64{1, 2}, Frames: 4, Loop: true}, []string{"a|1||", "a|1|0.5:b|2:0.5", "b|2||", "b|2|0.5:a|1:0.5"}},
		{walkOptions{Prompts: []string{"a"}, Seeds: []uint64{1, 2, 2}, Frames: 5}, []string{"a|1||", "a|1||2:0.5", "a|2||", "a|2||", "a|2||"}},
	} {
		var got []string
		for i := range c.o.Frames {
			r := c.o.request(pipeline.Request{}, i)
			got = append(got, fmt.Sprintf("%s|%d|%s|%s", r.Prompt, r.Seed, r.Toward, r.Variation))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.o, got, c.want)
		}
	}
}

// A film has its pictures; called again it makes those alone that are missing, to the same bytes, and nothing is left but the film.
func TestWalk(t *testing.T) {
	model := inFolder(t, "jobs.yaml", "- prompt: a\n")
	walk := func(args ...string) (errs string) {
		t.Helper()
		code, out, errs := command(t, "", append([]string{"walk", "--model", model, "--steps", "2", "--frames", "4"}, args...)...)
		if want := args[slices.Index(args, "-o")+1] + "\n"; code != 0 || out != want {
			t.Fatalf("%q: exit code %d, %q, %s", args, code, out, errs)
		}
		return errs
	}
	walk("a cat", "a dog", "--seed", "3", "-o", "x.gif", "--keep", "-q")
	f, err := os.Open("x.gif")
	if err != nil {
		t.Fatal(err)
	}
	film, err := gif.DecodeAll(f)
	f.Close()
	if err != nil || len(film.Image) != 4 {
		t.Fatalf("%v, %d pictures", err, len(film.Image))
	}
	third := filepath.Join("x.frames", "frame-00003.png")
	was, whole := string(read(t, third)), string(read(t, "x.gif"))
	r := inspected(t, third)
	if r.Prompt != "a cat" || !strings.HasPrefix(r.Toward, "0.666") || r.Seed != 3 {
		t.Errorf("picture 3: %q %q seed %d", r.Prompt, r.Toward, r.Seed)
	}
	if code, _, errs := command(t, "", "generate", "--from", third, "--model", model, "-o", "again.png", "-q"); code != 0 || string(read(t, "again.png")) != was {
		t.Errorf("a picture's recipe makes another file: %s", errs)
	}
	if err := os.Remove(third); err != nil {
		t.Fatal(err)
	}
	if errs := walk("a cat", "a dog", "--seed", "3", "-o", "x.gif"); !strings.Contains(errs, "step 4/4") || strings.Contains(errs, "step 1/4") {
		t.Errorf("called again it says %q", errs)
	}
	if string(read(t, "x.gif")) != whole {
		t.Error("the film differs when a picture was made anew")
	}
	if _, err := os.Stat("x.frames"); err == nil {
		t.Error("the pictures are left")
	}

	// Into a picture: each begins with the one before.
	walk("a cat", "--move", "zoom=1.1", "--strength", "0.6", "--seed", "5", "-o", "zoom.webp", "--keep", "-q")
	a, b := inspected(t, "zoom.frames/frame-00001.png"), inspected(t, "zoom.frames/frame-00003.png")
	if a.Init != "" || a.Move != "" || b.Init != "frame-00002.png" || b.Move != "zoom=1.1" || b.Seed != 7 || len(b.Files) != 1 {
		t.Errorf("%+v\n%+v", a, b)
	}
	if code, _, errs := command(t, "", "generate", "--from", "zoom.frames/frame-00003.png", "--init", "zoom.frames/frame-00002.png", "--model", model, "-o", "again.png", "-q"); code != 0 ||
		string(read(t, "again.png")) != string(read(t, "zoom.frames/frame-00003.png")) {
		t.Errorf("a picture's recipe makes another file: %s", errs)
	}
	if code, _, errs := command(t, "", "walk", "a dog", "--move", "zoom=1.2", "--strength", "0.6", "--steps", "2", "--frames", "4", "--model", model, "-o", "zoom.png"); code != 1 || !strings.Contains(errs, "holds the pictures of another walk") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if info, err := imagefile.Inspect("zoom.webp"); err != nil || info.Width != a.Width {
		t.Errorf("%+v, %v", info, err)
	}

	t.Setenv("PATH", t.TempDir())
	for _, c := range []struct {
		line string
		code int
		want string
	}{
		{"walk", 2, "the prompt is missing"},
		{"walk a", 2, "do not make a film"},
		{"walk a b --seeds 1,2,3", 2, "2 prompts and 3 seeds"},
		{"walk a --seeds 1,x", 2, "is not a seed"},
		{"walk a b --frames 1", 2, "from 2 to"},
		{"walk a b --fps 0", 2, "from 0.1 to 240"},
		{"walk a b -o x.tga", 2, "use .webp, .png, .gif"},
		{"walk a b --toward 0.5:c", 2, "leave them out"},
		{"walk a b --seed 1 --seeds 1,2", 2, "give one of them"},
		{"walk a --seeds 1,2 --move zoom=2", 2, "not from seed to seed"},
		{"walk a --move zoom=99", 2, "the zoom must be"},
		{"walk a --move zom=2", 2, "write zoom=F"},
		{"walk a b -o x.mp4", 1, "ffmpeg, which is not installed"},
	} {
		if code, out, errs := command(t, "", append(strings.Fields(c.line), "--model", model, "--steps", "1")...); code != c.code || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit code %d, %q, want %d and %q", c.line, code, errs, c.code, c.want)
		}
	}
}

// ffmpeg is given the pictures in their order; what it says of a failure is reported, and the pictures stay.
func TestWalkWithFFmpeg(t *testing.T) {
	model := inFolder(t, "jobs.yaml", "- prompt: a\n")
	bin := t.TempDir()
	script := func(text string) {
		if err := os.WriteFile(filepath.Join(bin, "ffmpeg"), []byte("#!/bin/sh\n"+text), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	args := []string{"walk", "a cat", "a dog", "--model", model, "--steps", "1", "--frames", "3", "--seed", "1", "--fps", "24", "-o", "film.mp4", "-q"}
	script("echo 'no such codec' >&2\nexit 1\n")
	if code, _, errs := command(t, "", args...); code != 1 || !strings.Contains(errs, "no such codec") || !strings.Contains(errs, "film.frames") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if _, err := os.Stat("film.mp4"); err == nil {
		t.Error("a film that failed is there")
	}
	script("for last; do :; done\nls film.frames/frame-*.png > \"$last\"\necho \"$@\" >> \"$last\"\n")
	if code, out, errs := command(t, "", args...); code != 0 || out != "film.mp4\n" {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	got := string(read(t, "film.mp4"))
	if strings.Count(got, "frame-0000") != 3 || !strings.Contains(got, "-framerate 24 ") || !strings.Contains(got, "libx264") {
		t.Errorf("ffmpeg was called with %s", got)
	}
	if left, err := os.ReadDir("."); err != nil || len(left) != 2 {
		t.Errorf("%v is left, %v", left, err)
	}
}
