package jobs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The words of a seed are those that a job file with the same prompt has for it.
func TestFiller(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "wildcards"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "wildcards", "animal.txt"), []byte("cat\ndog\n# no\nfox\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	const prompt, negative = "a {red|green|blue} __animal__", "{old|new}"
	f, err := NewFiller(prompt, negative, "")
	if err != nil || f.Plain() {
		t.Fatal(err, f)
	}
	list, err := Parse("f", []byte("- {prompt: 'a {red|green|blue} __animal__', negative: '{old|new}', seed: 1..20}"), os.DirFS("wildcards"), Options{Notation: YAML})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range list.Images {
		p, n, err := f.Fill(m.Request.Seed)
		if err != nil || p != m.Request.Prompt || n != m.Request.Negative {
			t.Errorf("seed %d: %q %q, in a job %q %q, %v", m.Request.Seed, p, n, m.Request.Prompt, m.Request.Negative, err)
		}
		seen[p] = true
	}
	if len(seen) < 4 {
		t.Errorf("twenty seeds choose %d prompts", len(seen))
	}
	for text, want := range map[string]string{
		"a __bird__": "there is no bird.txt in wildcards", "a {b|c": "a { without its }", "a }": "a } without its {",
	} {
		if _, err := NewFiller(text, "", ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := NewFiller("__animal__", "", "nowhere"); err == nil {
		t.Error("a folder that is not there is taken")
	}
	for _, text := range []string{`[a\|b|c] (d:1.2) \(e\)`, "a_b __ c", "plain"} { // prompts' own syntax
		f, err := NewFiller(text, "", "")
		if err != nil {
			t.Fatal(err)
		}
		if p, _, err := f.Fill(3); err != nil || p != text || !f.Plain() {
			t.Errorf("%q became %q, %v", text, p, err)
		}
	}
}
