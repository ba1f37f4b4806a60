package family

import (
	"context"
	"fmt"
	"strings"

	"darkroom/checkpoint"
	"darkroom/dit"
	"darkroom/nn"
	"darkroom/qwen"
	"darkroom/scheduler"
	"darkroom/stage"
	"darkroom/tensor"
)

// zImage is Z-Image (Z-Image Team 2025): the states of Qwen3, a single-stream transformer, FLUX.1's autoencoder. Turbo is
// distilled to few steps without guidance.
var zImage = opener{isZImage, openZImage}

func isZImage(index *checkpoint.Index) bool {
	return index.Components["transformer"].Class == "ZImageTransformer2DModel" && index.Components["vae"].Class == sdParts["vae"]
}

func openZImage(x *files, d *stage.Device) (*Model, error) {
	m := &Model{Family: "Z-Image", Wide: true}
	var err error
	if m.Sampling, err = readSampling(x); err != nil {
		return nil, err
	}
	m.Sampling.EvenFlow = true
	// The last layer's states are not read, nor the norm after it.
	language, err := openLanguageModel(x, d, true, func(c qwen.Config) []int { return []int{c.NumHiddenLayers - 1} })
	if err != nil {
		return nil, err
	}
	t, err := network(x, "transformer", dit.ReadZImageConfig, dit.NewZImage)
	if err != nil {
		return nil, err
	}
	codec, err := openAutoencoder(x, d, "vae")
	if err != nil {
		return nil, err
	}
	switch {
	case t.Config.InChannels != codec.config.LatentChannels:
		return nil, fmt.Errorf("model %s: transformer/config.json has in_channels %d, vae/config.json latent_channels %d: they must agree", x.folder.Name(), t.Config.InChannels, codec.config.LatentChannels)
	case t.Config.TextDim != language.model.Config.HiddenSize:
		return nil, fmt.Errorf("model %s: transformer/config.json has cap_feat_dim %d, text_encoder/config.json hidden_size %d: they must agree", x.folder.Name(), t.Config.TextDim, language.model.Config.HiddenSize)
	}
	m.Latent = Latent{Channels: t.Config.InChannels, Factor: codec.config.Factor(), Side: 1024 / codec.config.Factor(), Patch: t.Config.PatchSize}
	own := Defaults{Steps: 50, CFG: 6} // diffusers' guidance of 5 counts from 0
	if isTurbo(x.folder.Name(), m.Sampling) {
		own = Defaults{Steps: 8, CFG: 1}
	}
	if m.Defaults, err = readDefaultsOver(own, x.folder, m.Latent); err != nil {
		return nil, err
	}
	m.Text = &zText{language, t.Config, m.Latent}
	denoiser := newTransformer(t, d, m.Latent, dit.Padded(language.Tokens()))
	denoiser.clock = func(at scheduler.Level, _ float64) Cond { return Cond{"time": vector(t.Config.Time(at.T))} }
	m.Denoiser, m.Codec = denoiser, codec
	m.Parts = []*stage.Part{language.part, denoiser.part, codec.decoder}
	return m, nil
}

// isTurbo reports whether a model is the distilled one, which no file says: by its name, or by its shift.
func isTurbo(name string, c scheduler.Config) bool {
	name = strings.ToLower(name)
	switch {
	case strings.Contains(name, "turbo"):
		return true
	case strings.Contains(name, "base"):
		return false
	}
	return c.Shift <= 3
}

func vector(values []float32) tensor.Tensor { return tensor.Of(values, len(values)) }

// transformer is a denoiser whose clock is a family's.
type transformer struct {
	part   *stage.Part
	clock  func(at scheduler.Level, cfg float64) Cond
	guided bool // see ReadsGuidance
	extra  int  // see Extra; what they are is reads
	reads  Reading
}

func newTransformer(net nn.Network, d *stage.Device, l Latent, tokens int) *transformer {
	return &transformer{part: (&stage.Part{
		Name: "transformer", Title: "the transformer", Net: net, PerRow: true,
		Sizes: func(width, height, rows int, _ bool) nn.Sizes {
			return nn.Sizes{Rows: rows, H: height / l.Factor, W: width / l.Factor, Tokens: tokens}
		},
	}).On(d)}
}

func (t *transformer) Part() *stage.Part                          { return t.part }
func (t *transformer) Clock(at scheduler.Level, cfg float64) Cond { return t.clock(at, cfg) }
func (t *transformer) Extra() int                                 { return t.extra }
func (t *transformer) Reading() Reading                           { return t.reads }
func (*transformer) Layers() int                                  { return 0 }
func (t *transformer) ReadsGuidance() bool                        { return t.guided }

// zText is the states of a chat, in which the picture has a place after the text.
type zText struct {
	*languageModel
	transformer dit.ZImageConfig
	latent      Latent
}

// Encode gives "text" [tokens, width], filled up with zeros to the longest of the texts, and dit.ZImageConfig.Conditions.
func (t *zText) Encode(ctx context.Context, texts []string, o TextOptions) (*Encoded, error) {
	e, lengths, err := t.encode(ctx, texts, o, dit.Padded)
	if err != nil {
		return nil, err
	}
	for _, n := range lengths {
		e.Tokens = max(e.Tokens, dit.Padded(n))
	}
	for i, c := range e.Conds {
		width := c["text"].Shape[1]
		text := make([]float32, e.Tokens*width)
		copy(text, tensor.Floats(c["text"].Data)[:lengths[i]*width])
		c["text"] = tensor.Of(text, e.Tokens, width)
		values, err := t.transformer.Conditions(o.Seen[0]/t.latent.Factor, o.Seen[1]/t.latent.Factor, lengths[i], e.Tokens)
		if err != nil {
			return nil, &TextError{i, true, err}
		}
		for name, v := range values {
			if len(v) > 0 {
				c[name] = vector(v)
			}
		}
	}
	return e, nil
}
