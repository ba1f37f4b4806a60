package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPullUseRemove: a model comes from a hub, makes a picture by its name, and goes.
func TestPullUseRemove(t *testing.T) {
	const repo = "../../pipeline/testdata/models/sd1"
	var tree []map[string]any
	err := filepath.WalkDir(repo, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(repo, path)
		info, err := d.Info()
		tree = append(tree, map[string]any{"type": "file", "path": filepath.ToSlash(rel), "size": info.Size()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/api/models/o/apples/revision/"):
			fmt.Fprint(w, `{"sha": "abc", "cardData": {"license": "mit"}}`)
		case strings.HasPrefix(r.URL.Path, "/api/models/o/apples/tree/abc"):
			_ = json.NewEncoder(w).Encode(tree)
		case strings.HasPrefix(r.URL.Path, "/o/apples/resolve/abc/"):
			http.ServeFile(w, r, filepath.Join(repo, strings.TrimPrefix(r.URL.Path, "/o/apples/resolve/abc/")))
		default:
			http.NotFound(w, r)
		}
	}))
	defer hub.Close()
	dir := t.TempDir()
	t.Setenv("DARKROOM_MODELS", dir)
	t.Setenv("HF_ENDPOINT", hub.URL+"/")

	code, out, errs := command(t, "", "pull", "hf:o/apples", "--dry-run")
	if code != 0 || !strings.Contains(out, "mit") || !strings.Contains(out, "unet/config.json") || files(t, dir) != "" {
		t.Fatalf("exit code %d, stdout %s, stderr %s, files %s", code, out, errs, files(t, dir))
	}
	code, out, errs = command(t, "", "pull", "hf:o/apples")
	if code != 0 || out != filepath.Join(dir, "apples")+"\n" || files(t, dir) != "apples" {
		t.Fatalf("exit code %d, stdout %s, stderr %s, files %s", code, out, errs, files(t, dir))
	}
	if code, out, _ = command(t, "", "models"); code != 0 || !strings.Contains(out, "apples") || !strings.Contains(out, "KiB") {
		t.Errorf("exit code %d, models %s", code, out)
	}
	picture := filepath.Join(t.TempDir(), "p.png")
	if code, _, errs = command(t, "", "generate", "a cat", "--model", "apples", "--steps", "1", "-o", picture, "--quiet"); code != 0 {
		t.Errorf("exit code %d, %s", code, errs)
	}
	for _, c := range []struct{ answer, files string }{{"", "apples"}, {"n\n", "apples"}, {"y\n", ""}} {
		code, out, errs = command(t, c.answer, "models", "rm", "apples")
		if files(t, dir) != c.files || c.answer != "" && code != 0 || !strings.Contains(errs, "apples") {
			t.Errorf("answer %q: exit code %d, %s%s, files %q", c.answer, code, out, errs, files(t, dir))
		}
	}
	if code, _, errs = command(t, "", "pull", "hf:o/pears"); code != 1 || !strings.Contains(errs, "does not exist") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if code, _, errs = command(t, "", "pull", "hf:o"); code != 2 || !strings.Contains(errs, "OWNER/NAME") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}

// TestRemoveStaysInside: what a link leads to, and what lies elsewhere, stays.
func TestRemoveStaysInside(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.CopyFS(filepath.Join(outside, "sd"), os.DirFS("../../pipeline/testdata/models/sd1")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "sd"), filepath.Join(dir, "sd")); err != nil {
		t.Skip("no symbolic links here")
	}
	t.Setenv("DARKROOM_MODELS", dir)
	if code, _, errs := command(t, "", "models", "rm", "sd", "--yes"); code != 0 {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	if files(t, dir) != "" || files(t, outside) != "sd" || !strings.Contains(files(t, filepath.Join(outside, "sd")), "unet") {
		t.Errorf("left: %q and %q", files(t, dir), files(t, outside))
	}
	for _, name := range []string{"..", "../" + filepath.Base(outside), outside, "default", "."} {
		if code, _, errs := command(t, "", "models", "rm", name, "--yes"); code != 2 {
			t.Errorf("%s: exit code %d, %s", name, code, errs)
		}
	}
}
