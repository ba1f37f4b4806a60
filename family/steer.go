package family

import (
	"context"
	"errors"
	"fmt"
	"image"
	"maps"
	"slices"

	"github.com/disintegration/imaging"

	"darkroom/checkpoint"
	"darkroom/clip"
	"darkroom/control"
	"darkroom/nn"
	"darkroom/stage"
	"darkroom/tensor"
	"darkroom/unet"
)

// Steer is a control in use, without its picture and its strength.
type Steer struct {
	*Control
	Guess bool // of a ControlNet
	Type  int  // of a Union's hint
}

// Steered is the model's denoiser with controls on it: a network of its own, whose weights are the model's and the controls'.
// What it reads besides is in Prepared.
type Steered struct {
	Denoiser
	model *Model
	uses  []Steer
	part  *stage.Part

	hints    []int // by use: which of the nets' hints it is, -1 for adapters
	images   []int // by use: which image prompt
	nets     []control.Net
	features int
	motion   *Motion // nil for a picture
	frames   int     // of the film; 0 for a picture
}

// Steer puts controls on the denoiser. Hints of one Union meet within it if they are of different types. With a motion module it
// makes films of so many frames.
func (m *Model) Steer(uses []Steer, motion *Motion, frames int) (*Steered, error) {
	base := m.Denoiser.(*unetDenoiser)
	s := &Steered{Denoiser: m.Denoiser, model: m, uses: uses, motion: motion}
	u := base.net
	of := make([]int, len(uses)) // by use: its net
	var err error
	if motion != nil {
		s.frames = frames
		if u, err = u.WithMotion(motion.config, motion.loader); err != nil {
			return nil, fmt.Errorf("%s: %w", motion.path, err)
		}
	}
	for i, use := range uses {
		if motion != nil && use.Kind != checkpoint.KindIPAdapter {
			return nil, fmt.Errorf("%s: with a motion module, only IP-Adapters steer: leave --motion or this network out", use.path)
		}
		s.images = append(s.images, -1)
		of[i] = -1
		switch use.Kind {
		case checkpoint.KindControlNet:
			of[i] = s.addNet(use)
		case checkpoint.KindT2IAdapter:
			n := use.adapter.Config.Features()
			if s.features > 0 && s.features != n {
				return nil, fmt.Errorf("%s: adapters with %d and with %d features cannot be combined", use.path, s.features, n)
			}
			if s.features == 0 {
				if u, err = u.WithFeatures(n); err != nil {
					return nil, fmt.Errorf("%s: %w", use.path, err)
				}
			}
			s.features = n
		case checkpoint.KindIPAdapter:
			s.images[i] = s.numImages(i)
			if u, err = u.WithImage(use.loader.At("ip_adapter"), use.projection.Tokens()); err != nil {
				return nil, fmt.Errorf("%s: %w", use.path, err)
			}
		}
	}
	s.number(of)
	var net nn.Network = u
	if len(s.nets) > 0 {
		if net, err = control.On(u, s.nets...); err != nil {
			return nil, err
		}
	}
	title := "the U-Net with its control"
	if motion != nil {
		title = "the U-Net with its motion module"
	}
	s.part = (&stage.Part{Name: base.part.Name, Title: title, Net: net, PerRow: true, Sizes: func(width, height, rows int, tiled bool) nn.Sizes {
		sizes := base.part.Sizes(width, height, rows, tiled)
		sizes.Frames = s.frames
		return sizes
	}}).On(base.part.Device())
	return s, s.checkFeatures()
}

// addNet puts a hint on a net that is there already, a Union with room for the type, or on a new one.
func (s *Steered) addNet(use Steer) (net int) {
	if use.Types == 0 {
		s.nets = append(s.nets, control.Net{Model: use.net, Guess: use.Guess})
		return len(s.nets) - 1
	}
	for i := range s.nets {
		if n := &s.nets[i]; n.Model == use.net && n.Guess == use.Guess && !slices.Contains(n.Types, use.Type) {
			n.Types = append(n.Types, use.Type)
			return i
		}
	}
	s.nets = append(s.nets, control.Net{Model: use.net, Guess: use.Guess, Types: []int{use.Type}})
	return len(s.nets) - 1
}

// number counts hints as the nets do: over all of the first one, then of the next.
func (s *Steered) number(of []int) {
	s.hints = slices.Repeat([]int{-1}, len(of))
	next := 0
	for net := range s.nets {
		for i := range of {
			if of[i] == net {
				s.hints[i] = next
				next++
			}
		}
	}
}

// numImages is how many image prompts there are before use i.
func (s *Steered) numImages(i int) (n int) {
	for _, k := range s.images[:i] {
		if k >= 0 {
			n++
		}
	}
	return n
}

// checkFeatures compares what adapters give with what the U-Net takes, in graphs that are never run.
func (s *Steered) checkFeatures() error {
	for _, use := range s.uses {
		if use.adapter == nil {
			continue
		}
		side := use.adapter.Config.Multiple() // latent pixels: their pixels are a multiple, too
		f := s.model.Latent.Factor
		u := s.part.Graph(nn.Sizes{Rows: 1, H: side, W: side, Tokens: 1})
		a := use.part.Graph(nn.Sizes{Rows: 1, H: f * side, W: f * side})
		for k := range s.features {
			name := unet.FeatureName(k)
			if gives, takes := a.Out(name).Shape, u.In(name).Shape; !gives.Equal(takes) {
				return fmt.Errorf("%s: the adapter's feature %d is %v, but the U-Net takes %v: it belongs to another kind of model", use.path, k, gives, takes)
			}
		}
	}
	return nil
}

// LatentsName is an input of the network that some controls read: "sample" without what an editing model reads beside it.
const LatentsName = control.SampleName

// Part is the network with the controls. It implements Denoiser.
func (s *Steered) Part() *stage.Part { return s.part }

// Frames is how many a film has that it makes; 0 of what makes a picture.
func (s *Steered) Frames() int { return s.frames }

// Multiple is what a picture's sides must be multiples of for the adapters, in pixels; 1 without any.
func (s *Steered) Multiple() int {
	m := 1
	for _, use := range s.uses {
		if use.adapter != nil {
			m = max(m, use.adapter.Config.Multiple())
		}
	}
	return m
}

// Need is Model.Need with the controls.
func (s *Steered) Need(width, height, rows int, low, tiled bool) stage.Need {
	var parts []*stage.Part
	for _, use := range s.uses {
		for _, p := range use.parts() {
			if !slices.Contains(parts, p) {
				parts = append(parts, p)
			}
		}
	}
	for _, p := range s.model.Parts {
		if p == s.Denoiser.Part() {
			p = s.part
		}
		parts = append(parts, p)
	}
	return need(parts, width, height, rows, low, tiled)
}

// Close frees the activations, and weights that come block by block.
func (s *Steered) Close() { s.part.Close() }

// Unload frees the activations, and the weights that are not the model's own.
func (s *Steered) Unload() {
	s.part.UnloadBut(s.Denoiser.Part())
	for _, use := range s.uses {
		for _, p := range use.parts() {
			p.Unload()
		}
	}
}

// Prepared is what the controls' pictures become for the denoiser, once a picture.
type Prepared struct {
	steered  *Steered
	prompt   Cond // of the row with the prompt
	other    Cond // of the others
	features [][][]float32
	shapes   []tensor.Shape // of features
}

// Prepare turns the pictures of the uses, in their order, into what the denoiser reads of them, for latents of h×w. Pictures are
// opaque, and those of ControlNets and T2I-Adapters as large as the one that is made, whose sides may fit each other.
func (s *Steered) Prepare(ctx context.Context, pictures []*image.NRGBA, h, w int, wrap [2]bool) (*Prepared, error) {
	p := &Prepared{steered: s, prompt: Cond{}, other: Cond{}, features: make([][][]float32, len(s.uses))}
	for i, use := range s.uses {
		var err error
		switch use.Kind {
		case checkpoint.KindControlNet:
			c := use.net.Config
			f := c.Factor()
			hint := tensor.Of(hintOf(pictures[i], f*w, f*h, c.HintChannels, c.BGR), f*h, f*w, c.HintChannels)
			name, _ := control.Names(s.hints[i])
			p.prompt[name], p.other[name] = hint, hint
		case checkpoint.KindT2IAdapter:
			err = p.runAdapter(ctx, i, use, pictures[i], wrap)
		case checkpoint.KindIPAdapter:
			err = p.encodeImage(ctx, s.images[i], use, pictures[i])
		}
		if err != nil {
			return nil, err
		}
	}
	if s.frames > 0 {
		numbers := make([]float32, s.frames)
		for i := range numbers {
			numbers[i] = float32(i)
		}
		p.prompt[unet.FrameName] = tensor.Of(numbers, s.frames)
		p.other[unet.FrameName] = p.prompt[unet.FrameName]
	}
	for i, n := range s.nets {
		if len(n.Types) > 0 {
			v := n.Config.TypesProj(n.Types)
			t := tensor.Of(v, len(v))
			p.prompt[control.TypesName(i)], p.other[control.TypesName(i)] = t, t
		}
	}
	return p, nil
}

// hintOf is a picture as hints have it: [h,w,channels] from 0 to 1.
func hintOf(img *image.NRGBA, w, h, channels int, bgr bool) []float32 {
	if img.Rect.Dx() != w || img.Rect.Dy() != h {
		img = imaging.Resize(img, w, h, imaging.Lanczos)
	}
	out := make([]float32, 0, w*h*channels)
	for i := 0; i < 4*w*h; i += 4 {
		r, g, b := img.Pix[i], img.Pix[i+1], img.Pix[i+2]
		switch {
		case channels == 1: // as Pillow's L
			out = append(out, float32((int(r)*19595+int(g)*38470+int(b)*7471+0x8000)>>16)/255)
		case bgr:
			out = append(out, float32(b)/255, float32(g)/255, float32(r)/255)
		default:
			out = append(out, float32(r)/255, float32(g)/255, float32(b)/255)
		}
	}
	return out
}

// ran frees what a part that runs once a picture takes.
func ran(p *stage.Part, err error, what string) error {
	if p.Device().LowMemory {
		p.Unload()
	} else {
		p.Close()
	}
	var bad *stage.NotFiniteError
	if errors.As(err, &bad) {
		return fmt.Errorf("%s: %w: try --dtype fp32", what, bad)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (p *Prepared) runAdapter(ctx context.Context, i int, use Steer, picture *image.NRGBA, wrap [2]bool) error {
	w, h, c := picture.Rect.Dx(), picture.Rect.Dy(), use.adapter.Config.Channels
	names := make([]string, p.steered.features)
	for k := range names {
		names[k] = unet.FeatureName(k)
	}
	out, err := use.part.Run(ctx, nn.Sizes{Rows: 1, H: h, W: w, Wrap: wrap}, stage.Values{"hint": tensor.Of(hintOf(picture, w, h, c, false), 1, h, w, c)}, names...)
	if err = ran(use.part, err, use.path); err != nil {
		return err
	}
	p.shapes = nil
	for _, name := range names {
		p.features[i] = append(p.features[i], tensor.Floats(out[name].Data))
		p.shapes = append(p.shapes, out[name].Shape[1:])
	}
	return nil
}

// encodeImage makes the tokens of an image prompt: of the picture, and for rows without the prompt of nothing, which is zeros in
// place of an embedding or of a picture's pixels, as in diffusers.
func (p *Prepared) encodeImage(ctx context.Context, number int, use Steer, picture *image.NRGBA) error {
	v := use.vision
	see := func(pixels []float32) (stage.Values, error) {
		patches := v.config.Patches(pixels)
		out, err := v.part.Run(ctx, nn.Sizes{Rows: 1}, stage.Values{"patches": tensor.Of(patches, 1, v.config.Tokens(), len(patches)/v.config.Tokens())}, use.projection.Reads())
		return out, err
	}
	pixels := v.config.Normalised(seen(picture, v.config.ImageSize).Pix, clip.VisionMean(), clip.VisionStd())
	some, err := see(pixels)
	none := stage.Values{}
	if reads := use.projection.Reads(); err == nil && reads == "pooled" {
		none[reads] = tensor.Of(make([]float32, some[reads].Len()), some[reads].Shape...)
	} else if err == nil {
		none, err = see(make([]float32, len(pixels)))
	}
	if err = ran(v.part, err, use.Encoder); err != nil {
		return err
	}
	name, _ := unet.ImageNames(number)
	for _, row := range []struct {
		to Cond
		of stage.Values
	}{{p.prompt, some}, {p.other, none}} {
		out, err := use.project.Run(ctx, use.projectSizes(), row.of, "image")
		if err != nil {
			return ran(use.project, err, use.path)
		}
		t := out["image"]
		row.to[name] = tensor.Of(tensor.Floats(t.Data), t.Shape[1:]...)
	}
	return ran(use.project, nil, use.path)
}

// seen is a picture as CLIP's processor cuts it: the shorter side scaled to size, bicubic, and its middle.
func seen(img *image.NRGBA, size int) *image.NRGBA {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	if w < h { // as transformers rounds the longer side
		w, h = size, size*h/w
	} else {
		w, h = size*w/h, size
	}
	scaled := imaging.Resize(img, w, h, imaging.CatmullRom) // a = −½, as Pillow's bicubic
	left, top := (w-size)/2, (h-size)/2
	return imaging.Crop(scaled, image.Rect(left, top, left+size, top+size))
}

// Conds are what the denoiser reads in addition at those strengths, one a use: in the row with the prompt, and in others. 0 is
// without that control.
func (p *Prepared) Conds(strengths []float64) (prompt, other Cond) {
	prompt, other = maps.Clone(p.prompt), maps.Clone(p.other)
	put := func(name string, v, w float64) {
		prompt[name], other[name] = tensor.Of([]float32{float32(v)}, 1), tensor.Of([]float32{float32(w)}, 1)
	}
	var sums [][]float32
	for i, use := range p.steered.uses {
		v := strengths[i]
		switch use.Kind {
		case checkpoint.KindControlNet:
			_, name := control.Names(p.steered.hints[i])
			if put(name, v, v); use.Guess || use.net.Config.Pooled {
				put(name, v, 0)
			}
		case checkpoint.KindIPAdapter:
			_, name := unet.ImageNames(p.steered.images[i])
			put(name, v, v)
		case checkpoint.KindT2IAdapter:
			sums = weighted(sums, p.features[i], float32(v))
		}
	}
	if sums != nil {
		put("adapter_strength", 1, 1)
	}
	for k, sum := range sums {
		t := tensor.Of(sum, p.shapes[k]...)
		prompt[unet.FeatureName(k)], other[unet.FeatureName(k)] = t, t
	}
	return prompt, other
}

// weighted adds weighted features to those that are there; nil for none.
func weighted(sums, features [][]float32, weight float32) [][]float32 {
	if sums == nil {
		for _, f := range features {
			sums = append(sums, make([]float32, len(f)))
		}
	}
	for k, f := range features {
		for i, v := range f {
			sums[k][i] += weight * v
		}
	}
	return sums
}
