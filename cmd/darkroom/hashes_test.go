package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/checkpoint"
)

// TestFromFindsFilesByHash: another program's text names a model and an adapter that go by other names here.
func TestFromFindsFilesByHash(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DARKROOM_MODELS", dir)
	if err := os.CopyFS(filepath.Join(dir, "apples"), os.DirFS("../../pipeline/testdata/models/sd1")); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob("../../pipeline/testdata/adapted/loras/*.safetensors")
	if err != nil || len(found) == 0 {
		t.Fatal("no adapter", err)
	}
	mine := filepath.Join(dir, "loras", "mine.safetensors")
	if err := os.MkdirAll(filepath.Dir(mine), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(mine, read(t, found[0]), 0o666); err != nil {
		t.Fatal(err)
	}
	v3, err := checkpoint.AutoV3(mine, "")
	if err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "their.txt")
	picture := filepath.Join(t.TempDir(), "p.png")
	write := func(model string) {
		content := "a cat <lora:Theirs:0.8>\nSteps: 2, Sampler: Euler, CFG scale: 3, Seed: 1, Size: 64x64, Model hash: " + model + ", Model: their-model, Lora hashes: \"Theirs: " + v3 + "\", Version: v1.10.1"
		if err := os.WriteFile(text, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("0123456789")
	code, _, errs := command(t, "", "generate", "--from", text, "--model", "apples", "-o", picture, "--quiet")
	if code != 0 || !strings.Contains(errs, `"Theirs" is here as mine`) || strings.Contains(errs, "is left out") {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	_, out, _ := command(t, "", "inspect", picture)
	if !strings.Contains(out, v3) {
		t.Errorf("the picture does not name the adapter's hash %s:\n%s", v3, out)
	}
}

// TestInspectUNetAlone: what a file lacks is said, and where it is taken from.
func TestInspectUNetAlone(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DARKROOM_MODELS", dir)
	if err := os.CopyFS(filepath.Join(dir, "apples"), os.DirFS("../../pipeline/testdata/models/sd1")); err != nil {
		t.Fatal(err)
	}
	f, err := checkpoint.OpenModel(filepath.Join(dir, "apples"), checkpoint.SingleOptions{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := f.Weights("unet")
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	file := filepath.Join(t.TempDir(), "unet.safetensors")
	if err := (&checkpoint.Export{Folder: f, Parts: map[string]checkpoint.Weights{"unet": set}}).SaveFile(file); err != nil {
		t.Fatal(err)
	}
	code, out, errs := command(t, "", "inspect", file)
	if code != 0 || !strings.Contains(out, "text_encoder: those of apples are used") && !strings.Contains(out, "vae: those of apples are used") {
		t.Errorf("exit code %d, %s%s", code, out, errs)
	}
	if !strings.Contains(out, "with --low-memory") || !strings.Contains(out, "if memory is short") {
		t.Errorf("no word on memory:\n%s", out)
	}
}

// TestFromUsesEmbeddings: embeddings that another program's prompt names are used, by their hashes if need be; a missing one is said.
func TestFromUsesEmbeddings(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DARKROOM_MODELS", dir)
	for from, to := range map[string]string{"models/sd1": "apples", "adapted/embeddings": "embeddings"} {
		if err := os.CopyFS(filepath.Join(dir, to), os.DirFS("../../pipeline/testdata/"+from)); err != nil {
			t.Fatal(err)
		}
	}
	hash, err := checkpoint.HashFile(filepath.Join(dir, "embeddings", "swirl.safetensors"), "")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ prompt, fields, message, used string }{
		"by its name":     {"a swirl", "", "", "swirl.safetensors"},
		"ComfyUI's way":   {"a (embedding:swirl:1.1)", "", "", "swirl.safetensors"},
		"by its hash":     {"a Curl", `, TI hashes: "curl: ` + hash[:12] + `"`, `the embedding "curl" is here as swirl`, "swirl.safetensors"},
		"one not here":    {"a curl", `, TI hashes: "curl: 0123456789ab"`, `the embedding "curl" is not here`, ""},
		"of another kind": {"a twirl", "", "", ""},
	} {
		text, picture := filepath.Join(t.TempDir(), "their.txt"), filepath.Join(t.TempDir(), "p.png")
		content := c.prompt + "\nSteps: 2, Sampler: Euler, CFG scale: 3, Seed: 1, Size: 64x64" + c.fields + ", Version: v1.10.1"
		if err := os.WriteFile(text, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		code, _, errs := command(t, "", "generate", "--from", text, "--model", "apples", "-o", picture, "--quiet")
		if code != 0 || !strings.Contains(errs, c.message) {
			t.Fatalf("%s: exit code %d, %s", name, code, errs)
		}
		_, out, _ := command(t, "", "inspect", picture)
		if got := strings.Contains(out, "embedding file     swirl.safetensors"); got != (c.used != "") {
			t.Errorf("%s: the recipe:\n%s", name, out)
		}
	}
}
