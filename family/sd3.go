package family

import (
	"context"
	"fmt"

	"darkroom/checkpoint"
	"darkroom/clip"
	"darkroom/dit"
	"darkroom/recipe"
	"darkroom/scheduler"
	"darkroom/stage"
	"darkroom/tensor"
)

// stableDiffusion3 is Stable Diffusion 3 and 3.5 (Esser et al. 2024): the states of two CLIP text encoders side by side and those
// of T5 after them, the CLIPs' embeddings of the whole text, a transformer of two streams, and an autoencoder of 16 channels. T5
// may be missing: then its states are zeros.
var stableDiffusion3 = opener{isStableDiffusion3, openStableDiffusion3}

func isStableDiffusion3(index *checkpoint.Index) bool {
	return index.Components["transformer"].Class == "SD3Transformer2DModel" && index.Components["vae"].Class == sdParts["vae"] && index.Components["unet"].Class == ""
}

// sd3Tokens are those of T5.
const sd3Tokens = 256

func openStableDiffusion3(x *files, d *stage.Device) (*Model, error) {
	m := &Model{Family: "Stable Diffusion 3", Wide: true}
	if err := x.take(textParts{{"text_encoder", checkpoint.CLIPL}, {"text_encoder_2", checkpoint.CLIPG}, {"text_encoder_3", checkpoint.T5}}); err != nil {
		return nil, err
	}
	var err error
	if m.Sampling, err = readSampling(x); err != nil {
		return nil, err
	}
	m.Sampling.CutLeft = true
	config, err := configOf(x, "transformer", dit.ReadSD3Config)
	if err != nil {
		return nil, err
	}
	text := &sd3Text{transformer: config}
	pooled, width := 0, 0
	for i, title := range []string{"the first CLIP text encoder", "the second CLIP text encoder"} {
		number := []string{"", "_2"}[i]
		one, err := openPenultimate(x, d, "text_encoder"+number)
		if err != nil {
			return nil, err
		}
		one.part.Title = title
		text.clips = append(text.clips, one)
		m.Parts = append(m.Parts, one.part)
		pooled, width = pooled+one.model.Config.ProjectionDim, width+one.model.Config.HiddenSize
	}
	if x.has("text_encoder_3") {
		if text.t5, err = openT5(x, d, "text_encoder_3", config.TextDim, sd3Tokens); err != nil {
			return nil, err
		}
		m.Parts = append(m.Parts, text.t5.part)
	}
	t, err := network(x, "transformer", dit.ReadSD3Config, dit.NewSD3)
	if err != nil {
		return nil, err
	}
	codec, err := openAutoencoder(x, d, "vae")
	if err != nil {
		return nil, err
	}
	switch {
	case config.InChannels != codec.config.LatentChannels:
		return nil, fmt.Errorf("model %s: transformer/config.json has in_channels %d, vae/config.json latent_channels %d: they must agree", x.folder.Name(), config.InChannels, codec.config.LatentChannels)
	case config.PooledDim != pooled:
		return nil, fmt.Errorf("model %s: transformer/config.json has pooled_projection_dim %d, the projection_dim of both text encoders are %d: they must agree", x.folder.Name(), config.PooledDim, pooled)
	case config.TextDim < width:
		return nil, fmt.Errorf("model %s: transformer/config.json has joint_attention_dim %d, and the states of both text encoders have %d", x.folder.Name(), config.TextDim, width)
	}
	m.Latent = Latent{Channels: config.InChannels, Factor: codec.config.Factor(), Side: config.SampleSize, Patch: config.PatchSize}
	own := Defaults{Steps: 28, CFG: 7}
	if config.QKNorm { // 3.5
		own = Defaults{Steps: 28, CFG: 4.5}
	}
	if m.Defaults, err = readDefaultsOver(own, x.folder, m.Latent); err != nil {
		return nil, err
	}
	text.latent = m.Latent
	denoiser := newTransformer(t, d, m.Latent, text.Tokens())
	denoiser.clock = func(at scheduler.Level, _ float64) Cond { return Cond{"time": vector(config.Time(at.T))} }
	m.Text, m.Denoiser, m.Codec = text, denoiser, codec
	m.Parts = append(m.Parts, denoiser.part, codec.decoder)
	return m, nil
}

// sd3Text is two CLIP encoders, and T5 or zeros in its place.
type sd3Text struct {
	clips       []*clipText
	t5          *t5Text // nil: zeros
	transformer dit.SD3Config
	latent      Latent
}

func (t *sd3Text) Layers() int { return min(t.clips[0].Layers(), t.clips[1].Layers()) }
func (t *sd3Text) Tokens() int { return t.clips[0].Tokens() + sd3Tokens }

func (t *sd3Text) Check(_, syntax string) error {
	_, err := clip.ParseSyntax(syntax)
	return err
}

// Encode gives "text" [tokens, width], "pooled" and dit.SD3Config.Conditions.
func (t *sd3Text) Encode(ctx context.Context, texts []string, o TextOptions) (*Encoded, error) {
	places, err := t.transformer.Conditions(o.Seen[0]/t.latent.Factor, o.Seen[1]/t.latent.Factor)
	if err != nil {
		return nil, &TextError{0, true, err}
	}
	e := &Encoded{Window: sd3Tokens, Tokens: t.Tokens()}
	words := e.read(texts, o.Syntax)
	width, first := t.transformer.TextDim, t.clips[0].Tokens()
	states, pooled := make([][]float32, len(texts)), make([][]float32, len(texts))
	for i := range states {
		states[i] = make([]float32, e.Tokens*width)
	}
	from := 0 // the encoder's place in a token's states
	for _, one := range t.clips {
		embeddings, hidden, err := pooledOf(ctx, one, words, o.Skip)
		if err != nil {
			return nil, err
		}
		own := one.model.Config.HiddenSize
		for i := range texts {
			pooled[i] = append(pooled[i], embeddings[i]...)
			for token := range first {
				copy(states[i][token*width+from:][:own], hidden[i][token*own:][:own])
			}
		}
		from += own
	}
	if t.t5 == nil {
		e.Window = first
		e.Conds, e.Cut = make([]Cond, len(texts)), make([]string, len(texts))
		if err := t.cutByCLIP(words, e); err != nil {
			return nil, err
		}
	} else if err := t.t5.encodeAll(ctx, words, e); err != nil {
		return nil, err
	}
	for i := range texts {
		if t.t5 != nil {
			copy(states[i][first*width:], tensor.Floats(e.Conds[i]["text"].Data))
		}
		e.Conds[i] = Cond{"text": tensor.Of(states[i], e.Tokens, width), "pooled": vector(pooled[i])}
		for name, v := range places {
			e.Conds[i][name] = vector(v)
		}
	}
	return e, nil
}

// cutByCLIP notes what does not fit into the only encoders that there are.
func (t *sd3Text) cutByCLIP(words []string, e *Encoded) error {
	prompts, err := t.clips[0].readAll(words, recipe.Plain)
	if err != nil {
		return err
	}
	for i, p := range prompts {
		e.Cut[i] = p.Cut
	}
	return nil
}

func (t *sd3Text) reads(*checkpoint.Embedding) bool { return false }

func (t *sd3Text) embed(all []*checkpoint.Embedding, _ map[string]checkpoint.Weights, _ map[string]string) error {
	return noEmbeddings(all)
}
