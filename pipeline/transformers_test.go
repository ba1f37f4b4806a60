package pipeline

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"darkroom/checkpoint"
	"darkroom/tensor"
)

const transformerFiles = "testdata/transformers/files"

// Models whose parts are files of their own draw what diffusers draws of the same values: original names, 8 bits, GGUF with a
// tokenizer in it.
func TestTransformersInFiles(t *testing.T) {
	file := func(name string) string { return filepath.Join(transformerFiles, name) }
	for _, c := range []struct {
		picture string
		o       Options
	}{
		{"z-image", Options{Model: file("z_image_turbo_fp8.safetensors"), TextModel: file("encoder/qwen_3_tiny.safetensors"), VAE: file("ae.safetensors")}},
		{"klein", Options{Model: file("flux-2-klein-Q8_0.gguf"), TextModel: file("qwen3-Q4_0.gguf"), VAE: file("flux2-vae.safetensors")}},
	} {
		t.Run(c.picture, func(t *testing.T) {
			p := open(t, c.o)
			r := p.NewRequest("a red apple on a blue table, flat icon")
			r.Syntax, r.Seed, r.Steps, r.Width, r.Height = "plain", 7, 4, 32, 24
			if r.CFG != 1 {
				t.Errorf("--cfg is %v by default, and this model is distilled", r.CFG)
			}
			img := render(t, p, r)
			if dB := psnr(img.Pixels, readPNG(t, file(c.picture+".png"))); dB < 60 {
				t.Errorf("%.1f dB from diffusers', want 60", dB)
			}
			if s := img.Recipe; s.TextModel == "" || s.VAE == "" {
				t.Errorf("the recipe names the text encoder %q and the autoencoder %q", s.TextModel, s.VAE)
			}
		})
	}
	// What a file lacks is said, and how to give it.
	_, err := Open(Options{Model: file("flux-2-klein-Q8_0.gguf")})
	if err == nil || !strings.Contains(err.Error(), "--text-encoder") || !strings.Contains(err.Error(), "--vae") {
		t.Errorf("a transformer alone: %v", err)
	}
	_, err = Open(Options{Model: "testdata/models/sd1", TextModel: file("qwen3-Q4_0.gguf")})
	if err == nil || !strings.Contains(err.Error(), "CLIP") {
		t.Errorf("a language model for Stable Diffusion: %v", err)
	}
}

// LoRAs in the spellings of trainers, diffusers' names and the original's, whose attention has one matrix where the model has
// three, draw what diffusers draws with them in the weights.
func TestTransformersAdapted(t *testing.T) {
	const dir = "testdata/transformers/loras"
	for _, model := range []string{"z-turbo", "klein"} {
		plain := ""
		for _, kind := range []string{"", "peft", "toolkit", "kohya"} {
			t.Run(model+"-"+kind, func(t *testing.T) {
				p := open(t, Options{Model: filepath.Join("testdata/transformers/models", model)})
				r := p.NewRequest("a red apple on a blue table, flat icon")
				r.Syntax, r.Seed, r.Steps, r.Width, r.Height = "plain", 7, 4, 32, 32
				if kind == "" {
					plain = render(t, p, r).Recipe.Result.Pixels
					return
				}
				r.LoRA = filepath.Join(dir, model+"-"+kind+".safetensors") + ":0.8"
				img, warnings := renderWarned(t, p, r)
				warnings = slices.DeleteFunc(warnings, func(w string) bool { return strings.Contains(w, "no kernels for this processor") }) // of a build without C
				if len(warnings) > 0 {
					t.Errorf("warnings: %q", warnings)
				}
				if dB := psnr(img.Pixels, readPNG(t, filepath.Join(dir, model+"-"+kind+".png"))); dB < 60 {
					t.Errorf("%.1f dB from diffusers', want 60", dB)
				}
				r.LoRA = ""
				if again := render(t, p, r).Recipe.Result.Pixels; again != plain {
					t.Error("without the adapter the picture is not the model's own again")
				}
			})
		}
	}
}

// renderWarned is render with what it warned of.
func renderWarned(t *testing.T, p *Pipeline, r Request) (img *Image, warnings []string) {
	t.Helper()
	img, err := p.Render(t.Context(), r, Events{Warn: func(m string) {
		if !strings.Contains(m, "pixels are far from") {
			warnings = append(warnings, m)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return img, warnings
}

// Image to image is diffusers', which for these models runs the steps that are not cut off.
func TestTransformersFromAPicture(t *testing.T) {
	p := open(t, Options{Model: "testdata/transformers/models/z-turbo"})
	for _, c := range []struct {
		name          string
		strength, cfg float64
	}{{"z-init-1", 0.6, 1}, {"z-init-2", 0.9, 3}} {
		r := p.NewRequest("a red apple on a blue table, flat icon")
		r.Syntax, r.Seed, r.Steps, r.CFG, r.Width, r.Height, r.Init, r.Strength = "plain", 21, 6, c.cfg, 0, 0, editFile("init", 64), &c.strength
		if dB := psnr(render(t, p, r).Pixels, readPNG(t, filepath.Join("testdata/transformers", c.name+".png"))); dB < 60 {
			t.Errorf("%s: %.1f dB from diffusers', want 60", c.name, dB)
		}
	}
}

// Reference pictures are diffusers': their sizes, their places, and none of them in the result.
func TestReferences(t *testing.T) {
	const dir = "testdata/transformers/"
	for _, c := range []struct {
		name, model string
		pictures    int
		cfg         float64
	}{{"klein-one", "klein", 1, 1}, {"klein-two", "klein-base", 2, 3}} {
		p := open(t, Options{Model: dir + "models/" + c.model})
		r := p.NewRequest("a red apple on a blue table, flat icon")
		r.Syntax, r.Seed, r.Steps, r.CFG, r.Width, r.Height = "plain", 33, 4, c.cfg, 24, 32
		plain := render(t, p, r)
		var paths []string
		for i := range c.pictures {
			paths = append(paths, fmt.Sprintf("%s%s-reference%d.png", dir, c.name, i))
		}
		r.Reference = strings.Join(paths, ";")
		img := render(t, p, r)
		if dB := psnr(img.Pixels, readPNG(t, dir+c.name+".png")); dB < 60 {
			t.Errorf("%s: %.1f dB from diffusers', want 60", c.name, dB)
		}
		if img.Recipe.Result.Pixels == plain.Recipe.Result.Pixels || len(img.Recipe.Files) != c.pictures || img.Recipe.Reference == "" {
			t.Errorf("%s: the recipe has %q and the files %+v", c.name, img.Recipe.Reference, img.Recipe.Files)
		}
		r.Reference = dir + "klein.png" // too small
		if _, err := p.Render(t.Context(), r, Events{}); err == nil || !strings.Contains(err.Error(), "at least 64") {
			t.Errorf("a picture of 32 pixels a side: %v", err)
		}
	}
	p := open(t, Options{Model: dir + "models/z-turbo"})
	r := p.NewRequest("x")
	r.Width, r.Height, r.Reference = 32, 32, editFile("init", 64)
	if _, err := p.Render(t.Context(), r, Events{}); err == nil || !strings.Contains(err.Error(), "does not") {
		t.Errorf("a reference picture for Z-Image: %v", err)
	}
}

// FLUX.1 Kontext is dev's network with a reference picture, known by its name or its pipeline; dev takes none.
func TestKontext(t *testing.T) {
	const dir = "testdata/mmdit/"
	folder := filepath.Join(t.TempDir(), "tiny-Kontext-dev")
	if err := os.CopyFS(folder, os.DirFS(dir+"models/flux-dev")); err != nil {
		t.Fatal(err)
	}
	p := open(t, Options{Model: folder})
	if p.Family() != "FLUX.1 Kontext" || p.NewRequest("x").CFG != 2.5 {
		t.Errorf("it is opened as %s, with a guidance scale of %g", p.Family(), p.NewRequest("x").CFG)
	}
	for name, c := range map[string]struct {
		cfg           float64
		width, height int
	}{"flux-kontext": {2.5, 24, 32}, "flux-kontext-wide": {1.5, 48, 20}, "flux-kontext-uneven": {2.5, 32, 24}} {
		r := p.NewRequest("a red apple on a blue table, flat icon")
		r.Syntax, r.Seed, r.Steps, r.CFG, r.Width, r.Height, r.Reference = "plain", 33, 4, c.cfg, c.width, c.height, dir+name+"-reference.png"
		img := render(t, p, r)
		if dB := psnr(img.Pixels, readPNG(t, dir+name+".png")); dB < 60 {
			t.Errorf("%s: %.1f dB from diffusers', want 60", name, dB)
		}
		r.Reference = ""
		if render(t, p, r).Recipe.Result.Pixels == img.Recipe.Result.Pixels {
			t.Errorf("%s: the reference picture changes nothing", name)
		}
		r.Reference = strings.Repeat(dir+name+"-reference.png;", 2) + dir + name + "-reference.png"
		if err := p.Check(r); err == nil || !strings.Contains(err.Error(), "at most 1") {
			t.Errorf("%s: three pictures: %v", name, err)
		}
	}
	files := filepath.Join(t.TempDir(), "files") // tokenizers of this size lie beside
	if err := os.CopyFS(files, os.DirFS(dir+"files")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(files, "flux1-kontext-dev.safetensors")
	if err := os.Rename(filepath.Join(files, "flux1-dev-all-fp8.safetensors"), file); err != nil {
		t.Fatal(err)
	}
	if single := open(t, Options{Model: file}); single.Family() != "FLUX.1 Kontext" {
		t.Errorf("a single file is opened as %s", single.Family())
	}
	dev := open(t, Options{Model: dir + "models/flux-dev"})
	r := dev.NewRequest("x")
	r.Width, r.Height, r.Reference = 32, 32, dir+"flux-kontext-reference.png"
	if err := dev.Check(r); err == nil || !strings.Contains(err.Error(), "does not") {
		t.Errorf("a reference picture for FLUX.1 dev: %v", err)
	}
}

// FLUX.1 Fill is dev with further channels: it paints under a mask, as diffusers' FluxFillPipeline does, and needs one.
func TestFill(t *testing.T) {
	const dir = "testdata/mmdit/"
	folder := filepath.Join(t.TempDir(), "fill")
	for _, from := range []string{"flux-dev", "flux-fill"} { // only its transformer is its own
		if from == "flux-fill" {
			if err := os.RemoveAll(filepath.Join(folder, "transformer")); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.CopyFS(folder, os.DirFS(dir+"models/"+from)); err != nil {
			t.Fatal(err)
		}
	}
	p := open(t, Options{Model: folder})
	if p.Family() != "FLUX.1 Fill" || p.NewRequest("x").CFG != 30 {
		t.Errorf("it is opened as %s, with a guidance scale of %g", p.Family(), p.NewRequest("x").CFG)
	}
	r := p.NewRequest("a red apple on a blue table, flat icon")
	if _, err := p.Render(t.Context(), r, Events{}); err == nil || !strings.Contains(err.Error(), "is an inpainting model") {
		t.Errorf("without a picture: %v", err)
	}
	for name, cfg := range map[string]float64{"flux-fill": 30, "flux-fill-wide": 10} {
		r.Syntax, r.Seed, r.Steps, r.CFG, r.Width, r.Height = "plain", 19, 4, cfg, 0, 0
		r.Init, r.Mask = dir+name+"-init.png", dir+name+"-mask.png"
		img := render(t, p, r)
		want, original, mask := readPNG(t, dir+name+".png"), readPNG(t, r.Init), readPNG(t, r.Mask)
		for i := 0; i < len(want.Pix); i += 4 {
			if mask.Pix[i] == 0 {
				copy(want.Pix[i:i+3], original.Pix[i:])
			}
		}
		if dB := psnr(img.Pixels, want); dB < 60 {
			t.Errorf("%s: %.1f dB from diffusers', want 60", name, dB)
		}
	}
}

// A transformer draws in windows as well: one that holds the picture is the whole, smaller ones make a picture that its recipe makes
// again, and they are whole tokens.
func TestTransformersInWindows(t *testing.T) {
	for _, model := range []string{"z-turbo", "klein-base"} {
		t.Run(model, func(t *testing.T) {
			p := open(t, Options{Model: filepath.Join("testdata/transformers/models", model)})
			r := p.NewRequest("a red apple")
			r.Seed, r.Steps, r.Width, r.Height = 7, 2, 80, 32
			whole := render(t, p, r)
			r.Windows = "96"
			if one := render(t, p, r); one.Recipe.Result.Pixels != whole.Recipe.Result.Pixels {
				t.Error("one window that holds the picture draws another")
			}
			r.Windows = "32"
			img := render(t, p, r)
			if img.Recipe.Result.Pixels == whole.Recipe.Result.Pixels {
				t.Error("windows change nothing")
			}
			if again := render(t, p, FromRecipe(img.Recipe)); again.Recipe.Result != img.Recipe.Result {
				t.Error("the recipe makes another picture")
			}
			half := p.model.Latent.Step() / 2
			r.Windows = fmt.Sprint(32 + half)
			if err := p.Check(r); err == nil || !strings.Contains(err.Error(), "multiples of") {
				t.Errorf("windows of a part of a token: %v", err)
			}
			r.Windows, r.Tile = "", "x"
			if err := p.Check(r); err == nil || !strings.Contains(err.Error(), "U-Net") {
				t.Errorf("--tile: %v", err)
			}
		})
	}
}

// renamed are a file's arrays with other names.
type renamed map[string]tensor.Array

func (r renamed) Names() []string { return slices.Sorted(maps.Keys(r)) }
func (r renamed) Array(name string) (tensor.Array, bool) {
	a, ok := r[name]
	return a, ok
}

// A file with all parts in it, as other programs have it, draws what the files draw that it is made of. The tokenizer lies beside
// it.
func TestTransformersInOneFile(t *testing.T) {
	file := func(name string) string { return filepath.Join(transformerFiles, name) }
	all := renamed{}
	for name, prefix := range map[string]string{"z_image_turbo_fp8.safetensors": "", "encoder/qwen_3_tiny.safetensors": "text_encoders.qwen3_4b.transformer.", "ae.safetensors": "vae."} {
		s, err := checkpoint.OpenSource(file(name))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, n := range s.Names() {
			a, _ := s.Array(n)
			all[prefix+n] = a
		}
	}
	dir := t.TempDir()
	whole := filepath.Join(dir, "z_image_turbo_all.safetensors")
	if err := checkpoint.Save(whole, all, "", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Model: whole}); err == nil || !strings.Contains(err.Error(), "tokenizer.json") {
		t.Errorf("without a tokenizer: %v", err)
	}
	text, err := os.ReadFile(file("encoder/tokenizer.json"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "tokenizer.json"), text, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, Options{Model: whole})
	r := p.NewRequest("a red apple on a blue table, flat icon")
	r.Syntax, r.Seed, r.Steps, r.Width, r.Height = "plain", 7, 4, 32, 24
	if dB := psnr(render(t, p, r).Pixels, readPNG(t, file("z-image.png"))); dB < 60 {
		t.Errorf("%.1f dB from diffusers', want 60", dB)
	}
}

// Reference pictures take memory beside the picture's own.
func TestReferencesMemory(t *testing.T) {
	const dir = "testdata/transformers/"
	p := open(t, Options{Model: dir + "models/klein"})
	r := p.NewRequest("a red apple on a blue table, flat icon")
	r.Steps, r.Width, r.Height = 2, 32, 32
	need := func() Need {
		pl, err := p.plan(r)
		if err != nil {
			t.Fatal(err)
		}
		return p.needOf(pl, 1)
	}
	alone := need()
	r.Reference = dir + "klein-one-reference0.png"
	pl, err := p.plan(r)
	if err != nil {
		t.Fatal(err)
	}
	part := p.model.Denoiser.Part()
	s := part.Sizes(32, 32, 1, false)
	before := part.Graph(s).ArenaBytes(false)
	s.References = pl.references.count()
	want := alone.Activations + uint64(part.Graph(s).ArenaBytes(false)-before)
	if got := need(); got.Activations != want || got.Activations <= alone.Activations || got.Weights != alone.Weights {
		t.Errorf("with a reference picture %+v are counted, without %+v; %d activations are wanted", got, alone, want)
	}
}
