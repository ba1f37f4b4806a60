package recipe

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParametersText(t *testing.T) {
	want := "a <red> apple & \"pear\"\nNegative prompt: blurry, low\nquality\n" +
		"Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 18446744073709551615, Size: 512x768, " +
		"Model hash: 0123456789, Model: sd15, RNG: CPU, Version: darkroom 0.1.0"
	if diff := cmp.Diff(want, sample().Parameters()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r := Recipe{Negative: "x", Steps: 1, Scheduler: "ddim", Eta: 0.7, CFG: 1, Model: `my "model", v1: final`, ClipSkip: 1,
		Width: 64, Height: 64, Rescale: 0.7, Guidance: "apg:eta=0,norm=5", SDENoise: "brownian", Noise: "torch-cuda"}
	want = "Negative prompt: x\nSteps: 1, Sampler: DDIM, CFG scale: 1, Seed: 0, Size: 64x64, " +
		`Model: "my \"model\", v1: final", Clip skip: 2, Eta DDIM: 0.7, CFG Rescale Phi: 0.7, Guidance: "apg:eta=0,norm=5", SDE noise: brownian, RNG: NV, Version: darkroom`
	if diff := cmp.Diff(want, r.Parameters()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestParametersRoundTrip: what Parameters writes, ParseParameters reads, up to what the text cannot hold.
func TestParametersRoundTrip(t *testing.T) {
	for _, scheduler := range []string{"ddim", "ddpm", "pndm", "plms", "lms", "euler", "euler-a", "heun", "dpm2", "dpm2-a", "deis", "dpm++2m",
		"dpm++2m-sde", "dpm++2s", "dpm++3m-sde", "unipc", "lcm", "tcd"} {
		for _, sigmas := range []string{"", "karras", "exponential", "beta", "sgm-uniform", "ddim-uniform", "ays"} {
			r := sample()
			r.Scheduler, r.Sigmas, r.Eta, r.Model = scheduler, sigmas, 0.25, `a, b: "c"`
			if sigmas == "karras" {
				r.Guidance, r.SDENoise = "apg:eta=0,momentum=-0.5", "brownian"
			}
			p, err := ParseParameters(r.Parameters())
			if err != nil {
				t.Fatal(err)
			}
			want := r
			// Not in the text, or only in part.
			want.Numerics, want.PromptSyntax, want.ModelHash, want.Prediction = "", "", "", ""
			want.DType, want.Backend, want.Device, want.Result = "", "", "", Result{}
			if diff := cmp.Diff(want, p.Recipe); diff != "" {
				t.Errorf("%s (-want +got):\n%s", r.Name(), diff)
			}
			if len(p.Unused) != 0 {
				t.Errorf("%s: unused fields %v", r.Name(), p.Unused)
			}
		}
	}
}

// Texts as other programs write them; what they mean was taken from those programs' documentation and source.
func TestParseForeignParameters(t *testing.T) {
	type want struct {
		recipe Recipe
		unused string
	}
	for _, c := range []struct {
		name, text string
		want       want
	}{
		{"AUTOMATIC1111, as its own documentation has it", `girl with an artist's beret, determined, ((eyeshadow)), intricate
Negative prompt: ugly, (((deformed))), [blurry], messy drawing
Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x512, Model hash: 45dee52b`,
			want{recipe: Recipe{Prompt: "girl with an artist's beret, determined, ((eyeshadow)), intricate",
				Negative: "ugly, (((deformed))), [blurry], messy drawing", Steps: 20, Scheduler: "euler-a", Eta: 1, CFG: 7,
				Seed: 965400086, Width: 512, Height: 512, Noise: "torch-cuda"}}},
		{"AUTOMATIC1111 1.9 and later: a schedule type, quoted values, several lines", `a cat

sitting
Negative prompt: dog
bird
Steps: 30, Sampler: DPM++ 2M SDE, Schedule type: Karras, CFG scale: 6.5, Seed: 4294967295, Size: 640x448, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, VAE hash: 735e4c3a44, Denoising strength: 0.7, Clip skip: 2, RNG: CPU, Lora hashes: "foo: 123abc, bar: 456def", Version: v1.10.1`,
			want{Recipe{Prompt: "a cat\n\nsitting", Negative: "dog\nbird", Steps: 30, Scheduler: "dpm++2m-sde", Sigmas: "karras", Eta: 1,
				CFG: 6.5, Seed: 4294967295, Width: 640, Height: 448, Model: "v1-5-pruned-emaonly", ClipSkip: 1, Noise: "torch-cpu", SDENoise: "brownian",
				Version: "v1.10.1"}, "VAE hash, Denoising strength"}},
		{"AUTOMATIC1111 with dynamic prompts: a template after the settings", "x\nSteps: 5, Sampler: DDIM, CFG scale: 1, Seed: 0, Size: 64x64\nTemplate: {x|y}",
			want{Recipe{Prompt: "x", Steps: 5, Scheduler: "ddim", CFG: 1, Width: 64, Height: 64, Noise: "torch-cuda"}, "Template"}},
		{"Forge", "x\nSteps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 3, Size: 896x1152, Version: f2.0.1",
			want{recipe: Recipe{Prompt: "x", Steps: 20, Scheduler: "euler", Sigmas: "simple", CFG: 3.5, Seed: 3, Width: 896, Height: 1152, Noise: "torch-cuda",
				Version: "f2.0.1"}}},
		{"Forge, with a negative prompt for a distilled model", "x\nNegative prompt: y\nSteps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 2.5, Distilled CFG Scale: 3.5, Seed: 3, Size: 64x64, Version: f2.0.1",
			want{recipe: Recipe{Prompt: "x", Negative: "y", Steps: 20, Scheduler: "euler", Sigmas: "simple", CFG: 3.5, Guidance: "cfg:scale=2.5", Seed: 3, Width: 64, Height: 64, Noise: "torch-cuda",
				Version: "f2.0.1"}}},
		{"a distilled scale that is none", "x\nSteps: 20, Sampler: Euler, CFG scale: 2.5, Distilled CFG Scale: inf, Seed: 3, Size: 64x64",
			want{Recipe{Prompt: "x", Steps: 20, Scheduler: "euler", CFG: 2.5, Seed: 3, Width: 64, Height: 64, Noise: "torch-cuda"}, "Distilled CFG Scale"}},
		{"Fooocus, the text", "x\nNegative prompt: y\nSteps: 30, Sampler: DPM++ 2M SDE Karras, Seed: 7, Size: 1152x896, CFG scale: 4.0, Sharpness: 2.0, ADM Guidance: \"(1.5, 0.8, 0.3)\", Model: juggernautXL, Model hash: aeb7e9e689, Performance: Speed, Scheduler: karras, Version: Fooocus v2.5.5",
			want{Recipe{Prompt: "x", Negative: "y", Steps: 30, Scheduler: "dpm++2m-sde", Sigmas: "karras", Eta: 1, Seed: 7, Width: 1152, Height: 896,
				CFG: 4, Model: "juggernautXL", Noise: "torch-cpu", SDENoise: "brownian", Version: "Fooocus v2.5.5"}, "Sharpness, ADM Guidance, Performance"}},
		{"Fooocus, the JSON", `{"adm_guidance": "(1.5, 0.8, 0.3)", "base_model": "m", "guidance_scale": 4.0, "negative_prompt": "y", "prompt": "x", "resolution": "(1152, 896)", "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "seed": "9223372036854775807", "steps": 30, "styles": "[]", "version": "Fooocus v2.5.5"}`,
			want{Recipe{Prompt: "x", Negative: "y", Steps: 30, Scheduler: "dpm++2m-sde", Sigmas: "karras", Eta: 1, Seed: 9223372036854775807,
				Width: 1152, Height: 896, CFG: 4, Model: "m", Noise: "torch-cpu", SDENoise: "brownian", Version: "Fooocus v2.5.5"}, "adm_guidance, styles"}},
		{"a ComfyUI node", "x\nNegative prompt: \nSteps: 20, Sampler: dpmpp_2s_ancestral_karras, CFG scale: 8.0, Seed: 1, Size: 512x512, Model hash: 0123456789, Model: m, Version: ComfyUI",
			want{recipe: Recipe{Prompt: "x", Steps: 20, Scheduler: "dpm++2s-a", Sigmas: "karras", Eta: 1, CFG: 8, Seed: 1, Width: 512, Height: 512, Model: "m",
				Noise: "torch-cpu", Version: "ComfyUI"}}},
		{"an unknown sampler and a seed that is none", "x\nSteps: 20, Sampler: Unheard Of, CFG scale: nan, Seed: -1, Size: big",
			want{Recipe{Prompt: "x", Steps: 20, Noise: "torch-cuda"}, "CFG scale, Seed, Size, Sampler"}},
		{"an empty prompt", "Steps: 2, Sampler: LMS, CFG scale: 0, Seed: 1, Size: 8x8",
			want{recipe: Recipe{Steps: 2, Scheduler: "lms", Seed: 1, Width: 8, Height: 8, Noise: "torch-cuda"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := ParseParameters(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want.recipe, p.Recipe); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var unused []string
			for _, f := range p.Unused {
				unused = append(unused, f.Key)
			}
			if got := strings.Join(unused, ", "); got != c.want.unused {
				t.Errorf("unused: %s; want %s", got, c.want.unused)
			}
		})
	}
}

func TestParseNoParameters(t *testing.T) {
	for _, text := range []string{"", "a red apple", "Steps: 1, Sampler: x", "{}", `{"workflow": 1}`, "{"} {
		if _, err := ParseParameters(text); !errors.Is(err, ErrNoParameters) {
			t.Errorf("%q: error %v, want ErrNoParameters", text, err)
		}
	}
	if _, err := ParseParameters(strings.Repeat("x", MaxJSON+1)); err == nil {
		t.Error("a huge text was read")
	}
}

func TestFromForeign(t *testing.T) {
	for _, c := range []struct{ sampler, schedule, want string }{
		{"DPM++ 2M Karras", "", "dpm++2m karras"},
		{"DPM++ 2M Karras", "Automatic", "dpm++2m karras"},
		{"DPM++ 2M", "Exponential", "dpm++2m exponential"},
		{"DPM++ 2M SDE Heun Karras", "", "dpm++2m-sde-heun karras"},
		{"dpmpp_3m_sde_gpu", "sgm_uniform", "dpm++3m-sde sgm-uniform"},
		{"euler_ancestral", "normal", "euler-a "},
		{"DDIM", "", "ddim "},
		{"ddim", "ddim_uniform", "ddim ddim-uniform"},
		{"PLMS", "", "plms "},
		{"uni_pc", "simple", "unipc simple"},
		{"DPM2 a Karras", "", "dpm2-a karras"},
		{"LMS Karras", "", "lms karras"},
		{"dpm++2m-karras", "", "dpm++2m karras"},
		{"Align Your Steps", "", "?"},
		{"Euler", "unheard of", "?"},
		{"", "", "?"},
	} {
		scheduler, sigmas, ok := FromForeign(c.sampler, c.schedule)
		got := scheduler + " " + sigmas
		if !ok {
			got = "?"
		}
		if got != c.want {
			t.Errorf("%q, %q: %q, want %q", c.sampler, c.schedule, got, c.want)
		}
	}
}

func FuzzParseParameters(f *testing.F) {
	f.Add(sample().Parameters())
	f.Add("x\nSteps: 1, Sampler: \"a\\\"b\", CFG scale: 1e999, Size: 1x1")
	f.Add(`{"steps": 1, "seed": "2"}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseParameters(text)
		if err != nil {
			return
		}
		// What was understood can be written and understood again.
		again, err := ParseParameters(p.Recipe.Parameters())
		if err != nil {
			t.Fatalf("%v in %q", err, p.Recipe.Parameters())
		}
		if again.Recipe.Seed != p.Recipe.Seed || again.Recipe.Steps != p.Recipe.Steps || again.Recipe.CFG != p.Recipe.CFG {
			t.Errorf("%+v became %+v", p.Recipe, again.Recipe)
		}
	})
}
