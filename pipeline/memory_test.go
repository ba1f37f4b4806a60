package pipeline

import (
	"testing"

	"darkroom/checkpoint"
	"darkroom/clip"
	"darkroom/kernels/cpu"
	"darkroom/nn"
	"darkroom/tensor"
	"darkroom/unet"
	"darkroom/vae"
)

// config reads a configuration that is given as text; what it leaves out is diffusers' default, which
// for the U-Net is Stable Diffusion 1's.
func config[C any](t *testing.T, read func(*checkpoint.Config) (C, error), text string) C {
	t.Helper()
	raw, err := checkpoint.ParseConfig([]byte(text), "config.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := read(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// stableDiffusion is Stable Diffusion 1.5 without weights and without a backend.
func stableDiffusion(t *testing.T) *Pipeline {
	shapes := nn.Random{ShapesOnly: true}
	p := &Pipeline{dtype: tensor.F32}
	var err error
	textConfig := config(t, clip.ReadTextConfig, `{"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "vocab_size": 49408}`)
	if p.text, err = clip.NewText(textConfig, nn.NewLoader("text_encoder", shapes)); err != nil {
		t.Fatal(err)
	}
	if p.unet, err = unet.New(config(t, unet.ReadConfig, `{"cross_attention_dim": 768}`), nn.NewLoader("unet", shapes)); err != nil {
		t.Fatal(err)
	}
	p.decoderConfig = config(t, vae.ReadConfig, `{"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "sample_size": 512,
		"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}`)
	if p.decoder, err = vae.NewDecoder(p.decoderConfig, nn.NewLoader("vae", shapes)); err != nil {
		t.Fatal(err)
	}
	return p
}

// Stable Diffusion 1.5 at 512×512 in float32 must fit into 5 GiB, and a run of it took 4.6 GiB in all
// (peak resident memory, with float16 weights on disk). The plan needs no weights.
func TestStableDiffusionFits(t *testing.T) {
	if !cpu.Available {
		t.Skip("this build has no CPU kernels, whose packing is what is counted")
	}
	b, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	p := stableDiffusion(t)
	p.backend = b
	need := p.Need(512, 512, true)
	// 123 M + 860 M + 49 M parameters of 4 bytes, and what packing adds.
	if parameters := uint64(1032e6 * 4); need.Weights < parameters || need.Weights > parameters+parameters/50 {
		t.Errorf("weights take %s, want %s and little more", gib(need.Weights), gib(parameters))
	}
	if need.Total() > 5<<30 {
		t.Errorf("%s of weights and %s of activations: more than 5 GiB", gib(need.Weights), gib(need.Activations))
	}
	t.Logf("weights %s, activations %s", gib(need.Weights), gib(need.Activations))

	// The published size of the U-Net's forward pass at batch 1: about 0.8 TFLOP (two for each of 0.4 T
	// multiply-adds).
	g := nn.Graph(p.unet, tensor.F32, nn.Sizes{Rows: 1, H: 64, W: 64, Tokens: 77})
	if tflop := g.FLOPs() / 1e12; tflop < 0.7 || tflop > 0.9 {
		t.Errorf("the U-Net has %.2f TFLOP a call", tflop)
	}
}
