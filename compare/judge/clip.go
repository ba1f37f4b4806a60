package judge

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"math"

	"darkroom/checkpoint"
	"darkroom/clip"
	"darkroom/config"
	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/stage"
	"darkroom/tensor"

	"github.com/disintegration/imaging"
)

// CLIP is a CLIP model (Radford et al. 2021) with both towers, or with that for images alone. Features are the image embeddings,
// not normalised.
type CLIP struct {
	label   string
	id      string
	backend kernels.Backend
	set     *checkpoint.Set
	vision  *visionTower
	text    *textTower // nil where the folder has none
	head    []linear   // nil where there is none

	texts map[string][]float64 // embeddings of length 1, by prompt
}

// readCLIPConfig reads config.json: the towers' configurations, of which text is nil where the file has none. What else it
// has is of training and of ranking.
func readCLIPConfig(f *config.Object) (vision clip.VisionConfig, text *clip.TextConfig, err error) {
	width := f.IntIn("projection_dim", 1, 1<<20, 512)
	if vision, err = clip.ReadVisionConfig(f.Object("vision_config")); err != nil {
		return vision, nil, err
	}
	vision.ProjectionDim = width
	if string(f.Raw("text_config")) != "null" {
		t, err := clip.ReadTextConfig(f.Object("text_config"))
		if err != nil {
			return vision, nil, err
		}
		t.ProjectionDim = width
		text = &t
	}
	f.Ignore(f.Keys()...)
	return vision, text, f.Done()
}

// preprocessing is preprocessor_config.json: how a picture becomes the tower's input.
type preprocessing struct{ mean, std []float64 }

func readPreprocessing(s Source) (preprocessing, error) {
	text, err := s.read("preprocessor_config.json")
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte("{}")
	} else if err != nil {
		return preprocessing{}, err
	}
	f, err := config.Parse(text, "preprocessor_config.json")
	if err != nil {
		return preprocessing{}, err
	}
	p := preprocessing{
		mean: f.Floats("image_mean", 3, 0.48145466, 0.4578275, 0.40821073),
		std:  f.Floats("image_std", 3, 0.26862954, 0.26130258, 0.27577711),
	}
	f.Ignore(f.Keys()...) // a judge scales and cuts as CLIP does
	return p, f.Done()
}

func openCLIP(s Source, f *config.Object, o Options) (*CLIP, error) {
	c := &CLIP{label: s.Label, texts: map[string][]float64{}}
	if err := c.open(s, f, o); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *CLIP) open(s Source, f *config.Object, o Options) error {
	vision, text, err := readCLIPConfig(f)
	if err != nil {
		return err
	}
	pre, err := readPreprocessing(s)
	if err != nil {
		return err
	}
	if c.set, err = s.weights(); err != nil {
		return err
	}
	if c.id, err = c.set.Hash(); err != nil {
		return err
	}
	if c.backend, err = o.Backend(); err != nil {
		return err
	}
	device := &stage.Device{Backend: c.backend, DType: tensor.F32}
	if c.vision, err = newVision(device, vision, c.set, pre); err != nil {
		return err
	}
	if text != nil && c.set.Has("text_projection.weight") {
		if c.text, err = newTextTower(device, *text, c.set, s.FS); err != nil {
			return err
		}
	}
	c.head, err = readHead(s, vision.ProjectionDim)
	return err
}

func (c *CLIP) Name() string { return "the CLIP model " + c.label }
func (c *CLIP) ID() string   { return c.id[:16] }

// Close gives back the backend's memory and unmaps the weights.
func (c *CLIP) Close() error {
	var errs []error
	if c.backend != nil {
		errs = append(errs, c.backend.Close())
	}
	if c.set != nil {
		errs = append(errs, c.set.Close())
	}
	return errors.Join(errs...)
}

// See returns the image embedding.
func (c *CLIP) See(ctx context.Context, p *image.NRGBA) ([]float32, error) {
	return c.vision.embed(ctx, c.vision.pixels(p))
}

// Agreement is 100 times the cosine of the picture's and the prompt's embeddings.
func (c *CLIP) Agreement(ctx context.Context, features []float64, prompt string) (float64, bool, error) {
	if c.text == nil {
		return 0, false, nil
	}
	t := c.texts[prompt]
	if t == nil {
		v, err := c.text.embed(ctx, prompt)
		if err != nil {
			return 0, false, err
		}
		t = unit(widen(v))
		c.texts[prompt] = t
	}
	return 100 * dot(unit(features), t), true, nil
}

// Preference runs the head on the embedding of length 1, as LAION's predictor does.
func (c *CLIP) Preference(features []float64) (float64, bool) {
	if c.head == nil {
		return 0, false
	}
	x := unit(features)
	for _, l := range c.head {
		x = l.forward(x)
	}
	return x[0], true
}

// one is what a tower runs at: one picture or text.
var one = nn.Sizes{Rows: 1}

// visionTower is the image encoder, for one picture.
type visionTower struct {
	config clip.VisionConfig
	pre    preprocessing
	part   *stage.Part
}

func newVision(d *stage.Device, c clip.VisionConfig, set *checkpoint.Set, pre preprocessing) (*visionTower, error) {
	m, err := clip.NewVision(c, nn.NewLoader("judge", set))
	if err != nil {
		return nil, err
	}
	v := &visionTower{c, pre, (&stage.Part{Name: "vision_model", Title: "the judge", Net: m}).On(d)}
	return v, v.part.Ready(one)
}

// pixels is the picture as the tower takes it: the shorter side scaled to ImageSize (bicubic), the middle cut out, normalised; [S,S,3].
func (v *visionTower) pixels(picture *image.NRGBA) []float32 {
	side := v.config.ImageSize
	w, h := picture.Rect.Dx(), picture.Rect.Dy()
	if w < h { // as transformers rounds the longer side
		w, h = side, side*h/w
	} else {
		w, h = side*w/h, side
	}
	scaled := imaging.Resize(picture, w, h, imaging.CatmullRom) // a = −½, as Pillow's bicubic
	left, top := (w-side)/2, (h-side)/2
	out := make([]float32, 0, 3*side*side)
	for y := range side {
		row := scaled.Pix[(y+top)*scaled.Stride+4*left:]
		for x := range side {
			for c := range 3 {
				out = append(out, float32((float64(row[4*x+c])/255-v.pre.mean[c])/v.pre.std[c]))
			}
		}
	}
	return out
}

// embed runs the tower over normalised pixels [S,S,3].
func (v *visionTower) embed(ctx context.Context, pixels []float32) ([]float32, error) {
	patches := v.config.Patches(pixels)
	out, err := v.part.Run(ctx, one, stage.Values{"patches": tensor.Of(patches, v.part.Shape("patches")...)}, "pooled")
	if err != nil {
		return nil, fmt.Errorf("%w: its weights may be damaged", err)
	}
	return tensor.Floats(out["pooled"].Data), nil
}

// textTower is the text encoder with its projection.
type textTower struct {
	tokenizer *clip.Tokenizer
	config    clip.TextConfig
	part      *stage.Part
}

func newTextTower(d *stage.Device, c clip.TextConfig, set *checkpoint.Set, fsys fs.FS) (*textTower, error) {
	tokenizer, err := clip.LoadTokenizer(fsys)
	if err != nil {
		return nil, err
	}
	if n := tokenizer.Size(); n > c.VocabSize {
		return nil, fmt.Errorf("the tokenizer has %d tokens, config.json vocab_size %d: they must agree", n, c.VocabSize)
	}
	m, err := clip.NewText(c, nn.NewLoader("judge", set))
	if err != nil {
		return nil, err
	}
	return &textTower{tokenizer, c, (&stage.Part{Name: "text_model", Title: "the judge's text encoder", Net: m}).On(d)}, nil
}

// embed is the text's embedding. What is longer than the window is cut, as everywhere with CLIP scores.
func (t *textTower) embed(ctx context.Context, text string) ([]float32, error) {
	prompt, err := t.tokenizer.Prompt(text, clip.Plain, t.config.MaxPositionEmbeddings)
	if err != nil {
		return nil, err
	}
	chunk := prompt.Chunks[0]
	out, err := t.part.Run(ctx, one, stage.Values{"ids": tensor.OfIDs(chunk.IDs, 1, len(chunk.IDs))}, "pooled")
	if err != nil {
		return nil, fmt.Errorf("%w: its weights may be damaged", err)
	}
	end, width := chunk.Tokens+1, t.config.ProjectionDim
	return tensor.Floats(out["pooled"].Data)[end*width:][:width], nil
}

func widen(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

func dot(a, b []float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// unit is v at length 1.
func unit(v []float64) []float64 {
	n := math.Sqrt(dot(v, v))
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = x / n
	}
	return out
}
