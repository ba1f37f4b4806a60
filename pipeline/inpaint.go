package pipeline

import (
	"cmp"
	"image"
	"image/color"
	"math"
	"path/filepath"
	"slices"

	"github.com/disintegration/imaging"

	"darkroom/imagefile"
	"darkroom/recipe"
)

// canvas is what a picture with a mask is painted on, at its own size.
type canvas struct {
	img  *image.NRGBA
	mask []float32       // 1 where it is painted anew
	soft bool            // the mask has more values than 0 and 1
	box  image.Rectangle // what the model sees of it
	crop image.Rectangle // what is kept of the result; empty: all
}

// at is the share of a pixel that is repainted.
func (c *canvas) at(x, y int) *float32 { return &c.mask[y*c.img.Rect.Dx()+x] }

// loadMask reads the request's mask of a picture, as shares of its pixels that are repainted at the picture's own size; nil
// without one.
func (p *Pipeline) loadMask(r *Request, e *edit, init *image.NRGBA) (*image.NRGBA, error) {
	b := init.Bounds()
	switch r.Mask {
	case "":
		return nil, nil
	case recipe.MaskOfAlpha:
		if init.Opaque() {
			return nil, usagef("--mask alpha: --init %s has no transparent part to paint: give a mask's file", r.Init)
		}
		return init, nil
	}
	mask, err := imagefile.Load(r.Mask)
	if err != nil {
		return nil, usagef("--mask: %w", err)
	}
	if m := mask.Pixels.Bounds(); !sameShape(m, b) {
		return nil, usagef("--mask %s has %d×%d pixels, --init %s %d×%d: they must cover each other", r.Mask, m.Dx(), m.Dy(), r.Init, b.Dx(), b.Dy())
	}
	e.files = append(e.files, recipe.File{Kind: "mask", Name: filepath.Base(r.Mask), SHA256: mask.SHA256})
	return mask.Pixels, nil
}

// nothingMasked is the error of a mask that leaves all of the picture.
func nothingMasked(r *Request) error {
	return usagef("--mask %s is black, so nothing would be painted (white is repainted; --invert-mask swaps the two)", r.Mask)
}

// newCanvas lays the picture out with its mask, and with empty sides where it is continued.
func newCanvas(opaque, mask *image.NRGBA, r *Request, s recipe.Sides) *canvas {
	b := opaque.Bounds()
	c := &canvas{img: opaque, box: image.Rect(0, 0, b.Dx()+s.Left+s.Right, b.Dy()+s.Top+s.Bottom), soft: r.MaskBlur > 0}
	small := make([]float32, b.Dx()*b.Dy())
	if mask != nil {
		own := *r
		own.Width, own.Height, own.Resize = b.Dx(), b.Dy(), "stretch"
		small = readMask(mask, &own)
	}
	if s == (recipe.Sides{}) {
		c.mask = small
		return c
	}
	c.soft = true
	c.img = image.NewNRGBA(c.box)
	c.mask = make([]float32, c.box.Dx()*c.box.Dy())
	blend := float64(cmp.Or(r.MaskBlur, min(max(min(b.Dx(), b.Dy())/5, 8), 48)))
	for y := range c.box.Dy() {
		for x := range c.box.Dx() {
			// Beyond the picture its border goes on.
			i, j := min(max(x-s.Left, 0), b.Dx()-1), min(max(y-s.Top, 0), b.Dy()-1)
			copy(c.img.Pix[c.img.PixOffset(x, y):], opaque.Pix[opaque.PixOffset(i, j):][:4])
			if i != x-s.Left || j != y-s.Top {
				*c.at(x, y) = 1
				continue
			}
			// Within it, what is painted fades out over so many pixels from the sides that are continued.
			nearest := math.Inf(1)
			for _, side := range []struct{ pixels, distance int }{{s.Left, i}, {s.Right, b.Dx() - 1 - i}, {s.Top, j}, {s.Bottom, b.Dy() - 1 - j}} {
				if side.pixels > 0 {
					nearest = min(nearest, float64(side.distance))
				}
			}
			fade := float32(max(0, 1-(nearest+1)/blend))
			*c.at(x, y) = max(fade, small[j*b.Dx()+i])
		}
	}
	return c
}

// masked is the box around what is painted, with so many pixels around it, in the proportions of the picture that is made as
// far as the canvas allows it: that of diffusers' padding_mask_crop.
func (c *canvas) masked(padding, width, height int) image.Rectangle {
	box := image.Rectangle{}
	for y := range c.img.Rect.Dy() {
		for x := range c.img.Rect.Dx() {
			if *c.at(x, y) > 0 {
				box = box.Union(image.Rect(x, y, x+1, y+1))
			}
		}
	}
	box = box.Inset(-padding).Intersect(c.img.Rect)
	if box.Dx()*height > box.Dy()*width {
		box.Min.Y, box.Max.Y = widened(box.Min.Y, box.Max.Y, int(float64(box.Dx())*float64(height)/float64(width)), c.img.Rect.Dy())
	} else {
		box.Min.X, box.Max.X = widened(box.Min.X, box.Max.X, int(float64(box.Dy())*float64(width)/float64(height)), c.img.Rect.Dx())
	}
	return box
}

// widened makes an interval as long as want, to both sides, within 0 and most.
func widened(low, high, want, most int) (int, int) {
	want = min(max(want, high-low), most)
	low -= (want - (high - low)) / 2
	low = min(max(low, 0), most-want)
	return low, low + want
}

// show makes what the model sees of the canvas: the part in its box at a size, with the mask there.
func (c *canvas) show(e *edit, r *Request) {
	part := imaging.Crop(c.img, c.box)
	mask := image.NewGray(c.img.Rect)
	for i, v := range c.mask {
		mask.Pix[i] = uint8(255*v + 0.5)
	}
	small := imaging.Crop(mask, c.box)
	if part.Rect.Dx() != r.Width || part.Rect.Dy() != r.Height {
		part, small = imaging.Resize(part, r.Width, r.Height, imaging.Lanczos), imaging.Resize(small, r.Width, r.Height, imaging.Linear)
	}
	e.init, e.mask = part, make([]float32, r.Width*r.Height)
	for i := range e.mask {
		v := float32(small.Pix[4*i]) / 255
		if !c.soft { // all or nothing
			v = float32(math.Round(float64(v)))
		}
		e.mask[i] = v
	}
	if !c.soft && !slices.Contains(e.mask, 1) { // too small to be seen
		for i := range e.mask {
			if small.Pix[4*i] > 0 {
				e.mask[i] = 1
			}
		}
	}
	e.canvas = c
}

// put lays the picture that was made over the part of the canvas that it showed: where the mask is 0, the canvas stays to the pixel.
func (c *canvas) put(made *image.NRGBA) *image.NRGBA {
	if made.Rect.Dx() != c.box.Dx() || made.Rect.Dy() != c.box.Dy() {
		made = imaging.Resize(made, c.box.Dx(), c.box.Dy(), imaging.Lanczos)
	}
	out := imaging.Clone(c.img)
	for y := c.box.Min.Y; y < c.box.Max.Y; y++ {
		for x := c.box.Min.X; x < c.box.Max.X; x++ {
			mix(out.Pix[out.PixOffset(x, y):], made.Pix[made.PixOffset(x-c.box.Min.X, y-c.box.Min.Y):], *c.at(x, y))
		}
	}
	if !c.crop.Empty() {
		out = imaging.Crop(out, c.crop)
	}
	return out
}

// mix takes a share of another pixel.
func mix(pixel, other []uint8, share float32) {
	for k := range 3 {
		was, is := float32(pixel[k]), float32(other[k])
		pixel[k] = uint8(was + share*(is-was) + 0.5)
	}
}

// layOut settles the size of a picture that is continued beyond its sides or painted in a part, and what the model sees of it.
func (p *Pipeline) layOut(r *Request, e *edit, opaque, mask *image.NRGBA, sides recipe.Sides) error {
	c := newCanvas(opaque, mask, r, sides)
	f, size := p.model.Latent.Factor, c.img.Bounds()
	if !slices.ContainsFunc(c.mask, func(v float32) bool { return v > 0 }) {
		return nothingMasked(r)
	}
	if r.Inpaint == recipe.InpaintMasked {
		r.Width, r.Height = cmp.Or(r.Width, p.model.Defaults.Width), cmp.Or(r.Height, p.model.Defaults.Height)
		padding, ok := r.Extra["padding"].(int)
		if !ok {
			padding = recipe.DefaultPadding
		}
		c.box = c.masked(padding, r.Width, r.Height)
	} else {
		// Rounded up, so that what is there keeps its pixels: what is too much goes beyond the right and the lower side, and is cut
		// off again.
		up := func(n int) int { return (n + f - 1) / f * f }
		w, h := up(size.Dx()), up(size.Dy())
		r.Width, r.Height = cmp.Or(r.Width, w), cmp.Or(r.Height, h)
		if r.Width == w && r.Height == h && (w > size.Dx() || h > size.Dy()) {
			wide := *r
			wide.MaskBlur = cmp.Or(r.MaskBlur, 1)
			more := newCanvas(c.img, nil, &wide, recipe.Sides{Right: w - size.Dx(), Bottom: h - size.Dy()})
			for y := range size.Dy() {
				for x := range size.Dx() {
					*more.at(x, y) = *c.at(x, y)
				}
			}
			more.soft, more.crop = c.soft, size
			c = more
		}
	}
	if r.Width > recipe.MaxSide || r.Height > recipe.MaxSide {
		return usagef("--init %s and --outpaint %s: %d×%d pixels, more than the %d allowed per side: give --width and --height", r.Init, r.Outpaint, r.Width, r.Height, recipe.MaxSide)
	}
	c.show(e, r)
	return nil
}

// flattened is a picture on white.
func flattened(img *image.NRGBA) *image.NRGBA {
	return imagefile.Flatten(img, color.NRGBA{255, 255, 255, 255})
}
