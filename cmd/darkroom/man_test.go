package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each command has a page with its flags and examples; nothing in it is taken for a request of troff that it is not.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	if code, _, errs := command(t, "", "__man", dir); code != 0 {
		t.Fatal(errs)
	}
	requests := []string{".TH ", ".SH ", ".TP", ".B ", ".BR ", ".PP", ".RS", ".RE", ".nf", ".fi"}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) < 20 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		for n, line := range strings.Split(string(read(t, page)), "\n") {
			known := !strings.HasPrefix(line, ".") && !strings.HasPrefix(line, "'")
			for _, r := range requests {
				known = known || strings.HasPrefix(line, r) || line == strings.TrimSpace(r)
			}
			if !known {
				t.Errorf("%s:%d: %q", filepath.Base(page), n+1, line)
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "darkroom-generate.1"))
	for _, want := range []string{".SH SYNOPSIS", `\-\-steps N`, `darkroom generate "a red apple"`, ".SH SAMPLING"} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("darkroom-generate.1 has no %q (%v)", want, err)
		}
	}
}
