package recipe

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// summary is a description in a line.
func summary(f Foreign) string {
	r := f.Recipe
	s := fmt.Sprintf("%s: %q %q", f.Program, r.Prompt, r.Negative)
	for _, x := range []struct {
		name  string
		value any
	}{{"seed", r.Seed}, {"steps", r.Steps}, {"cfg", r.CFG}, {"width", r.Width}, {"height", r.Height}, {"clip_skip", r.ClipSkip}, {"eta", r.Eta}, {"guidance_rescale", r.Rescale}} {
		if f.Knows(x.name) {
			s += fmt.Sprintf(" %s=%v", x.name, x.value)
		}
	}
	return s + fmt.Sprintf(" %s %s %q", r.Name(), r.Noise, r.Model)
}

// Files as the programs write them, self-made from their documentation and source; what they mean is written here by hand.
func TestOtherProgramsJSON(t *testing.T) {
	for _, c := range []struct {
		file, want string
		unused     string
		notes      string
	}{
		{"comfyui.json", `ComfyUI: "a lamp on a desk" "text, watermark" seed=156680208700286 steps=6 cfg=5 width=64 height=64 dpm++2m-karras torch-cpu "river"`, "", ""},
		{"comfyui-detours.json", `ComfyUI: "oil painting, a lamp <lora:old_paint:0.7>" "text" seed=7 steps=12 cfg=6.5 width=512 height=768 clip_skip=1 guidance_rescale=0.7 euler torch-cpu "sd15"`,
			"second pass: KSampler, steps 8, denoise 0.5; ControlNet: canny.safetensors 0.8; model: FreeU_V2", "ComfyUI's ddim is euler"},
		{"comfyui-custom.json", `ComfyUI: "a mill" "" seed=99 steps=20 cfg=3.5 width=1024 height=512 euler-sgm-uniform torch-cpu "river"`,
			"sigmas: SplitSigmas; model: ModelSamplingFlux", ""},
		{"comfyui-workflow.json", `ComfyUI: "a lamp" "text" seed=42 steps=6 cfg=5 width=64 height=96 clip_skip=1 dpm++2m-sde-exponential torch-cpu "river"`, "", ""},
		{"comfyui-efficient.json", `ComfyUI: "a mill" "blur" seed=11 steps=7 cfg=4 width=128 height=64 clip_skip=1 dpm++2m-karras torch-cpu "river"`, "end_at_step: 5", ""},
		{"comfyui-dpm2.json", `ComfyUI: "a lamp" "" seed=1 steps=6 cfg=5 width=64 height=64 dpm2-normal-discard torch-cpu "river"`, "", ""},
		{"invokeai.json", `InvokeAI 5.4.3: "a lamp on a desk" "text" seed=2507332253 steps=6 cfg=5 width=64 height=64 clip_skip=0 guidance_rescale=0 dpm++2m-karras torch-cpu "river"`, "", ""},
		{"invokeai-3.json", `InvokeAI 3.7.0: "a lamp <lora:old_paint:0.7>" "" seed=5 steps=30 cfg=7.5 width=512 height=512 clip_skip=1 euler-a torch-cuda "stable-diffusion-v1-5"`,
			"controlnets: canny (0.5)", ""},
		{"invokeai-2.json", `InvokeAI v2.3.5: "a lamp on a desk" "text blur" seed=3 steps=50 cfg=7.5 width=512 height=512 lms torch-cuda "stable-diffusion-1.5"`, "variations: [{\"seed\":1,\"weight\":0.1}]", ""},
		{"dream.txt", `InvokeAI: "a \"big\" lamp" "text" seed=123 steps=50 cfg=7.5 width=512 height=704 euler-a torch-cuda ""`, "-G: 0.8", ""},
		{"swarmui.json", `SwarmUI 0.6.5.0: "a lamp on a desk" "text" seed=581626448 steps=6 cfg=5 width=64 height=64 dpm++2m-karras torch-cpu "river"`, "", ""},
		{"swarmui-loras.json", `SwarmUI 0.9.6: "a lamp <lora:x:0.5> <lora:old_paint:0.7>" "" seed=1 steps=20 cfg=7 width=512 height=512 clip_skip=1 euler-a torch-cpu "sd15"`,
			`refinercontrolpercentage: 0.2; refinermethod: PostApply; refinerupscale: 1.5`, ""},
		{"novelai.json", `NovelAI: "a lamp" "lowres" seed=3141592653 steps=28 cfg=5 width=832 height=1216 guidance_rescale=0.2 euler-a-karras torch-cuda "Stable Diffusion XL C1E1BE4F"`, "sm: true", ""},
		{"easydiffusion.json", `Easy Diffusion: "a lamp <lora:old_paint:1>" "text" seed=512 steps=25 cfg=7.5 width=512 height=768 clip_skip=1 euler-a torch-cuda "sd-v1-5"`, "use_upscale: RealESRGAN_x4plus", ""},
		{"easydiffusion.txt", `Easy Diffusion: "a lamp" "text" seed=512 steps=25 cfg=7.5 width=512 height=768 plms torch-cuda "sd-v1-5"`, "Use Face Correction: GFPGANv1.4; VAE model: vae-ft-mse", ""},
		{"drawthings.json", `Draw Things: "a lamp" "text" seed=77 steps=20 cfg=4.5 width=512 height=768 dpm++2m-ays torch-cpu "jibjab_v1_f16"`, "lora: old_paint_lora 0.7", ""},
		{"fooocus-mre.json", `Fooocus-MRE v2.0.78.5: "cinematic still a lamp" "drawing, text" seed=5 steps=30 cfg=7 width=1152 height=896 dpm++2m-sde-karras torch-cpu "sdxl"`,
			`styles: ["cinematic"]; switch: 20`, ""},
	} {
		t.Run(c.file, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", "programs", c.file))
			if err != nil {
				t.Fatal(err)
			}
			f, err := ParseForeign(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, summary(f)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var unused []string
			for _, u := range f.Unused {
				unused = append(unused, u.Key+": "+u.Value)
			}
			if got := strings.Join(unused, "; "); got != c.unused {
				t.Errorf("unused:\n got %s\nwant %s", got, c.unused)
			}
			if got := strings.Join(f.Notes, "; "); got != c.notes {
				t.Errorf("notes: %s", got)
			}
			if len(f.Fields) < 5 {
				t.Errorf("only the fields %v", f.Fields)
			}
			again := checkJSON(t, f)
			if summary(again) != summary(f) {
				t.Errorf("its JSON means %s", summary(again))
			}
		})
	}
}

// checkJSON writes a description as JSON and reads it again.
func checkJSON(t *testing.T, f Foreign) (again Foreign) {
	t.Helper()
	text, err := f.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	second, err := again.MarshalJSON()
	if err != nil || string(second) != string(text) {
		t.Fatalf("%v: %s became %s", err, text, second)
	}
	g, h := f.Given(), again.Given()
	if diff := cmp.Diff(g.Settings, h.Settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	return again
}

// Chunks that make sense together only.
func TestFromTexts(t *testing.T) {
	for _, c := range []struct {
		name  string
		texts []Field
		want  string
	}{
		{"NovelAI", []Field{{"Title", "AI generated image"}, {"Description", "a lamp"}, {"Software", "NovelAI"}, {"Source", "Stable Diffusion 8B917570"},
			{"Comment", `{"steps": 28, "sampler": "k_dpmpp_2m", "seed": 5, "strength": 0.69, "noise": 0.2, "scale": 11.0, "uc": "lowres", "height": 64, "width": 128}`}},
			`NovelAI: "a lamp" "lowres" seed=5 steps=28 cfg=11 width=128 height=64 dpm++2m torch-cuda "Stable Diffusion 8B917570"`},
		{"Easy Diffusion", []Field{{"prompt", "a lamp"}, {"negative_prompt", "text"}, {"seed", "5"}, {"num_inference_steps", "25"}, {"guidance_scale", "7.5"}, {"width", "512"}, {"height", "768"},
			{"use_stable_diffusion_model", "sd-v1-5"}, {"sampler_name", "dpmpp_2m"}, {"clip_skip", "false"}, {"use_lora_model", "old_paint"}},
			`Easy Diffusion: "a lamp" "text" seed=5 steps=25 cfg=7.5 width=512 height=768 dpm++2m torch-cuda "sd-v1-5"`},
		{"parameters before a graph", []Field{{"prompt", `{"3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 2, "latent_image": ["5", 0]}}}`},
			{"parameters", "a lamp\nSteps: 6, Sampler: Euler a, CFG scale: 5, Seed: 7, Size: 64x64, Version: ComfyUI"}},
			`ComfyUI: "a lamp" "" seed=7 steps=6 cfg=5 width=64 height=64 euler-a torch-cpu ""`},
		{"the last of a key counts", []Field{{"parameters", "a\nSteps: 6, Sampler: Euler a, CFG scale: 5, Seed: 7"}, {"parameters", "b\nSteps: 6, Sampler: Euler a, CFG scale: 5, Seed: 7"}},
			`: "b" "" seed=7 steps=6 cfg=5 euler-a torch-cuda ""`},
		{"Civitai's way to keep ComfyUI's in a JPEG", []Field{{"parameters", `{"prompt": {"3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 2, "cfg": 3, "sampler_name": "euler", "scheduler": "normal", "latent_image": ["5", 0]}}}, "workflow": {"nodes": [], "links": []}, "extraMetadata": "{}"}`}},
			`ComfyUI: "" "" seed=1 steps=2 cfg=3 euler torch-cpu ""`},
	} {
		f, err := FromTexts(c.texts)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := summary(f); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		checkJSON(t, f)
	}
	for _, texts := range [][]Field{nil, {{"Comment", "Created with GIMP"}}, {{"prompt", "a lamp"}, {"seed", "5"}}, {{"workflow", `{"nodes": [], "links": []}`}},
		{{"Comment", `{"steps": 1}`}}, {{"parameters", `{"scene": "a mill"}`}}} {
		if f, err := FromTexts(texts); !errors.Is(err, ErrNoParameters) {
			t.Errorf("%v: %v, %s", texts, err, summary(f))
		}
	}
}

// FuzzParseForeign: no text stops a reader, and what was understood can be written as JSON and read again.
func FuzzParseForeign(f *testing.F) {
	files, _ := filepath.Glob("testdata/programs/*")
	if len(files) < 10 {
		f.Fatal("the seed files are missing")
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("\ufeffa\nSteps: 1, Sampler: DPM2, Seed: -1, Schedule rho: 5")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseForeign(text)
		if err != nil {
			return
		}
		out, err := p.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var again Foreign
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		if second, err := again.MarshalJSON(); err != nil || string(second) != string(out) {
			t.Errorf("%v: %s became %s", err, out, second)
		}
	})
}

// TestAdaptersBesideThePrompt: what programs list beside the prompt is in it as tags, once, with the text encoder's strength first.
func TestAdaptersBesideThePrompt(t *testing.T) {
	graph := func(nodes string) string {
		return `{"3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 2, "cfg": 2.5, "sampler_name": "euler", "scheduler": "normal", "latent_image": ["9", 0], "model": ["20", 0], "positive": ["6", 0]}},
			"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["20", 1]}}, "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.ckpt"}}, ` + nodes + "}"
	}
	for _, c := range []struct{ name, text, prompt string }{
		{"a loader", graph(`"20": {"class_type": "LoraLoader", "inputs": {"lora_name": "art\\ink.safetensors", "strength_model": 0.8, "strength_clip": 0.5, "model": ["4", 0], "clip": ["4", 1]}}`), "a cat <lora:ink:0.5:0.8>"},
		{"of the model only", graph(`"20": {"class_type": "LoraLoaderModelOnly", "inputs": {"lora_name": "ink.safetensors", "strength_model": 0.8, "model": ["4", 0]}}`), "a cat <lora:ink:0:0.8>"},
		{"two", graph(`"20": {"class_type": "LoraLoader", "inputs": {"lora_name": "b.pt", "strength_model": 1, "strength_clip": 1, "model": ["21", 0], "clip": ["21", 1]}},
			"21": {"class_type": "LoraLoader", "inputs": {"lora_name": "a.pt", "strength_model": -1, "strength_clip": -1, "model": ["4", 0], "clip": ["4", 1]}}`), "a cat <lora:a:-1> <lora:b:1>"},
		{"rgthree's", graph(`"20": {"class_type": "Power Lora Loader (rgthree)", "inputs": {"lora_1": {"on": true, "lora": "a.safetensors", "strength": 0.6}, "lora_2": {"on": false, "lora": "b.safetensors", "strength": 1},
			"lora_3": {"on": true, "lora": "c.safetensors", "strength": 1, "strengthTwo": 0.5}, "model": ["4", 0], "clip": ["4", 1]}}`), "a cat <lora:c:0.5:1> <lora:a:0.6>"},
		{"none", graph(`"20": {"class_type": "LoraLoader", "inputs": {"lora_name": "None", "strength_model": 1, "strength_clip": 1, "model": ["4", 0], "clip": ["4", 1]}}`), "a cat"},
		{"Fooocus", `{"metadata_scheme": "fooocus", "prompt": "a cat", "seed": "1", "steps": 2, "sampler": "euler", "loras": [["ink.safetensors", 0.1, "aaaa"], ["None", 1, ""]], "version": "Fooocus v2.5.5"}`, "a cat <lora:ink:0.1>"},
		{"InvokeAI 5", `{"positive_prompt": "a cat", "scheduler": "euler", "loras": [{"model": {"name": "ink"}, "weight": 0.75}], "app_version": "5.9.1"}`, "a cat <lora:ink:0.75>"},
		{"SwarmUI, in the prompt already", `{"sui_image_params": {"prompt": "a cat <lora:Ink:0.3>", "seed": 1, "loras": ["ink"], "loraweights": ["0.3"]}}`, "a cat <lora:Ink:0.3>"},
		{"SwarmUI, two strengths", `{"sui_image_params": {"prompt": "a cat", "seed": 1, "loras": ["ink"], "loraweights": ["1"], "loratencweights": ["0.5"]}}`, "a cat <lora:ink:0.5:1>"},
	} {
		f, err := ParseForeign(c.text)
		if err != nil || f.Recipe.Prompt != c.prompt {
			t.Errorf("%s: %v, prompt %q, want %q", c.name, err, f.Recipe.Prompt, c.prompt)
		}
		for _, u := range f.Unused {
			if strings.Contains(strings.ToLower(u.Key), "lora") {
				t.Errorf("%s: %s is called unused: %s", c.name, u.Key, u.Value)
			}
		}
	}
}

// TestScaleOfFlux: the scale that FLUX.1 reads is --cfg here; the sampler's is that of a second call.
func TestScaleOfFlux(t *testing.T) {
	for cfg, guidance := range map[string]string{"1": "", "2.5": "cfg:scale=2.5"} {
		f, err := ParseForeign(`{"3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 2, "cfg": ` + cfg + `, "sampler_name": "euler", "scheduler": "simple", "latent_image": ["9", 0], "positive": ["5", 0], "negative": ["7", 0]}},
			"5": {"class_type": "FluxGuidance", "inputs": {"guidance": 4, "conditioning": ["6", 0]}}, "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}}, "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blur"}}}`)
		if err != nil || f.Recipe.CFG != 4 || f.Recipe.Guidance != guidance || !f.Knows("cfg") || len(f.Unused) > 0 {
			t.Errorf("cfg %s: %v, cfg %v, guidance %q, unused %v", cfg, err, f.Recipe.CFG, f.Recipe.Guidance, f.Unused)
		}
	}
}
