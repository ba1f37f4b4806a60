package pipeline

import (
	"context"
	"image"
	"image/color"
	"math"
	"path/filepath"
	"slices"

	"darkroom/family"
	"darkroom/imagefile"
	"darkroom/recipe"
)

// defaultImageCFG is diffusers'.
const defaultImageCFG = 1.5

// checkReading reports inputs that the model's denoiser needs beside the latents and does not get, or gets and does not read.
func (p *Pipeline) checkReading(r *Request) error {
	reads := p.model.Denoiser.Reading()
	switch {
	case reads.Inpaints() && (r.Init == "" || r.Mask == "" && r.Outpaint == ""):
		return usagef("%s is an inpainting model: give it a picture with --init and a mask with --mask", p.name)
	case reads == family.ReadsPicture && r.Init == "":
		return usagef("%s is a model that edits by instruction: give it a picture with --init", p.name)
	case reads == family.ReadsPicture && r.Mask != "":
		return usagef("%s is a model that edits by instruction, and takes no --mask", p.name)
	case reads == family.ReadsPicture && r.Strength != nil:
		return usagef("%s is a model that edits by instruction, and has no --strength: --image-cfg says how closely it keeps to the picture", p.name)
	case reads != family.ReadsPicture && r.ImageCFG != nil:
		return usagef("--image-cfg is for models that edit by instruction; %s is not one", p.name)
	case reads == family.ReadsDepth && r.Depth == "":
		return usagef("%s is a depth model: give it a depth map with --depth", p.name)
	case reads == family.ReadsControl && r.Depth != "":
		return usagef("%s takes its control picture, a depth map too, with --control, not --depth", p.name)
	case reads != family.ReadsDepth && r.Depth != "":
		return usagef("--depth is for depth models; %s is not one (--control takes a ControlNet for depth)", p.name)
	}
	if r.ImageCFG == nil && reads == family.ReadsPicture {
		v := defaultImageCFG
		r.ImageCFG = &v
	}
	return nil
}

// strength is the share of the steps that is run; nil where all are, from noise.
func (p *Pipeline) strength(r Request) *float64 {
	if p.model.Denoiser.Reading() == family.ReadsPicture {
		return nil
	}
	return strength(r)
}

// instructs reports whether the model edits by instruction.
func (pl *plan) instructs() bool { return pl.ImageCFG != nil }

// settleInstruct fits guidance to editing by instruction, which asks the network about the prompt with the picture, the
// picture alone, and neither (Brooks et al. 2023, "InstructPix2Pix", sec. 3.2.1). As in diffusers there is none below an
// image-cfg of 1.
func (pl *plan) settleInstruct() error {
	if !pl.instructs() {
		return nil
	}
	if pl.method.NeedsEmpty() {
		return usagef("--guidance %s does not go with a model that edits by instruction", pl.method)
	}
	if *pl.ImageCFG < 1 {
		pl.guided = false
	}
	return nil
}

// depth is a depth map at the size of latents, from -1 (far) to 1.
type depth struct {
	values []float32
	file   recipe.File
}

// loadDepth reads the request's depth map; nil without one.
func (p *Pipeline) loadDepth(r *Request, e *edit) (*depth, error) {
	if r.Depth == "" {
		return nil, nil
	}
	file, err := imagefile.Load(r.Depth)
	if err != nil {
		return nil, usagef("--depth: %w", err)
	}
	img := imagefile.Flatten(file.Pixels, color.NRGBA{0, 0, 0, 255})
	if e != nil && e.canvas != nil || !sameShape(img.Rect, image.Rect(0, 0, r.Width, r.Height)) {
		if img, err = e.placed(img, r, true); err != nil {
			return nil, usagef("--depth %s: %w", r.Depth, err)
		}
	}
	f := p.model.Latent.Factor
	grey := make([]float32, img.Rect.Dx()*img.Rect.Dy())
	for i := range grey {
		grey[i] = float32(299*int(img.Pix[4*i])+587*int(img.Pix[4*i+1])+114*int(img.Pix[4*i+2])) / 1000
	}
	w, h := img.Rect.Dx(), img.Rect.Dy()
	if fine, fw, fh, ok := imagefile.Grey16(r.Depth); ok && (e == nil || e.canvas == nil) && sameShape(image.Rect(0, 0, fw, fh), image.Rect(0, 0, r.Width, r.Height)) {
		grey, w, h = fine, fw, fh // depth maps have more than 256 values as a rule
	}
	small := bicubic(grey, h, w, r.Height/f, r.Width/f)
	low, high := small[0], small[0]
	for _, v := range small {
		low, high = min(low, v), max(high, v)
	}
	if low == high {
		return nil, usagef("--depth %s has the same depth everywhere: it has no effect", r.Depth)
	}
	for i, v := range small {
		small[i] = 2*(v-low)/(high-low) - 1
	}
	return &depth{small, recipe.File{Kind: "depth", Name: filepath.Base(r.Depth), SHA256: file.SHA256}}, nil
}

func (d *depth) recipeFiles() []recipe.File {
	if d == nil {
		return nil
	}
	return []recipe.File{d.file}
}

// bicubic brings values [h,w] to another size as torch's interpolate does: Keys' filter with a = −0.75, between the middles of
// pixels, without a wider filter where it makes smaller.
func bicubic(x []float32, h, w, newH, newW int) []float32 {
	columns := make([]float32, h*newW)
	for i, t := range cubicTaps(w, newW) {
		for y := range h {
			var sum float32
			for k, at := range t.at {
				sum += t.weight[k] * x[y*w+at]
			}
			columns[y*newW+i] = sum
		}
	}
	out := make([]float32, newH*newW)
	for i, t := range cubicTaps(h, newH) {
		for c := range newW {
			var sum float32
			for k, at := range t.at {
				sum += t.weight[k] * columns[at*newW+c]
			}
			out[i*newW+c] = sum
		}
	}
	return out
}

// taps are the four values that one is made of.
type taps struct {
	at     [4]int
	weight [4]float32
}

func cubicTaps(n, m int) []taps {
	const a = -0.75
	near := func(x float64) float64 { return ((a+2)*x-(a+3))*x*x + 1 }
	far := func(x float64) float64 { return ((a*x-5*a)*x+8*a)*x - 4*a }
	out := make([]taps, m)
	for i := range out {
		at := (float64(i)+0.5)*float64(n)/float64(m) - 0.5
		low := math.Floor(at)
		t := at - low
		out[i].weight = [4]float32{float32(far(t + 1)), float32(near(t)), float32(near(1 - t)), float32(far(2 - t))}
		for k := range 4 {
			out[i].at[k] = min(max(int(low)+k-1, 0), n-1)
		}
	}
	return out
}

// beginInstruct puts the first x of a picture that an instruction makes of another: noise alone, and beside it the likeliest latents
// of that other, as the autoencoder has them.
func (m *picture) beginInstruct(ctx context.Context) error {
	mean, _, err := m.p.model.Codec.Encode(ctx, values(m.edit.init, nil), m.area(m.p))
	if err != nil {
		return err
	}
	if !m.p.model.EditsScaled {
		m.p.model.Codec.Unscale(mean)
	}
	m.beginNoise()
	m.denoiser.extra = slices.Repeat([][]float32{mean}, m.rows())
	if m.baseRows() > emptyRow {
		m.denoiser.extra[emptyRow] = make([]float32, len(mean))
	}
	return nil
}

// beginNoise puts the first x of a picture that begins as noise.
func (m *picture) beginNoise() {
	m.firstNoise(m.x)
	m.result.Noise = hashFloats(m.x)
	m.schedule.Init(m.x)
}
