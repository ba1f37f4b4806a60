package pipeline

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/checkpoint"
)

const adapted = "testdata/adapted"

// Pictures of adapted models are diffusers' with load_lora_weights and load_textual_inversion.
func TestAdaptedAsDiffusers(t *testing.T) {
	t.Setenv("DARKROOM_MODELS", adapted)
	text, err := os.ReadFile(filepath.Join(adapted, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct{ Name, Model, Prompt, LoRA, Embedding string }
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	models := map[string]*Pipeline{} // one for all, so that each adaptation follows another one
	for _, c := range cases {
		if models[c.Model] == nil {
			models[c.Model] = open(t, Options{Model: filepath.Join(adapted, c.Model)})
		}
	}
	for range 2 {
		for _, c := range cases {
			p := models[c.Model]
			r := p.NewRequest(c.Prompt)
			r.Syntax, r.Seed, r.Steps, r.CFG, r.Scheduler, r.LoRA, r.Embedding = "plain", 11, 4, 5, "ddim", c.LoRA, c.Embedding
			img, latents, _, err := p.RenderLatents(t.Context(), r, Events{})
			if err != nil {
				t.Fatal(err)
			}
			file, err := checkpoint.Open(filepath.Join(adapted, c.Name+".safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			closeTo(t, c.Name, latents, goldens{file}.get(t, "latents"), 1e-4)
			file.Close()
			if dB := psnr(img.Pixels, readPNG(t, filepath.Join(adapted, c.Name+".png"))); dB < 60 {
				t.Errorf("%s: %.1f dB from diffusers", c.Name, dB)
			}
			if again := FromRecipe(img.Recipe); again.LoRA != c.LoRA || again.Embedding != c.Embedding && again.Embedding != c.Embedding+".safetensors" {
				t.Errorf("%s: the recipe has %q and %q", c.Name, again.LoRA, again.Embedding)
			}
			if n := len(img.Recipe.Files); (n > 0) != (c.LoRA+c.Embedding != "") || n > 0 && len(img.Recipe.Files[0].SHA256) != 64 {
				t.Errorf("%s: the recipe names the files %v", c.Name, img.Recipe.Files)
			}
		}
	}
}

// A tag in a weighted prompt is the setting; pictures of one batch with other adapters are as alone.
func TestTagsAndBatches(t *testing.T) {
	t.Setenv("DARKROOM_MODELS", adapted)
	p := open(t, Options{Model: "testdata/models/sd1"})
	plain := p.NewRequest("a red apple")
	plain.Steps, plain.Width, plain.Height = 2, 64, 64
	set, tagged, other := plain, plain, plain
	set.LoRA = "sd-kohya:0.8"
	tagged.Prompt += "<lora:SD-kohya:0.8>"
	other.LoRA = "sd-kohya:0.8:0.1"
	requests := []Request{plain, set, tagged, other, plain}
	var alone []string
	for _, r := range requests {
		alone = append(alone, render(t, p, r).Recipe.Result.Pixels)
	}
	if alone[1] != alone[2] || alone[0] == alone[1] || alone[1] == alone[3] || alone[0] != alone[4] {
		t.Errorf("plain, setting, tag, other text weight, plain: %.8q", alone)
	}
	got, errs := together(t, p, requests, nil)
	for i := range requests {
		if errs[i] != nil || got[i].Recipe.Result.Pixels != alone[i] {
			t.Errorf("request %d in a batch: %v, or another picture", i, errs[i])
		}
	}
	var warned []string
	missing := plain
	missing.Prompt += "<lora:nowhere:0.8>"
	img, err := p.Render(t.Context(), missing, Events{Warn: func(w string) {
		if strings.Contains(w, "lora") { // and not that this build has no kernels
			warned = append(warned, w)
		}
	}})
	if err != nil || img.Recipe.Result.Pixels != alone[0] || len(warned) != 1 || !strings.Contains(warned[0], "<lora:nowhere:0.8>") {
		t.Errorf("a tag of a file that is not here: %v, warnings %q", err, warned)
	}
	missing.Prompt, missing.LoRA = plain.Prompt, "nowhere"
	if _, err := p.Render(t.Context(), missing, Events{}); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("--lora nowhere: %v", err)
	}
}

// TestEmbeddingsByWord: with auto, the embeddings are those that the prompts name as words and that are for the model; without, a warning
// names the option.
func TestEmbeddingsByWord(t *testing.T) {
	t.Setenv("DARKROOM_MODELS", adapted)
	p := open(t, Options{Model: "testdata/models/sd1"})
	plain := p.NewRequest("a red SWIRL")
	plain.Negative, plain.Steps, plain.Width, plain.Height = "twirl", 2, 64, 64 // that one is for SDXL
	rendered := func(r Request) (*Image, string) {
		img, warnings := renderWarned(t, p, r)
		return img, strings.Join(warnings, "\n")
	}
	without, warned := rendered(plain)
	if !strings.Contains(warned, "--embedding swirl uses it") || strings.Contains(warned, "twirl") {
		t.Errorf("no embeddings: warnings %q", warned)
	}
	named, byWord, other := plain, plain, plain
	named.Embedding, byWord.Embedding, other.Embedding = "swirl", "auto", "auto"
	other.Prompt = "a red swirly"
	with, warned := rendered(named)
	if strings.Contains(warned, "embedding") || with.Recipe.Result.Pixels == without.Recipe.Result.Pixels {
		t.Errorf("--embedding swirl: warnings %q, or it changes nothing", warned)
	}
	if got, warned := rendered(byWord); got.Recipe.Result.Pixels != with.Recipe.Result.Pixels || got.Recipe.Embedding != with.Recipe.Embedding || strings.Contains(warned, "embedding") {
		t.Errorf("auto: the recipe has %q, or another picture; warnings %q", got.Recipe.Embedding, warned)
	}
	if got, _ := rendered(other); got.Recipe.Embedding != "" {
		t.Errorf("a word that only begins so: the recipe has %q", got.Recipe.Embedding)
	}
	got, errs := together(t, p, []Request{byWord, other}, nil)
	if errs[0] != nil || errs[1] != nil || got[0].Recipe.Result.Pixels != with.Recipe.Result.Pixels || got[1].Recipe.Embedding != "" {
		t.Errorf("in a batch: %v, or other pictures", errs)
	}
}
