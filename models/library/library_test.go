package library

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	for _, dir := range []string{"sd15", "odd [name]"} {
		if err := os.CopyFS(filepath.Join(first, dir), os.DirFS("../../pipeline/testdata/models/sd1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(second, "sd15"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(second, "sd15", "model_index.json"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DARKROOM_MODELS", first+string(filepath.ListSeparator)+second)
	for name, want := range map[string]string{
		"": "default", "default": "default", "sd15": filepath.Join(first, "sd15"), "odd [name]": filepath.Join(first, "odd [name]"), first: first,
	} {
		if got, err := Find(name); err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", name, got, err, want)
		}
	}
	if _, err := Find("sd16"); err == nil || !strings.Contains(err.Error(), "nearest: sd15") {
		t.Errorf("error %v", err)
	}
	if path, ok := Named(first); ok {
		t.Errorf("a path is taken for a name: %s", path)
	}
	list := List()
	if len(list) != 3 || list[0].Name != "default" || list[0].Path != "" || list[0].Parameters == 0 || list[2].Name != "sd15" || list[2].Class != "StableDiffusionPipeline" || list[2].Problem != "" {
		t.Errorf("%+v", list)
	}
}

// TestPlace: files are put into the folder that is there, and never outside of the root.
func TestPlace(t *testing.T) {
	root := filepath.Join(t.TempDir(), "models")
	for _, dir := range []string{filepath.Join(root, "Lora"), filepath.Join(root, "../embeddings")} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		kind Kind
		want string
	}{{LoRAs, "Lora"}, {Embeddings, "embeddings"}, {VAEs, "vae"}} {
		if got := Place(root, c.kind.Folders()); got != filepath.Join(root, c.want) {
			t.Errorf("%s: %s", c.kind.Name, got)
		}
	}
}
