package pipeline

import (
	"fmt"
	"image"
	"image/color"

	"github.com/disintegration/imaging"

	"darkroom/recipe"
)

// placed is a picture that lies over the one that a request starts from, as the model sees that: at the request's size, and of
// the same part where a part of it is painted or it is continued beyond its sides. What lies beyond the picture is black, or its border goes
// on.
func (e *edit) placed(img *image.NRGBA, r *Request, extend bool) (*image.NRGBA, error) {
	black := color.NRGBA{0, 0, 0, 255}
	if e == nil || e.canvas == nil {
		return resized(img, r.Width, r.Height, r.Resize, black), nil
	}
	sides, err := recipe.ParseSides(r.Outpaint)
	if err != nil {
		return nil, err
	}
	c, whole := e.canvas, e.canvas.img.Rect
	if !c.crop.Empty() {
		whole = c.crop
	}
	own := image.Rect(sides.Left, sides.Top, whole.Dx()-sides.Right, whole.Dy()-sides.Bottom) // before it is continued
	at := whole
	if !sameShape(img.Rect, whole) {
		if at = own; !sameShape(img.Rect, own) {
			return nil, fmt.Errorf("the picture has %d×%d pixels, and --init %s %d×%d: they must cover each other", img.Rect.Dx(), img.Rect.Dy(), r.Init, own.Dx(), own.Dy())
		}
	}
	if img.Rect.Dx() != at.Dx() || img.Rect.Dy() != at.Dy() {
		img = imaging.Resize(img, at.Dx(), at.Dy(), imaging.Lanczos)
	}
	part := imaging.New(c.box.Dx(), c.box.Dy(), black)
	for y := range part.Rect.Dy() {
		for x := range part.Rect.Dx() {
			p := image.Pt(x, y).Add(c.box.Min).Sub(at.Min)
			if !p.In(img.Rect) {
				if !extend {
					continue
				}
				p = image.Pt(min(max(p.X, 0), img.Rect.Dx()-1), min(max(p.Y, 0), img.Rect.Dy()-1))
			}
			copy(part.Pix[part.PixOffset(x, y):], img.Pix[img.PixOffset(p.X, p.Y):][:4])
		}
	}
	if part.Rect.Dx() != r.Width || part.Rect.Dy() != r.Height {
		part = imaging.Resize(part, r.Width, r.Height, imaging.Lanczos)
	}
	return part, nil
}

// place tells edits apart that place pictures in other ways.
func (e *edit) place(r *Request) string {
	if e == nil || e.canvas == nil {
		return r.Resize
	}
	return fmt.Sprint(e.canvas.box, e.canvas.img.Rect, e.canvas.crop, r.Outpaint)
}
