package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/tensor"
)

// controlModel is flux-canny in a folder of that name: only its transformer is its own.
func controlModel(t *testing.T, name string) (folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), name)
	for _, from := range []string{"flux-dev", "flux-canny"} {
		if err := os.RemoveAll(filepath.Join(folder, "transformer")); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(folder, os.DirFS(filepath.Join(mmdit, "models", from))); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// controlRequest is what goldens_mmdit.py draws; its size is the control picture's.
func controlRequest(p *Pipeline, name string) Request {
	r := p.NewRequest("a red apple on a blue table, flat icon")
	r.Syntax, r.Seed, r.Steps, r.CFG, r.Width, r.Height = "plain", 19, 4, 30, 48, 48
	r.Control = filepath.Join(mmdit, name+"-hint.png")
	if name == "flux-canny-wide" {
		r.CFG, r.Width, r.Height = 10, 60, 24
	}
	return r
}

// FLUX.1 Canny and Depth are dev with a control picture's latents as further channels, as in diffusers' FluxControlPipeline and
// FluxControlImg2ImgPipeline.
func TestOwnControl(t *testing.T) {
	p := open(t, Options{Model: controlModel(t, "flux1-canny-dev")})
	for _, name := range []string{"flux-canny", "flux-canny-wide"} {
		r := controlRequest(p, name)
		img, warnings := renderWarned(t, p, r)
		dB := psnr(img.Pixels, readPNG(t, filepath.Join(mmdit, name+".png")))
		t.Logf("%s: %.1f dB", name, dB)
		if dB < 60 {
			t.Errorf("%s: %.1f dB from diffusers', want 60", name, dB)
		}
		if len(warnings) > 0 && p.Backend() != "ref" {
			t.Errorf("%s: warnings %q", name, warnings)
		}
		if r := img.Recipe; r.Control != name+"-hint.png" || len(r.Files) != 1 || r.Files[0].Kind != "hint" || r.Files[0].SHA256 == "" {
			t.Errorf("%s: the recipe has %q with the files %+v", name, r.Control, r.Files)
		}
		again := FromRecipe(img.Recipe)
		again.Control = r.Control // recipes hold no paths
		if render(t, p, again).Recipe.Result != img.Recipe.Result {
			t.Errorf("%s: its recipe makes another picture", name)
		}
		r.Control = filepath.Join(mmdit, "flux-kontext-reference.png")
		if render(t, p, r).Recipe.Result.Pixels == img.Recipe.Result.Pixels {
			t.Errorf("%s: the control picture changes nothing", name)
		}
	}
	r, strength := controlRequest(p, "flux-canny"), 0.6
	r.Init, r.Strength = filepath.Join(mmdit, "flux-canny-init-init.png"), &strength
	dB := psnr(render(t, p, r).Pixels, readPNG(t, filepath.Join(mmdit, "flux-canny-init.png")))
	t.Logf("from a picture: %.1f dB", dB)
	if dB < 60 {
		t.Errorf("from a picture: %.1f dB from diffusers', want 60", dB)
	}
}

// In a file with the original's names and 8 bits it draws what diffusers draws of the same values.
func TestOwnControlInAFile(t *testing.T) {
	p := open(t, Options{Model: filepath.Join(mmdit, "files/flux1-canny-dev-Q8_0.gguf"), Parts: filepath.Join(mmdit, "models/flux-dev")})
	if p.Family() != "FLUX.1 Canny" {
		t.Errorf("it is opened as %s", p.Family())
	}
	dB := psnr(render(t, p, controlRequest(p, "flux-canny")).Pixels, readPNG(t, filepath.Join(mmdit, "flux-canny-Q8_0.png")))
	t.Logf("%.1f dB", dB)
	if dB < 60 {
		t.Errorf("%.1f dB from diffusers', want 60", dB)
	}
}

// Nothing but a name tells Canny and Depth apart. The last one in a path counts: a folder may be called after something else.
func TestOwnControlByName(t *testing.T) {
	for name, want := range map[string]struct {
		family string
		steps  int
		cfg    float64
	}{
		"FLUX.1-Canny-dev":                 {"FLUX.1 Canny", 50, 30},
		"FLUX.1-Depth-dev":                 {"FLUX.1 Depth", 30, 10},
		"depth or not/FLUX.1-Canny-dev":    {"FLUX.1 Canny", 50, 30},
		"models--FLUX.1-Depth-dev/1a2b3c4": {"FLUX.1 Depth", 30, 10},
		"steered":                          {"FLUX.1 Canny or Depth", 30, 10},
	} {
		p := open(t, Options{Model: controlModel(t, name)})
		r := p.NewRequest("x")
		if p.Family() != want.family || r.Steps != want.steps || r.CFG != want.cfg {
			t.Errorf("%s is opened as %s, with %d steps and a guidance scale of %g", name, p.Family(), r.Steps, r.CFG)
		}
		r = controlRequest(p, "flux-canny")
		r.Steps = 1
		_, warnings := renderWarned(t, p, r)
		if warned := strings.Contains(strings.Join(warnings, "\n"), "give it what it was trained with"); warned != (name == "steered") {
			t.Errorf("%s: warnings %q", name, warnings)
		}
	}
}

// With a second pass, in windows, with a negative prompt and preprocessed, the control picture has an effect.
func TestOwnControlWith(t *testing.T) {
	p := open(t, Options{Model: controlModel(t, "flux1-canny-dev")})
	plain := controlRequest(p, "flux-canny")
	plain.Steps = 2
	first := render(t, p, plain).Recipe.Result.Pixels
	for name, change := range map[string]func(*Request){
		"hires":    func(r *Request) { r.Hires = "2:upscaler=lanczos,steps=1" },
		"windows":  func(r *Request) { r.Windows = "32" },
		"negative": func(r *Request) { r.Guidance, r.Negative = "cfg:scale=2", "blurry" },
		"mask":     func(r *Request) { r.Init, r.Mask = editFile("init", 64), editFile("mask", 64) },
		"canny":    func(r *Request) { r.Control += ":pre=canny,low=50,high=200" },
	} {
		r := plain
		change(&r)
		img := render(t, p, r)
		if img.Recipe.Result.Pixels == first {
			t.Errorf("%s: the picture is the plain one's", name)
		}
		again := FromRecipe(img.Recipe)
		again.Init, again.Mask, again.Control = r.Init, r.Mask, r.Control
		if render(t, p, again).Recipe.Result != img.Recipe.Result {
			t.Errorf("%s: its recipe makes another picture", name)
		}
		r.Control = strings.Replace(r.Control, "flux-canny-hint", "flux-kontext-reference", 1)
		if render(t, p, r).Recipe.Result.Pixels == img.Recipe.Result.Pixels {
			t.Errorf("%s: the control picture changes nothing", name)
		}
	}
	// One window that holds the picture is the whole.
	plain.Windows = "48"
	if render(t, p, plain).Recipe.Result.Pixels != first {
		t.Error("one window that holds the picture draws another")
	}
}

// What is wrong with a request says what to do.
func TestOwnControlMistakes(t *testing.T) {
	p := open(t, Options{Model: controlModel(t, "flux1-canny-dev")})
	hint := filepath.Join(mmdit, "flux-canny-hint.png")
	for _, c := range []struct {
		change func(*Request)
		want   string
	}{
		{func(r *Request) { r.Control = "" }, "flux1-canny-dev needs a control picture, such as edges or a depth map: give it with --control IMAGE"},
		{func(r *Request) { r.Control = " ;\t" }, "needs a control picture"},
		{func(r *Request) { r.Control = hint + ";" + hint }, "2 pictures: flux1-canny-dev reads one"},
		{func(r *Request) { r.Control = "canny=" + hint }, "reads its control picture itself, and takes no control network: give --control IMAGE"},
		{func(r *Request) { r.Control = hint + ":scale=0.5" }, "only pre, low and high go with it"},
		{func(r *Request) { r.Control = hint + ":guess" }, "only pre, low and high go with it"},
		{func(r *Request) { r.Control = hint + ":pre=cany" }, "nearest: canny"},
		{func(r *Request) { r.Control = "nothing.png" }, "nothing.png"},
		{func(r *Request) { r.Depth = hint }, "takes its control picture, a depth map too, with --control, not --depth"},
		{func(r *Request) { r.Reference = hint }, "--reference is for models"},
	} {
		r := controlRequest(p, "flux-canny")
		c.change(&r)
		if err := p.Check(r); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
	for model, want := range map[string]string{
		filepath.Join(mmdit, "models/flux-dev"): "MODEL=IMAGE is needed: a network and its picture (a picture alone is for models that read one themselves",
		"testdata/models/sd1":                   "MODEL=IMAGE is needed",
	} {
		p := open(t, Options{Model: model})
		r := controlRequest(p, "flux-canny")
		r.Width, r.Height = 64, 64
		if err := p.Check(r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", model, err, want)
		}
	}
}

// A LoRA that makes dev read a control picture widens its first layer, which adapters cannot do here: the error says what to use. Both
// spellings, Black Forest Labs' with biases and norms, too.
func TestControlLoRA(t *testing.T) {
	p := open(t, Options{Model: filepath.Join(mmdit, "models/flux-dev")})
	for name, arrays := range map[string]map[string]tensor.Shape{
		"diffusers": {
			"transformer.x_embedder.lora_A.weight": {4, 32}, "transformer.x_embedder.lora_B.weight": {32, 4},
			"transformer.transformer_blocks.0.attn.to_q.lora_A.weight": {4, 32}, "transformer.transformer_blocks.0.attn.to_q.lora_B.weight": {32, 4},
		},
		"original": {
			"img_in.lora_A.weight": {4, 32}, "img_in.lora_B.weight": {32, 4}, "img_in.lora_B.bias": {32},
			"double_blocks.0.img_attn.proj.lora_A.weight": {4, 32}, "double_blocks.0.img_attn.proj.lora_B.weight": {32, 4}, "double_blocks.0.img_attn.proj.lora_B.bias": {32},
			"double_blocks.0.img_attn.norm.key_norm.scale": {16},
		},
	} {
		file := filepath.Join(t.TempDir(), "flux1-canny-dev-lora.safetensors")
		halfFile(t, file, arrays, nil)
		r := mmditRequest(p, 24)
		r.LoRA = file
		_, err := p.Render(t.Context(), r, Events{})
		if err == nil || !strings.Contains(err.Error(), "it has 32 inputs for x_embedder, the model has 16") || !strings.Contains(err.Error(), "darkroom pull flux1-canny, flux1-depth") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
