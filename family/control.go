package family

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"darkroom/checkpoint"
	"darkroom/clip"
	"darkroom/control"
	"darkroom/nn"
	"darkroom/stage"
	"darkroom/unet"
)

// Control is an open network that steers a denoiser with a picture: a ControlNet, a T2I-Adapter or an IP-Adapter.
type Control struct {
	Kind checkpoint.Kind
	// Types is how many kinds of hints a Union takes; 0 for other networks, which take one.
	Types int
	// Encoder is the path of an IP-Adapter's image encoder, "" for others.
	Encoder string

	path   string
	hash   func() (string, error)
	hashes sync.WaitGroup // at work
	file   *checkpoint.ControlFile
	loader nn.Loader

	net        *control.Model   // of a ControlNet
	adapter    *control.Adapter // of a T2I-Adapter
	part       *stage.Part      // likewise
	projection control.ImageProjection
	project    *stage.Part
	vision     *vision
}

// vision is CLIP's image encoder.
type vision struct {
	config clip.VisionConfig
	part   *stage.Part
	set    *checkpoint.Set
	hash   func() (string, error)
}

// ControlOptions say what belongs to a network beside its own files.
type ControlOptions struct {
	Encoder   string   // an IP-Adapter's image encoder; "": the first that fits of those beside the file, and of Encoders
	Encoders  []string // paths
	HashCache string
}

// OpenControl opens a network that steers this model. Weights are mapped, not read. A network of another kind or for
// another family is an error that says so.
func (m *Model) OpenControl(path string, o ControlOptions) (*Control, error) {
	base, ok := m.Denoiser.(*unetDenoiser)
	if !ok {
		return nil, fmt.Errorf("models of the family %s do not support control pictures", m.Family)
	}
	file, err := checkpoint.OpenControl(path, o.HashCache)
	if err != nil {
		return nil, err
	}
	c := &Control{Kind: file.Kind, path: path, file: file, hash: sync.OnceValues(file.Hash)}
	if own := checkpoint.FamilyByContext(base.config.CrossAttentionDim[0]); file.Family != "" && own != "" && file.Family != own {
		err = fmt.Errorf("this is %s, but the model is of %s: a control network works only with its own family", file.What, own)
	} else if w := m.weights[base.part.Name]; w != nil {
		err = file.Over(w.arrays)
	}
	if err == nil {
		c.loader = nn.NewLoader("control", file.Weights)
		err = c.build(base, o)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), c.Close())
	}
	return c, nil
}

func (c *Control) build(base *unetDenoiser, o ControlOptions) error {
	switch c.Kind {
	case checkpoint.KindControlNet:
		config, err := c.netConfig(base.config)
		if err != nil {
			return err
		}
		if err := config.Fits(base.config); err != nil {
			return err
		}
		if config.HintChannels != 1 && config.HintChannels != 3 {
			return fmt.Errorf("its picture has %d channels: 1 and 3 are supported", config.HintChannels)
		}
		c.Types = config.Types
		if c.net, err = control.New(config, c.loader); err != nil {
			return err
		}
		return c.allRead()
	case checkpoint.KindT2IAdapter:
		config, err := control.AdapterConfigOf(c.file.Weights)
		if c.file.Config != nil {
			config, err = control.ReadAdapterConfig(c.file.Config)
		}
		if err != nil {
			return err
		}
		if config.Channels != 1 && config.Channels != 3 {
			return fmt.Errorf("its picture has %d channels: 1 and 3 are supported", config.Channels)
		}
		if c.adapter, err = control.NewAdapter(config, c.loader); err != nil {
			return err
		}
		c.part = (&stage.Part{
			Name: "adapter", Title: "the T2I-Adapter", Net: c.adapter, Once: true,
			Sizes: func(width, height, _ int, _ bool) nn.Sizes { return nn.Sizes{Rows: 1, H: height, W: width} },
		}).On(base.part.Device())
		return c.allRead()
	}
	return c.buildImagePrompt(base, o)
}

func (c *Control) netConfig(u unet.Config) (control.Config, error) {
	if c.file.Config != nil {
		return control.ReadConfig(c.file.Config)
	}
	config, err := control.ConfigOf(c.file.Weights, u)
	config.Pooled = strings.Contains(strings.ToLower(filepath.Base(c.path)), "shuffle") // of this shapes say nothing
	return config, err
}

// allRead refuses weights that the network does not know: it would do something else than it was trained for.
func (c *Control) allRead() error {
	if rest := c.loader.Unused(c.file.Weights.Names()); len(rest) > 0 {
		return fmt.Errorf("%d of its weights are not known, such as %s: this kind of network is not supported", len(rest), strings.Join(rest[:min(len(rest), 3)], ", "))
	}
	return nil
}

func (c *Control) buildImagePrompt(base *unetDenoiser, o ControlOptions) error {
	if err := otherImagePrompt(c.file.Weights); err != nil {
		return err
	}
	var err error
	if c.projection, err = control.NewImageProjection(c.file.Weights, c.loader.At("image_proj"), base.config.CrossAttentionDim[0]); err != nil {
		return err
	}
	if _, err := base.net.WithImage(c.loader.At("ip_adapter"), c.projection.Tokens()); err != nil {
		return err
	}
	if err := c.allRead(); err != nil {
		return err
	}
	if c.vision, c.Encoder, err = c.findVision(base.part.Device(), o); err != nil {
		return err
	}
	c.project = (&stage.Part{
		Name: "image_proj", Title: "the image prompt's projection", Net: c.projection, Once: true,
		Sizes: func(int, int, int, bool) nn.Sizes { return c.projectSizes() },
	}).On(base.part.Device())
	return nil
}

// faceWidth is how many numbers InsightFace gives for a face; CLIP gives more.
const faceWidth = 512

// otherImagePrompt says what is wrong with kinds of IP-Adapters that read something else than CLIP's view of a picture.
func otherImagePrompt(w checkpoint.Weights) error {
	for _, name := range w.Names() {
		a, _ := w.Array(name)
		s := a.Shape()
		first := strings.HasPrefix(name, "image_proj.proj.0.")
		switch {
		case strings.Contains(name, "lora"), strings.HasPrefix(name, "image_proj.perceiver"), first && len(s) == 2 && s[1] == faceWidth:
			return fmt.Errorf("this is a FaceID IP-Adapter (it has %s): it reads embeddings of faces that the network InsightFace makes, which is not included. Use an IP-Adapter of the plain or the plus kind, such as ip-adapter-plus-face, which reads the picture itself", name)
		case first:
			return fmt.Errorf("this is a full-face IP-Adapter (it has %s), which is not supported: use ip-adapter-plus-face", name)
		}
	}
	return nil
}

func (c *Control) projectSizes() nn.Sizes { return nn.Sizes{Rows: 1, Tokens: c.vision.config.Tokens()} }

// findVision opens the image encoder: the one that is named, or the first that gives what the projection reads.
func (c *Control) findVision(d *stage.Device, o ControlOptions) (*vision, string, error) {
	if o.Encoder != "" {
		v, err := c.openVision(o.Encoder, d, o.HashCache)
		return v, o.Encoder, err
	}
	dir := filepath.Dir(c.path)
	beside := []string{filepath.Join(dir, "image_encoder"), filepath.Join(dir, "..", "image_encoder"), filepath.Join(dir, "..", "models", "image_encoder")}
	var damaged error
	for _, path := range append(beside, o.Encoders...) {
		v, err := c.openVision(path, d, o.HashCache)
		if err == nil {
			return v, path, nil
		}
		if damaged == nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errOtherVision) {
			damaged = err
		}
	}
	if damaged != nil {
		return nil, "", damaged
	}
	what := fmt.Sprintf("whose embedding has %d numbers", c.projection.Width())
	if c.projection.Reads() == "hidden" {
		what = fmt.Sprintf("%d wide", c.projection.Width())
	}
	return nil, "", fmt.Errorf("the IP-Adapter needs CLIP's image encoder, one %s, which was not found: put it into the folder %s, or into clip_vision in a models folder, or name it with :encoder=PATH", what, beside[0])
}

func (c *Control) openVision(path string, d *stage.Device, hashCache string) (*vision, error) {
	set, raw, err := checkpoint.OpenVision(path, hashCache)
	if err != nil {
		return nil, err
	}
	v := &vision{set: set, hash: sync.OnceValues(set.Hash)}
	if raw != nil {
		v.config, err = clip.ReadVisionConfig(raw)
	} else {
		v.config, err = clip.VisionConfigOf(set)
	}
	gives := v.config.ProjectionDim
	if c.projection.Reads() == "hidden" {
		gives = v.config.HiddenSize
	}
	if err == nil && gives != c.projection.Width() {
		err = fmt.Errorf("%w: it gives %d numbers, but the IP-Adapter reads %d", errOtherVision, gives, c.projection.Width())
	}
	var net *clip.VisionModel
	if err == nil {
		net, err = clip.NewVision(v.config, nn.NewLoader("image_encoder", set))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), set.Close())
	}
	v.part = (&stage.Part{
		Name: "image_encoder", Title: "the image encoder", Net: net, Once: true,
		Sizes: func(int, int, int, bool) nn.Sizes { return nn.Sizes{Rows: 1} },
	}).On(d)
	return v, nil
}

var errOtherVision = errors.New("the image encoder belongs to another IP-Adapter")

// BeginHash computes the hashes beside other work.
func (c *Control) BeginHash() {
	c.hashes.Go(func() {
		_, _ = c.Hash()
		_, _ = c.EncoderHash()
	})
}

// Hash is the SHA-256 of the network's file, and EncoderHash of its image encoder's, "" without one. Each is computed once.
func (c *Control) Hash() (string, error) { return c.hash() }

func (c *Control) EncoderHash() (string, error) {
	if c.vision == nil {
		return "", nil
	}
	return c.vision.hash()
}

// Parts are those that run once a picture, before the denoiser.
func (c *Control) parts() (all []*stage.Part) {
	if c.part != nil {
		all = append(all, c.part)
	}
	if c.vision != nil {
		all = append(all, c.vision.part, c.project)
	}
	return all
}

// Close unmaps the files, after the programs were closed.
func (c *Control) Close() error {
	c.hashes.Wait()
	err := c.file.Close()
	if c.vision != nil {
		err = errors.Join(err, c.vision.set.Close())
	}
	return err
}

// hintTypes are what the published Unions call their types: several kinds of hints share one.
var hintTypes = [][]string{
	{"openpose", "pose"}, {"depth"}, {"softedge", "hed", "pidi", "scribble", "sketch", "ted", "edges"}, {"canny", "lineart", "anime", "mlsd"},
	{"normal"}, {"segment", "seg"}, {"tile", "blur"}, {"repaint", "inpaint"},
}

// HintType is the number of a Union's type of hints, by its name or as it is.
func (c *Control) HintType(name string) (int, error) {
	n := slices.IndexFunc(hintTypes, func(names []string) bool { return slices.Contains(names, name) })
	if v, err := strconv.Atoi(name); err == nil {
		n = v
	}
	if n < 0 || n >= c.Types {
		var names []string
		for i, all := range hintTypes[:min(c.Types, len(hintTypes))] {
			names = append(names, fmt.Sprintf("%s (%d)", all[0], i))
		}
		return 0, fmt.Errorf("type %.40q: this Union has %d types: %s", name, c.Types, strings.Join(names, ", "))
	}
	return n, nil
}
