package family

import (
	"testing"

	"darkroom/clip"
	"darkroom/config"
	"darkroom/kernels/cpu"
	"darkroom/kernels/ref"
	"darkroom/nn"
	"darkroom/stage"
	"darkroom/tensor"
	"darkroom/unet"
	"darkroom/vae"
)

// The configurations of SDXL base 1.0 beside its U-Net's; what they leave out is diffusers' default.
const (
	xlText1 = `{"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "vocab_size": 49408}`
	xlText2 = `{"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20, "num_hidden_layers": 32, "vocab_size": 49408, "projection_dim": 1280, "hidden_act": "gelu"}`
	xlVAE   = `{"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "sample_size": 1024, "scaling_factor": 0.13025,
		"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}`
)

// stableDiffusionXLSizes is SDXL without weights.
func stableDiffusionXLSizes(t *testing.T, d *stage.Device) (*Model, *autoencoder) {
	t.Helper()
	src := nn.Random{ShapesOnly: true}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	penultimate := func(c *config.Object) (clip.TextConfig, error) {
		m, err := clip.ReadTextConfig(c)
		m.Penultimate = true
		return m, err
	}
	text1, err := sized(xlText1, "text_encoder", src, penultimate, clip.NewText)
	must(err)
	text2, err := sized(xlText2, "text_encoder_2", src, penultimate, clip.NewText)
	must(err)
	u, err := sized(xlUNet, "unet", src, unet.ReadConfig, unet.New)
	must(err)
	codec := &autoencoder{device: d}
	decoder, err := sized(xlVAE, "vae", src, vae.ReadConfig, func(c vae.Config, l nn.Loader) (*vae.Decoder, error) { return codec.build(c, l, "vae") })
	must(err)
	codec.put(decoder, "vae")
	if codec.encoder == nil { // shapes have no names to ask for
		e, err := sized(xlVAE, "vae", src, vae.ReadConfig, vae.NewEncoder)
		must(err)
		codec.encoder = (&stage.Part{Name: "vae_encoder", Title: "the encoder", Net: e}).On(d)
	}
	denoiser := newUNet(u, d, codec.config.Factor(), 77)
	one, two := newCLIPText(nil, text1, "text_encoder", d), newCLIPText(nil, text2, "text_encoder_2", d)
	return &Model{Parts: []*stage.Part{one.part, two.part, denoiser.part, codec.decoder}, Denoiser: denoiser, Codec: codec}, codec
}

// SDXL at 1024×1024: on a GPU in float16 within 12 GiB, with 8-bit weights within 6, with --low-memory within 8, on a processor within 14. The plan needs no
// weights.
func TestSDXLFits(t *testing.T) {
	count := func(name string, d *stage.Device, low bool, limit uint64) {
		t.Helper()
		d.LowMemory = low
		m, codec := stableDiffusionXLSizes(t, d)
		need := m.Need(1024, 1024, 2, low, low)
		encoding := codec.encoder.Need(codec.encodeSizes(1024, 1024, low), low)
		t.Logf("%s: %s of weights and %s of activations; encoding takes %s", name, gib(need.Weights), gib(need.Activations), gib(encoding.Total()))
		if need.Total() > limit {
			t.Errorf("%s takes %s, more than %s", name, gib(need.Total()), gib(limit))
		}
		if low && encoding.Total() > limit || need.Weights+encoding.Total() > limit {
			t.Errorf("%s: encoding a picture takes %s on top of %s, more than %s", name, gib(encoding.Total()), gib(need.Weights), gib(limit))
		}
		if parameters := uint64(3.4e9 * 2); !low && limit > 6<<30 && need.Weights < parameters {
			t.Errorf("%s of weights are less than the model's parameters in half precision", gib(need.Weights))
		}
	}
	count("GPU", &stage.Device{Backend: halves{ref.New(1)}, DType: tensor.F16}, false, 12<<30)
	count("GPU, int8", &stage.Device{Backend: eighths{halves{ref.New(1)}}, DType: tensor.F16}, false, 6<<30)
	count("GPU, low memory", &stage.Device{Backend: halves{ref.New(1)}, DType: tensor.F16}, true, 8<<30)
	if !cpu.Available {
		t.Skip("this build has no CPU kernels, whose packing is what is counted")
	}
	b, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	m, codec := stableDiffusionXLSizes(t, &stage.Device{Backend: b})
	need := m.NeedFrugal(1024, 1024, 2, false) // as it is where not all fits
	t.Logf("processor, fp32: %s of weights and %s of activations; otherwise %s", gib(need.Weights), gib(need.Activations), gib(m.Need(1024, 1024, 2, false, false).Total()))
	if need.Total() > 14<<30 {
		t.Errorf("on a processor in float32: %s", gib(need.Total()))
	}
	// A picture is encoded before the first prompt, and when the text encoders' weights are gone.
	if encoding := codec.encoder.Need(codec.encodeSizes(1024, 1024, false), false); m.Part("unet").Need(m.Part("unet").Sizes(1024, 1024, 2, false), false).Weights+encoding.Total() > 14<<30 {
		t.Errorf("encoding a picture takes %s", gib(encoding.Total()))
	}
	count("processor, fp32, low memory", &stage.Device{Backend: b}, true, 14<<30)
}
