package checkpoint

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const transformerModels = "../pipeline/testdata"

// A folder with a transformer, the file that is written of it, and the folder of that hold the same arrays and configurations.
func TestConvertTransformers(t *testing.T) {
	for _, name := range []string{"transformers/models/z-turbo", "transformers/models/klein", "transformers/models/klein-base", "mmdit/models/flux-dev", "mmdit/models/flux-schnell", "mmdit/models/sd35-medium", "mmdit/models/sd3-small"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			first, err := OpenFolder(filepath.Join(transformerModels, name))
			if err != nil {
				t.Fatal(err)
			}
			file, folder := filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "model")
			if err := export(t, first).SaveFile(file); err != nil {
				t.Fatal(err)
			}
			second, err := OpenModel(file, SingleOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if s := second.Single(); s.Layout != "original" || len(s.Missing) > 0 {
				t.Errorf("the file is in the layout %q and lacks %v", s.Layout, s.Missing)
			}
			sameTransformer(t, first, second)
			if err := export(t, second).SaveFolder(folder); err != nil {
				t.Fatal(err)
			}
			third, err := OpenFolder(folder)
			if err != nil {
				t.Fatal(err)
			}
			sameTransformer(t, first, third)
		})
	}
}

// sameTransformer compares arrays, and the texts that carry over.
func sameTransformer(t *testing.T, a, b *Folder) {
	t.Helper()
	x, y := export(t, a), export(t, b)
	if len(x.Parts) < 3 || len(x.Parts) != len(y.Parts) {
		t.Errorf("%d parts, %d", len(x.Parts), len(y.Parts))
	}
	for part, w := range x.Parts {
		v := y.Parts[part]
		if v == nil {
			t.Errorf("there is no %s", part)
			continue
		}
		for _, n := range w.Names() {
			if strings.HasSuffix(n, "num_batches_tracked") {
				continue
			}
			p, _ := w.Array(n)
			q, ok := v.Array(n)
			if !ok && strings.HasPrefix(part, "text_encoder") {
				q, ok = v.Array("text_model." + n)
			}
			if !ok || !p.Shape().Equal(q.Shape()) || arrayDigest(t, p) != arrayDigest(t, q) {
				t.Errorf("%s: %s differs or is missing", part, n)
			}
		}
		for _, file := range []string{part + "/config.json", "scheduler/scheduler_config.json", "model_index.json", "tokenizer/tokenizer_config.json", "tokenizer_2/spiece.model"} {
			want, errA := a.ReadFile(file)
			got, errB := b.ReadFile(file)
			if (errA == nil) != (errB == nil) || string(want) != string(got) {
				t.Errorf("%s differs: %v, %v", file, errA, errB)
			}
		}
	}
}

// The names that are written are those of the files that train/goldens_mmdit.py makes, which diffusers' converters read.
func TestOriginalNames(t *testing.T) {
	for file, prefix := range map[string]string{
		"mmdit/files/flux1-dev-all-fp8.safetensors": "model.diffusion_model.", "mmdit/files/sd3.5_medium_incl_clips_t5xxl.safetensors": "model.diffusion_model.",
		"mmdit/files/flux1-schnell-Q8_0.gguf": "", "transformers/files/z_image_turbo_fp8.safetensors": "model.diffusion_model.", "transformers/files/flux-2-klein-Q8_0.gguf": "",
	} {
		s, err := OpenSource(filepath.Join(transformerModels, file))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		m, err := NewSingle(s, SingleOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w, _ := m.Weights("transformer")
		joined, err := Joined(m.Family, map[string]Weights{"transformer": w})
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, n := range s.Names() {
			if own, ok := strings.CutPrefix(n, prefix); ok {
				want = append(want, "model.diffusion_model."+own)
			}
		}
		slices.Sort(want)
		got := joined.Names()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d names, want %d; the first ones %q, %q", file, len(got), len(want), got[:3], want[:3])
		}
		for _, n := range got {
			a, _ := joined.Array(n)
			b := s.arrays[prefix+strings.TrimPrefix(n, "model.diffusion_model.")]
			if b == nil || a.Shape().Len() != b.Shape().Len() || arrayDigest(t, a) != arrayDigest(t, b) {
				t.Errorf("%s: %s is not what the file has", file, n)
			}
		}
	}
}

// A LoRA for FLUX.2 in the original's names, which FLUX.1's has too, is told by its widths.
func TestFluxVersions(t *testing.T) {
	for file, want := range map[string]string{
		"transformers/loras/klein-toolkit.safetensors": "FLUX.2 klein", "transformers/loras/klein-kohya.safetensors": "FLUX.2 klein", "transformers/loras/klein-peft.safetensors": "FLUX.2 klein",
		"transformers/loras/z-turbo-peft.safetensors": "Z-Image", "mmdit/loras/flux-dev-original.safetensors": "FLUX.1", "mmdit/loras/flux-dev-kohya.safetensors": "FLUX.1",
		"mmdit/loras/flux-dev-peft.safetensors": "FLUX.1", "mmdit/loras/sd35-medium-original.safetensors": "Stable Diffusion 3", "mmdit/loras/sd35-medium-peft.safetensors": "Stable Diffusion 3",
	} {
		s, err := OpenSource(filepath.Join(transformerModels, file))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if f := AdapterFactsOf(s); f.Family != want {
			t.Errorf("%s is for %q (%s), want %q", file, f.Family, f.FamilyWhy, want)
		}
	}
}

// FLUX.1's denoisers are told apart by what they read beside latents.
func TestFluxReading(t *testing.T) {
	for file, want := range map[string]string{
		"files/flux1-canny-dev-Q8_0.gguf": "FLUX.1 Canny or Depth", "models/flux-canny/transformer/diffusion_pytorch_model.safetensors": "FLUX.1 Canny or Depth",
		"models/flux-fill/transformer/diffusion_pytorch_model.safetensors": "FLUX.1 Fill", "files/flux1-schnell-Q8_0.gguf": "FLUX.1 schnell",
	} {
		s, err := OpenSource(filepath.Join(transformerModels, "mmdit", file))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if d := Describe(s); d.Family != want || !strings.Contains(d.Hint, "--model") {
			t.Errorf("%s: %+v, want %s", file, d, want)
		}
	}
}

// Small Z-Image files are not taken for Lumina 2's.
func TestSmallZImage(t *testing.T) {
	for _, file := range []string{"transformers/files/z_image_turbo_fp8.safetensors"} {
		s, err := OpenSource(filepath.Join(transformerModels, file))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if d := Describe(s); d.Family != "Z-Image" || !strings.Contains(d.Hint, "--model") {
			t.Errorf("%s: %+v", file, d)
		}
	}
}
