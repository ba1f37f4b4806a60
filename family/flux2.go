package family

import (
	"context"
	"fmt"

	"darkroom/checkpoint"
	"darkroom/dit"
	"darkroom/nn"
	"darkroom/qwen"
	"darkroom/scheduler"
	"darkroom/stage"
	"darkroom/vae"
)

// flux2 is FLUX.2 klein (Black Forest Labs 2025): states of Qwen3 from three depths side by side, a transformer of two streams
// and then one, and an autoencoder whose latents are normalised in squares of four. The distilled models need few steps and
// no guidance.
var flux2 = opener{isFlux2, openFlux2}

func isFlux2(index *checkpoint.Index) bool {
	return index.Components["transformer"].Class == "Flux2Transformer2DModel" && index.Components["vae"].Class == "AutoencoderKLFlux2" &&
		(index.Components["text_encoder"].Class == "Qwen3ForCausalLM" || index.Components["text_encoder"].Class == "Qwen3Model")
}

func openFlux2(x *files, d *stage.Device) (*Model, error) {
	m := &Model{Family: "FLUX.2 klein", Wide: true}
	options, err := x.folder.Config("model_index.json")
	if err != nil {
		return nil, err
	}
	distilled := options.Bool("is_distilled", false)
	if m.Sampling, err = readSampling(x); err != nil {
		return nil, err
	}
	m.Sampling.EvenFlow, m.Sampling.Mu = true, kleinShift
	config, err := configOf(x, "transformer", dit.ReadFlux2Config)
	if err != nil {
		return nil, err
	}
	language, err := openLanguageModel(x, d, false, func(c qwen.Config) []int { return kleinLayers(c, config.TextDim) })
	if err != nil {
		return nil, err
	}
	t, err := network(x, "transformer", dit.ReadFlux2Config, dit.NewFlux2)
	if err != nil {
		return nil, err
	}
	codec, err := openPackedAutoencoder(x, d, "vae")
	if err != nil {
		return nil, err
	}
	c := language.model.Config
	switch {
	case t.Config.InChannels != codec.packing.Channels():
		return nil, fmt.Errorf("model %s: transformer/config.json has in_channels %d, but squares of the latents of vae/config.json have %d: they must agree", x.folder.Name(), t.Config.InChannels, codec.packing.Channels())
	case t.Config.TextDim != len(c.Layers)*c.HiddenSize:
		return nil, fmt.Errorf("model %s: transformer/config.json has joint_attention_dim %d, which is not %d times the hidden_size %d of text_encoder/config.json", x.folder.Name(), t.Config.TextDim, len(c.Layers), c.HiddenSize)
	}
	factor := codec.config.Factor() * codec.packing.Side
	m.References = MostReferences
	m.Latent = Latent{Channels: t.Config.InChannels, Factor: factor, Side: 1024 / factor}
	own := Defaults{Steps: 50, CFG: 4}
	if distilled {
		own = Defaults{Steps: 4, CFG: 1}
	}
	if m.Defaults, err = readDefaultsOver(own, x.folder, m.Latent); err != nil {
		return nil, err
	}
	m.Text = &kleinText{language, t.Config, m.Latent}
	denoiser := newTransformer(t, d, m.Latent, qwen.Most)
	denoiser.guided = distilled || t.Config.Guidance // it was trained to need no second call
	denoiser.clock = func(at scheduler.Level, cfg float64) Cond {
		c := Cond{"time": vector(t.Config.Time(at.T))}
		if t.Config.Guidance {
			c["guidance"] = vector(t.Config.Time(1000 * cfg))
		}
		return c
	}
	m.Denoiser, m.Codec = denoiser, codec
	m.Parts = []*stage.Part{language.part, denoiser.part, codec.decoder}
	return m, nil
}

// kleinLayers are the depths whose states are read: 9, 18 and 27, or in smaller models even shares, as many as the
// transformer is wide for.
func kleinLayers(c qwen.Config, textDim int) []int {
	n := max(textDim/c.HiddenSize, 1)
	layers := make([]int, n)
	for i := range layers {
		layers[i] = 9 * (i + 1)
		if c.NumHiddenLayers < 9*n {
			layers[i] = max((i+1)*c.NumHiddenLayers/(n+1), 1)
		}
	}
	return layers
}

// kleinShift is μ of the shift: a rule found by trial for 10 and for 200 steps, between and around which it is linear.
func kleinShift(tokens, steps int) float64 {
	n := float64(tokens)
	at200 := 0.00016927*n + 0.45666666
	if tokens > 4300 {
		return at200
	}
	at10 := 8.73809524e-05*n + 1.89833333
	slope := (at200 - at10) / 190
	return slope*float64(steps) + (at200 - 200*slope)
}

// kleinText is the states of a chat of 512 tokens, padding and all.
type kleinText struct {
	*languageModel
	transformer dit.Flux2Config
	latent      Latent
}

// Tokens is fixed.
func (*kleinText) Tokens() int { return qwen.Most }

// Encode gives "text" [tokens, width] and dit.Flux2Config.Conditions.
func (t *kleinText) Encode(ctx context.Context, texts []string, o TextOptions) (*Encoded, error) {
	e, _, err := t.encode(ctx, texts, o, func(int) int { return qwen.Most })
	if err != nil {
		return nil, err
	}
	e.Tokens = qwen.Most
	for name, v := range t.transformer.Conditions(e.Tokens, t.latent.grid(o.Seen), o.referenceGrids(t.latent)) {
		for _, c := range e.Conds {
			c[name] = vector(v)
		}
	}
	return e, nil
}

// packedAutoencoder is the Codec of AutoencoderKLFlux2: what is denoised are squares of its latents, normalised.
type packedAutoencoder struct {
	*autoencoder
	packing *vae.Packing
}

func openPackedAutoencoder(x *files, d *stage.Device, name string) (*packedAutoencoder, error) {
	c := &packedAutoencoder{autoencoder: &autoencoder{device: d}}
	build := func(config vae.Config, l nn.Loader) (*vae.Decoder, error) {
		c.config = config
		var err error
		if c.packing, err = vae.NewPacking(config, l); err != nil {
			return nil, err
		}
		return c.build(config, l, name)
	}
	decoder, err := network(x, name, vae.ReadPackedConfig, build)
	if err != nil {
		return nil, err
	}
	c.put(decoder, name)
	return c, nil
}

// unpacked is an area in the autoencoder's own latents.
func (c *packedAutoencoder) unpacked(a Area) Area {
	a.H, a.W = a.H*c.packing.Side, a.W*c.packing.Side
	return a
}

func (c *packedAutoencoder) Tiled(h, w int) bool {
	return c.autoencoder.Tiled(h*c.packing.Side, w*c.packing.Side)
}

func (c *packedAutoencoder) Ready(a Area) error { return c.autoencoder.Ready(c.unpacked(a)) }
func (c *packedAutoencoder) Ran(a Area) bool    { return c.autoencoder.Ran(c.unpacked(a)) }

func (c *packedAutoencoder) Decode(ctx context.Context, latents []float32, a Area, warn func(string)) (Decoded, error) {
	return c.autoencoder.Decode(ctx, c.packing.Unpack(latents, a.H, a.W), c.unpacked(a), warn)
}

func (c *packedAutoencoder) Encode(ctx context.Context, picture []float32, a Area) (mean, std []float32, err error) {
	if mean, std, err = c.autoencoder.Encode(ctx, picture, c.unpacked(a)); err != nil {
		return nil, nil, err
	}
	mean, std = c.packing.Pack(mean, std, a.H, a.W)
	return mean, std, nil
}
