package family

import (
	"fmt"
	"strings"

	"darkroom/checkpoint"
	"darkroom/clip"
	"darkroom/config"
	"darkroom/nn"
	"darkroom/scheduler"
	"darkroom/stage"
	"darkroom/tensor"
	"darkroom/unet"
	"darkroom/vae"
)

// stableDiffusion is Stable Diffusion 1.x and 2.x (Rombach et al. 2022): one CLIP text encoder, a U-Net, an autoencoder.
var stableDiffusion = opener{isStableDiffusion, openStableDiffusion}

// sdParts are its parts and their classes.
var sdParts = map[string]string{"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}

func isStableDiffusion(index *checkpoint.Index) bool {
	for _, other := range []string{"text_encoder_2", "text_encoder_3", "transformer", "prior"} {
		if _, ok := index.Components[other]; ok {
			return false
		}
	}
	for part, class := range sdParts {
		if is := index.Components[part].Class; is != class && !(part == "vae" && is == tinyClass) {
			return false
		}
	}
	return true
}

// unknown refuses folders of other kinds of models, before their parts give puzzling errors.
func unknown(f *checkpoint.Folder, index *checkpoint.Index) error {
	if s := f.Single(); s != nil && len(s.Missing) > 0 {
		return fmt.Errorf("model %s: the file holds only %s of %s: %s missing, and no installed model has parts that fit: name one with --parts", f.Name(), strings.Join(s.Parts, ", "), s.Family, areMissing(s.Missing))
	}
	for part, class := range sdParts {
		c, ok := index.Components[part]
		if !ok {
			return fmt.Errorf("model %s is a %s without %s: only Stable Diffusion 1.x, 2.x, XL and 3, FLUX.1, FLUX.2 klein and Z-Image in the diffusers layout are supported", f.Name(), index.Class, part)
		}
		if c.Class != class {
			return fmt.Errorf("%s/model_index.json: %s is a %s: only %s is supported", f.Name(), part, c.Class, class)
		}
	}
	for _, extra := range []string{"text_encoder_2", "text_encoder_3", "transformer", "prior"} {
		if c, ok := index.Components[extra]; ok {
			return fmt.Errorf("%s/model_index.json: %s is a %s: models of class %s are not supported, only Stable Diffusion 1.x, 2.x, XL and 3, FLUX.1, FLUX.2 klein and Z-Image", f.Name(), extra, c.Class, index.Class)
		}
	}
	return fmt.Errorf("model %s is a %s, which is not supported", f.Name(), index.Class)
}

func areMissing(parts []string) string {
	if len(parts) == 1 {
		return parts[0] + " is"
	}
	return strings.Join(parts, ", ") + " are"
}

func openStableDiffusion(x *files, d *stage.Device) (*Model, error) {
	sampling, err := readSampling(x)
	if err != nil {
		return nil, err
	}
	text, err := openCLIP(x, d, "text_encoder")
	if err != nil {
		return nil, err
	}
	u, err := network(x, "unet", readUNet, unet.New)
	if err != nil {
		return nil, err
	}
	codec, err := openAutoencoder(x, d, "vae")
	if err != nil {
		return nil, err
	}
	switch {
	case u.Config.OutChannels != codec.config.LatentChannels:
		return nil, fmt.Errorf("model %s: unet/config.json has out_channels %d, vae/config.json latent_channels %d: they must agree", x.folder.Name(), u.Config.OutChannels, codec.config.LatentChannels)
	case u.Config.CrossAttentionDim[0] != text.model.Config.HiddenSize:
		return nil, fmt.Errorf("model %s: unet/config.json has cross_attention_dim %d, text_encoder/config.json hidden_size %d: they must agree", x.folder.Name(), u.Config.CrossAttentionDim[0], text.model.Config.HiddenSize)
	}
	m := assembleSD(text, u, codec, d)
	m.Sampling = sampling
	m.Defaults, err = readDefaults(x.folder, m.Latent)
	return m, err
}

// readUNet refuses U-Nets that read more than latents, a time and a text.
func readUNet(c *config.Object) (unet.Config, error) {
	m, err := unet.ReadConfig(c)
	if err != nil {
		return m, err
	}
	for _, key := range []string{"addition_embed_type", "class_embed_type", "num_class_embeds"} {
		if c.Has(key) {
			c.Fail(key, "not supported, only null")
		}
	}
	checkExtra(c, m)
	return m, c.Done()
}

// assembleSD puts the parts together.
func assembleSD(text *clipText, u *unet.Model, codec *autoencoder, d *stage.Device) *Model {
	m := &Model{Family: "Stable Diffusion", Small: "taesd", Text: text, Codec: codec}
	m.Latent = Latent{Channels: u.Config.OutChannels, Factor: codec.config.Factor(), Side: u.Config.SampleSize, Height: u.Config.SampleShape[0], Width: u.Config.SampleShape[1]}
	if m.Latent.Side == 0 {
		m.Latent.Side = 64 // what Stable Diffusion was trained at
	}
	denoiser := newUNet(u, d, m.Latent.Factor, text.Tokens())
	m.Denoiser = denoiser
	m.Parts = []*stage.Part{text.part, denoiser.part, codec.decoder}
	return m
}

// The configurations of Stable Diffusion 1.5; what they leave out is diffusers' default.
const (
	sd15Text = `{"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "vocab_size": 49408}`
	sd15UNet = `{"cross_attention_dim": 768, "sample_size": 64}`
	sd15VAE  = `{"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "sample_size": 512,
		"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}`
	xlUNet = `{"cross_attention_dim": 2048, "sample_size": 128, "block_out_channels": [320, 640, 1280],
		"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
		"up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
		"transformer_layers_per_block": [1, 2, 10], "attention_head_dim": [5, 10, 20], "use_linear_projection": true,
		"addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816}`
)

// StableDiffusion15 is a model of Stable Diffusion 1.5's sizes with weights from src, such as nn.Random, for benchmarks
// and plans of memory. It has no tokenizer: only its parts can run.
func StableDiffusion15(d *stage.Device, src nn.Source) (*Model, error) {
	return ofSize(d, src, sd15UNet)
}

// StableDiffusionXL is StableDiffusion15 with the U-Net of Stable Diffusion XL, whose decoder has the same sizes.
func StableDiffusionXL(d *stage.Device, src nn.Source) (*Model, error) { return ofSize(d, src, xlUNet) }

func ofSize(d *stage.Device, src nn.Source, network string) (*Model, error) {
	text, err := sized(sd15Text, "text_encoder", src, clip.ReadTextConfig, clip.NewText)
	if err != nil {
		return nil, err
	}
	u, err := sized(network, "unet", src, unet.ReadConfig, unet.New)
	if err != nil {
		return nil, err
	}
	codec := &autoencoder{device: d}
	decoder, err := sized(sd15VAE, "vae", src, vae.ReadConfig, func(c vae.Config, l nn.Loader) (*vae.Decoder, error) {
		codec.config = c
		return vae.NewDecoder(c, l)
	})
	if err != nil {
		return nil, err
	}
	codec.put(decoder, "vae")
	return assembleSD(newCLIPText(nil, text, "text_encoder", d), u, codec, d), nil
}

// sized is a network of a configuration that is given as text.
func sized[C, N any](text, name string, src nn.Source, read func(*config.Object) (C, error), build func(C, nn.Loader) (N, error)) (n N, err error) {
	raw, err := config.Parse([]byte(text), name+"/config.json")
	if err != nil {
		return n, err
	}
	c, err := read(raw)
	if err != nil {
		return n, err
	}
	return build(c, nn.NewLoader(name, src))
}

// unetDenoiser is a U-Net whose clock is the sinusoid of the timestep.
type unetDenoiser struct {
	config unet.Config
	layers int
	net    *unet.Model
	part   *stage.Part
}

func newUNet(u *unet.Model, d *stage.Device, factor, tokens int) *unetDenoiser {
	return &unetDenoiser{u.Config, u.Layers(), u, (&stage.Part{
		Name: "unet", Title: "the U-Net", Net: u, PerRow: true,
		Sizes: func(width, height, rows int, _ bool) nn.Sizes {
			return nn.Sizes{Rows: rows, H: height / factor, W: width / factor, Tokens: tokens}
		},
	}).On(d)}
}

func (u *unetDenoiser) Part() *stage.Part { return u.part }

// Extra is 5 of a model for inpainting, 4 of one that edits by instruction, and 1 of a depth model.
func (u *unetDenoiser) Extra() int { return u.config.InChannels - u.config.OutChannels }

func (u *unetDenoiser) Layers() int { return u.layers }

func (u *unetDenoiser) Reading() Reading {
	switch u.Extra() {
	case 0:
		return ReadsNothing
	case u.config.OutChannels:
		return ReadsPicture
	case 1:
		return ReadsDepth
	}
	return ReadsMask
}

// checkExtra refuses U-Nets that read something beside the latents that is not known.
func checkExtra(c *config.Object, m unet.Config) {
	if extra := m.InChannels - m.OutChannels; extra != 0 && extra != 1 && extra != m.OutChannels && extra != m.OutChannels+1 {
		c.Fail("in_channels", fmt.Sprintf("out_channels is %d: models that read a picture are supported for inpainting (%d), editing by instruction (%d) and depth (%d)",
			m.OutChannels, 2*m.OutChannels+1, 2*m.OutChannels, m.OutChannels+1))
	}
}

// ReadsGuidance is true of LCM's U-Nets.
func (u *unetDenoiser) ReadsGuidance() bool { return u.config.GuidanceDim > 0 }

func (u *unetDenoiser) Clock(at scheduler.Level, cfg float64) Cond {
	proj := u.config.TimeProj(at.T)
	c := Cond{"time": tensor.Of(proj, len(proj))}
	if u.ReadsGuidance() {
		v := u.config.GuidanceProj(cfg)
		c["guidance"] = tensor.Of(v, len(v))
	}
	return c
}

// openAutoencoder opens a part that is an AutoencoderKL or an AutoencoderTiny.
func openAutoencoder(x *files, d *stage.Device, name string) (*autoencoder, error) {
	config, err := x.config(name)
	if err != nil {
		return nil, err
	}
	c := &autoencoder{device: d}
	if strings.Contains(string(config.Raw("_class_name")), tinyClass) {
		return c, c.openTiny(x, name)
	}
	decoder, err := network(x, name, vae.ReadConfig, func(config vae.Config, l nn.Loader) (*vae.Decoder, error) {
		return c.build(config, l, name)
	})
	if err != nil {
		return nil, err
	}
	c.put(decoder, name)
	return c, nil
}

// build puts the networks together, the encoder where the files have one.
func (c *autoencoder) build(config vae.Config, l nn.Loader, name string) (*vae.Decoder, error) {
	c.config = config
	if l.At("encoder.conv_in").Has("weight") {
		e, err := vae.NewEncoder(config, l)
		if err != nil {
			return nil, err
		}
		c.encoder = (&stage.Part{Name: name + "_encoder", Title: "the encoder", Net: e}).On(c.device)
	}
	return vae.NewDecoder(config, l)
}

// tinyClass is diffusers' class of TAESD.
const tinyClass = "AutoencoderTiny"

// openTiny is openAutoencoder for TAESD, which reads and gives latents as the denoiser has them.
func (c *autoencoder) openTiny(x *files, name string) error {
	decoder, err := network(x, name, vae.ReadTinyConfig, func(config vae.TinyConfig, l nn.Loader) (*vae.TinyDecoder, error) {
		c.tiny = true
		c.config = vae.Config{LatentChannels: config.LatentChannels, OutChannels: 3, BlockOutChannels: make([]int, len(config.DecoderRuns)),
			ScalingFactor: config.ScalingFactor, ShiftFactor: config.ShiftFactor}
		if l.At("encoder.layers.0").Has("weight") {
			e, err := vae.NewTinyEncoder(config, l)
			if err != nil {
				return nil, err
			}
			c.encoder = (&stage.Part{Name: name + "_encoder", Title: "the encoder", Net: e}).On(c.device)
		}
		return vae.NewTinyDecoder(config, l)
	})
	if err == nil {
		c.put(decoder, name)
	}
	return err
}

// put gives the codec its decoder.
func (c *autoencoder) put(decoder nn.Network, name string) {
	c.decoder = (&stage.Part{
		Name: name, Title: "the decoder", Net: decoder,
		Sizes: func(width, height, _ int, tiled bool) nn.Sizes {
			f := c.config.Factor()
			return c.sizes(Area{H: height / f, W: width / f, Tiled: tiled})
		},
	}).On(c.device)
}
