package pipeline

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"darkroom/kernels"
	"darkroom/kernels/cpu"
	"darkroom/tensor"
)

func open(t *testing.T, o Options) *Pipeline {
	t.Helper()
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func small(t *testing.T) *Pipeline { return open(t, Options{Model: "testdata/models/zsnr"}) }

func render(t *testing.T, p *Pipeline, r Request) *Image {
	t.Helper()
	img, err := p.Render(context.Background(), r, Events{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// A picture is a pure function of its request: the same bits from any number of threads, alone or
// after others of other shapes and prompts, and in every instruction set of the processor.
func TestSameBits(t *testing.T) {
	request := func(p *Pipeline) Request {
		r := p.NewRequest("a red (apple:1.3) on a table")
		r.Seed, r.Steps, r.Scheduler = 3, 4, "euler-a"
		return r
	}
	one := open(t, Options{Model: "testdata/models/sd1", Threads: 1})
	want := render(t, one, request(one)).Recipe.Result
	again := render(t, one, request(one)).Recipe.Result
	if again != want {
		t.Errorf("the second run differs: %+v, %+v", want, again)
	}

	four := open(t, Options{Model: "testdata/models/sd1", Threads: 4})
	for _, other := range []Request{four.NewRequest("a dog"), four.NewRequest(strings.Repeat("very ", 100) + "long")} {
		other.Steps, other.Width, other.CFG = 1, 64, 3
		render(t, four, other)
	}
	if got := render(t, four, request(four)).Recipe.Result; got != want {
		t.Errorf("4 threads, after other pictures, differ from 1 thread: %+v, %+v", want, got)
	}
	if !cpu.Available {
		t.Log("no CPU kernels in this build: instruction sets not compared")
		return
	}
	for _, set := range cpu.Instructions(tensor.F32) {
		if set == "base" {
			continue // without fused multiply-add every product is rounded: docs/determinism.md
		}
		b, err := cpu.New(cpu.Options{Threads: 2, Instructions: set})
		if err != nil {
			t.Fatal(err)
		}
		p := open(t, Options{Model: "testdata/models/sd1"})
		p.device.Backend.Close()
		p.device.Backend = b
		if got := render(t, p, request(p)).Recipe.Result; got != want {
			t.Errorf("%s differs: %+v, %+v", set, want, got)
		}
	}
}

func TestFromRecipe(t *testing.T) {
	p := small(t)
	for _, scheduler := range []string{"ddim", "euler-karras", "dpm++2m"} {
		r := p.NewRequest("a cat")
		r.Negative, r.Seed, r.Steps, r.Scheduler, r.CFG = "a dog", 5, 3, scheduler, 4.25
		first := render(t, p, r)
		text, err := json.Marshal(first.Recipe)
		if err != nil {
			t.Fatal(err)
		}
		again := first.Recipe
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		if got := render(t, p, FromRecipe(again)); got.Recipe.Result != first.Recipe.Result || !bytes.Equal(got.Pixels.Pix, first.Pixels.Pix) {
			t.Errorf("%s: the picture from the recipe differs", scheduler)
		}
	}
}

func TestSigmaList(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	r := p.NewRequest("a cat")
	r.Scheduler, r.Sigmas, r.Steps = "euler", "10,3,0.5", 0
	img := render(t, p, r)
	if got := img.Recipe.SigmaList; len(got) != 3 || got[0] != 10 || img.Recipe.Steps != 3 {
		t.Errorf("recipe has sigmas %v, %d steps", got, img.Recipe.Steps)
	}
	if again := render(t, p, FromRecipe(img.Recipe)); again.Recipe.Result != img.Recipe.Result {
		t.Error("the picture from the recipe differs")
	}
}

func TestUsage(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"}) // 8 pixels a latent pixel
	for _, c := range []struct {
		change func(*Request)
		want   string
	}{
		{func(r *Request) { r.Width = 100 }, "100×128 pixels: this model's sizes are multiples of 8 pixels; the nearest size is 104×128"},
		{func(r *Request) { r.Height = 3 }, "128×3 pixels: this model's sizes are multiples of 8 pixels; the nearest size is 128×8"},
		{func(r *Request) { r.Width = 0 }, "--width 0 --height 128: both must be positive"},
		{func(r *Request) { r.Height = -8 }, "--width 128 --height -8: both must be positive"},
		{func(r *Request) { r.Width = 1 << 20 }, "at most 16384 per side"},
		{func(r *Request) { r.Steps = 0 }, "--steps 0: it must be at least 1"},
		{func(r *Request) { r.Steps = -3 }, "--steps -3: it must be at least 1"},
		{func(r *Request) { r.Steps = 5000 }, "1000"},
		{func(r *Request) { r.Scheduler = "eulr" }, `no sampler is called "eulr"; nearest: euler`},
		{func(r *Request) { r.Syntax = "latex" }, `unknown prompt syntax "latex": choose weighted or plain`},
		{func(r *Request) { r.Noise = "white" }, `unknown noise "white": choose torch-cpu or torch-cuda`},
		{func(r *Request) { r.CFG = math.NaN() }, "--cfg NaN: it must be a finite number"},
		{func(r *Request) { r.ClipSkip = 2 }, "clip skip 2: the text encoder has 2 layers"},
		{func(r *Request) { r.Rescale = 2 }, "guidance rescale 2: it must be from 0 to 1"},
		{func(r *Request) { r.Guidance = "agp" }, `--guidance: no guidance is called "agp": there are cfg, cfg-zero, apg, dynamic, perp-neg`},
		{func(r *Request) { r.Guidance = "apg:eta=0,etta=1" }, `--guidance: guidance apg: no key "etta": there are eta, norm, momentum, scale, start, stop`},
		{func(r *Request) { r.Guidance, r.Rescale = "cfg:rescale=0.5", 0.7 }, "its rescale is not the 0.7 of --guidance-rescale: give one of them"},
		{func(r *Request) { r.Guidance, r.Scheduler = "cfg:stop=0.5", "dpm-adaptive" }, "dpm-adaptive chooses its own steps"},
		{func(r *Request) { r.SDENoise = "brown" }, `--sde-noise "brown": choose torch or brownian`},
		{func(r *Request) { eta := 3.0; r.Eta = &eta }, "eta 3: it must be from 0 to 1"},
		{func(r *Request) { r.Prompt = strings.Repeat("(", 1000) + "x" }, "the prompt: the brackets around"},
		{func(r *Request) { r.Negative = strings.Repeat("(", 1000) + "x" }, "the negative prompt: the brackets around"},
	} {
		r := p.NewRequest("a cat")
		c.change(&r)
		_, err := p.Render(context.Background(), r, Events{})
		var usage *UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want a usage error with %q", err, c.want)
		}
		if check := p.Check(r); check == nil || err == nil || !errors.As(check, &usage) || !strings.Contains(err.Error(), check.Error()) {
			t.Errorf("Check says %v, Render %v", check, err)
		}
	}
}

func TestMemory(t *testing.T) {
	p := small(t)
	p.free = func() (uint64, bool) { return 1 << 10, true }
	_, err := p.Render(context.Background(), p.NewRequest("a cat"), Events{})
	var memory *MemoryError
	if !errors.As(err, &memory) {
		t.Fatalf("got %v, want a MemoryError", err)
	}
	if memory.Need.Weights == 0 || memory.Need.Activations == 0 || !strings.Contains(err.Error(), "0.00 GiB free: use a smaller --width and --height") {
		t.Errorf("%v", err)
	}
	// What was estimated is what is taken.
	p.free = func() (uint64, bool) { return memory.Need.Total(), true }
	render(t, p, p.NewRequest("a cat"))
}

// Ctrl-C must end the work between two operations and say where it was.
func TestCancel(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	r := p.NewRequest("a cat")
	r.Steps = 500
	ctx, cancel := context.WithCancel(context.Background())
	steps := 0
	var ended time.Time
	_, err := p.Render(ctx, r, Events{Step: func(step int) {
		if steps = step; step == 2 {
			cancel()
			ended = time.Now()
		}
	}})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "step 3 of 500") {
		t.Errorf("got %v, want where it was", err)
	}
	if late := time.Since(ended); steps != 2 || late > time.Second {
		t.Errorf("went on for %d steps, %v", steps, late)
	}
}

// copyModel copies a golden model to a temporary folder, where a test may spoil it.
func copyModel(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata/models", name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// poke overwrites one element of a float16 or float32 weight.
func poke(t *testing.T, file, weight string, index int, bits uint32) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(b)
	var header map[string]json.RawMessage
	if err := json.Unmarshal(b[8:8+n], &header); err != nil {
		t.Fatal(err)
	}
	var entry struct {
		DType   string `json:"dtype"`
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(header[weight], &entry); err != nil {
		t.Fatalf("%s: %v", weight, err)
	}
	at := 8 + int(n) + entry.Offsets[0]
	if entry.DType == "F32" {
		binary.LittleEndian.PutUint32(b[at+4*index:], bits)
	} else {
		binary.LittleEndian.PutUint16(b[at+2*index:], uint16(bits))
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestNaNWeight(t *testing.T) {
	for part, c := range map[string]struct{ file, weight string }{
		"unet":         {"unet/diffusion_pytorch_model.safetensors", "mid_block.resnets.0.conv1.weight"},
		"vae":          {"vae/diffusion_pytorch_model.safetensors", "decoder.up_blocks.0.resnets.0.norm1.bias"},
		"text_encoder": {"text_encoder/model.safetensors", "final_layer_norm.weight"},
	} {
		dir := copyModel(t, "sd1")
		poke(t, filepath.Join(dir, c.file), c.weight, 3, 0x7e00)
		p := open(t, Options{Model: dir})
		_, err := p.Render(context.Background(), p.NewRequest("a cat"), Events{})
		var bad *kernels.NonFiniteWeightError
		if !errors.As(err, &bad) || bad.Name != part+"."+c.weight || bad.Index != 3 {
			t.Errorf("%s: got %v, want NaN at element 3 of %s", part, err, c.weight)
		}
	}
}

// A result that is not finite must name the first layer that gave it: never a black picture.
func TestOverflowNamesTheLayer(t *testing.T) {
	for part, c := range map[string]struct{ file, weight string }{
		"unet": {"unet/diffusion_pytorch_model.safetensors", "mid_block.resnets.0.conv1.weight"},
		"vae":  {"vae/diffusion_pytorch_model.safetensors", "decoder.mid_block.resnets.0.conv1.weight"},
	} {
		dir := copyModel(t, "odd") // stored in float32, which can hold weights whose products overflow
		for i := range 40 {
			poke(t, filepath.Join(dir, c.file), c.weight, i, math.Float32bits(3e38))
		}
		p := open(t, Options{Model: dir})
		_, err := p.Render(context.Background(), p.NewRequest("a cat"), Events{})
		var bad *kernels.NonFiniteError
		if !errors.As(err, &bad) || bad.Label != part+"."+c.weight || !strings.Contains(err.Error(), "no picture") {
			t.Errorf("%s: got %v, want %s named", part, err, c.weight)
		}
	}
}

// setConfig changes one key of a configuration in a copy of a model and returns the folder.
func setConfig(t *testing.T, file, key string, value any) string {
	t.Helper()
	dir := copyModel(t, "sd1")
	name := filepath.Join(dir, file)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	config[key] = value
	if text, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What a configuration says and this program cannot do is an error that names file, key and value.
func TestUnsupportedConfig(t *testing.T) {
	for _, c := range []struct {
		file, key string
		value     any
		want      string
	}{
		{"unet/config.json", "class_embed_type", "timestep", `class_embed_type is "timestep"`},
		{"unet/config.json", "addition_embed_type", "text_time", `addition_embed_type is "text_time"`},
		{"unet/config.json", "dual_cross_attention", true, "dual_cross_attention is true"},
		{"unet/config.json", "act_fn", "mish", `act_fn is "mish"`},
		{"unet/config.json", "resnet_time_scale_shift", "scale_shift", `resnet_time_scale_shift is "scale_shift"`},
		{"unet/config.json", "down_block_types", []string{"AttnDownBlock2D", "DownBlock2D"}, `"AttnDownBlock2D" is not supported`},
		{"unet/config.json", "mid_block_type", "UNetMidBlock2DSimpleCrossAttn", `mid_block_type is "UNetMidBlock2DSimpleCrossAttn"`},
		{"unet/config.json", "in_channels", 7, "out_channels is 4"},
		{"unet/config.json", "block_out_channels", "wide", `block_out_channels is "wide"`},
		{"unet/config.json", "norm_num_groups", 0, "norm_num_groups is 0"},
		{"unet/config.json", "layers_per_block", -1, "layers_per_block is -1"},
		{"unet/config.json", "something_new", 3, "something_new is 3: not supported, the key is unknown here"},
		{"vae/config.json", "latents_mean", []float64{1}, "latents_mean is [1]"},
		{"vae/config.json", "act_fn", "gelu", `act_fn is "gelu"`},
		{"vae/config.json", "up_block_types", []string{"AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"}, `"AttnUpDecoderBlock2D" is not supported`},
		{"vae/config.json", "scaling_factor", 0, "scaling_factor is 0"},
		{"text_encoder/config.json", "hidden_act", "relu", `hidden_act is "relu"`},
		{"text_encoder/config.json", "model_type", "t5", `model_type is "t5"`},
		{"scheduler/scheduler_config.json", "prediction_type", "guess", `prediction_type is "guess"`},
		{"scheduler/scheduler_config.json", "beta_schedule", "steep", `beta_schedule is "steep"`},
		{"scheduler/scheduler_config.json", "timestep_spacing", "random", `timestep_spacing is "random"`},
	} {
		dir := setConfig(t, c.file, c.key, c.value)
		_, err := Open(Options{Model: dir})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.file) {
			t.Errorf("%s of %s: got %v, want %q", c.key, c.file, err, c.want)
		}
	}
}

// Parts that do not belong together are found when the model is opened, not by a crash.
func TestMismatchedParts(t *testing.T) {
	for _, c := range []struct {
		file, key string
		value     any
		want      string
	}{
		{"unet/config.json", "block_out_channels", []int{16, 16}, "config.json asks for 16×4×3×3"},
		{"unet/config.json", "attention_head_dim", 3, "8 channels do not make 3 attention heads"},
		{"unet/config.json", "norm_num_groups", 5, "8 channels do not make 5 groups"},
		{"unet/config.json", "layers_per_block", 3, "the checkpoint has no weight down_blocks.0.resnets.2"},
		{"vae/config.json", "latent_channels", 8, "config.json asks for"},
		{"text_encoder/config.json", "vocab_size", 100, "config.json asks for 100×24"},
		{"model_index.json", "unet", []string{"diffusers", "UNet2DModel"}, "unet is a UNet2DModel: only UNet2DConditionModel is supported"},
		{"model_index.json", "transformer", []string{"diffusers", "SD3Transformer2DModel"}, "transformer is a SD3Transformer2DModel"},
		{"model_index.json", "unet", []any{nil, nil}, "without unet"},
	} {
		dir := setConfig(t, c.file, c.key, c.value)
		_, err := Open(Options{Model: dir})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %s: got %v, want %q", c.key, c.file, err, c.want)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Model: "testdata/models/none"}, "no such file"},
		{Options{Model: "testdata/cases.json"}, "this is not a safetensors file, a torch.save file or a GGUF file"},
		{Options{Model: "testdata"}, "has no model_index.json"},
		{Options{Backend: "tpu"}, `--backend "tpu": choose auto, cpu, cuda or ref`},
		{Options{DType: "int4"}, `--dtype "int4": choose auto, fp32, tf32, bf16, fp16 or int8`},
		{Options{DType: "int8", Backend: Ref}, `--dtype int8 is for CPUs`},
		{Options{DType: "tf32", Backend: Ref}, `--dtype tf32 is for GPUs`},
		{Options{Backend: Ref, DType: "fp16"}, "--dtype fp16: the ref backend computes in [fp32] only"},
		{Options{Threads: -1}, "--threads -1: it must not be negative"},
	} {
		if _, err := Open(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %q", c.o, err, c.want)
		}
	}
}

// Plain syntax must say what it cut off, and weighted syntax must not cut.
func TestCutWordsAreReported(t *testing.T) {
	p := small(t) // a window of 24 tokens
	r := p.NewRequest(strings.Repeat("red ", 40) + "elephant")
	r.Steps = 1
	var warnings []string
	warn := Events{Warn: func(w string) {
		if !strings.Contains(w, "this build has no kernels") {
			warnings = append(warnings, w)
		}
	}}
	r.Syntax = "plain"
	if _, err := p.Render(context.Background(), r, warn); err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "elephant") || !strings.Contains(warnings[0], "24 tokens") {
		t.Errorf("warnings %q", warnings)
	}
	warnings = nil
	r.Syntax = "weighted"
	if _, err := p.Render(context.Background(), r, warn); err != nil || len(warnings) != 0 {
		t.Errorf("weighted: %v, warnings %q", err, warnings)
	}
}

// needsSpeed skips what takes a minute on the reference backend, in builds that have no other, with -short.
func needsSpeed(t *testing.T) {
	t.Helper()
	if testing.Short() && !cpu.Available {
		t.Skip("short, on the reference backend: builds with kernels run it")
	}
}
