package pipeline

import (
	"testing"

	"darkroom/kernels/cpu"
	"darkroom/tensor"
)

// The processor's smaller types draw nearly float32's picture, the same one with streamed weights and in a batch, and
// the recipe says which type it was.
func TestSmallTypes(t *testing.T) {
	if !cpu.Available || len(cpu.Instructions(tensor.BF16)) == 0 {
		t.Skip("this processor has no kernels for bfloat16")
	}
	exact := open(t, Options{Backend: CPU, DType: "fp32"})
	r := exact.NewRequest("a red apple on a table")
	r.Steps, r.Seed = 6, 3
	want := render(t, exact, r)
	for dtype, least := range map[string]float64{"bf16": 45, "int8": 38} { // dB; what is lost in the mean stands in docs/performance.md
		p := open(t, Options{Backend: CPU, DType: dtype})
		got := render(t, p, r)
		if got.Recipe.DType != dtype || got.Recipe.Result.Pixels == want.Recipe.Result.Pixels {
			t.Errorf("--dtype %s: the recipe says %s", dtype, got.Recipe.DType)
		}
		dB := psnr(got.Pixels, want.Pixels)
		t.Logf("%s: %.1f dB to fp32", dtype, dB)
		if dB < least {
			t.Errorf("%s: %.1f dB to fp32, want %v", dtype, dB, least)
		}
		streamed := open(t, Options{Backend: CPU, DType: dtype, LowMemory: true, Threads: 1})
		if again := render(t, streamed, r); again.Recipe.Result != got.Recipe.Result {
			t.Errorf("%s: with streamed weights on one thread it is another picture", dtype)
		}
		other := r
		other.Seed++
		if all, errs := together(t, p, []Request{other, r}, nil); errs[1] != nil || all[1].Recipe.Result != got.Recipe.Result {
			t.Errorf("%s: in a batch it is another picture: %v", dtype, errs[1])
		}
	}
}
