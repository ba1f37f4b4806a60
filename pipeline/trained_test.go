package pipeline

import (
	"strings"
	"testing"

	"darkroom/family"
	defaultmodel "darkroom/models/default"
)

// Sizes far from the trained one are warned of, with sizes that work; those that people use are not.
func TestSizeWarning(t *testing.T) {
	of := func(folder string, side int) *Pipeline {
		return &Pipeline{folder: folder, model: &family.Model{Latent: family.Latent{Factor: 8, Side: side}}}
	}
	small, sd15, sdxl := of(defaultmodel.Name, 16), of("sd15", 64), of("sdxl", 128)
	for _, c := range []struct {
		p             *Pipeline
		width, height int
		want          string // "": no warning
	}{
		{small, 128, 128, ""}, {small, 144, 136, ""},
		{small, 512, 768, "things come twice. These work: 128×128; for more pixels"},
		{of("small", 16), 32, 32, "These work: 128×128, 192×128, 128×192"},
		{small, 64, 64, "cut off"}, {small, 96, 144, "stretched"},
		{sd15, 512, 512, ""}, {sd15, 512, 768, ""}, {sd15, 640, 640, ""}, {sd15, 384, 512, ""},
		{sd15, 1024, 1024, "These work: 512×512, 640×448, 448×640, 704×384, 384×704"},
		{sd15, 256, 256, "cut off"}, {sd15, 1024, 256, "stretched"},
		{sdxl, 1024, 1024, ""}, {sdxl, 1344, 768, ""}, {sdxl, 512, 512, "1024×1024"},
		{of("toy", 8), 512, 512, ""}, {of("unknown", 0), 512, 512, ""},
	} {
		got := c.p.sizeWarning(c.width, c.height)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s, %d×%d: %q, want %q", c.p.folder, c.width, c.height, got, c.want)
		}
	}
}

// What the embedded model does not know is named.
func TestWordWarning(t *testing.T) {
	for prompt, want := range map[string]string{
		"a red apple":           "",
		"a red apple, 8k":       `does not know "8k" and leaves it out: darkroom models show default`,
		"a poodle":              `draws "poodle" as "dog": darkroom models show default`,
		"a poodle, 8k":          `draws "poodle" as "dog", and does not know "8k" and leaves it out: darkroom`,
		"portrait of a critic":  `names nothing that the embedded model can draw (it does not know "portrait", "critic")`,
		"very blue":             `names nothing that the embedded model can draw (it does not know "very")`,
		"blue":                  "names nothing that the embedded model can draw, so",
		"":                      "",
		"a b c d e f g h i j k": "and 2 more",
	} {
		got := wordWarning(prompt)
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", prompt, got, want)
		}
	}
}

// Words that the embedded model does not know change nothing beside a thing that it draws; the recipe keeps the prompt.
func TestUnknownWordsAreLeftOut(t *testing.T) {
	p := open(t, Options{})
	draw := func(prompt string) *Image {
		r := p.NewRequest(prompt)
		r.Seed, r.Steps, r.Width, r.Height = 4, 1, 32, 32
		return render(t, p, r)
	}
	plain, strange := draw("a cat"), draw("a zealous cat (quantum:1.3)")
	if plain.Recipe.Result != strange.Recipe.Result || strange.Recipe.Prompt != "a zealous cat (quantum:1.3)" {
		t.Errorf("%q gives another picture than %q", strange.Recipe.Prompt, plain.Recipe.Prompt)
	}
	if draw("zealous quantum").Recipe.Result == draw("").Recipe.Result {
		t.Error("a prompt of unknown words alone is not read")
	}
}
