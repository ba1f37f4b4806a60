package family

import (
	"fmt"
	"testing"

	"darkroom/config"
	"darkroom/dit"
	"darkroom/kernels/ref"
	"darkroom/nn"
	"darkroom/qwen"
	"darkroom/stage"
	"darkroom/t5"
	"darkroom/tensor"
	"darkroom/vae"
)

// The configurations of the released models, as far as they are not the classes' defaults.
const (
	qwen4B    = `{"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 151936}`
	t5XXL     = `{"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu", "vocab_size": 32128}`
	sd35Large = `{"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "pos_embed_max_size": 192, "qk_norm": "rms_norm"}`
	klein4B   = `{"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680, "guidance_embeds": false}`
	kleinVAE  = `{"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 32, "sample_size": 1024}`
	fluxVAE   = `{"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 16, "sample_size": 1024, "use_quant_conv": false, "use_post_quant_conv": false,
		"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}`
)

// sizedModel is a model of published size without weights.
type sizedModel struct {
	m       Model
	most    uint64  // bytes that a picture of 1024×1024 may take with streamed weights
	weights float64 // of the transformer, in thousands of millions
}

// sizedTransformers are models by name, on a device.
func sizedTransformers(t *testing.T, d *stage.Device) map[string]sizedModel {
	src := nn.Random{ShapesOnly: true}
	language := func(layers ...int) *stage.Part {
		m, err := sized(qwen4B, "text_encoder", src, func(c *config.Object) (qwen.Config, error) {
			q, err := qwen.ReadConfig(c)
			q.Layers = layers
			return q, err
		}, qwen.New)
		if err != nil {
			t.Fatal(err)
		}
		return (&stage.Part{Name: "text_encoder", Net: m, Once: true, Large: true, Sizes: func(int, int, int, bool) nn.Sizes { return nn.Sizes{Rows: 1, Tokens: qwen.Most} }}).On(d)
	}
	decoder := func(text string, read func(*config.Object) (vae.Config, error)) *autoencoder {
		c := &autoencoder{device: d}
		net, err := sized(text, "vae", src, read, func(config vae.Config, l nn.Loader) (*vae.Decoder, error) {
			c.config = config
			return vae.NewDecoder(config, l)
		})
		if err != nil {
			t.Fatal(err)
		}
		c.put(net, "vae")
		return c
	}
	klein, err := sized(klein4B, "transformer", src, dit.ReadFlux2Config, dit.NewFlux2)
	if err != nil {
		t.Fatal(err)
	}
	z, err := sized(`{}`, "transformer", src, dit.ReadZImageConfig, dit.NewZImage)
	if err != nil {
		t.Fatal(err)
	}
	t5xxl := func(tokens int) *stage.Part {
		m, err := sized(t5XXL, "text_encoder_2", src, t5.ReadConfig, t5.New)
		if err != nil {
			t.Fatal(err)
		}
		return (&stage.Part{Name: "t5", Net: m, Once: true, Large: true, Sizes: func(int, int, int, bool) nn.Sizes { return nn.Sizes{Rows: 1, Tokens: tokens} }}).On(d)
	}
	flux, err := sized(`{"guidance_embeds": true}`, "transformer", src, dit.ReadFlux1Config, dit.NewFlux1)
	if err != nil {
		t.Fatal(err)
	}
	sd3, err := sized(sd35Large, "transformer", src, dit.ReadSD3Config, dit.NewSD3)
	if err != nil {
		t.Fatal(err)
	}
	const GiB = 1 << 30
	all := map[string]sizedModel{
		"FLUX.2 klein 4B": {Model{Parts: []*stage.Part{language(9, 18, 27), newTransformer(klein, d, Latent{Factor: 16}, qwen.Most).part, decoder(kleinVAE, vae.ReadPackedConfig).decoder}}, 5 * GiB, 3.9},
		"FLUX.1 dev":      {Model{Parts: []*stage.Part{t5xxl(512), newTransformer(flux, d, Latent{Factor: 8}, 512).part, decoder(fluxVAE, vae.ReadConfig).decoder}}, 8 * GiB, 11.9},
		"SD 3.5 large":    {Model{Parts: []*stage.Part{t5xxl(256), newTransformer(sd3, d, Latent{Factor: 8}, 333).part, decoder(fluxVAE, vae.ReadConfig).decoder}}, 8 * GiB, 8.06},
		"Z-Image-Turbo":   {Model{Parts: []*stage.Part{language(35), newTransformer(z, d, Latent{Factor: 8}, 128).part, decoder(fluxVAE, vae.ReadConfig).decoder}}, 8 * GiB, 6.15},
	}
	for name, c := range all {
		c.m.Codec = decoder(fluxVAE, vae.ReadConfig)
		all[name] = c
	}
	return all
}

// A picture of 1024×1024 takes no more than cards of the smaller kinds have, with weights that come block by block: nothing
// is kept of the text encoder.
func TestTransformersMemory(t *testing.T) {
	for name, c := range sizedTransformers(t, &stage.Device{Backend: ref.New(1), DType: tensor.F32, LowMemory: true}) {
		n := c.m.Need(1024, 1024, 1, true, true)
		t.Logf("%s: %s of weights, %s of activations", name, mib(n.Weights), mib(n.Activations))
		for _, p := range c.m.Parts {
			own := p.Need(p.Sizes(1024, 1024, 1, true), true)
			t.Logf("  %s: %s of weights, %s of activations", p.Name, mib(own.Weights), mib(own.Activations))
		}
		if n.Total() > c.most {
			t.Errorf("%s takes %s, want at most %s", name, mib(n.Total()), mib(c.most))
		}
		var weights float64
		part := c.m.Part("transformer")
		for _, w := range part.Graph(part.Sizes(1024, 1024, 1, true)).Weights() {
			weights += float64(w.Shape.Len())
		}
		if weights /= 1e9; weights < 0.98*c.weights || weights > 1.02*c.weights {
			t.Errorf("%s has %.2f thousand million weights, want %.2f", name, weights, c.weights)
		}
	}
}

// With 8-bit weights a picture of 1024×1024 by FLUX.1 fits into cards of 24 GiB, of which the driver takes some, by Stable
// Diffusion 3.5 large into 16 and by the smaller ones into 12; without them FLUX.1 does not.
func TestTransformersInt8(t *testing.T) {
	const GiB = 1 << 30
	narrow := sizedTransformers(t, &stage.Device{Backend: eighths{halves{ref.New(1)}}, DType: tensor.BF16})
	for name, most := range map[string]uint64{"FLUX.1 dev": 22 * GiB, "SD 3.5 large": 15 * GiB, "Z-Image-Turbo": 11 * GiB, "FLUX.2 klein 4B": 11 * GiB} {
		m := narrow[name].m
		all, frugal := m.Need(1024, 1024, 1, false, false), m.NeedFrugal(1024, 1024, 1, false)
		t.Logf("%s: %s of weights and %s of activations; %s if text encoders are freed after each prompt", name, mib(all.Weights), mib(all.Activations), mib(frugal.Total()))
		if frugal.Total() > most {
			t.Errorf("%s takes %s, want at most %s", name, mib(frugal.Total()), mib(most))
		}
	}
	wide := sizedTransformers(t, &stage.Device{Backend: halves{ref.New(1)}, DType: tensor.BF16})["FLUX.1 dev"].m
	if n := wide.NeedFrugal(1024, 1024, 1, false); n.Total() < 23*GiB {
		t.Errorf("FLUX.1 takes %s in half precision, so this shows nothing", mib(n.Total()))
	}
}

func mib(n uint64) string { return fmt.Sprintf("%d MiB", n>>20) }
