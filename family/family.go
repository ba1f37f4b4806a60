// Package family knows the families of models: which parts each has, and how prompts and noise levels become the inputs of
// its denoiser. Each family has its own file. No package above asks which family a model is or imports a network.
package family

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"slices"
	"strings"

	"darkroom/checkpoint"
	"darkroom/config"
	"darkroom/dit"
	"darkroom/nn"
	"darkroom/scheduler"
	"darkroom/stage"
	"darkroom/tensor"
)

// Cond is what one row of the denoiser reads from a prompt, by input and without the row's axis: "text" [T,W], and the
// family's other inputs.
type Cond = stage.Values

// Model is an open model.
type Model struct {
	// Family is its name: "Stable Diffusion".
	Family string
	// Parts are in the order in which data flows: hash, memory, inspect and --low-memory walk this list.
	Parts    []*stage.Part
	Text     TextEncoder
	Denoiser Denoiser
	Codec    Codec
	Latent   Latent
	Sampling scheduler.Config
	Defaults Defaults
	// References is how many pictures it may be shown beside the prompt; 0: none.
	References int
	// Stretches says that those are stretched to whole tokens, where others cut them.
	Stretches bool
	// Reads lists the settings beside the prompt that condition it.
	Reads Reads
	// EditsScaled says that a model which edits by instruction reads the picture's latents as the denoiser has them, and not as the
	// autoencoder has them: CosXL's.
	EditsScaled bool
	// Small is the name of the small autoencoder for its latents, which is good enough for previews; "": there is none.
	Small string
	// Wide says that its states are out of float16's range: on a GPU that has bfloat16, that is its half precision.
	Wide bool
	// Warnings are what the user should know of its files.
	Warnings []string
	// Sets are the parts' weights as they lie on disk, in the order of Parts.
	Sets []*checkpoint.Set

	weights map[string]*partWeights // by the part's name
	adapted map[string]string       // what Adapt changed: part and array → how
}

// Latent is the size of what is denoised.
type Latent struct {
	Channels int
	Factor   int // pixels a side of one latent pixel
	Side     int // latent pixels a side that the model was trained at, the larger one

	Height, Width int // where its file names both; 0: Side

	Patch int // latent pixels a side of a transformer's token, of which pictures are whole multiples; 0: 1
}

// Reads are settings that a model is conditioned by: those of PictureSizes.
type Reads struct{ Sizes, Scores bool }

// Step is what a picture's width and height are multiples of, in pixels.
func (l Latent) Step() int { return l.Factor * max(l.Patch, 1) }

// Tokens is how many a transformer makes of a picture of that size in pixels.
func (l Latent) Tokens(width, height int) int { return (width / l.Step()) * (height / l.Step()) }

// grid is how they lie, of a picture of that height and width in pixels.
func (l Latent) grid(size [2]int) dit.Grid {
	return dit.Grid{H: size[0] / l.Step(), W: size[1] / l.Step()}
}

// TextOptions say how texts are read.
type TextOptions struct {
	Syntax        string // recipe.Weighted or recipe.Plain
	Skip          int    // layers left off the encoder's end
	Width, Height int    // of the picture, in pixels
	Seen          [2]int // height and width of what the denoiser sees of it at once, in pixels
	Sizes         PictureSizes
	// References are the heights and widths, in pixels, of pictures that are shown beside the prompt; the first zero ends them.
	References [MostReferences][2]int
	// Prompts is how many of the texts, from the first on, are prompts; the others are negative or empty ones. 0 is 1.
	Prompts int
}

// referenceGrids are how the tokens of the References lie.
func (o TextOptions) referenceGrids(l Latent) (all []dit.Grid) {
	for _, size := range o.References {
		if size[0] == 0 {
			break
		}
		all = append(all, l.grid(size))
	}
	return all
}

// negative reports whether text i is not a prompt.
func (o TextOptions) negative(i int) bool { return i >= max(o.Prompts, 1) }

// MostReferences bounds the pictures that a model is shown beside the prompt.
const MostReferences = 8

// PictureSizes are the size conditions of Stable Diffusion XL: they describe the picture to make as if it came from the
// training data. Zero sizes are the picture's own; scores are used as given.
type PictureSizes struct {
	Original, Crop, Target       [2]int // height and width; top and left; height and width: in pixels
	Aesthetic, NegativeAesthetic float64
}

// Encoded are texts as the denoiser reads them, all of the same length.
type Encoded struct {
	Conds  []Cond
	Tokens int      // of each
	Cut    []string // the end of each text that did not fit; "" where all of it did
	Window int      // tokens that fit where texts are cut
	// Warnings are sentences on what each text asks for and does not get.
	Warnings [][]string
}

// TextEncoder turns texts into conditions.
type TextEncoder interface {
	// Check reports what is wrong with a text. It computes nothing.
	Check(text, syntax string) error
	// Layers bounds TextOptions.Skip.
	Layers() int
	// Tokens is the length of a short prompt, for which memory is planned.
	Tokens() int
	// Encode encodes texts to one length: prompts, perhaps negative ones, perhaps the empty one. What is wrong
	// with one of them is a *TextError.
	Encode(ctx context.Context, texts []string, o TextOptions) (*Encoded, error)

	// reads reports whether textual inversions like this one are made for it.
	reads(e *checkpoint.Embedding) bool
	// embed adds textual inversions to the views of the encoders' arrays, and notes in now what it changed.
	embed(all []*checkpoint.Embedding, views map[string]checkpoint.Weights, now map[string]string) error
}

// TextError reports what went wrong with one of several texts.
type TextError struct {
	Text  int  // its index
	Usage bool // the text itself is at fault
	Err   error
}

func (e *TextError) Error() string { return e.Err.Error() }
func (e *TextError) Unwrap() error { return e.Err }

// Denoiser is the network that the sampler calls.
type Denoiser interface {
	// Part reads "sample" [N,h,w,C], the names of Cond and those of Clock; it writes "prediction" [N,h,w,C].
	Part() *stage.Part
	// Clock is what changes with the noise level and the guidance scale, for one row.
	Clock(at scheduler.Level, cfg float64) Cond
	// Extra is how many channels the network reads after those of the latents, and Reading what they are.
	Extra() int
	Reading() Reading
	// Layers counts those of the way up of a U-Net, which may be written cut: see nn.Cut. 0 of other networks.
	Layers() int
	// ReadsGuidance reports whether the network reads the guidance scale itself, so that one call without a negative prompt is enough.
	ReadsGuidance() bool
}

// Reading is what an editing model's denoiser reads beside the latents.
type Reading int

const (
	ReadsNothing    Reading = iota
	ReadsMask               // a mask, 1 where it is painted anew, and the latents of what it leaves: for inpainting
	ReadsMaskPixels         // the latents of what a mask leaves, and the mask of every pixel, those of a latent as channels
	ReadsPicture            // the latents of a picture, as the autoencoder has them: editing by instruction
	ReadsDepth              // a depth map, from -1 to 1
	ReadsControl            // the latents of a control picture, as the denoiser has them
)

// Inpaints reports whether it is for inpainting: the denoiser knows what stays, and nothing is put back in its place.
func (r Reading) Inpaints() bool { return r == ReadsMask || r == ReadsMaskPixels }

// Codec is the autoencoder.
type Codec interface {
	// Decode turns latents [C,h,w], as the denoiser has them, into a picture. It may run in another goroutine than the denoiser where Beside says so. DType is what it was decoded in.
	Decode(ctx context.Context, latents []float32, a Area, warn func(string)) (Decoded, error)
	// Encode turns a picture [3,H,W] with values from -1 to 1 into the mean and the standard deviation of its latents, [C,h,w],
	// as the denoiser has them. It fails where the model's files have no encoder.
	// std is nil where the encoder gives latents without a variance.
	Encode(ctx context.Context, picture []float32, a Area) (mean, std []float32, err error)
	// Unscale turns latents, in place, from what the denoiser has into what the autoencoder has.
	Unscale(latents []float32)
	// Tiled reports whether tiles are used for latents of h×w.
	Tiled(h, w int) bool
	// Beside reports whether pictures can be decoded while others are denoised: on a GPU, where the decoder has a queue of
	// its own. Processors are all busy with one of both. To save memory there is one after the other.
	Beside() bool
	// Ready loads the decoder's weights where decoding goes on beside, so that memory is counted with them.
	Ready(a Area) error
	// Ran reports whether latents of that size were decoded before and need no further memory.
	Ran(a Area) bool
	// Shed frees activations, and weights that are loaded block by block.
	Shed()
	// Close frees what On made.
	Close() error
}

// Area is what a codec works on.
type Area struct {
	H, W  int     // of latents
	Tiled bool    // in tiles, where it is large
	Wrap  [2]bool // rows and columns: the picture's sides fit each other
	// Winograd lets convolutions multiply less: nn.Sizes.
	Winograd bool
}

// Decoded is a picture, and the type that it was decoded in.
type Decoded struct {
	Pixels *image.NRGBA
	DType  tensor.DType
}

// Defaults are a model's values for settings that a request leaves out.
type Defaults struct {
	Steps         int
	CFG           float64
	Scheduler     string // "": the class of scheduler_config.json
	Negative      string
	Width, Height int // pixels
}

// Default values where a model's folder does not say otherwise.
const (
	DefaultSteps = 25
	DefaultCFG   = 7.5
)

// opener opens a family's models.
type opener struct {
	is   func(*checkpoint.Index) bool
	open func(*files, *stage.Device) (*Model, error)
}

// families are asked in this order.
var families = []opener{stableDiffusion, stableDiffusionXL, zImage, flux2, flux1, stableDiffusion3}

// Options are choices about a model that override its files.
type Options struct {
	// Prediction overrides what the files say of the denoiser's output: "epsilon", "v_prediction", "flow_prediction"; ""
	// does not.
	Prediction string
	// VAE replaces the model's autoencoder; nil does not. The model closes its weights.
	VAE *VAE
	// Texts replace the text encoders of a model of their kinds, or give them to one in a file without. The model closes
	// their weights.
	Texts []*checkpoint.TextModel
}

// VAE is a separate autoencoder.
type VAE struct {
	Config *config.Object
	Set    *checkpoint.Set
}

// OpenVAE opens an autoencoder for a model: a file or a folder.
func OpenVAE(model *checkpoint.Folder, path, hashCache string) (*VAE, error) {
	f := checkpoint.SD1
	if index, err := model.Index(); err == nil {
		switch {
		case isStableDiffusionXL(index):
			f = checkpoint.SDXL
		case isZImage(index):
			f = checkpoint.ZImage
		case isFlux2(index):
			f = checkpoint.Flux2
		case isFlux1(index):
			f = checkpoint.Flux1
		case isStableDiffusion3(index):
			f = checkpoint.SD3
		}
	}
	set, config, err := checkpoint.OpenVAE(path, f, hashCache)
	if err != nil {
		return nil, err
	}
	return &VAE{config, set}, nil
}

// OpenSmall opens an autoencoder for previews of a model's latents, on the device that the model is on.
func OpenSmall(m *Model, path string, d *stage.Device) (Codec, io.Closer, error) {
	set, config, err := checkpoint.OpenVAE(path, checkpoint.SD1, "")
	if err != nil {
		return nil, nil, err
	}
	x := &files{folder: checkpoint.FromFS(checkpoint.Embedded{}, path), options: Options{VAE: &VAE{config, set}}, weights: map[string]*partWeights{}}
	c, err := openAutoencoder(x, d, "vae")
	if err == nil && (c.config.LatentChannels != m.Latent.Channels || c.config.Factor() != m.Latent.Factor) {
		err = fmt.Errorf("%s is for latents of %d channels, %d×%d pixels each, and the model has %d, %d×%d", path,
			c.config.LatentChannels, c.config.Factor(), c.config.Factor(), m.Latent.Channels, m.Latent.Factor, m.Latent.Factor)
	}
	if err != nil {
		return nil, nil, errors.Join(err, set.Close())
	}
	c.inline = true
	return c, set, nil
}

// Open opens a model on a device, whose backend may be set later, before the first picture. Weights are mapped, not read.
func Open(f *checkpoint.Folder, o Options, d *stage.Device) (*Model, error) {
	index, err := f.Index()
	if err != nil {
		return nil, err
	}
	for _, family := range families {
		if !family.is(index) {
			continue
		}
		x := &files{folder: f, options: o, weights: map[string]*partWeights{}}
		m, err := family.open(x, d)
		if err != nil {
			return nil, errors.Join(err, x.close())
		}
		m.Sets, m.Warnings, m.weights = x.sets, append(x.warnings, m.Warnings...), x.weights
		return m, nil
	}
	return nil, unknown(f, index)
}

// Part finds a part by its name, nil if the model has none.
func (m *Model) Part(name string) *stage.Part {
	for _, p := range m.Parts {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Shed frees the activations of all parts, and weights that come block by block.
func (m *Model) Shed() {
	for _, p := range m.Parts {
		p.Close()
	}
	m.Codec.Shed()
}

// Need estimates the memory that a picture takes on top of what is loaded already, with low as --low-memory does: parts
// that run once a prompt are gone when the others come, whose weights come block by block.
func (m *Model) Need(width, height, rows int, low, tiled bool) stage.Need {
	return need(m.Parts, width, height, rows, low, tiled)
}

// NeedFrugal is Need where parts that run once a prompt give their weights back after use, and activations are freed before they run.
func (m *Model) NeedFrugal(width, height, rows int, tiled bool) stage.Need {
	var rest, most stage.Need
	for _, p := range m.Parts {
		n := p.Need(p.Sizes(width, height, rows, tiled), false)
		if !p.Once {
			rest = rest.Plus(n)
		} else if n.Total() > most.Total() {
			most = n
		}
	}
	if most.Total() > rest.Activations {
		return stage.Need{Weights: rest.Weights + most.Weights, Activations: most.Activations}
	}
	return rest
}

// NeedWithoutCodec is Need of a model whose latents another one decodes.
func (m *Model) NeedWithoutCodec(width, height, rows int, low bool) stage.Need {
	var parts []*stage.Part
	for _, p := range m.Parts {
		if p.Once || p == m.Denoiser.Part() {
			parts = append(parts, p)
		}
	}
	return need(parts, width, height, rows, low, false)
}

func need(parts []*stage.Part, width, height, rows int, low, tiled bool) stage.Need {
	var once, rest, most stage.Need
	for _, p := range parts {
		n := p.Need(p.Sizes(width, height, rows, tiled), low)
		if !p.Once {
			rest = rest.Plus(n)
			continue
		}
		once = once.Plus(n)
		if n.Total() > most.Total() {
			most = n
		}
	}
	switch {
	case !low:
		return rest.Plus(once)
	case most.Total() < rest.Total():
		return rest // the first prompt; with the next one the programs are closed before
	}
	return most
}

// Close unmaps the weights, after the programs were closed.
func (m *Model) Close() error {
	x := files{sets: m.Sets}
	return x.close()
}

// files are a model's files while it is opened.
type files struct {
	folder   *checkpoint.Folder
	options  Options
	sets     []*checkpoint.Set
	weights  map[string]*partWeights
	warnings []string
	texts    map[string]*checkpoint.TextModel // by part: see take
}

// partWeights are a part's arrays as the files have them, and what its network made of them.
type partWeights struct {
	arrays checkpoint.Weights
	loaded map[string][]nn.Use
}

// config reads a part's configuration.
func (x *files) config(part string) (*config.Object, error) {
	if part == "vae" && x.options.VAE != nil {
		return x.options.VAE.Config, nil
	}
	if t := x.texts[part]; t != nil {
		return t.Config, nil
	}
	return x.folder.Config(part)
}

// open opens a part's weights.
func (x *files) open(part string) (checkpoint.Weights, error) {
	if part == "vae" && x.options.VAE != nil {
		x.sets = append(x.sets, x.options.VAE.Set)
		return x.options.VAE.Set, nil
	}
	if t := x.texts[part]; t != nil {
		x.sets = append(x.sets, t.Set)
		return t.Set, nil
	}
	set, err := x.folder.Weights(part)
	if err != nil {
		return nil, err
	}
	x.sets = append(x.sets, set)
	return set, nil
}

func (x *files) close() error {
	var errs []error
	for _, s := range x.sets {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// network opens one part: its configuration, its weights, and the network that they make.
func network[C, N any](x *files, name string, read func(*checkpoint.Config) (C, error), build func(C, nn.Loader) (N, error)) (n N, err error) {
	c, err := configOf(x, name, read)
	if err != nil {
		return n, err
	}
	w, err := x.open(name)
	if err != nil {
		return n, err
	}
	l := nn.NewLoader(name, w)
	if n, err = build(c, l); err != nil {
		return n, fmt.Errorf("model %s: %w", x.folder.Name(), err)
	}
	x.leftover(name, l.Unused(w.Names()))
	x.weights[name] = &partWeights{w, l.Weights()}
	return n, nil
}

// configOf reads a part's configuration.
func configOf[C any](x *files, name string, read func(*checkpoint.Config) (C, error)) (c C, err error) {
	config, err := x.config(name)
	if err != nil {
		return c, err
	}
	return read(config)
}

// leftover warns of weights that the network does not read: another program would have used them.
func (x *files) leftover(part string, names []string) {
	names = slices.DeleteFunc(names, harmless)
	if len(names) == 0 {
		return
	}
	const shown = 3
	list, more := names, ""
	if len(list) > shown {
		list, more = list[:shown], ", …"
	}
	what := "weights are"
	if len(names) == 1 {
		what = "weight is"
	}
	x.warnings = append(x.warnings, fmt.Sprintf("%s/%s: %d %s not used: %s%s. The picture may differ from other programs'",
		x.folder.Name(), part, len(names), what, strings.Join(list, ", "), more))
}

// harmless are weights that nothing needs: counters, tables that are recomputed, leftovers of training.
func harmless(name string) bool {
	for _, end := range []string{"position_ids", "logit_scale", "num_batches_tracked"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return strings.HasPrefix(name, "model_ema.")
}

// readDefaults reads the file darkroom.json, with which a model may say how it wants to be used; a folder need not have
// one.
func readDefaults(f *checkpoint.Folder, l Latent) (Defaults, error) {
	return readDefaultsOver(Defaults{Steps: DefaultSteps, CFG: DefaultCFG}, f, l)
}

// readDefaultsOver is readDefaults with a family's own steps and guidance.
func readDefaultsOver(d Defaults, f *checkpoint.Folder, l Latent) (Defaults, error) {
	d.Width, d.Height = l.Side*l.Factor, l.Side*l.Factor
	if l.Height > 0 && l.Width > 0 {
		d.Width, d.Height = l.Width*l.Factor, l.Height*l.Factor
	}
	if !f.Exists("darkroom.json") {
		return d, nil
	}
	c, err := f.Config("darkroom.json")
	if err != nil {
		return d, err
	}
	d.Steps = c.Int("steps", d.Steps)
	d.CFG = c.Float("cfg", d.CFG)
	d.Scheduler = c.String("scheduler", "")
	d.Negative = c.String("negative", "")
	d.Width = c.Int("width", d.Width)
	d.Height = c.Int("height", d.Height)
	return d, c.Done()
}

// readSampling reads the scheduler's configuration, for the class that model_index.json names.
func readSampling(x *files) (scheduler.Config, error) {
	const file = "scheduler/scheduler_config.json"
	text, err := x.folder.ReadFile(file)
	if err != nil {
		return scheduler.Config{}, err
	}
	index, err := x.folder.Index()
	if err != nil {
		return scheduler.Config{}, err
	}
	named := index.Components["scheduler"]
	c, err := scheduler.ParseConfigOf(named.Class, x.folder.Name()+"/"+file, text)
	if err != nil && c.Class == "" && named.Class != "" {
		err = fmt.Errorf("%s/model_index.json: scheduler: %w", x.folder.Name(), err)
	}
	if err != nil || x.options.Prediction == "" {
		return c, err
	}
	c.PredictionType, err = scheduler.ParsePredictionType(x.options.Prediction)
	if c.PredictionType == scheduler.Epsilon && c.SigmaData > 0 {
		c.PredictionType = scheduler.EDM // as their files call it
	}
	return c, err
}
