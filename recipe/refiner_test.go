package recipe

import "testing"

func TestParseRefiner(t *testing.T) {
	for text, want := range map[string]string{
		"sdxl-refiner": "sdxl-refiner:start=0.8", "a/b.safetensors:start=0.5": "a/b.safetensors:start=0.5", `C:\x\r`: `C:\x\r:start=0.8`, `C:\x\r:start=0.25`: `C:\x\r:start=0.25`,
	} {
		model, start, err := ParseRefiner(text)
		if err != nil || FormatRefiner(model, start) != want {
			t.Errorf("%s: %s, %v, %v", text, model, start, err)
		}
		if again, s, err := ParseRefiner(want); err != nil || again != model || s != start {
			t.Errorf("%s: %s, %v, %v", want, again, s, err)
		}
	}
	for _, text := range []string{"a:start=0", "a:start=1", "a:start=", "a:start=nan", ":start=0.5", "a:start=-1"} {
		if model, start, err := ParseRefiner(text); err == nil {
			t.Errorf("%s is %s, %v", text, model, start)
		}
	}
}
