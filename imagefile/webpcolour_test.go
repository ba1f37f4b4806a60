package imagefile

import (
	"image"
	"testing"
)

// A lossy WebP has the colours that libwebp gives it (through Pillow): white is white, and edges of colours lie where they are, in
// pictures with and without transparency.
func TestLossyWebPColours(t *testing.T) {
	for _, name := range []string{"lossy", "lossy-alpha", "lossy-1x3"} {
		got, err := Load("testdata/" + name + ".webp")
		if err != nil {
			t.Fatal(err)
		}
		want, err := Load("testdata/" + name + ".png")
		if err != nil {
			t.Fatal(err)
		}
		if got.Pixels.Rect != want.Pixels.Rect {
			t.Fatalf("%s: %v, want %v", name, got.Pixels.Rect, want.Pixels.Rect)
		}
		worst, white := 0, image.Point{-1, -1}
		for i := range want.Pixels.Pix {
			d := int(want.Pixels.Pix[i]) - int(got.Pixels.Pix[i])
			worst = max(worst, d, -d)
			if i%4 == 0 && want.Pixels.Pix[i] == 255 {
				white = image.Pt(i/4%want.Pixels.Rect.Dx(), i/4/want.Pixels.Rect.Dx())
			}
		}
		// libwebp rounds the colours of the outermost columns in another order.
		if worst > 1 || white.X < 0 {
			t.Errorf("%s: %d levels from libwebp; white at %v", name, worst, white)
		}
	}
}
