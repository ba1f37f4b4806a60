package pipeline

import (
	"context"
	"image"
	"image/color"
	"path/filepath"
	"slices"

	"github.com/disintegration/imaging"

	"darkroom/family"
	"darkroom/imagefile"
	"darkroom/recipe"
	"darkroom/scheduler"
)

// edit is the picture that a request starts from, at the size of the picture that is made.
type edit struct {
	init  *image.NRGBA
	mask  []float32 // [H,W], 1 where it is painted anew; nil without a mask
	files []recipe.File

	canvas *canvas // where the result is put; nil: it is the result

	small []float32 // mask at the size of latents, [h,w]
	known []float32 // latents of init, [C,h,w]
	noise []float32 // that known is brought to a level with
}

// strength is the share of the steps that is run; nil where all are, from noise.
func strength(r Request) *float64 {
	s := 0.8 // diffusers'
	switch {
	case r.Init == "":
		return nil
	case r.Strength != nil:
		s = *r.Strength
	case r.Mask != "" || r.Outpaint != "":
		s = 1
	}
	return &s
}

// loadEdit reads the request's picture and mask and settles its size, which is the picture's own where none is given. nil
// without a picture.
func (p *Pipeline) loadEdit(r *Request) (*edit, error) {
	if r.Init == "" {
		for _, s := range []struct {
			name  string
			given bool
		}{{"mask", r.Mask != ""}, {"strength", r.Strength != nil}, {"outpaint", r.Outpaint != ""}, {"inpaint", r.Inpaint == recipe.InpaintMasked}, {"move", r.Move != ""}} {
			if s.given {
				return nil, usagef("--%s needs a picture to change: give it with --init", s.name)
			}
		}
		return nil, nil
	}
	picture, err := imagefile.Load(r.Init)
	if err != nil {
		return nil, usagef("--init: %w", err)
	}
	e := &edit{files: []recipe.File{{Kind: "init", Name: filepath.Base(r.Init), SHA256: picture.SHA256}}}
	sides, err := recipe.ParseSides(r.Outpaint)
	switch {
	case err != nil:
		return nil, usagef("--outpaint %w", err)
	case r.Resize != "" && !slices.Contains(recipe.Resizes(), r.Resize):
		return nil, usagef("--resize %.40q: choose fill, fit or stretch", r.Resize)
	case r.Inpaint != "" && r.Inpaint != recipe.InpaintWhole && r.Inpaint != recipe.InpaintMasked:
		return nil, usagef("--inpaint %.40q: choose whole or masked", r.Inpaint)
	case r.Inpaint == recipe.InpaintMasked && r.Mask == "" && r.Outpaint == "":
		return nil, usagef("--inpaint masked needs a mask: give it with --mask")
	}
	move, err := recipe.ParseMove(r.Move)
	if err != nil {
		return nil, usagef("--move %w", err)
	}
	opaque := moved(flattened(picture.Pixels), move)
	mask, err := p.loadMask(r, e, picture.Pixels)
	if err != nil {
		return nil, err
	}
	if r.Inpaint == recipe.InpaintMasked || r.Outpaint != "" {
		return e, p.layOut(r, e, opaque, mask, sides)
	}
	f, b := p.model.Latent.Step(), picture.Pixels.Bounds()
	if r.Width == 0 {
		r.Width = nearest(b.Dx(), f)
	}
	if r.Height == 0 {
		r.Height = nearest(b.Dy(), f)
	}
	if r.Width > recipe.MaxSide || r.Height > recipe.MaxSide {
		return nil, usagef("--init %s has %d×%d pixels, more than the %d allowed per side: give --width and --height", r.Init, b.Dx(), b.Dy(), recipe.MaxSide)
	}
	e.init = resized(opaque, r.Width, r.Height, r.Resize, color.NRGBA{255, 255, 255, 255})
	if mask == nil {
		return e, nil
	}
	e.mask = readMask(mask, r)
	if !slices.ContainsFunc(e.mask, func(v float32) bool { return v > 0 }) {
		return nil, nothingMasked(r)
	}
	return e, nil
}

// sameShape reports whether two sizes have one proportion, to a pixel.
func sameShape(a, b image.Rectangle) bool {
	d := a.Dx()*b.Dy() - a.Dy()*b.Dx()
	return max(d, -d) <= max(a.Dx(), a.Dy(), b.Dx(), b.Dy())
}

// resized brings a picture to a size, by Lanczos' filter.
func resized(img *image.NRGBA, w, h int, how string, border color.NRGBA) *image.NRGBA {
	if img.Bounds().Dx() == w && img.Bounds().Dy() == h {
		return img
	}
	switch how {
	case "stretch":
		return imaging.Resize(img, w, h, imaging.Lanczos)
	case "fit":
		return imaging.PasteCenter(imaging.New(w, h, border), fitted(img, w, h))
	}
	return imaging.Fill(img, w, h, imaging.Center, imaging.Lanczos)
}

// fitted scales a picture to touch the sides of w×h, up or down.
func fitted(img *image.NRGBA, w, h int) *image.NRGBA {
	b := img.Bounds()
	if b.Dx()*h > b.Dy()*w {
		return imaging.Resize(img, w, 0, imaging.Lanczos)
	}
	return imaging.Resize(img, 0, h, imaging.Lanczos)
}

// readMask is the share of each pixel that is repainted: what is white, or transparent where any pixel is. Without a
// blur it is all or nothing, as in diffusers.
func readMask(img *image.NRGBA, r *Request) []float32 {
	grey := image.NewNRGBA(img.Rect)
	useAlpha := !img.Opaque()
	for i := 0; i < len(img.Pix); i += 4 {
		v := uint8((299*int(img.Pix[i]) + 587*int(img.Pix[i+1]) + 114*int(img.Pix[i+2]) + 500) / 1000) // ITU-R BT.601, as Pillow's
		if useAlpha {
			v = 255 - img.Pix[i+3]
		}
		grey.Pix[i], grey.Pix[i+1], grey.Pix[i+2], grey.Pix[i+3] = v, v, v, 255
	}
	grey = resized(grey, r.Width, r.Height, r.Resize, color.NRGBA{0, 0, 0, 255})
	for i := 0; i < len(grey.Pix); i += 4 {
		hard := uint8(0)
		if (grey.Pix[i] >= 128) != r.InvertMask {
			hard = 255
		}
		grey.Pix[i], grey.Pix[i+1], grey.Pix[i+2] = hard, hard, hard
	}
	if r.MaskBlur > 0 {
		grey = imaging.Blur(grey, float64(r.MaskBlur)/2)
	}
	mask := make([]float32, r.Width*r.Height)
	for i := range mask {
		mask[i] = float32(grey.Pix[4*i]) / 255
	}
	return mask
}

// values are a picture as networks read it: [3,H,W] from -1 to 1; where masked is given, 0 where it is repainted.
func values(img *image.NRGBA, mask []float32) []float32 {
	n := img.Rect.Dx() * img.Rect.Dy()
	out := make([]float32, 3*n)
	for i := range n {
		for c := range 3 {
			v := 2*(float32(img.Pix[4*i+c])/255) - 1
			if mask != nil && mask[i] >= 0.5 {
				v = 0
			}
			out[c*n+i] = v
		}
	}
	return out
}

// beginEdit puts the first x of a picture that starts from another: noise is the picture's first draw so far. The draws are
// those of diffusers' pipelines, in their order: the posterior's, the noise, and with a mask that of the masked picture.
func (m *picture) beginEdit(ctx context.Context) error {
	e, pl := m.edit, m.plan
	reads := m.p.model.Denoiser.Reading()
	whole := e.mask != nil && *strength(pl.Request) == 1 // from noise alone
	if reads != family.ReadsMask || !whole {
		known, err := m.encode(ctx, values(e.init, nil))
		if err != nil {
			return err
		}
		e.known = known
	}
	e.noise = make([]float32, pl.latentValues)
	m.firstNoise(e.noise)
	m.result.Noise = hashFloats(e.noise)
	if whole {
		copy(m.x, e.noise)
		pl.schedule.Init(m.x)
	} else {
		pl.schedule.AddNoise(m.x, e.known, e.noise)
	}
	if e.mask == nil {
		return nil
	}
	e.small = smaller(e.mask, pl.Width, pl.latentW, pl.latentH, m.p.model.Latent.Factor, pl.MaskBlur > 0 || e.canvas != nil && e.canvas.soft)
	masked, err := m.encode(ctx, values(e.init, e.mask))
	if err != nil {
		return err
	}
	switch reads {
	case family.ReadsMask:
		m.denoiser.extra = slices.Repeat([][]float32{slices.Concat(e.small, masked)}, pl.rows())
	case family.ReadsMaskPixels:
		m.denoiser.extra = slices.Repeat([][]float32{slices.Concat(masked, pixelsOfMask(e.mask, pl.latentW, pl.latentH, m.p.model.Latent.Factor))}, pl.rows())
	}
	return nil
}

// encode draws latents of a picture from the encoder's posterior.
func (m *picture) encode(ctx context.Context, picture []float32) ([]float32, error) {
	mean, std, err := m.p.model.Codec.Encode(ctx, picture, m.area(m.p))
	if err != nil {
		return nil, err
	}
	if std == nil {
		return mean, nil
	}
	ε := make([]float32, len(mean))
	m.draw(ε)
	for i := range ε {
		ε[i] = mean[i] + std[i]*ε[i]
	}
	return ε, nil
}

// smaller is a mask at the size of latents: the pixel at each one's corner, as diffusers takes it, or the mean of a soft mask.
func smaller(mask []float32, width, w, h, f int, soft bool) []float32 {
	out := make([]float32, w*h)
	for y := range h {
		for x := range w {
			if !soft {
				out[y*w+x] = mask[y*f*width+x*f]
				continue
			}
			var sum float32
			for i := range f {
				for j := range f {
					sum += mask[(y*f+i)*width+x*f+j]
				}
			}
			out[y*w+x] = sum / float32(f*f)
		}
	}
	return out
}

// pixelsOfMask has the f×f pixels under each of w×h latents as channels [f·f,h,w], 1 where they are repainted and else 0.
func pixelsOfMask(mask []float32, w, h, f int) []float32 {
	out := make([]float32, f*f*w*h)
	for y := range f * h {
		for x := range f * w {
			if mask[y*f*w+x] >= 0.5 {
				out[((y%f*f+x%f)*h+y/f)*w+x/f] = 1
			}
		}
	}
	return out
}

// blend puts back the latents of what is to stay, with the noise of the level. nil where the network does that by itself.
func (m *picture) blend() func(x []float32, at scheduler.Level) {
	e := m.edit
	if e == nil || e.mask == nil || m.p.model.Denoiser.Reading().Inpaints() {
		return nil
	}
	noisy := make([]float32, len(e.known))
	return func(x []float32, at scheduler.Level) {
		at.AddNoise(noisy, e.known, e.noise)
		for i := range x {
			v := e.small[i%len(e.small)]
			x[i] = (1-v)*noisy[i] + v*x[i]
		}
	}
}

// paste lays the original over what the mask leaves: where it is 0, to the pixel.
func (e *edit) paste(img *image.NRGBA) *image.NRGBA {
	switch {
	case e == nil || e.mask == nil:
		return img
	case e.canvas != nil:
		return e.canvas.put(img)
	}
	for i, v := range e.mask {
		mix(e.init.Pix[4*i:], img.Pix[4*i:], v)
	}
	return e.init
}

func (e *edit) recipeFiles() []recipe.File {
	if e == nil {
		return nil
	}
	return e.files
}

// base is a file's name for recipes, which hold no paths.
func base(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Base(path)
}
