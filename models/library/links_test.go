package library

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestLinkedFolders: people keep weights on another disk, with links from the web UI's folders; a link may lead in a circle, or nowhere.
func TestLinkedFolders(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("making links takes a privilege on Windows")
	}
	disk, top := t.TempDir(), t.TempDir()
	for _, f := range []string{"loras/a.safetensors", "loras/styles/b.safetensors", "more/c.pt", "checkpoints/big.ckpt"} {
		write(t, filepath.Join(disk, f))
	}
	root := filepath.Join(top, "root")
	for link, target := range map[string]string{
		root: filepath.Join(disk, "checkpoints"), filepath.Join(top, "second", "Lora"): filepath.Join(disk, "loras"),
		filepath.Join(top, "second", "embeddings", "more"): filepath.Join(disk, "more"), filepath.Join(disk, "loras", "again"): filepath.Join(disk, "loras"),
		filepath.Join(disk, "loras", "gone.safetensors"): filepath.Join(disk, "nothing"),
	} {
		if err := os.MkdirAll(filepath.Dir(link), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DARKROOM_MODELS", root+string(filepath.ListSeparator)+filepath.Join(top, "second"))
	for _, c := range []struct {
		kind Kind
		want []string
	}{{LoRAs, []string{"a", "b"}}, {Embeddings, []string{"c"}}, {models, []string{"big"}}} {
		var got []string
		for _, path := range Parts(c.kind) {
			got = append(got, PartName(path))
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.kind.Plural, got, c.want)
		}
	}
	items, err := Items("lora:a")
	if err != nil || len(items) != 1 {
		t.Fatalf("%v, %v", items, err)
	}
	if err := items[0].Remove(); err == nil || !strings.Contains(err.Error(), "remove it yourself") {
		t.Errorf("a file outside of the folder of models was removed: %v", err)
	}
}

// TestFoldersBesideCheckpoints: a folder in the diffusers layout is one model wherever models lie, not three parts without a model.
func TestFoldersBesideCheckpoints(t *testing.T) {
	root := t.TempDir()
	for _, place := range []string{"Stable-diffusion/sub/one", "diffusers/two"} {
		if err := os.CopyFS(filepath.Join(root, place), os.DirFS("../../pipeline/testdata/models/sd1")); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DARKROOM_MODELS", root)
	if got, want := Names(), []string{"default", "one", "two"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, m := range List() {
		if m.Problem != "" {
			t.Errorf("%s: %s", m.Name, m.Problem)
		}
	}
}

// TestAdapterFolders: PEFT and diffusers give the file of each adapter the same name, and its folder says which it is.
func TestAdapterFolders(t *testing.T) {
	root := t.TempDir()
	for _, f := range []string{"loras/ink/adapter_model.safetensors", "loras/old/paint/pytorch_lora_weights.safetensors", "loras/pytorch_lora_weights.safetensors", "loras/plain/c.safetensors"} {
		write(t, filepath.Join(root, f))
	}
	t.Setenv("DARKROOM_MODELS", root)
	var names []string
	for _, path := range Parts(LoRAs) {
		names = append(names, PartName(path))
	}
	if want := []string{"ink", "paint", "c", "pytorch_lora_weights"}; !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
	ink := filepath.Join(root, "loras", "ink")
	for _, name := range []string{"ink", ink, "INK", "adapter_model", filepath.Join(ink, "adapter_model.safetensors")} {
		if got, err := FindPart(LoRAs, name); err != nil || got != filepath.Join(ink, "adapter_model.safetensors") {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if got := PartName("adapter_model.safetensors"); got != "adapter_model" {
		t.Errorf("a file without a folder: %s", got)
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
}
