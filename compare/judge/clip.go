package judge

import (
	"context"
	"errors"
	"image"
	"io/fs"
	"math"

	"darkroom/checkpoint"
	"darkroom/config"
	"darkroom/family"
	"darkroom/kernels"
	"darkroom/stage"
	"darkroom/tensor"
)

// CLIP is a CLIP model (Radford et al. 2021) with both towers, or with that for images alone. Features are the image embeddings,
// not normalised.
type CLIP struct {
	label   string
	id      string
	backend kernels.Backend
	set     *checkpoint.Set
	model   *family.CLIP
	head    []linear // nil where there is none

	texts map[string][]float64 // embeddings of length 1, by prompt
}

func readPreprocessing(s Source) (family.Preprocessing, error) {
	text, err := s.read("preprocessor_config.json")
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte("{}")
	} else if err != nil {
		return family.Preprocessing{}, err
	}
	f, err := config.Parse(text, "preprocessor_config.json")
	if err != nil {
		return family.Preprocessing{}, err
	}
	return family.ReadPreprocessing(f)
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
	if c.model, err = family.OpenCLIP(f, pre, c.set, s.FS, device); err != nil {
		return err
	}
	c.head, err = readHead(s, c.model.Width())
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
	return c.model.Picture(ctx, c.model.Pixels(p))
}

// Agreement is 100 times the cosine of the picture's and the prompt's embeddings.
func (c *CLIP) Agreement(ctx context.Context, features []float64, prompt string) (float64, bool, error) {
	if !c.model.ReadsTexts() {
		return 0, false, nil
	}
	t := c.texts[prompt]
	if t == nil {
		v, err := c.model.Text(ctx, prompt)
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
