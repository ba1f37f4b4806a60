package recipe

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestHashes: files are named as AUTOMATIC1111's interface names them, and read back.
func TestHashes(t *testing.T) {
	hash := func(start string) string { return start + strings.Repeat("0", 64-len(start)) }
	r := Recipe{Version: "1", Prompt: "a cat, ink style", Steps: 4, Scheduler: "euler", CFG: 5, Seed: 1, Width: 64, Height: 64, Noise: "torch-cuda", PromptSyntax: Weighted,
		Model: "pony", ModelHash: hash("67ab2fd8ec439a89"), LoRA: "ink:0.8,old/paper.safetensors:0.5:0.25", VAE: "wide", Refiner: "fine:start=0.7",
		Files: []File{{"lora", "ink", hash("aa"), "0123456789ab"}, {"lora", "paper", hash("bb"), "ba9876543210"}, {"embedding", "bad.pt", hash("c74b4e810b030f6b"), ""},
			{"vae", "wide", hash("735e4c3a447a3255"), ""}, {"refiner", "fine", hash("7440042bbd8a24fb"), ""}, {"init", "x.png", hash("1"), ""}}}
	text := r.Parameters()
	for _, want := range []string{
		"a cat, ink style <lora:ink:0.8> <lora:paper:0.25:0.5>\n", "Model hash: 67ab2fd8ec, Model: pony,", "VAE hash: 735e4c3a44, VAE: wide,", "Refiner: fine [7440042bbd], Refiner switch at: 0.7,",
		`Lora hashes: "ink: 0123456789ab, paper: ba9876543210",`, `TI hashes: "bad: c74b4e810b03",`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	f, err := ParseParameters(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []File{{"lora", "ink", "", "0123456789ab"}, {"lora", "paper", "", "ba9876543210"}, {"embedding", "bad", "c74b4e810b03", ""}}
	if diff := cmp.Diff(want, f.Files); diff != "" || f.ModelHash != "67ab2fd8ec" {
		t.Errorf("model hash %q, files (-want +got):\n%s", f.ModelHash, diff)
	}
	if f.Recipe.VAE != "wide" || f.Recipe.Refiner != "fine:start=0.7" || len(f.Unused) > 0 {
		t.Errorf("read as %+v, not used: %v", f.Recipe, f.Unused)
	}
	again := Foreign{}
	if text, err := f.MarshalJSON(); err != nil || again.UnmarshalJSON(text) != nil || again.ModelHash != f.ModelHash || cmp.Diff(again.Files, f.Files) != "" {
		t.Errorf("%s, %v: %+v", text, err, again.Files)
	}
	if got := f.Recipe.LoRANames(); cmp.Diff([]string{"ink", "paper"}, got) != "" {
		t.Errorf("names %q", got)
	}
	f.Recipe.RenameLoRA("INK", "my ink")
	if f.Recipe.Prompt != "a cat, ink style <lora:my ink:0.8> <lora:paper:0.25:0.5>" {
		t.Errorf("renamed: %s", f.Recipe.Prompt)
	}
}

// TestForeignEmbeddings: other programs' ways to name an embedding in a prompt are its name as a word, which is this program's.
func TestForeignEmbeddings(t *testing.T) {
	text := "a cat, (embedding:Swirl.pt:1.2), embedding:art\\twirl, Embedding:a-b <embed:d/c c>\nNegative prompt: embedding: none\nSteps: 1, Sampler: Euler, Seed: 1, CFG scale: 2, Size: 8x8"
	f, err := ParseForeign(text)
	if err != nil || f.Recipe.Prompt != "a cat, (Swirl:1.2), twirl, a-b c c" || f.Recipe.Negative != "embedding: none" {
		t.Errorf("%v, prompt %q, negative prompt %q", err, f.Recipe.Prompt, f.Recipe.Negative)
	}
	var names []string
	for _, x := range f.Files {
		names = append(names, x.Kind+" "+x.Name)
	}
	if got := strings.Join(names, ", "); got != "embedding Swirl, embedding twirl, embedding a-b, embedding c c" {
		t.Errorf("files %s", got)
	}
	r := Recipe{Prompt: "Swirl swirl-2 (swirl:1.1)", Negative: "swirly"}
	if r.RenameEmbedding("swirl", "a$1"); r.Prompt != "a$1 swirl-2 (a$1:1.1)" || r.Negative != "swirly" {
		t.Errorf("renamed: %q, %q", r.Prompt, r.Negative)
	}
}
