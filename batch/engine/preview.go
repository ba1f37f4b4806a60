package engine

import (
	"bytes"
	"image"
	"image/jpeg"
	"time"

	"github.com/disintegration/imaging"
)

// Previews decides after which steps of a picture a preview is made. The zero value makes none but those that are watched.
type Previews struct {
	Sure int // previews that are made whether or not anybody watches, evenly spaced

	asked, made time.Time
	cost        time.Duration // of the latest preview
}

// Want reports whether a preview is to be made after a step. Those that are watched take an eighth of the time at most.
func (p *Previews) Want(step, steps int, watched bool) bool {
	p.asked = time.Now()
	for k := 1; k <= p.Sure; k++ {
		if step == max(steps*k/(p.Sure+1), 1) {
			return true
		}
	}
	return watched && p.asked.Sub(p.made) > max(8*p.cost, 300*time.Millisecond)
}

// Made notes that the preview that was wanted is there.
func (p *Previews) Made() {
	p.made = time.Now()
	p.cost = p.made.Sub(p.asked)
}

// previewSide is the longer side of a preview, in pixels.
const previewSide = 512

// EncodePreview makes a JPEG of a preview, which it makes smaller if it is large.
func EncodePreview(picture *image.NRGBA) ([]byte, error) {
	if b := picture.Bounds(); max(b.Dx(), b.Dy()) > previewSide {
		picture = imaging.Fit(picture, previewSide, previewSide, imaging.Box)
	}
	var buf bytes.Buffer
	err := jpeg.Encode(&buf, picture, &jpeg.Options{Quality: 80})
	return buf.Bytes(), err
}
