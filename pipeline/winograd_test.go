package pipeline

import (
	"errors"
	"testing"

	"darkroom/kernels/cpu"
	"darkroom/recipe"
	"darkroom/tensor"
)

// Convolutions with fewer multiplications give the same picture but for rounding, are recorded, and do not change what an
// older recipe gives.
func TestConvolution(t *testing.T) {
	if !cpu.Available {
		t.Skip("no CPU kernels in this build")
	}
	testConvolution(t, "fp32", "1")
	if sets := cpu.Instructions(tensor.BF16); len(sets) > 0 && sets[0] == "avx512bf16" {
		testConvolution(t, "bf16", "3")
	}
}

// testConvolution draws in a type, which had no choice up to the version of the arithmetic named.
func testConvolution(t *testing.T, dtype, plainUntil string) {
	p := open(t, Options{Backend: CPU, DType: dtype})
	if !p.device.Backend.Info().Winograd {
		t.Fatalf("the CPU has no Winograd convolutions in %s", dtype)
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
	least := 60.0
	if dtype != "fp32" {
		least = 45 // both are as far from float32
	}
	if d := psnr(plain.Pixels, fast.Pixels); d < least {
		t.Errorf("%s: %.1f dB from the plain sums, %g are wanted", dtype, d, least)
	} else {
		t.Logf("%s: %.1f dB from the plain sums", dtype, d)
	}
	for _, r := range []recipe.Recipe{plain.Recipe, fast.Recipe} {
		if again := render(t, p, FromRecipe(r)); again.Recipe.Result != r.Result {
			t.Errorf("the recipe of %q sums gives another picture: %+v, was %+v", r.Convolution, again.Recipe.Result, r.Result)
		}
	}
	old := plain.Recipe // as the program wrote it that had no choice
	old.Numerics, old.Convolution = plainUntil, ""
	if again := render(t, p, FromRecipe(old)); again.Recipe.Result != old.Result || again.Recipe.Convolution != recipe.PlainSums {
		t.Errorf("an older recipe gives another picture, with %q sums", again.Recipe.Convolution)
	}
	var usage *UsageError
	if _, err := p.Render(t.Context(), ask("quick"), Events{}); !errors.As(err, &usage) {
		t.Errorf("convolution quick: %v", err)
	}
}

func TestSameArithmetic(t *testing.T) {
	same := func(numerics, backend, dtype string) bool {
		return SameArithmetic(recipe.Recipe{Numerics: numerics, Backend: backend, DType: dtype})
	}
	if !same("1", "cpu", "fp32") || !same("2", "cuda", "tf32") || !same(Numerics, "cuda", "fp16") || same("2", "cuda", "fp16") || !same("3", "cuda", "fp16") || !same("3", "cpu", "bf16") ||
		same("0", "cpu", "fp32") || same("5", "cpu", "fp32") {
		t.Error("which programs' recipes give the same picture")
	}
	for backend, want := range map[string]string{"cpu": recipe.PlainSums, "cuda": "", "": ""} { // "": another program's
		if got := FromRecipe(recipe.Recipe{Numerics: "3", Backend: backend}).Convolution; got != want {
			t.Errorf("an older recipe of backend %q asks for %q sums, want %q", backend, got, want)
		}
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
