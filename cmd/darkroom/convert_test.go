package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

const goldenFiles = "../../checkpoint/testdata/"

// inspect tells each kind of file by its content, and what to do with it.
func TestInspectFiles(t *testing.T) {
	for file, want := range map[string][]string{
		"adapters/text-linear-layer.safetensors": {"0 layers of the denoiser, 1 of text encoders"},
		"adapters/ia3.safetensors":               {"an IA³: give it with --lora", "2 layers of the denoiser"},
		"adapters/kohya-sdxl.safetensors":        {"a LoRA for SDXL: give it with --lora", "8 layers of the denoiser (2 of them convolutions), 2 of text encoders", "rank"},
		"adapters/loha.safetensors":              {"a LoHa", "0.0 M"},
		"single/sd1.ckpt":                        {"torch zip, LDM names", "Stable Diffusion 1", "epsilon: nothing says otherwise", "averaged weights", "text_encoder"},
		"single/sdxl.safetensors":                {"SDXL", "v_prediction, zero terminal SNR: the keys v_pred and ztsnr", "text_encoder_2"},
		"torch/embedding.pt":                     {"a textual inversion of one vector", "old paint"},
		"gguf/types.gguf":                        {"GGUF", "Q4_K"},
	} {
		code, out, stderr := command(t, "", "inspect", goldenFiles+file)
		if code != 0 {
			t.Errorf("%s: exit %d: %s", file, code, stderr)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: %q is missing from\n%s", file, w, out)
			}
		}
		code, out, _ = command(t, "", "inspect", "--json", goldenFiles+file)
		if code != 0 || !json.Valid([]byte(out)) {
			t.Errorf("%s: --json gives %s", file, out)
		}
	}
	if code, _, stderr := command(t, "", "inspect", goldenFiles+"torch/hostile_eval.ckpt"); code != 1 || !strings.Contains(stderr, "eval is refused") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// A model goes to a file, to a folder and back; adapters are baked in; types are rounded.
func TestConvert(t *testing.T) {
	dir := t.TempDir()
	file, folder, half, baked := filepath.Join(dir, "a.safetensors"), filepath.Join(dir, "b"), filepath.Join(dir, "c.safetensors"), filepath.Join(dir, "d.safetensors")
	golden := goldenFiles + "single/sd1.safetensors"
	for _, line := range [][]string{
		{"convert", golden, folder + string(filepath.Separator)}, {"convert", folder, file}, {"convert", "--dtype", "bf16", golden, half},
		{"convert", "--lora", goldenFiles + "adapters/kohya-sd1.safetensors:0.7:-0.5", "--dtype", "fp32", golden, baked},
	} {
		if code, out, stderr := command(t, "", line...); code != 0 || strings.TrimSpace(out) != line[len(line)-1] {
			t.Fatalf("%v: exit %d: %s%s", line, code, out, stderr)
		}
	}
	for path, want := range map[string]string{file: "F16", half: "BF16", baked: "F32"} {
		m := modelFacts{singleFacts: &singleFacts{}}
		_, out, _ := command(t, "", "inspect", "--json", path)
		if err := json.Unmarshal([]byte(out), &m); err != nil {
			t.Fatal(err)
		}
		if len(m.Parts) != 3 || m.Family != "Stable Diffusion 1" || len(m.Parts[1].Types) != 1 || m.Parts[1].Types[want] == 0 {
			t.Errorf("%s: %+v", path, m)
		}
	}
	if got := files(t, folder); !strings.Contains(got, "tokenizer") || !strings.Contains(got, "model_index.json") {
		t.Errorf("the folder has %s", got)
	}
	for _, c := range []struct {
		line []string
		want string
	}{
		{[]string{"convert", golden}, "IN and OUT are needed"},
		{[]string{"convert", "--dtype", "fp8", golden, file}, "fp32, fp16 or bf16"},
		{[]string{"convert", "--prediction", "x", golden, file}, "auto, epsilon, v or flow"},
		{[]string{"convert", golden, folder}, "exists already"},
		{[]string{"convert", golden, filepath.Join(dir, "x.gguf")}, "convert writes no .gguf files"},
		{[]string{"convert", goldenFiles + "adapters/loha.safetensors", folder}, "give it with --lora"},
		{[]string{"convert", "--lora", goldenFiles + "single/sd1.ckpt", golden, file}, "give it with --model"},
		{[]string{"convert", "--lora", "nowhere", golden, file}, "no lora of that name"},
		{[]string{"convert", "--ema", golden, file}, "no averaged weights"},
	} {
		if code, _, stderr := command(t, "", c.line...); code == 0 || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit %d: %s, want %q", c.line, code, stderr, c.want)
		}
	}
}

func TestSplitAdapter(t *testing.T) {
	for text, want := range map[string]struct {
		name         string
		weight, text float64
	}{
		"a.safetensors": {"a.safetensors", 1, 1}, "a:0.5": {"a", 0.5, 0.5}, "a:0.5:0": {"a", 0.5, 0}, "a:-1:2": {"a", -1, 2},
		`C:\loras\a.safetensors`: {`C:\loras\a.safetensors`, 1, 1}, `C:\a:0.25`: {`C:\a`, 0.25, 0.25}, "v1:x": {"v1:x", 1, 1},
	} {
		name, weight, textWeight, err := splitAdapter(text)
		if err != nil || name != want.name || weight != want.weight || textWeight != want.text {
			t.Errorf("%q: %q, %v, %v, %v", text, name, weight, textWeight, err)
		}
	}
}
