package pipeline

import (
	"context"
	"fmt"
	"image"
	"maps"
	"math"
	"path/filepath"
	"strings"

	"github.com/disintegration/imaging"

	"darkroom/family"
	"darkroom/imagefile"
	"darkroom/recipe"
	"darkroom/tensor"
)

// references are pictures that the model sees beside the prompt: it can follow, change or combine them.
type references struct {
	pictures []*image.NRGBA // at the sizes that the model reads
	files    []recipe.File
	tokens   int // of all

	values tensor.Tensor // [tokens, C], after encode
}

// What a reference picture may be, as Flux2KleinPipeline has it. FLUX.1 Kontext's are held to the same: its pipeline chooses one of
// 17 sizes of the same area instead, unless it is told not to (_auto_resize).
const (
	referenceSide   = 64          // pixels, at least
	referenceAspect = 8           // of the longer side to the shorter, at most
	referenceArea   = 1024 * 1024 // pixels; larger pictures are scaled down to it
)

// loadReferences reads the request's reference pictures; nil without any.
func (p *Pipeline) loadReferences(r *Request) (*references, error) {
	if r.Reference == "" {
		return nil, nil
	}
	paths := strings.Split(r.Reference, ";")
	switch most := p.model.References; {
	case most == 0:
		return nil, usagef("--reference is for models that look at pictures beside the prompt, such as FLUX.2 klein and FLUX.1 Kontext (by its file's name): %s does not", p.name)
	case len(paths) > most:
		return nil, usagef("--reference: %d pictures: at most %d are allowed", len(paths), most)
	}
	out := &references{}
	for _, path := range paths {
		file, err := imagefile.Load(path)
		if err != nil {
			return nil, usagef("--reference: %w", err)
		}
		img, err := p.sizedReference(flattened(file.Pixels))
		if err != nil {
			return nil, usagef("--reference %s: %w", path, err)
		}
		out.pictures = append(out.pictures, img)
		out.tokens += p.model.Latent.Tokens(img.Rect.Dx(), img.Rect.Dy())
		out.files = append(out.files, recipe.File{Kind: "reference", Name: filepath.Base(path), SHA256: file.SHA256})
	}
	return out, nil
}

// sizedReference scales a picture that is too large down, and cuts it to whole tokens around its middle, or stretches it to them.
func (p *Pipeline) sizedReference(img *image.NRGBA) (*image.NRGBA, error) {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	switch {
	case w < referenceSide || h < referenceSide:
		return nil, fmt.Errorf("%d×%d pixels: each side needs at least %d", w, h, referenceSide)
	case max(w, h) > referenceAspect*min(w, h):
		return nil, fmt.Errorf("%d×%d pixels: one side may be %d times as long as the other", w, h, referenceAspect)
	}
	step := p.model.Latent.Step()
	whole := func(side int) int { return side / step * step }
	if w*h > referenceArea {
		scale := math.Sqrt(referenceArea / float64(w*h))
		w, h = int(float64(w)*scale), int(float64(h)*scale)
	}
	if p.model.Stretches {
		w, h = whole(w), whole(h)
	}
	if w != img.Rect.Dx() || h != img.Rect.Dy() {
		img = imaging.Resize(img, w, h, imaging.Lanczos)
	}
	width, height := whole(w), whole(h)
	left, top := (w-width)/2, (h-height)/2
	return imaging.Crop(img, image.Rect(left, top, left+width, top+height)), nil
}

// sizes are those of the pictures, for the text encoder, which gives all positions.
func (r *references) sizes() (out [family.MostReferences][2]int) {
	if r == nil {
		return out
	}
	for i, img := range r.pictures {
		out[i] = [2]int{img.Rect.Dy(), img.Rect.Dx()}
	}
	return out
}

// encode turns the pictures into tokens, once: the mean of each one's latents. A token of Latent.Patch latent pixels a side is a
// square of them: the tokens stand side by side in one line of squares.
func (r *references) encode(ctx context.Context, p *Pipeline) error {
	if r == nil || r.values.Data != nil {
		return nil
	}
	l := p.model.Latent
	side := max(l.Patch, 1)
	all, at := make([]float32, side*side*r.tokens*l.Channels), 0
	for _, img := range r.pictures {
		h, w := img.Rect.Dy()/l.Factor, img.Rect.Dx()/l.Factor
		mean, _, err := p.model.Codec.Encode(ctx, values(img, nil), family.Area{H: h, W: w})
		if err != nil {
			return fmt.Errorf("encoding a reference picture: %w", err)
		}
		pixels := make([]float32, len(mean))
		tensor.ToNHWC(pixels, mean, l.Channels)
		row := side * l.Channels // a line of a token
		for y := range h {
			for x := range w / side {
				copy(all[(y%side*r.tokens+at+y/side*(w/side)+x)*row:][:row], pixels[(y*w+x*side)*l.Channels:])
			}
		}
		at += h / side * (w / side)
	}
	r.values = tensor.Of(all, side*side*r.tokens, l.Channels)
	return nil
}

// shown are conditions with the pictures.
func (r *references) shown(c family.Cond) family.Cond {
	if r == nil {
		return c
	}
	c = maps.Clone(c)
	c["references"] = r.values
	return c
}

// count is how many tokens they are.
func (r *references) count() int {
	if r == nil {
		return 0
	}
	return r.tokens
}

func (r *references) recorded() (names string, files []recipe.File) {
	if r == nil {
		return "", nil
	}
	var list []string
	for _, f := range r.files {
		list = append(list, f.Name)
	}
	return strings.Join(list, ";"), r.files
}
