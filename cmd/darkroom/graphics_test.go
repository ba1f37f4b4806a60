package main

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/color"
	"image/png"
	"regexp"
	"strings"
	"testing"
)

func TestTerminalGraphics(t *testing.T) {
	for want, envs := range map[string][]string{
		"kitty": {"TERM=xterm-kitty", "KITTY_WINDOW_ID=1", "TERM_PROGRAM=ghostty", "DARKROOM_GRAPHICS=kitty TERM=foot"},
		"iterm": {"TERM_PROGRAM=iTerm.app", "LC_TERMINAL=iTerm2", "TERM_PROGRAM=WezTerm"},
		"sixel": {"TERM=foot", "TERM=xterm-sixel", "DARKROOM_GRAPHICS=sixel"},
		"":      {"TERM=xterm-256color", "", "DARKROOM_GRAPHICS=none"},
	} {
		for _, text := range envs {
			env := map[string]string{}
			for _, pair := range strings.Fields(text) {
				name, value, _ := strings.Cut(pair, "=")
				env[name] = value
			}
			if got := terminalGraphics(func(name string) string { return env[name] }); got != want {
				t.Errorf("%q: %q, want %q", text, got, want)
			}
		}
	}
}

// What is sent is the picture: kitty's pieces and iTerm2's file are PNGs of it, and the sixels give its colours.
func TestTerminalPicture(t *testing.T) {
	p := image.NewNRGBA(image.Rect(0, 0, 90, 61))
	for i := range p.Rect.Dx() * p.Rect.Dy() {
		p.Set(i%90, i/90, color.NRGBA{uint8(i * i * 7), uint8(i * 31 >> 3), uint8(i * i >> 5), 255})
	}
	check := func(name, text string) {
		t.Helper()
		file, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if q, err := png.Decode(bytes.NewReader(file)); err != nil || q.Bounds() != p.Rect || color.NRGBAModel.Convert(q.At(50, 30)) != p.At(50, 30) {
			t.Errorf("%s: another picture (%v)", name, err)
		}
	}
	kitty, err := terminalPicture("kitty", p)
	if err != nil {
		t.Fatal(err)
	}
	var whole strings.Builder
	pieces := regexp.MustCompile("\x1b_G([^;]*);([^\x1b]*)\x1b\\\\").FindAllStringSubmatch(string(kitty), -1)
	for i, m := range pieces {
		if last := i == len(pieces)-1; len(m[2]) > 4096 || strings.HasSuffix(m[1], "m=0") != last || strings.Contains(m[1], "a=T") != (i == 0) {
			t.Errorf("piece %d of %d: %s, %d bytes", i, len(pieces), m[1], len(m[2]))
		}
		whole.WriteString(m[2])
	}
	if len(pieces) < 2 {
		t.Errorf("%d pieces", len(pieces))
	}
	check("kitty", whole.String())
	iterm, err := terminalPicture("iterm", p)
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(strings.TrimSuffix(string(iterm), "\a\n"), ":")
	check("iterm", text)

	red := image.NewNRGBA(image.Rect(0, 0, 5, 7))
	for i := range red.Pix {
		red.Pix[i] = []uint8{255, 0, 0, 255}[i%4]
	}
	got, err := terminalPicture("sixel", red)
	if want := "\x1bPq\"1;1;5;7#180;2;100;0;0#180!5~$-#180!5@$-\x1b\\\n"; err != nil || string(got) != want {
		t.Errorf("sixels %q, want %q (%v)", got, want, err)
	}
}

func TestPreviewOption(t *testing.T) {
	for text, want := range map[string]struct {
		every int
		term  bool
		ok    bool
	}{"": {0, false, true}, "0": {0, false, true}, "7": {7, false, true}, "term": {5, true, true}, "term:2": {2, true, true},
		"term:0": {}, "terminal": {}, "x": {}, "term:": {}} {
		every, term, err := previewOption(text)
		if (err == nil) != want.ok || err == nil && (every != want.every || term != want.term) {
			t.Errorf("%q: %d, %v, %v", text, every, term, err)
		}
	}
	t.Setenv("DARKROOM_GRAPHICS", "sixel")
	t.Setenv("TERM", "xterm")
	path := t.TempDir() + "/x.png"
	code, _, errs := command(t, "", "generate", "a cat", "--model", tiny, "--steps", "4", "--preview", "term:2", "-o", path)
	if code != 0 || strings.Count(errs, "\x1bPq") != 1 {
		t.Errorf("exit code %d, %q", code, errs)
	}
	t.Setenv("DARKROOM_GRAPHICS", "")
	if code, _, errs := command(t, "", "generate", "a cat", "--model", tiny, "--preview", "term", "-o", path); code != 2 || !strings.Contains(errs, "DARKROOM_GRAPHICS") {
		t.Errorf("exit code %d, %q", code, errs)
	}
}
