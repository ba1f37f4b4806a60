package pipeline

import (
	"context"
	"testing"

	"darkroom/kernels/ref"
)

// Where there is no room for all parts, the text encoders' weights go after each prompt: the pictures are the same, no more memory is
// taken than was said, and below that a picture is refused.
func TestFrugal(t *testing.T) {
	for _, model := range []string{"testdata/models/sd1", "testdata/sdxl/models/xl"} {
		plenty := open(t, Options{Model: model, Backend: Ref})
		p := open(t, Options{Model: model, Backend: Ref})
		b := &counting{Backend: ref.New(0)}
		p.device.Backend = b
		whole, frugal := p.need(16, 16, 2, false).Total(), p.model.NeedFrugal(16, 16, 2, false).Total()
		if frugal >= whole {
			t.Fatalf("%s: %d bytes where memory is short, %d otherwise", model, frugal, whole)
		}
		limit := int(whole) - 1
		p.free = func() (uint64, bool) { return uint64(limit - b.used), true }
		for _, prompt := range []string{"a cat", "a dog", "a cat"} {
			r := p.NewRequest(prompt)
			r.Steps, r.Width, r.Height, r.CFG = 2, 16, 16, 4
			if got, want := render(t, p, r).Recipe.Result, render(t, plenty, r).Recipe.Result; got != want {
				t.Errorf("%s, %s: another picture", model, prompt)
			}
			if p.model.Part(p.model.Parts[0].Name).Loaded() {
				t.Errorf("%s: the text encoder was not dropped", model)
			}
		}
		if uint64(b.most) > frugal {
			t.Errorf("%s: %d bytes were taken, %d said", model, b.most, frugal)
		}
		short := open(t, Options{Model: model, Backend: Ref})
		short.free = func() (uint64, bool) { return frugal - 1, true }
		r := short.NewRequest("a cat")
		r.Steps, r.Width, r.Height, r.CFG = 2, 16, 16, 4
		if _, err := short.Render(context.Background(), r, Events{}); err == nil {
			t.Errorf("%s: a picture that does not fit is not refused", model)
		}
	}
}
