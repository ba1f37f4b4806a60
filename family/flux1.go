package family

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"darkroom/checkpoint"
	"darkroom/clip"
	"darkroom/config"
	"darkroom/dit"
	"darkroom/recipe"
	"darkroom/scheduler"
	"darkroom/stage"
	"darkroom/tensor"
	"darkroom/vae"
)

// flux1 is FLUX.1 (Black Forest Labs 2024): CLIP's embedding of the whole text and T5's states of its tokens, a transformer of two
// streams and then one, and an autoencoder of 16 channels. dev reads the guidance scale; schnell needs few steps and none.
// Kontext is dev, trained to change a picture that it sees beside the one that it draws (Batifol et al. 2025). Fill is dev with further
// channels, for inpainting. Canny and Depth are dev with further channels, for a control picture.
var flux1 = opener{isFlux1, openFlux1}

func isFlux1(index *checkpoint.Index) bool {
	return index.Components["transformer"].Class == "FluxTransformer2DModel" && index.Components["vae"].Class == sdParts["vae"] && index.Components["unet"].Class == ""
}

// flux1Tokens are those of T5 that dev and schnell were trained with.
func flux1Tokens(guidance bool) int {
	if guidance {
		return 512
	}
	return 256
}

func openFlux1(x *files, d *stage.Device) (*Model, error) {
	m := &Model{Wide: true}
	if err := x.take(textParts{{"text_encoder", checkpoint.CLIPL}, {"text_encoder_2", checkpoint.T5}}); err != nil {
		return nil, err
	}
	var err error
	if m.Sampling, err = readSampling(x); err != nil {
		return nil, err
	}
	m.Sampling.EvenFlow = true
	config, err := configOf(x, "transformer", dit.ReadFlux1Config)
	if err != nil {
		return nil, err
	}
	text := &flux1Text{transformer: config}
	if text.clip, err = openPooled(x, d, "text_encoder"); err != nil {
		return nil, err
	}
	if text.t5, err = openT5(x, d, "text_encoder_2", config.TextDim, flux1Tokens(config.Guidance)); err != nil {
		return nil, err
	}
	t, err := network(x, "transformer", dit.ReadFlux1Config, dit.NewFlux1)
	if err != nil {
		return nil, err
	}
	codec, err := openAutoencoder(x, d, "vae")
	if err != nil {
		return nil, err
	}
	switch {
	case config.Channels() != codec.config.LatentChannels:
		return nil, fmt.Errorf("model %s: transformer/config.json has out_channels %d, squares of the %d latent_channels of vae/config.json have %d: they must agree", x.folder.Name(), config.OutChannels, codec.config.LatentChannels, 4*codec.config.LatentChannels)
	case config.PooledDim != text.clip.model.Config.HiddenSize:
		return nil, fmt.Errorf("model %s: transformer/config.json has pooled_projection_dim %d, text_encoder/config.json hidden_size %d: they must agree", x.folder.Name(), config.PooledDim, text.clip.model.Config.HiddenSize)
	}
	index, err := x.folder.Index()
	if err != nil {
		return nil, err
	}
	kind, err := flux1KindOf(config, codec.config, index.Class, x.folder.Name())
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", x.folder.Name(), err)
	}
	m.Family, m.References, m.Stretches, m.Warnings = kind.family, kind.references, kind.references > 0, kind.warnings
	m.Latent = Latent{Channels: config.Channels(), Factor: codec.config.Factor(), Side: 1024 / codec.config.Factor(), Patch: config.Square()}
	if m.Defaults, err = readDefaultsOver(kind.own, x.folder, m.Latent); err != nil {
		return nil, err
	}
	text.latent = m.Latent
	denoiser := newTransformer(t, d, m.Latent, text.t5.tokens)
	denoiser.extra, denoiser.reads = config.Extra(), kind.reads
	denoiser.guided = true // dev reads the scale, and schnell was trained to need none
	denoiser.clock = func(at scheduler.Level, cfg float64) Cond {
		c := Cond{"time": vector(config.Time(at.T))}
		if config.Guidance {
			c["guidance"] = vector(config.Time(1000 * cfg))
		}
		return c
	}
	m.Text, m.Denoiser, m.Codec = text, denoiser, codec
	m.Parts = []*stage.Part{text.clip.part, text.t5.part, denoiser.part, codec.decoder}
	return m, nil
}

// flux1Kind is what a FLUX.1 model was trained for.
type flux1Kind struct {
	family     string
	own        Defaults
	references int
	reads      Reading
	warnings   []string
}

// flux1KindOf tells by the channels that the transformer reads after the latents: with Fill those of the picture that stays and the
// mask's pixels, with Canny and Depth those of a control picture. Models of the same shapes are told apart by their pipeline or name.
func flux1KindOf(c dit.Flux1Config, v vae.Config, class, name string) (flux1Kind, error) {
	fill, control := v.LatentChannels+v.Factor()*v.Factor(), v.LatentChannels
	switch {
	case c.Extra() == fill:
		return flux1Kind{family: "FLUX.1 Fill", own: Defaults{Steps: 50, CFG: 30}, reads: ReadsMaskPixels}, nil
	case c.Extra() == control:
		return flux1Control(name), nil
	case c.Extra() != 0:
		in := func(extra int) int { return c.OutChannels + extra*c.Square()*c.Square() }
		return flux1Kind{}, fmt.Errorf("transformer/config.json has in_channels %d and out_channels %d: models that read a picture are supported with in_channels %d (Fill) and %d (Canny, Depth)",
			c.InChannels, c.OutChannels, in(fill), in(control))
	case class == "FluxKontextPipeline" || strings.Contains(strings.ToLower(name), "kontext"):
		return flux1Kind{family: "FLUX.1 Kontext", own: Defaults{Steps: 28, CFG: 2.5}, references: 1}, nil
	case c.Guidance:
		return flux1Kind{family: "FLUX.1", own: Defaults{Steps: 28, CFG: 3.5}}, nil
	}
	return flux1Kind{family: "FLUX.1", own: Defaults{Steps: 4, CFG: 1}}, nil
}

// flux1Control is Canny or Depth, with the defaults of their model cards. They have the same shapes and one pipeline, so only the
// name tells them apart: the last of both words in a path. Without it nothing is lost but the better defaults.
func flux1Control(name string) flux1Kind {
	k := flux1Kind{family: "FLUX.1 Depth", own: Defaults{Steps: 30, CFG: 10}, reads: ReadsControl}
	name = strings.ToLower(name)
	switch canny, depth := strings.LastIndex(name, "canny"), strings.LastIndex(name, "depth"); {
	case canny > depth:
		k.family, k.own = "FLUX.1 Canny", Defaults{Steps: 50, CFG: 30}
	case canny == depth: // neither
		k.family = "FLUX.1 Canny or Depth"
		k.warnings = []string{"neither the weights nor the name of this model say whether its control picture shows edges (FLUX.1 Canny) or depth (FLUX.1 Depth): give it what it was trained with. A name with canny or depth in it sets the defaults, too"}
	}
	return k
}

// openPooled opens a CLIP text encoder whose embedding of the whole text is read, before a projection.
func openPooled(x *files, d *stage.Device, name string) (*clipText, error) {
	return openCLIPWith(x, d, name, func(c *config.Object) (clip.TextConfig, error) {
		m, err := clip.ReadTextConfig(c)
		m.Pooled = true
		return m, err
	})
}

// flux1Text is CLIP's embedding and T5's states.
type flux1Text struct {
	clip        *clipText
	t5          *t5Text
	transformer dit.Flux1Config
	latent      Latent
}

func (t *flux1Text) Layers() int { return 1 }
func (t *flux1Text) Tokens() int { return t.t5.tokens }

func (t *flux1Text) Check(_, syntax string) error {
	_, err := clip.ParseSyntax(syntax)
	return err
}

// Encode gives "text" [tokens, width], "pooled" and dit.Flux1Config.Conditions.
func (t *flux1Text) Encode(ctx context.Context, texts []string, o TextOptions) (*Encoded, error) {
	e := &Encoded{Window: t.t5.tokens, Tokens: t.t5.tokens}
	places := t.transformer.Conditions(e.Tokens, t.latent.grid(o.Seen), o.referenceGrids(t.latent))
	words := e.read(texts, o.Syntax)
	pooled, _, err := pooledOf(ctx, t.clip, words, 0)
	if err != nil {
		return nil, err
	}
	if err := t.t5.encodeAll(ctx, words, e); err != nil {
		return nil, err
	}
	for i, c := range e.Conds {
		c["pooled"] = vector(pooled[i])
		for name, v := range places {
			c[name] = vector(v)
		}
	}
	return e, nil
}

// read gives the words of texts, and notes what is lost of them.
func (e *Encoded) read(texts []string, syntax string) (words []string) {
	for _, text := range texts {
		w, warnings := wordsOf(text, syntax)
		words = append(words, w)
		e.Warnings = append(e.Warnings, warnings)
	}
	return words
}

// pooledOf gives the embedding of each text that the encoder reads, of its first window, and the states of that.
func pooledOf(ctx context.Context, t *clipText, words []string, skip int) (pooled, states [][]float32, err error) {
	prompts, err := t.readAll(words, recipe.Plain)
	if err != nil {
		return nil, nil, err
	}
	if t.part.Device().Drops() {
		defer t.part.Unload()
	}
	for i, p := range prompts {
		p.Chunks = p.Chunks[:1]
		hidden, embedding, err := t.encode(ctx, p, skip, true)
		if err != nil {
			return nil, nil, &TextError{i, false, err}
		}
		pooled, states = append(pooled, embedding), append(states, hidden)
	}
	return pooled, states, nil
}

// encodeAll adds the states of each text as conditions, "text".
func (t *t5Text) encodeAll(ctx context.Context, words []string, e *Encoded) error {
	if t.part.Device().Drops() {
		defer t.part.Unload()
	}
	for i, w := range words {
		if at := slices.Index(words[:i], w); at >= 0 { // a text that was encoded
			e.Conds, e.Cut = append(e.Conds, Cond{"text": e.Conds[at]["text"]}), append(e.Cut, e.Cut[at])
			continue
		}
		states, cut, err := t.encode(ctx, w)
		if err != nil {
			return &TextError{i, false, err}
		}
		e.Conds = append(e.Conds, Cond{"text": tensor.Of(states, t.tokens, t.model.Config.Model)})
		e.Cut = append(e.Cut, cut)
	}
	return nil
}

func (t *flux1Text) reads(*checkpoint.Embedding) bool { return false }

func (t *flux1Text) embed(all []*checkpoint.Embedding, _ map[string]checkpoint.Weights, _ map[string]string) error {
	return noEmbeddings(all)
}

// noEmbeddings refuses textual inversions.
func noEmbeddings(all []*checkpoint.Embedding) error {
	if len(all) > 0 {
		return fmt.Errorf("the embedding %s is for models that read the states of CLIP text encoders, which this model does not", all[0].Token)
	}
	return nil
}
