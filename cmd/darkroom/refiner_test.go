package main

import (
	"bytes"
	"path/filepath"
	"testing"
)

// TestFromWithParts: a recipe brings the refiner and the autoencoder that its picture was made with.
func TestFromWithParts(t *testing.T) {
	base, err := filepath.Abs("../../pipeline/testdata/sdxl/models")
	if err != nil {
		t.Fatal(err)
	}
	last, err := filepath.Abs("../../pipeline/testdata/refiner/models")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DARKROOM_MODELS", base+string(filepath.ListSeparator)+last)
	first, second := filepath.Join(t.TempDir(), "a.png"), filepath.Join(t.TempDir(), "b.png")
	code, _, errs := command(t, "", "generate", "a cat", "--model", "xl", "--refiner", "xl-refiner:start=0.5", "--original-width", "512", "--crop-top", "0",
		"--aesthetic-score", "0", "--steps", "4", "--seed", "1", "-o", first, "--quiet")
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	code, _, errs = command(t, "", "generate", "--from", first, "-o", second, "--quiet")
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	if !bytes.Equal(read(t, first), read(t, second)) {
		t.Error("the recipe makes another picture")
	}
	plain := filepath.Join(t.TempDir(), "c.png")
	if code, _, errs = command(t, "", "generate", "a cat", "--model", "xl", "--steps", "4", "--seed", "1", "-o", plain, "--quiet"); code != 0 {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	if bytes.Equal(read(t, first), read(t, plain)) {
		t.Error("the refiner changes nothing")
	}
}
