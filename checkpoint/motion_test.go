package checkpoint

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"darkroom/tensor"
)

// A file with the names of the original program is the folder that diffusers makes of it.
func TestMotionNames(t *testing.T) {
	own, err := OpenMotion("../pipeline/testdata/motion/module", "")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	back := strings.NewReplacer(".motion_modules.0.", ".motion_modules.0.temporal_transformer.", ".motion_modules.1.", ".motion_modules.1.temporal_transformer.",
		".motion_modules.2.", ".motion_modules.2.temporal_transformer.", ".attn1.", ".attention_blocks.0.", ".attn2.", ".attention_blocks.1.",
		".norm1.", ".norms.0.", ".norm2.", ".norms.1.", ".norm3.", ".ff_norm.")
	all := table{}
	for _, name := range own.Weights.Names() {
		all["module."+back.Replace(name)], _ = own.Weights.Array(name)
	}
	all["module.down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.pos_encoder.pe"] = tensor.Stored(tensor.Of(make([]float32, 24*8), 1, 24, 8))
	path := filepath.Join(t.TempDir(), "mm.safetensors")
	if err := Save(path, all, "", nil); err != nil {
		t.Fatal(err)
	}
	file, err := OpenMotion(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if !slices.Equal(file.Weights.Names(), own.Weights.Names()) || file.Levels != own.Levels || file.Frames != 24 || file.Config != nil {
		t.Errorf("%d names, %d levels, %d frames", len(file.Weights.Names()), file.Levels, file.Frames)
	}
	s, err := OpenSource(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if d := Describe(s); d.Kind != KindMotion || !strings.Contains(d.What, "motion module") {
		t.Errorf("it is %v", d)
	}
	if _, err := OpenMotion(filepath.Join(t.TempDir(), "none"), ""); err == nil {
		t.Error("no file is no error")
	}
}
