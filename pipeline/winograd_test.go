package pipeline

import (
	"errors"
	"testing"

	"darkroom/kernels/cpu"
	"darkroom/recipe"
)

// Convolutions with fewer multiplications give the same picture but for rounding, are recorded, and do not change what an
// older recipe gives.
func TestConvolution(t *testing.T) {
	if !cpu.Available {
		t.Skip("no CPU kernels in this build")
	}
	p := open(t, Options{Backend: CPU, DType: "fp32"})
	if !p.device.Backend.Info().Winograd {
		t.Fatal("the CPU has no Winograd convolutions in fp32")
	}
	ask := func(convolution string) Request {
		r := p.NewRequest("a red apple on a table")
		r.Seed, r.Steps, r.Convolution = 5, 4, convolution
		return r
	}
	plain, fast := render(t, p, ask(recipe.PlainSums)), render(t, p, ask(""))
	if plain.Recipe.Convolution != recipe.PlainSums || fast.Recipe.Convolution != recipe.Winograd {
		t.Errorf("the recipes say %q and %q", plain.Recipe.Convolution, fast.Recipe.Convolution)
	}
	if plain.Recipe.Result.Latents == fast.Recipe.Result.Latents {
		t.Error("both give the same latents: one of them was not used")
	}
	if d := psnr(plain.Pixels, fast.Pixels); d < 60 {
		t.Errorf("%.1f dB from the plain sums, 60 are wanted", d)
	} else {
		t.Logf("%.1f dB from the plain sums", d)
	}
	for _, r := range []recipe.Recipe{plain.Recipe, fast.Recipe} {
		if again := render(t, p, FromRecipe(r)); again.Recipe.Result != r.Result {
			t.Errorf("the recipe of %q sums gives another picture: %+v, was %+v", r.Convolution, again.Recipe.Result, r.Result)
		}
	}
	old := plain.Recipe // as the program wrote it that had no choice
	old.Numerics, old.Convolution = "1", ""
	if again := render(t, p, FromRecipe(old)); again.Recipe.Result != old.Result || again.Recipe.Convolution != recipe.PlainSums {
		t.Errorf("an older recipe gives another picture, with %q sums", again.Recipe.Convolution)
	}
	same := func(numerics, backend, dtype string) bool {
		return SameArithmetic(recipe.Recipe{Numerics: numerics, Backend: backend, DType: dtype})
	}
	if !same("1", "cpu", "fp32") || !same("2", "cuda", "tf32") || !same(Numerics, "cuda", "fp16") || same("2", "cuda", "fp16") || same("0", "cpu", "fp32") || same("4", "cpu", "fp32") {
		t.Error("which programs' recipes give the same picture")
	}
	var usage *UsageError
	if _, err := p.Render(t.Context(), ask("quick"), Events{}); !errors.As(err, &usage) {
		t.Errorf("convolution quick: %v", err)
	}
}

// Pictures in one batch that ask for different sums get their own.
func TestConvolutionInBatches(t *testing.T) {
	if !cpu.Available {
		t.Skip("no CPU kernels in this build")
	}
	p := open(t, Options{Backend: CPU, DType: "fp32"})
	var all []Request
	for _, c := range []string{recipe.PlainSums, recipe.Winograd, recipe.PlainSums} {
		r := p.NewRequest("a blue cup")
		r.Seed, r.Steps, r.Convolution = uint64(len(all)), 2, c
		all = append(all, r)
	}
	images := make([]*Image, len(all))
	p.RenderBatch(t.Context(), all, nil, func(i int, img *Image, err error) {
		if err != nil {
			t.Fatal(err)
		}
		images[i] = img
	})
	for i, img := range images {
		if alone := render(t, p, all[i]); alone.Recipe.Result != img.Recipe.Result || img.Recipe.Convolution != all[i].Convolution {
			t.Errorf("picture %d with %s sums differs from itself alone, and says %s", i, all[i].Convolution, img.Recipe.Convolution)
		}
	}
}

// A backend without a choice says nothing of it.
func TestConvolutionElsewhere(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/zsnr", Backend: Ref})
	r := p.NewRequest("a cup")
	r.Steps = 1
	if got := render(t, p, r).Recipe.Convolution; got != "" {
		t.Errorf("the reference's recipe says %q", got)
	}
}
