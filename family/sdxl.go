package family

import (
	"context"
	"fmt"
	"slices"

	"darkroom/checkpoint"
	"darkroom/clip"
	"darkroom/config"
	"darkroom/stage"
	"darkroom/tensor"
	"darkroom/unet"
)

// stableDiffusionXL is Stable Diffusion XL (Podell et al. 2023) and what is trained from it: two CLIP text encoders side
// by side, whose states before the last layer the U-Net reads, the second one's embedding of the whole text, and the sizes
// of the picture. The refiner has the second encoder alone.
var stableDiffusionXL = opener{isStableDiffusionXL, openStableDiffusionXL}

func isStableDiffusionXL(index *checkpoint.Index) bool {
	c := index.Components
	return c["text_encoder_2"].Class == "CLIPTextModelWithProjection" && c["unet"].Class == sdParts["unet"] && (c["vae"].Class == sdParts["vae"] || c["vae"].Class == tinyClass) &&
		(c["text_encoder"].Class == "" || c["text_encoder"].Class == sdParts["text_encoder"])
}

func openStableDiffusionXL(x *files, d *stage.Device) (*Model, error) {
	m := &Model{Family: "Stable Diffusion XL", Small: "taesdxl"}
	index, err := x.folder.Index()
	if err != nil {
		return nil, err
	}
	options, err := x.folder.Config("model_index.json")
	if err != nil {
		return nil, err
	}
	if m.Sampling, err = readSampling(x); err != nil {
		return nil, err
	}
	m.EditsScaled = options.Bool("is_cosxl_edit", m.Sampling.SigmaData > 0)
	text := &xlText{zeros: options.Bool("force_zeros_for_empty_prompt", true)}
	for _, e := range []struct{ part, title string }{{"text_encoder", "the text encoder"}, {"text_encoder_2", "the second text encoder"}} {
		if index.Components[e.part].Class == "" {
			continue // the refiner's first
		}
		one, err := openPenultimate(x, d, e.part)
		if err != nil {
			return nil, err
		}
		one.part.Title = e.title
		text.encoders = append(text.encoders, one)
		m.Parts = append(m.Parts, one.part)
	}
	last := text.encoders[len(text.encoders)-1]
	u, err := network(x, "unet", func(c *config.Object) (unet.Config, error) {
		m, err := unet.ReadConfig(c)
		if five := m.AddedDim - 5*m.AddedTimeDim; five == last.model.Config.ProjectionDim && m.PooledDim() != five {
			m.TimeIDs = 5 // the refiner's: an aesthetic score in place of the target's size
		}
		if err == nil {
			checkExtra(c, m)
			err = c.Done()
		}
		return m, err
	}, unet.New)
	if err != nil {
		return nil, err
	}
	codec, err := openAutoencoder(x, d, "vae")
	if err != nil {
		return nil, err
	}
	switch width := text.width(); {
	case u.Config.CrossAttentionDim[0] != width:
		return nil, fmt.Errorf("model %s: unet/config.json has cross_attention_dim %d, the text encoders give %d: they must agree", x.folder.Name(), u.Config.CrossAttentionDim[0], width)
	case u.Config.PooledDim() != last.model.Config.ProjectionDim:
		return nil, fmt.Errorf("model %s: the U-Net reads a text embedding of %d, text_encoder_2/config.json has projection_dim %d: they must agree", x.folder.Name(), u.Config.PooledDim(), last.model.Config.ProjectionDim)
	case u.Config.OutChannels != codec.config.LatentChannels:
		return nil, fmt.Errorf("model %s: unet/config.json has out_channels %d, vae/config.json latent_channels %d: they must agree", x.folder.Name(), u.Config.OutChannels, codec.config.LatentChannels)
	}
	text.unet = u.Config
	m.Reads = Reads{Sizes: true, Scores: u.Config.TimeIDs == 5}
	m.Latent = Latent{Channels: u.Config.OutChannels, Factor: codec.config.Factor(), Side: u.Config.SampleSize, Height: u.Config.SampleShape[0], Width: u.Config.SampleShape[1]}
	if m.Latent.Side == 0 {
		m.Latent.Side = 128 // what Stable Diffusion XL was trained at
	}
	if m.Defaults, err = readDefaults(x.folder, m.Latent); err != nil {
		return nil, err
	}
	denoiser := newUNet(u, d, m.Latent.Factor, text.Tokens())
	m.Text, m.Denoiser, m.Codec = text, denoiser, codec
	m.Parts = append(m.Parts, denoiser.part, codec.decoder)
	return m, nil
}

// openPenultimate opens a text encoder whose states before the last layer are read.
func openPenultimate(x *files, d *stage.Device, name string) (*clipText, error) {
	return openCLIPWith(x, d, name, func(c *config.Object) (clip.TextConfig, error) {
		m, err := clip.ReadTextConfig(c)
		m.Penultimate = true
		return m, err
	})
}

// xlText is one or two encoders, whose states lie side by side.
type xlText struct {
	encoders []*clipText
	unet     unet.Config
	zeros    bool // an empty negative prompt is zeros, and is not encoded
}

func (t *xlText) width() (sum int) {
	for _, e := range t.encoders {
		sum += e.model.Config.HiddenSize
	}
	return sum
}

func (t *xlText) Layers() int {
	return slices.MinFunc(t.encoders, func(a, b *clipText) int { return a.Layers() - b.Layers() }).Layers()
}

func (t *xlText) Tokens() int { return t.encoders[0].Tokens() }

func (t *xlText) Check(text, syntax string) error {
	for _, e := range t.encoders {
		if err := e.Check(text, syntax); err != nil {
			return err
		}
	}
	return nil
}

// Encode gives "text" [tokens, width], "pooled" and "time_ids".
func (t *xlText) Encode(ctx context.Context, texts []string, o TextOptions) (*Encoded, error) {
	out := &Encoded{Window: t.Tokens(), Conds: make([]Cond, len(texts)), Cut: make([]string, len(texts))}
	hidden := make([][][]float32, len(texts)) // by text and encoder
	for i := range texts {
		out.Conds[i] = Cond{"time_ids": t.timeIDs(i, o)}
	}
	for n, e := range t.encoders {
		if err := t.encodeWith(ctx, n, e, texts, o, out, hidden); err != nil {
			return nil, err
		}
	}
	for i := range texts {
		out.Tokens = len(hidden[i][0]) / t.encoders[0].model.Config.HiddenSize
		out.Conds[i]["text"] = tensor.Of(t.sideBySide(hidden[i], out.Tokens), out.Tokens, t.width())
	}
	return out, nil
}

// encodeWith runs encoder n over all texts. The last encoder gives the pooled embedding, of the first chunk.
func (t *xlText) encodeWith(ctx context.Context, n int, e *clipText, texts []string, o TextOptions, out *Encoded, hidden [][][]float32) error {
	prompts, err := e.readAll(texts, o.Syntax)
	if err != nil {
		return err
	}
	if e.part.Device().Drops() {
		defer e.part.Unload()
	}
	last := n == len(t.encoders)-1
	for i, p := range prompts {
		out.Cut[i] = p.Cut
		if n == 0 {
			out.Warnings = append(out.Warnings, p.Warnings)
		}
		zero := t.zeros && o.negative(i) && texts[i] == ""
		var states, pooled []float32
		if zero {
			states = make([]float32, len(p.Chunks)*e.Tokens()*e.model.Config.HiddenSize)
			pooled = make([]float32, e.model.Config.ProjectionDim)
		} else if states, pooled, err = e.encode(ctx, p, o.Skip, last); err != nil {
			return &TextError{i, false, err}
		}
		hidden[i] = append(hidden[i], states)
		if last {
			out.Conds[i]["pooled"] = tensor.Of(pooled, len(pooled))
		}
	}
	return nil
}

// sideBySide joins the encoders' states of each token.
func (t *xlText) sideBySide(states [][]float32, tokens int) []float32 {
	if len(states) == 1 {
		return states[0]
	}
	all := make([]float32, 0, tokens*t.width())
	for i := range tokens {
		for n, e := range t.encoders {
			w := e.model.Config.HiddenSize
			all = append(all, states[n][i*w:(i+1)*w]...)
		}
	}
	return all
}

// timeIDs are the sinusoids of the sizes for text i: those of the original picture and of the crop, and the target's or,
// for the refiner, the aesthetic score.
func (t *xlText) timeIDs(i int, o TextOptions) tensor.Tensor {
	s := o.Sizes
	if s.Original == [2]int{} {
		s.Original = [2]int{o.Height, o.Width}
	}
	if s.Target == [2]int{} {
		s.Target = [2]int{o.Height, o.Width}
	}
	ids := []float64{float64(s.Original[0]), float64(s.Original[1]), float64(s.Crop[0]), float64(s.Crop[1])}
	switch t.unet.TimeIDs {
	case len(ids) + 2:
		ids = append(ids, float64(s.Target[0]), float64(s.Target[1]))
	case len(ids) + 1:
		score := s.Aesthetic
		if o.negative(i) {
			score = s.NegativeAesthetic
		}
		ids = append(ids, score)
	}
	v := t.unet.TimeIDsProj(ids)
	return tensor.Of(v, len(v))
}

// embed gives each encoder its own part of the embeddings.
func (t *xlText) embed(all []*checkpoint.Embedding, views map[string]checkpoint.Weights, now map[string]string) error {
	for _, e := range t.encoders {
		if err := e.embedAs(all, views, now, e.vectors()); err != nil {
			return err
		}
	}
	return nil
}

func (t *xlText) reads(e *checkpoint.Embedding) bool {
	return !slices.ContainsFunc(t.encoders, func(c *clipText) bool { return !c.fits(c.vectors()(e)) })
}

// vectors are the part of an embedding for this one of the encoders.
func (t *clipText) vectors() func(*checkpoint.Embedding) tensor.Array {
	if t.part.Name == "text_encoder_2" {
		return func(e *checkpoint.Embedding) tensor.Array { return e.Text2 }
	}
	return func(e *checkpoint.Embedding) tensor.Array { return e.Text }
}
