package pipeline

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"darkroom/checkpoint"
	"darkroom/tensor"
)

const mmdit = "testdata/mmdit"

// mmditRequest is what the golden scripts draw.
func mmditRequest(p *Pipeline, height int) Request {
	r := p.NewRequest("a red apple on a blue table, flat icon")
	r.Syntax, r.Seed, r.Steps, r.Width, r.Height = "plain", 7, 4, 32, height
	return r
}

// FLUX.1 reads --cfg itself; a scale of --guidance's own is that of a second call, which reads the negative prompt.
func TestTrueGuidance(t *testing.T) {
	p := open(t, Options{Model: filepath.Join(mmdit, "models/flux-dev")})
	plain := render(t, p, mmditRequest(p, 24))
	for name, c := range map[string]struct {
		cfg                float64
		guidance, negative string
	}{"flux-dev-true": {3.5, "cfg:scale=2.5", "a blurry photograph of a dog"}, "flux-dev-true-empty": {1.5, "cfg:scale=4", ""}} {
		r := mmditRequest(p, 24)
		r.CFG, r.Guidance, r.Negative = c.cfg, c.guidance, c.negative
		img, warnings := renderWarned(t, p, r)
		if dB := psnr(img.Pixels, readPNG(t, filepath.Join(mmdit, name+".png"))); dB < 60 {
			t.Errorf("%s: %.1f dB from diffusers', want 60", name, dB)
		}
		if img.Recipe.Guidance != c.guidance || img.Recipe.Result.Pixels == plain.Recipe.Result.Pixels || len(warnings) > 0 && p.Backend() != "ref" {
			t.Errorf("%s: the recipe says %q; warnings %q", name, img.Recipe.Guidance, warnings)
		}
		if again := render(t, p, FromRecipe(img.Recipe)); again.Recipe.Result != img.Recipe.Result {
			t.Errorf("%s: its recipe makes another picture", name)
		}
	}
	r := mmditRequest(p, 24)
	r.Guidance = "apg:eta=0"
	if _, warnings := renderWarned(t, p, r); !strings.Contains(strings.Join(warnings, "\n"), "does nothing here: this model reads --cfg itself. The key scale, as in apg:eta=0,scale=2, asks") {
		t.Errorf("without a scale: warnings %q", warnings)
	}
	r.Guidance = "apg:scale=1"
	if _, warnings := renderWarned(t, p, r); !strings.Contains(strings.Join(warnings, "\n"), "does nothing at a scale of 1: guidance starts above 1") {
		t.Errorf("a scale of 1: warnings %q", warnings)
	}
	// Other models: in place of --cfg.
	p = open(t, Options{Model: "testdata/models/zsnr"})
	r = p.NewRequest("a red apple")
	r.Width, r.Height, r.Steps, r.Seed, r.CFG = 32, 32, 2, 1, 4
	want := render(t, p, r).Recipe.Result.Pixels
	r.CFG, r.Guidance = 1, "cfg:scale=4"
	if render(t, p, r).Recipe.Result.Pixels != want {
		t.Error("a scale of 4 is not --cfg 4")
	}
}

// Models in files draw what diffusers draws of the same values: original names, all parts in one file with 8 bits, GGUF with the
// other parts in files of their own.
func TestMMDiTInFiles(t *testing.T) {
	file := func(name string) string { return filepath.Join(mmdit, "files", name) }
	for _, c := range []struct {
		picture string
		o       Options
		cfg     float64
	}{
		{"flux-dev", Options{Model: file("flux1-dev-all-fp8.safetensors")}, 3.5},
		{"flux-schnell", Options{Model: file("flux1-schnell-Q8_0.gguf"), TextModel: file("t5-Q8_0.gguf") + ";" + file("clip_l.safetensors"), VAE: file("ae.safetensors")}, 1},
		{"sd35-medium", Options{Model: file("sd3.5_medium_incl_clips_t5xxl.safetensors")}, 4.5},
	} {
		t.Run(c.picture, func(t *testing.T) {
			p := open(t, c.o)
			r := mmditRequest(p, 24)
			if r.CFG != c.cfg {
				t.Errorf("--cfg is %v by default, want %v", r.CFG, c.cfg)
			}
			r.CFG = map[string]float64{"flux-dev": 3.5, "flux-schnell": 1, "sd35-medium": 3.5}[c.picture]
			img, warnings := renderWarned(t, p, r)
			warnings = slices.DeleteFunc(warnings, func(w string) bool { return strings.Contains(w, "no kernels for this processor") })
			if len(warnings) > 0 {
				t.Errorf("warnings: %q", warnings)
			}
			if dB := psnr(img.Pixels, readPNG(t, file(c.picture+".png"))); dB < 60 {
				t.Errorf("%.1f dB from diffusers', want 60", dB)
			}
		})
	}
	// What a file lacks is said, and how to give it.
	_, err := Open(Options{Model: file("flux1-schnell-Q8_0.gguf"), TextModel: file("t5-Q8_0.gguf")})
	if err == nil || !strings.Contains(err.Error(), "CLIP-L with --text-encoder") || !strings.Contains(err.Error(), "--vae") {
		t.Errorf("a transformer with T5 alone: %v", err)
	}
	_, err = Open(Options{Model: filepath.Join(mmdit, "models/flux-dev"), TextModel: "testdata/transformers/files/qwen3-Q4_0.gguf"})
	if err == nil || !strings.Contains(err.Error(), "CLIP-L and T5") {
		t.Errorf("Qwen3 for FLUX.1: %v", err)
	}
	// Another model lends the parts.
	p := open(t, Options{Model: file("flux1-schnell-Q8_0.gguf"), Parts: filepath.Join(mmdit, "models/flux-schnell")})
	if p.Lender() != "flux-schnell" {
		t.Errorf("the parts are of %q", p.Lender())
	}
}

// Image to image is diffusers'.
func TestMMDiTFromAPicture(t *testing.T) {
	for _, c := range []struct {
		model         string
		strength, cfg float64
	}{{"flux-dev", 0.6, 3.5}, {"sd35-medium", 0.9, 4.5}} {
		p := open(t, Options{Model: filepath.Join(mmdit, "models", c.model)})
		r := mmditRequest(p, 0)
		r.Seed, r.Steps, r.CFG, r.Width, r.Init, r.Strength = 21, 6, c.cfg, 0, editFile("init", 64), &c.strength
		if dB := psnr(render(t, p, r).Pixels, readPNG(t, filepath.Join(mmdit, c.model+"-init.png"))); dB < 60 {
			t.Errorf("%s: %.1f dB from diffusers', want 60", c.model, dB)
		}
	}
}

// LoRAs in the spellings of trainers, diffusers' names and the original's, whose layers the model has in several.
func TestMMDiTAdapted(t *testing.T) {
	dir := filepath.Join(mmdit, "loras")
	for _, model := range []string{"flux-dev", "sd35-medium"} {
		for _, kind := range []string{"peft", "original", "kohya"} {
			t.Run(model+"-"+kind, func(t *testing.T) {
				p := open(t, Options{Model: filepath.Join(mmdit, "models", model)})
				r := mmditRequest(p, 32)
				r.CFG, r.LoRA = 3.5, filepath.Join(dir, model+"-"+kind+".safetensors")+":0.8"
				img, warnings := renderWarned(t, p, r)
				warnings = slices.DeleteFunc(warnings, func(w string) bool { return strings.Contains(w, "no kernels for this processor") })
				if len(warnings) > 0 {
					t.Errorf("warnings: %q", warnings)
				}
				if dB := psnr(img.Pixels, readPNG(t, filepath.Join(dir, model+"-"+kind+".png"))); dB < 60 {
					t.Errorf("%.1f dB from diffusers', want 60", dB)
				}
			})
		}
	}
}

type loraArrays map[string]tensor.Array

func (a loraArrays) Array(name string) (tensor.Array, bool) { x, ok := a[name]; return x, ok }
func (a loraArrays) Names() []string                        { return slices.Sorted(maps.Keys(a)) }

// XLabs' LoRAs for FLUX.1 change the attention of the blocks with two streams. They give the picture that the same changes give in Black
// Forest Labs' names, which TestMMDiTAdapted compares with diffusers'.
func TestMMDiTAdaptedByXLabs(t *testing.T) {
	s, err := checkpoint.OpenSource(filepath.Join(mmdit, "loras/flux-dev-original.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	xlabs := strings.NewReplacer("diffusion_model.", "", "img_attn.qkv", "processor.qkv_lora1", "img_attn.proj", "processor.proj_lora1",
		"txt_attn.qkv", "processor.qkv_lora2", "txt_attn.proj", "processor.proj_lora2", "linear2", "processor.proj_lora", "lora_A", "down", "lora_B", "up")
	original, renamed := loraArrays{}, loraArrays{}
	for _, name := range s.Names() {
		if to := xlabs.Replace(name); strings.Contains(to, "processor") {
			a, _ := s.Array(name)
			original[name], renamed[to] = a, a
		}
	}
	p := open(t, Options{Model: filepath.Join(mmdit, "models/flux-dev")})
	draw := func(arrays loraArrays) string {
		r := mmditRequest(p, 32)
		r.CFG = 3.5
		if arrays != nil {
			r.LoRA = filepath.Join(t.TempDir(), "lora.safetensors")
			if err := checkpoint.Save(r.LoRA, arrays, "", nil); err != nil {
				t.Fatal(err)
			}
		}
		img, warnings := renderWarned(t, p, r)
		for _, w := range warnings {
			if strings.Contains(w, "lora") {
				t.Errorf("warning: %s", w)
			}
		}
		return img.Recipe.Result.Pixels
	}
	got := draw(renamed)
	if got != draw(original) {
		t.Error("the names change the picture")
	}
	if got == draw(nil) {
		t.Error("the LoRA changes nothing")
	}
}
