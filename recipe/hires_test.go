package recipe

import (
	"strings"
	"testing"
)

// A second pass and a variation are read as the web UI writes them, and written so.
func TestParametersOfEdits(t *testing.T) {
	for _, c := range []struct{ fields, variation, hires, tile, unused string }{
		{"Variation seed: 9, Variation seed strength: 0.2", "9:0.2", "", "", ""},
		{"Variation seed: 9, Variation seed strength: 2", "", "", "", "Variation seed"},
		{"Denoising strength: 0.55, Hires upscale: 1.5, Hires steps: 12, Hires upscaler: Latent", "", "1.5:upscaler=latent,strength=0.55,steps=12", "", ""},
		{"Denoising strength: 0.3, Hires upscale: 2, Hires upscaler: R-ESRGAN 4x+", "", "2:upscaler=R-ESRGAN 4x+,strength=0.3", "", ""},
		{"Denoising strength: 0.7, Hires resize: 1024x1536, Hires upscaler: Lanczos", "", "2:upscaler=lanczos,strength=0.7", "", ""},
		{"Denoising strength: 0.75", "", "", "", "Denoising strength"}, // image to image
		{"Hires upscale: 99, Hires upscaler: Latent", "", "", "", "Hires upscale,Hires upscaler"},
		{"Tiling: True", "", "", "both", ""},
	} {
		f, err := ParseParameters("a cat\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 512x768, " + c.fields + ", Version: v1.10.1")
		if err != nil {
			t.Fatal(err)
		}
		r := f.Recipe
		var unused []string
		for _, u := range f.Unused {
			unused = append(unused, u.Key)
		}
		if r.Variation != c.variation || r.Hires != c.hires || r.Tile != c.tile || strings.Join(unused, ",") != c.unused {
			t.Errorf("%s: %q %q %q, unused %v", c.fields, r.Variation, r.Hires, r.Tile, unused)
		}
		if c.unused != "" {
			continue
		}
		again, err := ParseParameters(r.Parameters())
		if a := again.Recipe; err != nil || a.Variation != r.Variation || a.Hires != r.Hires || a.Tile != r.Tile || len(again.Unused) > 0 {
			t.Errorf("%q gives %q %q %q, unused %v, %v", r.Parameters(), a.Variation, a.Hires, a.Tile, again.Unused, err)
		}
	}
	several := Recipe{Variation: "1:0.5,2:0.25", Steps: 3, Scheduler: "ddim", Width: 8, Height: 8}
	if f, err := ParseParameters(several.Parameters()); err != nil || f.Recipe.Variation != several.Variation {
		t.Errorf("%q: %v", f.Recipe.Variation, err)
	}
}

// A malformed variation or second pass is refused with a message that shows a valid one.
func TestParseEdits(t *testing.T) {
	for text, want := range map[string]string{
		"7": "write SEED:STRENGTH", "x:1": "write SEED:STRENGTH", "-1:1": "write SEED:STRENGTH", "7:1.1": "from 0 to 1", "7:nan": "from 0 to 1", "7:0.1,": "write SEED:STRENGTH",
	} {
		if _, err := ParseVariation(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		"1": "above 1", "9": "above 1", "nan": "above 1", "2:": "write SCALE", "2:x=1": "write SCALE", "2:strength=0": "strength above 0", "2:steps=-1": "whole number", "2:upscaler=": "latent, lanczos",
	} {
		if _, err := ParseHires(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	row, _ := Lookup("hires")
	if got := row.List("1.5,2:upscaler=lanczos,steps=9,3"); len(got) != 3 || got[1] != "2:upscaler=lanczos,steps=9" {
		t.Errorf("a list of second passes: %q", got)
	}
}

// FuzzHires: what is read is written so that it is read as the same.
func FuzzHires(f *testing.F) {
	f.Add("2:upscaler=latent,strength=0.7,steps=9", "7:0.5,8:1")
	f.Add("1.5", "")
	f.Fuzz(func(t *testing.T, hires, variation string) {
		if h, err := ParseHires(hires); err == nil && h != nil {
			again, err := ParseHires(h.String())
			if err != nil || *again != *h {
				t.Errorf("%q became %q, which is %+v, %v", hires, h, again, err)
			}
		}
		if list, err := ParseVariation(variation); err == nil {
			text := FormatVariation(list)
			if again, err := ParseVariation(text); err != nil || FormatVariation(again) != text {
				t.Errorf("%q became %q: %v", variation, text, err)
			}
		}
	})
}
