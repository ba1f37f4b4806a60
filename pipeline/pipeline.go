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
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"darkroom/checkpoint"
	"darkroom/family"
	"darkroom/kernels"
	"darkroom/machine"
	defaultmodel "darkroom/models/default"
	"darkroom/models/library"
	"darkroom/recipe"
	"darkroom/stage"
	"darkroom/tensor"
)

// Options reports which model to open and where to run it.
type Options struct {
	// Model is a folder in the diffusers layout; "" or "default" is the embedded model.
	Model string
	// VAE is another autoencoder, a file or a folder; "" is the model's own.
	VAE string
	// Parts is a model that lends the text encoders and the autoencoder that Model, a single file, lacks; "": one of the user's
	// models that fits.
	Parts string
	// TextModel is another text encoder of a transformer, a file or a folder, or several with semicolons between; "" is the model's own.
	TextModel string
	// Refiner is a second model that takes over the last steps, as recipe.ParseRefiner reads it; "": there is none.
	Refiner string
	// Prediction is what the denoiser predicts, one of recipe.Predictions; "" and "auto" follow the model's files.
	Prediction string
	// Variant chooses weight files such as "fp16"; "" prefers the plain ones.
	Variant string
	// HashCache is a folder that caches the hashes of large weight files between runs; "" caches none.
	HashCache string
	// Rehash hashes the weights again and ignores HashCache, which compares only size and time and so misses bit rot.
	Rehash bool

	Backend string // "auto" (or ""), "cpu", "cuda" or "ref"
	DType   string // "auto" (or ""), "fp32", "tf32", "bf16", "fp16" or "int8"
	Device  int    // of several GPUs
	Second  *int   // another one of the same kind, which runs half of the denoiser's rows; nil: none
	Threads int    // 0: one a processor

	// LowMemory loads weights block by block, drops the text encoder after use, and decodes pictures larger than the
	// autoencoder was trained on in tiles. Only the tiles change bits.
	LowMemory bool
	// Width and Height are of the picture that auto looks for memory for; 0 is the model's own size.
	Width, Height int

	wide bool // the model's states are out of float16's range: family.Model.Wide
}

// With returns o with a request's settings of the model and of where it runs.
func (o Options) With(s recipe.Settings) Options {
	for _, f := range []struct {
		to   *string
		from string
	}{{&o.Model, s.Model}, {&o.VAE, s.VAE}, {&o.TextModel, s.TextModel}, {&o.Parts, s.Parts}, {&o.Refiner, s.Refiner}, {&o.Prediction, s.Prediction}, {&o.Backend, s.Backend}, {&o.DType, s.DType}} {
		if f.from != "" {
			*f.to = f.from
		}
	}
	return o
}

// Pipeline is an open model on a backend. It makes one picture at a time.
type Pipeline struct {
	name    string
	folder  string
	model   *family.Model
	device  *stage.Device
	options Options

	warnings []string
	why      string // it predicts what it does; "" of folders, whose files say so
	hash     func() (string, error)
	hashing  sync.Once // hash was begun

	conditionings []*conditioning // the latest few, newest first
	extras        extras          // adapters and embeddings
	refiner       *refiner        // nil as a rule
	steering      steering        // controls
	vae           *family.VAE     // that replaces the model's; nil as a rule
	previewer     previewer       // the autoencoder of previews
	lender        lender          // of parts that the model's file lacks

	free func() (bytes uint64, known bool) // memory; a field for the tests
}

// Open opens a model. Weights are mapped, not read: they are read when the first picture needs them.
func Open(o Options) (*Pipeline, error) {
	folder, name, err := openFolder(o)
	if err != nil {
		return nil, err
	}
	lent, err := lend(folder, o)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{lender: lent, name: name, folder: folder.Name(), free: machine.FreeMemory, options: o, device: &stage.Device{LowMemory: o.LowMemory}}
	if name == defaultmodel.Name {
		p.folder = defaultmodel.Name
	}
	if single := folder.Single(); single != nil {
		p.why = single.Prediction.Why
	}
	p.device.Another = p.another
	if p.device.Trace, err = openTrace(); err != nil {
		return nil, err
	}
	if p.model, p.vae, err = openModel(folder, o, p.device); err != nil {
		return nil, err
	}
	p.warnings = append(lent.warnings(folder), p.model.Warnings...)
	if err := p.openRefiner(o); err != nil {
		return nil, errors.Join(err, p.refiner.close(), p.model.Close())
	}
	if err := p.openDevice(o); err != nil {
		p.Close()
		return nil, err
	}
	if err := p.openSecond(o); err != nil {
		p.Close()
		return nil, err
	}
	if p.device.Backend.Info().Kind == Ref && o.Backend != Ref {
		p.warnings = append(p.warnings, "this build has no kernels for this processor, so the reference backend is used, which is about a hundred times slower. Build with CGO_ENABLED=1 and a C compiler")
	}
	p.rememberHash()
	if p.refiner != nil {
		p.refiner.free = p.free
		p.refiner.rememberHash()
	}
	return p, nil
}

// rememberHash sets hash.
func (p *Pipeline) rememberHash() {
	var own, lent []*checkpoint.Set
	for _, s := range p.model.Sets {
		switch {
		case p.vae != nil && s == p.vae.Set: // it is named by itself
		case slices.Contains(p.lender.parts, s.Name()):
			lent = append(lent, s)
		default:
			own = append(own, s)
		}
	}
	p.hash = sync.OnceValues(func() (string, error) { return hashAll(own) })
	p.lender.hash = sync.OnceValues(func() (string, error) { return hashAll(lent) })
}

// another opens the device anew in another type.
func (p *Pipeline) another(t tensor.DType) (kernels.Backend, error) {
	o := p.options
	o.Backend = p.device.Backend.Info().Kind // where auto ended
	o.DType = t.Name()
	return openBackend(o, func(string) {})
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
	prediction, err := checkpoint.ParsePrediction(o.Prediction)
	if err != nil {
		return nil, "", usagef("--%w", err)
	}
	f, err := checkpoint.OpenModel(o.Model, checkpoint.SingleOptions{Prediction: prediction})
	if err != nil {
		return nil, "", err
	}
	if f.Variant = o.Variant; !o.Rehash {
		f.HashCache = o.HashCache
	}
	name := filepath.Base(f.Name())
	if f.Single() != nil {
		name = strings.TrimSuffix(name, filepath.Ext(name))
	}
	return f, name, nil
}

// openModel opens a folder with what the options replace of it.
func openModel(f *checkpoint.Folder, o Options, d *stage.Device) (*family.Model, *family.VAE, error) {
	prediction, err := checkpoint.ParsePrediction(o.Prediction)
	if err != nil {
		return nil, nil, usagef("--%w", err)
	}
	with := family.Options{Prediction: prediction}
	if o.VAE != "" {
		path, err := library.FindPart(library.VAEs, o.VAE)
		if err != nil {
			return nil, nil, &UsageError{err}
		}
		if with.VAE, err = family.OpenVAE(f, path, o.HashCache); err != nil {
			return nil, nil, fmt.Errorf("--vae: %w", err)
		}
	}
	if o.TextModel != "" {
		if with.Texts, err = openTexts(o); err != nil {
			return nil, nil, fmt.Errorf("--text-encoder: %w", err)
		}
	}
	m, err := family.Open(f, with, d)
	return m, with.VAE, err
}

// openTexts opens the text encoders that the options name, several with semicolons between.
func openTexts(o Options) ([]*checkpoint.TextModel, error) {
	var paths []string
	for _, name := range strings.Split(o.TextModel, ";") {
		path, err := library.FindPart(library.TextModels, strings.TrimSpace(name))
		if err != nil {
			return nil, &UsageError{err}
		}
		paths = append(paths, path)
	}
	return checkpoint.OpenTextModels(strings.Join(paths, ";"), o.HashCache)
}

// hashAll is the SHA-256 of the parts' hashes, in the order text encoder, U-Net, autoencoder. Where all are in one file,
// it is the file's, as other programs have it.
func hashAll(sets []*checkpoint.Set) (string, error) {
	sum := sha256.New()
	var hashes []string
	for _, s := range sets {
		h, err := s.Hash()
		if err != nil {
			return "", err
		}
		hashes = append(hashes, h)
		sum.Write([]byte(h))
	}
	if len(hashes) > 0 && sets[0].Whole() || len(hashes) > 1 && len(slices.Compact(hashes)) == 1 {
		return hashes[0], nil
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Hash identifies the model's weights: the SHA-256 of the hexadecimal SHA-256 of each part's weights,
// in the order text encoder, U-Net, autoencoder; of a single file, its own SHA-256.
func (p *Pipeline) Hash() (string, error) {
	p.hashing.Do(func() {})
	return p.hash()
}

// beginHash computes the hash beside the rendering, so that it is ready by the time that the picture is. A model that
// is only looked at is not read for it.
func (p *Pipeline) beginHash() {
	p.hashing.Do(func() {
		go func() {
			_, _ = p.hash()
			if p.refiner != nil {
				_, _ = p.refiner.hash()
			}
		}()
	})
}

// Name is the model's name: the folder's last element, or "default".
func (p *Pipeline) Name() string { return p.name }

// Folder is the path of the model's folder as it was opened, or "default".
func (p *Pipeline) Folder() string { return p.folder }

// Backend is where the model runs: "cpu", "ref" or "cuda:0".
func (p *Pipeline) Backend() string { return p.device.Backend.Info().Name }

// DType is what the model computes in: "fp32", "fp16", …
func (p *Pipeline) DType() string { return p.dtypeName() }

// Close frees the backend's memory and unmaps the weights.
func (p *Pipeline) Close() error {
	begun := true
	p.hashing.Do(func() { begun = false })
	if begun {
		_, _ = p.hash() // it reads the mapping
		if p.refiner != nil {
			_, _ = p.refiner.hash()
		}
	}
	errs := []error{p.refiner.close(), p.previewer.close()}
	if p.device.Backend != nil {
		p.model.Shed()
		errs = append(errs, p.steering.close())
		errs = append(errs, p.model.Codec.Close(), p.closeSecond(), p.device.Backend.Close())
	}
	if p.device.Trace != nil {
		errs = append(errs, p.device.Trace.Close())
	}
	errs = append(errs, p.extras.close())
	return errors.Join(append(errs, p.model.Close())...)
}

// openTrace begins a trace in the file that DARKROOM_TRACE names: see docs/architecture.md. nil if it names none. A pipeline
// that is opened after another one writes to the next free name.
func openTrace() (*kernels.Trace, error) {
	name := os.Getenv("DARKROOM_TRACE")
	if name == "" {
		return nil, nil
	}
	ext := filepath.Ext(name)
	for n := 2; ; n++ {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
		if errors.Is(err, fs.ErrExist) && n < 1000 {
			name = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(os.Getenv("DARKROOM_TRACE"), ext), n, ext)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("DARKROOM_TRACE: %w", err)
		}
		return kernels.NewTrace(f), nil
	}
}
