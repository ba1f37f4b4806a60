//go:build unix

package render

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/pipeline"
)

// Weights that are cut while they are in use are an error that names the file, and other models go on.
func TestCutWeights(t *testing.T) {
	const unet = "unet/diffusion_pytorch_model.safetensors"
	open := func() (*pipeline.Pipeline, string) {
		dir := filepath.Join(t.TempDir(), "model")
		if err := os.CopyFS(dir, os.DirFS("../pipeline/testdata/models/zsnr")); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, unet), 0o644); err != nil {
			t.Fatal(err)
		}
		p, err := pipeline.Open(pipeline.Options{Model: dir})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p, filepath.Join(dir, unet)
	}
	other, _ := open()
	for _, low := range []bool{false, true} {
		p, file := open()
		r := p.NewRequest("x")
		r.Steps = 1
		if low { // begun before the file is cut
			p.BatchSize(r, 1)
		}
		if err := os.Truncate(file, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Render(t.Context(), r, pipeline.Events{}); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "was cut while it was in use") {
			t.Errorf("error %v", err)
		}
	}
	r := other.NewRequest("x")
	r.Steps = 1
	if _, err := other.Render(t.Context(), r, pipeline.Events{}); err != nil {
		t.Error(err)
	}
}
