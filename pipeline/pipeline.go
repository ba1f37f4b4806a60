// Package pipeline turns a request into a picture: the prompt's conditioning, the noise, the denoising
// loop and the decoder, on one backend.
//
//	prompt → clip (hidden states) → noise (seeded latents) → for each level of the scheduler:
//	unet on [uncond, cond] → guidance → step → vae decode → picture with its recipe
package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"darkroom/checkpoint"
	"darkroom/clip"
	"darkroom/kernels"
	"darkroom/machine"
	defaultmodel "darkroom/models/default"
	"darkroom/nn"
	"darkroom/scheduler"
	"darkroom/tensor"
	"darkroom/unet"
	"darkroom/vae"
)

// Options says which model to open and where to run it.
type Options struct {
	// Model is a folder in the diffusers layout; "" or "default" is the embedded model.
	Model string
	// Variant chooses weight files such as "fp16"; "" takes the plain ones where there are any.
	Variant string
	// HashCache is a folder that keeps the hashes of big weight files between runs; "" keeps none.
	HashCache string

	Backend string // "auto" (or ""), "cpu", "cuda" or "ref"
	DType   string // "auto" (or ""), "fp32", "tf32", "bf16" or "fp16"
	Device  int    // of several GPUs
	Threads int    // 0: one a processor

	// LowMemory takes weights to the device block by block, drops the text encoder after use, and decodes pictures in
	// tiles that are larger than what the autoencoder was trained on. Only the tiles change bits.
	LowMemory bool
	// Width and Height are of the picture that auto looks for memory for; 0 is the model's own size.
	Width, Height int
}

// Pipeline is an open model on a backend. It makes one picture at a time.
type Pipeline struct {
	name    string
	folder  string
	backend kernels.Backend
	dtype   tensor.DType

	schedulerConfig scheduler.Config
	defaults        Defaults
	tokenizer       *clip.Tokenizer
	text            *clip.TextModel
	unet            *unet.Model
	decoder         *vae.Decoder
	decoderConfig   vae.Config

	weights  []*checkpoint.Set
	warnings []string
	hash     func() (string, error)
	hashing  sync.Once // hash was begun

	conditionings []*conditioning // the latest few, newest first
	textProg      *textProgram
	unetProg      *unetProgram
	decodingMu    sync.Mutex // guards decoder1
	decoder1      *decoding
	wide          *decoding // for what overflows float16; guarded by decoder1's lock

	options    Options
	lowMemory  bool
	vaeWeights *checkpoint.Set

	free func() (bytes uint64, known bool) // memory; a field for the tests
}

// Open opens a model. Weights are mapped, not read: that happens when the first picture needs them.
func Open(o Options) (*Pipeline, error) {
	folder, name, err := openFolder(o)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{name: name, folder: folder.Name(), free: machine.FreeMemory, options: o, lowMemory: o.LowMemory}
	if name == defaultmodel.Name {
		p.folder = defaultmodel.Name
	}
	if err := p.openParts(folder); err != nil {
		p.Close()
		return nil, err
	}
	if err := p.openDevice(o); err != nil {
		p.Close()
		return nil, err
	}
	if p.backend.Info().Kind == Ref && o.Backend != Ref {
		p.warnings = append(p.warnings, "this build has no kernels for this processor: the reference backend draws, some hundred times slower. Build with CGO_ENABLED=1 and a C compiler on Linux or macOS")
	}
	sets := p.weights
	p.hash = sync.OnceValues(func() (string, error) { return hashAll(sets) })
	return p, nil
}

// OpenFolder opens a model's folder by the name that --model takes.
func OpenFolder(o Options) (*checkpoint.Folder, error) {
	f, _, err := openFolder(o)
	return f, err
}

func openFolder(o Options) (*checkpoint.Folder, string, error) {
	if o.Model == "" || o.Model == defaultmodel.Name {
		f, err := defaultmodel.Folder()
		return f, defaultmodel.Name, err
	}
	f, err := checkpoint.OpenFolder(o.Model)
	if err != nil {
		return nil, "", err
	}
	f.Variant, f.HashCache = o.Variant, o.HashCache
	return f, filepath.Base(f.Name()), nil
}

// openParts reads the configurations and finds every weight by name and shape.
func (p *Pipeline) openParts(f *checkpoint.Folder) error {
	if err := checkIndex(f); err != nil {
		return err
	}
	config, err := f.ReadFile("scheduler/scheduler_config.json")
	if err != nil {
		return err
	}
	if p.schedulerConfig, err = scheduler.ParseConfig(f.Name()+"/scheduler/scheduler_config.json", config); err != nil {
		return err
	}
	if p.defaults, err = readDefaults(f); err != nil {
		return err
	}
	if p.tokenizer, err = clip.LoadTokenizer(f.Sub("tokenizer")); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}

	text, err := part(p, f, "text_encoder", clip.ReadTextConfig, clip.NewText)
	if err != nil {
		return err
	}
	p.text = text
	if p.unet, err = part(p, f, "unet", readUNet, unet.New); err != nil {
		return err
	}
	if p.decoder, err = part(p, f, "vae", vae.ReadConfig, vae.NewDecoder); err != nil {
		return err
	}
	p.decoderConfig = p.decoder.Config
	return p.checkParts(f)
}

// part opens one model part: its configuration, its weights, and the network that they make.
func part[C, M any](p *Pipeline, f *checkpoint.Folder, name string, read func(*checkpoint.Config) (C, error), build func(C, nn.Loader) (M, error)) (m M, err error) {
	config, err := f.Config(name)
	if err != nil {
		return m, err
	}
	c, err := read(config)
	if err != nil {
		return m, err
	}
	set, err := f.Weights(name)
	if err != nil {
		return m, err
	}
	p.weights = append(p.weights, set)
	if name == "vae" {
		p.vaeWeights = set
	}
	m, err = build(c, nn.NewLoader(name, set))
	if err != nil {
		return m, fmt.Errorf("model %s: %w", f.Name(), err)
	}
	return m, nil
}

// readUNet refuses U-Nets that read more than latents, a time and a text.
func readUNet(c *checkpoint.Config) (unet.Config, error) {
	m, err := unet.ReadConfig(c)
	if err != nil {
		return m, err
	}
	for _, key := range []string{"addition_embed_type", "class_embed_type", "num_class_embeds", "time_cond_proj_dim"} {
		if c.Has(key) {
			c.Fail(key, "not supported, only null")
		}
	}
	if m.InChannels != m.OutChannels {
		c.Fail("in_channels", fmt.Sprintf("out_channels is %d: models that read a picture are not supported", m.OutChannels))
	}
	return m, c.Done()
}

// checkIndex refuses folders of other kinds of models, before their parts give puzzling errors.
func checkIndex(f *checkpoint.Folder) error {
	index, err := f.Index()
	if err != nil {
		return err
	}
	known := map[string]string{
		"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel",
	}
	for part, class := range known {
		c, ok := index.Components[part]
		if !ok {
			return fmt.Errorf("model %s is a %s without %s: only Stable Diffusion 1.x and 2.x models (a StableDiffusionPipeline in the diffusers layout) are supported", f.Name(), index.Class, part)
		}
		if c.Class != class {
			return fmt.Errorf("%s/model_index.json: %s is a %s: only %s is supported", f.Name(), part, c.Class, class)
		}
	}
	for _, extra := range []string{"text_encoder_2", "text_encoder_3", "transformer", "prior", "controlnet"} {
		if c, ok := index.Components[extra]; ok {
			return fmt.Errorf("%s/model_index.json: %s is a %s: models of class %s are not supported, only Stable Diffusion 1.x and 2.x", f.Name(), extra, c.Class, index.Class)
		}
	}
	return nil
}

// checkParts sees to it that the parts fit together.
func (p *Pipeline) checkParts(f *checkpoint.Folder) error {
	u, v, t := p.unet.Config, p.decoderConfig, p.text.Config
	switch {
	case u.InChannels != v.LatentChannels:
		return fmt.Errorf("model %s: unet/config.json has in_channels %d, vae/config.json latent_channels %d: they must agree", f.Name(), u.InChannels, v.LatentChannels)
	case u.CrossAttentionDim[0] != t.HiddenSize:
		return fmt.Errorf("model %s: unet/config.json has cross_attention_dim %d, text_encoder/config.json hidden_size %d: they must agree", f.Name(), u.CrossAttentionDim[0], t.HiddenSize)
	}
	if n := p.tokenizer.Size(); n > t.VocabSize {
		return fmt.Errorf("model %s: the tokenizer has %d tokens, text_encoder/config.json vocab_size %d: they must agree", f.Name(), n, t.VocabSize)
	}
	return nil
}

// hashAll is the SHA-256 of the parts' hashes, in the order text encoder, U-Net, autoencoder.
func hashAll(sets []*checkpoint.Set) (string, error) {
	sum := sha256.New()
	for _, s := range sets {
		h, err := s.Hash()
		if err != nil {
			return "", err
		}
		sum.Write([]byte(h))
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Hash identifies the model's weights: the SHA-256 of the hexadecimal SHA-256 of each part's weights,
// in the order text encoder, U-Net, autoencoder.
func (p *Pipeline) Hash() (string, error) {
	p.hashing.Do(func() {})
	return p.hash()
}

// beginHash computes the hash beside the rendering, so that it is ready by the time that the picture is. A model that
// is only looked at is not read for it.
func (p *Pipeline) beginHash() {
	p.hashing.Do(func() { go func() { _, _ = p.hash() }() })
}

// Name is the model's name: the folder's last element, or "default".
func (p *Pipeline) Name() string { return p.name }

// Folder is the path of the model's folder as it was opened, or "default".
func (p *Pipeline) Folder() string { return p.folder }

// Backend is where the model runs: "cpu", "ref" or "cuda:0".
func (p *Pipeline) Backend() string { return p.backend.Info().Name }

// Tokenizer is the model's.
func (p *Pipeline) Tokenizer() *clip.Tokenizer { return p.tokenizer }

// Close gives back the backend's memory and unmaps the weights.
func (p *Pipeline) Close() error {
	begun := true
	p.hashing.Do(func() { begun = false })
	if begun {
		_, _ = p.hash() // it reads the mapping
	}
	var errs []error
	if p.backend != nil {
		p.closePrograms()
		errs = append(errs, p.wide.close(), p.decoder1.close(), p.backend.Close())
	}
	for _, s := range p.weights {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
