package recipe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"darkroom/scheduler"
)

// The same settings, in the spellings that texts have which people paste. All mean the same picture.
func TestSpellingsOfParameters(t *testing.T) {
	const settings = "Steps: 6, Sampler: Euler a, CFG scale: 5, Seed: 4024, Size: 64x96, Model: river"
	for _, text := range []string{
		"a lamp, lit\nNegative prompt: text, blur\n" + settings,
		"\ufeffa lamp, lit\r\nNegative prompt: text, blur\r\n" + settings + "\r\n",
		utf16Text("\ufeffa lamp, lit\r\nNegative prompt: text, blur\r\n"+settings, binary.LittleEndian),
		utf16Text("\ufeffa lamp, lit\nNegative prompt: text, blur\n"+settings, binary.BigEndian),
		"a lamp, lit\nnegative prompt: text, blur\n" + strings.ToLower(settings),
		"a lamp, lit\nNegative prompt: text, blur\nSTEPS: 6, SAMPLER: EULER A, CFG SCALE: 5, SEED: 4024, SIZE: 64X96, MODEL: river",
		"a lamp, lit Negative prompt: text, blur " + settings,
		"a lamp, lit\nNegative prompt: text, blur " + settings,
		"a lamp, lit,.Negative prompt: text, blur,." + settings,
		"a lamp, lit.Negative prompt: text, blur." + strings.ReplaceAll(settings, ", ", ",."),
		"a lamp, lit\nNegative prompt: text, blur\n." + strings.ReplaceAll(settings, ", ", "."),
		"a lamp, lit\nNegative prompt: text, blur\n" + strings.ReplaceAll(settings, ", ", " "),
		"a lamp, lit\nNegative prompt: text, blur\n" + strings.ReplaceAll(settings, ", ", ","),
		"a lamp, lit\nNegative prompt: text, blur\n" + strings.ReplaceAll(settings, ", ", "\n"),
		"a lamp, lit Negative prompt: text, blur " + strings.ReplaceAll(settings, ", ", " "),
		"a lamp, lit\n" + settings + ", Negative prompt: text, blur",
		"Prompt: a lamp, lit\nNegative prompt: text, blur\n" + settings,
		"a lamp, lit\nNegative prompt: text, blur\nSampler: k_euler_ancestral, cfg_scale: 5.0, Steps: 6.0, Guidance: 3.500000, Seed: 4024.0, Size: 64 x 96, Model: dir/river.safetensors, Generator: llama-box",
		"a lamp, lit\nNegative prompt: text, blur\nSteps: 6, Sampler: Euler a, CFG scale: 5, Seed: 4024, Size: 64x96, Model: river, Hires steps: 10, Hires sampler: LMS, ADetailer seed: 7",
		"a lamp, lit\nNegative prompt: text, blur\nSteps: 6, Sampler: Euler a, CFG scale: 5, Seed: 4024, Size: 64x96, Model: river, Hashes: {\"model\": \"31e35c80fc\", \"x\": \"y: z\"}, Civitai resources: [{\"a\": 1, \"b\": 2}], Civitai metadata: {}",
	} {
		f, err := ParseParameters(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		r := f.Recipe
		got := fmt.Sprintf("%q %q %d %s %v %d %dx%d %s", r.Prompt, r.Negative, r.Steps, r.Name(), r.CFG, r.Seed, r.Width, r.Height, r.Model)
		if want := `"a lamp, lit" "text, blur" 6 euler-a 5 4024 64x96 river`; got != want {
			t.Errorf("%q:\n got %s\nwant %s", text, got, want)
		}
	}
}

func utf16Text(text string, order binary.AppendByteOrder) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

// What a prompt can hold that looks like settings, and stays a prompt.
func TestPromptsThatLookLikeSettings(t *testing.T) {
	const settings = "Steps: 6, Sampler: Euler a, CFG scale: 5, Seed: 7, Size: 64x64"
	for _, prompt := range []string{
		"{{a clay jug}}, on a shelf", "{red|green} mill by a river", `{"scene": "a mill", "light": "dusk"}`, "{", "{}", "[a, b]", `"quoted"`,
		"subject: a cat, style: oil, light: dusk", "steps: 3 of marble, size: large, seed: 12 corns", "a staircase. steps: 3 of marble",
		"Steps: 1, Sampler: Euler, CFG scale: 1, Seed: 1, Size: 1x1", "a\n\nb: c, d: e, f: g", "a sign: \"Negative feelings: none\"",
	} {
		f, err := ParseParameters(prompt + "\nNegative prompt: text\n" + settings)
		if err != nil {
			t.Errorf("%q: %v", prompt, err)
			continue
		}
		if f.Recipe.Prompt != prompt || f.Recipe.Negative != "text" || f.Recipe.Seed != 7 || f.Recipe.Steps != 6 {
			t.Errorf("%q became %+v", prompt, f.Recipe)
		}
		// Alone, without a setting, it is not a recipe.
		if strings.HasPrefix(prompt, "Steps") {
			continue
		}
		if f, err := ParseParameters(prompt); !errors.Is(err, ErrNoParameters) {
			t.Errorf("%q alone: %v, %+v", prompt, err, f.Recipe)
		}
	}
}

// Values that are not known are not invented.
func TestValuesThatAreNone(t *testing.T) {
	text := "x\nSteps: %s, Sampler: Euler, CFG scale: %s, Seed: %s, Size: %s, Clip skip: %s, Eta: %s"
	for _, c := range []struct {
		values  []any
		unknown string // fields that are not known
		recipe  string
	}{
		{[]any{"20", "7", "4024.0", "64x64", "-2", "0.5"}, "", "20 7 4024 64x64 1 0.5"},
		{[]any{"20.0", "7.5", "18446744073709551615", "64 X 32", "2", "1"}, "", "20 7.5 18446744073709551615 64x32 1 1"},
		{[]any{"0", "inf", "-1", "0x64", "x", "inf"}, "steps cfg seed width height clip_skip eta", "0 0 0 0x0 0 0"},
		{[]any{"-5", "nan", "18446744073709551616", "99999x64", "1", "7"}, "steps cfg seed width height eta", "0 0 0 0x0 0 0"},
		{[]any{"2e9", "1e308", "1.5", "64", "-1", "-1"}, "steps cfg seed width height eta", "0 0 0 0x0 0 0"},
		{[]any{"99999999999999999999", "7,5", "1e3", "64x", "0", "x"}, "steps cfg seed width height eta", "0 0 0 0x0 0 0"},
	} {
		f, err := ParseParameters(fmt.Sprintf(text, c.values...))
		if err != nil {
			t.Errorf("%v: %v", c.values, err)
			continue
		}
		var unknown []string
		for _, name := range []string{"steps", "cfg", "seed", "width", "height", "clip_skip", "eta"} {
			if !f.Knows(name) {
				unknown = append(unknown, name)
			}
		}
		r := f.Recipe
		if got := strings.Join(unknown, " "); got != c.unknown {
			t.Errorf("%v: unknown %q, want %q", c.values, got, c.unknown)
		}
		if got := fmt.Sprintf("%d %v %d %dx%d %d %v", r.Steps, r.CFG, r.Seed, r.Width, r.Height, r.ClipSkip, r.Eta); got != c.recipe {
			t.Errorf("%v: %s, want %s", c.values, got, c.recipe)
		}
	}
}

// Escapes are this program's own, of characters beyond Latin-1 alone.
func TestEscapesInParameters(t *testing.T) {
	for text, want := range map[string]string{`a \\u732b`: `a \猫`, `\ud83d\ude00`: "😀", `\u00e9`: `\u00e9`, `猫 \u732b`: `猫 \u732b`, `\u732`: `\u732`} {
		f, err := ParseParameters(text + "\nSteps: 1, Sampler: Euler, CFG scale: 1, Seed: 1, Size: 8x8, Version: darkroom 1")
		if err != nil || f.Recipe.Prompt != want {
			t.Errorf("%s: %v, prompt %q", text, err, f.Recipe.Prompt)
		}
	}
	f, err := ParseParameters(`\u732b` + "\nSteps: 1, Sampler: Euler, CFG scale: 1, Seed: 1, Size: 8x8")
	if err != nil || f.Recipe.Prompt != `\u732b` {
		t.Errorf("another program's: %v, prompt %q", err, f.Recipe.Prompt)
	}
}

// This program's own texts have their settings where it puts them: nothing of a prompt is taken for more than words.
func TestOwnTextsAreExact(t *testing.T) {
	for _, prompt := range []string{"prompt: a cat", "a sign, negative prompt: dogs. Steps: 3", "<lora:x:1> a | b", "a\n\nb"} {
		r := sample()
		r.Prompt, r.Negative = prompt, ""
		f, err := ParseParameters(r.Parameters())
		if err != nil || f.Recipe.Prompt != prompt || f.Recipe.Negative != "" || f.Recipe.Steps != r.Steps {
			t.Errorf("%q: %v, became %q and %q", prompt, err, f.Recipe.Prompt, f.Recipe.Negative)
		}
	}
}

// A hostile text takes no more than a moment.
func TestHostileParameters(t *testing.T) {
	for _, part := range []string{"Steps: ", "Steps: 1, ", "x Steps: 1 ", "a: [1,", "a: {\"b\": [", ",", "Steps: 1, Seed: x, ", "Negative prompt: ", "\\u0041", "\nSteps: 1, a: b, c: d", "\nSteps: 1"} {
		start := time.Now()
		f, err := ParseParameters(strings.Repeat(part, (MaxJSON/4)/len(part)))
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%q took %v (%v, %d fields)", part, took, err, len(f.Fields))
		}
	}
}

// What the programs take where their texts say nothing.
func TestProgramsHabits(t *testing.T) {
	for _, c := range []struct{ settings, want string }{
		{"Sampler: DPM++ 2M, Schedule type: Automatic, Version: v1.9.4", "dpm++2m-karras torch-cuda"},
		{"Sampler: DPM++ 2M, Version: v1.10.1", "dpm++2m-karras torch-cuda"},
		{"Sampler: DPM++ 2M, Version: 1.10.0", "dpm++2m-karras torch-cuda"},
		{"Sampler: DPM++ 2M, Version: f2.0.1v1.10.1-previous-636-gb835f24a", "dpm++2m-karras torch-cuda"},
		{"Sampler: DPM++ 2M, Version: f0.0.17v1.8.0rc-latest-276-g29be1da7", "dpm++2m torch-cuda"},
		{"Sampler: DPM++ 2M, Version: v1.8.0", "dpm++2m torch-cuda"},
		{"Sampler: DPM++ 2M", "dpm++2m torch-cuda"},
		{"Sampler: DPM++ 2M, Schedule type: Uniform, Version: v1.9.4", "dpm++2m-normal torch-cuda"},
		{"Sampler: DPM++ 2M SDE, Version: v1.9.4", "dpm++2m-sde-exponential torch-cuda brownian"},
		{"Sampler: DPM++ 2M SDE Heun, Version: v1.9.4", "dpm++2m-sde-exponential torch-cuda brownian; there is no sampler DPM++ 2M SDE Heun here: dpm++2m-sde is used instead"},
		{"Sampler: DPM++ 3M SDE, Version: v1.9.4", "dpm++3m-sde-exponential-discard torch-cuda brownian"},
		{"Sampler: DPM++ SDE, Version: v1.9.4", "dpm++sde-karras torch-cuda brownian"},
		{"Sampler: DPM++ 2S a, Version: v1.9.4", "dpm++2s-a-karras torch-cuda"},
		{"Sampler: Restart, Version: v1.9.4", "restart-karras torch-cuda"},
		{"Sampler: DPM2, Version: v1.9.4", "dpm2-karras-discard torch-cuda"},
		{"Sampler: DPM2 a Karras, Version: v1.6.0", "dpm2-a-karras-discard torch-cuda"},
		{"Sampler: DPM2", "dpm2-normal-discard torch-cuda"},
		{"Sampler: Euler a, Schedule type: Automatic, Version: v1.9.4", "euler-a torch-cuda"},
		{"Sampler: Euler, Discard penultimate sigma: True, Version: v1.9.4", "euler-normal-discard torch-cuda"},
		{"Sampler: DPM++ 2M, Schedule type: Karras, Schedule rho: 5, Version: v1.9.4", "dpm++2m-karras:5 torch-cuda"},
		{"Sampler: Euler, Schedule type: Polyexponential, Version: v1.9.4", "euler-polyexponential:1 torch-cuda"},
		{"Sampler: LCM, Schedule type: Karras, Version: v1.9.4", "lcm torch-cuda; lcm takes no karras schedule here: its own noise levels are used instead"},
		{"Sampler: dpm++2m karras, RNG: cuda, Version: stable-diffusion.cpp", "dpm++2m-karras torch-cuda"},
		{"Sampler: dpm++2m discrete, RNG: cpu, Version: stable-diffusion.cpp", "dpm++2m-normal torch-cpu"},
		{"Sampler: dpm2, RNG: std_default, Version: stable-diffusion.cpp", "dpm2 torch-cuda"},
		{"Sampler: euler_a discrete, Eta: inf, Version: KoboldCpp", "euler-a torch-cuda"},
		{"Sampler: dpmpp_2s_ancestral, Version: ComfyUI", "dpm++2s-a torch-cpu"},
		{"Sampler: dpm_2, Version: ComfyUI", "dpm2-normal-discard torch-cpu"},
		{"Sampler: k_dpmpp_2s_a", "dpm++2s-a torch-cuda"},
		{"Sampler: DPM++ 2M, Sampler sigma: karras, Sampler spacing: trailing, CFG rescale: 0.7", "dpm++2m-karras torch-cuda 0.7"},
		{"Sampler: DPM++ 2M SDE, Sampler sigma: default, App: SD.Next", "dpm++2m-sde torch-cuda"},
	} {
		f, err := ParseParameters("x\nSteps: 6, CFG scale: 5, Seed: 7, Size: 64x64, " + c.settings)
		if err != nil {
			t.Fatal(err)
		}
		r := f.Recipe
		got := r.Name() + " " + r.Noise
		if r.SDENoise != "" {
			got += " " + r.SDENoise
		}
		if r.Rescale != 0 {
			got += fmt.Sprint(" ", r.Rescale)
		}
		got = strings.Join(append([]string{got}, f.Notes...), "; ")
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.settings, got, c.want)
		}
	}
}

// Old stable-diffusion.cpp wrote an eta of 0 that its ancestral samplers did not look at.
func TestEtaOfStableDiffusionCpp(t *testing.T) {
	for settings, known := range map[string]bool{"Sampler: euler_a, Eta: 0.000000": false, "Sampler: euler_a, Eta: 0.500000": true, "Sampler: dpm++2m, Eta: 0.000000": true, "Sampler: euler_a, Eta: inf": false} {
		f, err := ParseParameters("x\nSteps: 6, CFG scale: 5.000000, Guidance: 3.500000, Seed: 7, " + settings + ", Version: stable-diffusion.cpp")
		if err != nil {
			t.Fatal(err)
		}
		if f.Knows("eta") != known || f.Knows("guidance") || len(f.Unused) != 1 || f.Unused[0].Key != "Guidance" {
			t.Errorf("%s: %+v", settings, f)
		}
	}
}

// Every name of both tables leads to a scheduler, with or without the other.
func TestEveryNameResolves(t *testing.T) {
	config, err := scheduler.ParseConfig("x", []byte(`{"beta_start":0.00085,"beta_end":0.012,"beta_schedule":"scaled_linear"}`))
	if err != nil {
		t.Fatal(err)
	}
	n, tried := 0, map[string]bool{}
	for _, s := range samplers {
		for _, sampler := range append([]string{s.name}, s.aliases...) {
			for _, sp := range spacings {
				for _, schedule := range append([]string{sp.name}, sp.aliases...) {
					for _, in := range []family{webUI, webUI19, comfy, sdCpp, diffuser, invoke} {
						var f Foreign
						f.sampling(sampler, schedule, in)
						if len(f.Unused) > 0 || f.Recipe.Scheduler == "" {
							t.Fatalf("%s, %s: not understood: %v", sampler, schedule, f.Unused)
						}
						n++
						if tried[f.Recipe.Name()] {
							continue
						}
						tried[f.Recipe.Name()] = true
						_, err := scheduler.New(config, scheduler.Options{Name: f.Recipe.Scheduler, Sigmas: f.Recipe.Sigmas, Steps: 20})
						if err != nil {
							t.Errorf("%s, %s: %s: %v", sampler, schedule, f.Recipe.Name(), err)
						}
					}
				}
			}
		}
	}
	if n < 10000 {
		t.Errorf("only %d names were tried", n)
	}
}
