package checkpoint

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"darkroom/tensor"
)

// ControlFile is a network that steers a denoiser with a picture, read from a file or a folder.
type ControlFile struct {
	Kind   Kind   // KindControlNet, KindT2IAdapter or KindIPAdapter
	Family string // of the model that it was trained for, as far as its shapes tell; ""
	What   string // for people, after "this is": "a ControlNet for SD1"
	// Config is the folder's config.json; nil for a file, whose shapes say the rest.
	Config *Config
	// Weights are by the names of diffusers, whatever those of the file are.
	Weights Weights

	set         *Set
	differences bool // all arrays that a base model has, too, are differences from its own
	lora        bool
}

// OpenControl opens a ControlNet, a T2I-Adapter or an IP-Adapter: a folder of diffusers, or a file with the names of diffusers
// or of the original programs. The kind is recognised by the content. Something else is an error that says what it is.
func OpenControl(path, hashCache string) (*ControlFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("opening the control network: %w", err)
	}
	if info.IsDir() {
		return openControlFolder(path, hashCache)
	}
	s, err := OpenSource(path)
	if err != nil {
		return nil, err
	}
	c, err := controlOf(s.arrays, Describe(s))
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c.set = newSourceSet("control", s, c.Weights.(table))
	c.set.hashCache = hashCache
	return c, nil
}

// componentFolders are those of control networks in a pipeline's folder.
var componentFolders = []string{"controlnet", "adapter"}

func openControlFolder(path, hashCache string) (*ControlFile, error) {
	if _, err := os.Stat(filepath.Join(path, "config.json")); err != nil {
		for _, name := range componentFolders {
			if _, err := os.Stat(filepath.Join(path, name, "config.json")); err == nil {
				return openControlFolder(filepath.Join(path, name), hashCache)
			}
		}
	}
	folder := &Folder{fsys: os.DirFS(path), name: filepath.Clean(path), dir: path, HashCache: hashCache}
	if !folder.Exists("config.json") {
		return nil, fmt.Errorf("%s: a folder without config.json: name the folder of a ControlNet or of a T2I-Adapter, or a file", path)
	}
	config, err := folder.Config(".")
	if err != nil {
		return nil, err
	}
	set, err := folder.Weights(".")
	if err != nil {
		return nil, err
	}
	all := table{}
	for _, name := range set.Names() {
		all[name], _ = set.Array(name)
	}
	c, err := controlOf(all, Describe(&Source{name: path, contents: contents{arrays: all}}))
	if err == nil && c.Kind == KindIPAdapter {
		err = fmt.Errorf("this is an IP-Adapter: name its file")
	}
	if err != nil {
		set.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c.Config, c.set = config, set
	return c, nil
}

// controlOf gives arrays the names of diffusers.
func controlOf(all table, d Description) (*ControlFile, error) {
	c := &ControlFile{Kind: d.Kind, Family: d.Family, What: d.What}
	var err error
	switch d.Kind {
	case KindControlNet:
		c.lora, c.differences = all["lora_controlnet"] != nil, all["difference"] != nil
		if c.lora {
			all, err = decomposed(all)
		}
		if err == nil {
			c.Weights, err = controlNetNames(all)
		}
	case KindT2IAdapter:
		c.Weights, err = t2iAdapterNames(all)
	case KindIPAdapter:
		c.Weights = ipAdapterNames(all)
	default:
		return nil, wrongKind(d, "a ControlNet, a T2I-Adapter or an IP-Adapter")
	}
	return c, err
}

// lowRank is an array of a Control-LoRA: what is added to the base model's, up times down.
type lowRank struct {
	tensor.Array // up
	parts        module
	shape        tensor.Shape
}

func (l lowRank) Shape() tensor.Shape          { return l.shape }
func (l lowRank) Plain() (tensor.Tensor, bool) { return tensor.Tensor{}, false }
func (l lowRank) Decode([]float32, int) error {
	return errors.New("a Control-LoRA without its base model")
}

// decomposed puts the two factors of each array of a Control-LoRA together.
func decomposed(all table) (table, error) {
	out := table{}
	for name, a := range all {
		base, isUp := strings.CutSuffix(name, ".up")
		_, isDown := strings.CutSuffix(name, ".down")
		switch {
		case isUp:
			down := all[base+".down"]
			if down == nil || len(a.Shape()) < 2 || len(down.Shape()) < 2 {
				return nil, fmt.Errorf("%s has no other half: the file is damaged", name)
			}
			shape := append(tensor.Shape{a.Shape()[0]}, down.Shape()[1:]...)
			out[base+".weight"] = lowRank{a, module{"up": a, "down": down}, shape}
		case !isDown && name != "lora_controlnet":
			out[name] = a
		}
	}
	return out, nil
}

// halves are how the names of what a ControlNet has in common with its U-Net begin.
var halves = []string{"conv_in.", "time_embedding.", "add_embedding.", "class_embedding.", "down_blocks.", "mid_block."}

// Over completes a network whose file says only how it differs from its U-Net, whose arrays are given. Others stay as they are.
func (c *ControlFile) Over(base Weights) error {
	own, isTable := c.Weights.(table)
	if !isTable || !c.lora && !c.differences {
		return nil
	}
	out := maps.Clone(own)
	for _, name := range base.Names() {
		if !slices.ContainsFunc(halves, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		of, _ := base.Array(name)
		a := own[name]
		parts := module{"diff": a}
		low, isLow := a.(lowRank)
		switch {
		case a == nil && c.lora:
			out[name] = of
			continue
		case isLow:
			parts = low.parts
		case a == nil || c.lora:
			continue // it is whole
		}
		change, err := newChange(parts, of.Shape())
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		out[name] = &patchedArray{Array: of, changes: []scaledChange{{change, 1}}}
	}
	c.Weights = out
	return nil
}

// Hash is the SHA-256 of the file, or of the folder's weights.
func (c *ControlFile) Hash() (string, error) { return c.set.Hash() }

// Close unmaps the file. Its arrays must no longer be used.
func (c *ControlFile) Close() error { return c.set.Close() }

// controlNetNames: the half U-Net is named as whole ones are. Around it are the hint's convolutions in a list with
// activations between them, and the "zero convolutions".
func controlNetNames(all table) (table, error) {
	if inner := all.below("control_model."); len(inner) > 0 { // a whole model may lie beside it
		all = inner
	}
	all = maps.Clone(all)
	delete(all, "difference")
	if all["zero_convs.0.0.weight"] == nil {
		return all, nil
	}
	half, err := unetLDM(all)
	if err != nil {
		return nil, err
	}
	last := -1
	for _, i := range indices(half.Names(), "input_hint_block.") {
		last = i
	}
	out := table{}
	for name, a := range half {
		rest, isHint := strings.CutPrefix(name, "input_hint_block.")
		zero, isZero := strings.CutPrefix(name, "zero_convs.")
		switch {
		case isHint:
			digits, end, _ := strings.Cut(rest, ".")
			var i int
			if _, err := fmt.Sscan(digits, &i); err != nil || i%2 != 0 {
				return nil, fmt.Errorf("%s is not a layer of a ControlNet", name)
			}
			name = fmt.Sprintf("controlnet_cond_embedding.blocks.%d.%s", i/2-1, end)
			if i == 0 {
				name = "controlnet_cond_embedding.conv_in." + end
			} else if i == last {
				name = "controlnet_cond_embedding.conv_out." + end
			}
		case isZero:
			digits, end, _ := strings.Cut(zero, ".0.")
			name = "controlnet_down_blocks." + digits + "." + end
		default:
			if end, ok := strings.CutPrefix(name, "middle_block_out.0."); ok {
				name = "controlnet_mid_block." + end
			}
		}
		out[name] = a
	}
	return out, nil
}

// t2iAdapterNames: the original program numbers all ResBlocks in a row, of which two belong to a feature.
func t2iAdapterNames(all table) (table, error) {
	bare := table{}
	for name, a := range all {
		bare[strings.TrimPrefix(name, "adapter.")] = a
	}
	if bare.begins("body.0.down_opt.", "body.2.down_opt.", "body.0.skep.") {
		return nil, fmt.Errorf("this T2I-Adapter has layers that are not supported (down_opt or skep)")
	}
	listed := bare["body.0.block1.weight"] != nil
	out := table{}
	for name, a := range bare {
		rest, isBody := strings.CutPrefix(name, "body.")
		digits, end, _ := strings.Cut(rest, ".")
		var i int
		if _, err := fmt.Sscan(digits, &i); isBody && err == nil {
			const each = 2
			inner, light := strings.CutPrefix(end, "body.")
			switch {
			case light:
				name = fmt.Sprintf("body.%d.resnets.%s", i, inner)
			case listed && strings.HasPrefix(end, "block"):
				name = fmt.Sprintf("body.%d.resnets.%d.%s", i/each, i%each, end)
			case listed:
				name = fmt.Sprintf("body.%d.%s", i/each, end)
			}
		}
		out["adapter."+name] = a
	}
	return out, nil
}

// ipAdapterNames: some programs put another word before the projection.
func ipAdapterNames(all table) table {
	out := table{}
	for name, a := range all {
		if rest, ok := strings.CutPrefix(name, "image_proj_model."); ok {
			name = "image_proj." + rest
		}
		out[name] = a
	}
	return out
}

// OpenVision opens CLIP's image encoder: a folder of transformers, or a file, for which the configuration is nil.
func OpenVision(path, hashCache string) (*Set, *Config, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the image encoder: %w", err)
	}
	if info.IsDir() {
		folder := &Folder{fsys: os.DirFS(path), name: filepath.Clean(path), dir: path, HashCache: hashCache}
		config, err := folder.Config(".")
		if err != nil {
			return nil, nil, err
		}
		set, err := folder.Weights(".")
		return set, config, err
	}
	s, err := OpenSource(path)
	if err != nil {
		return nil, nil, err
	}
	t := table(s.arrays)
	if !t.begins("vision_model.") {
		d := Describe(s)
		s.Close()
		return nil, nil, fmt.Errorf("%s: %w", path, wrongKind(d, "CLIP's image encoder by the names of transformers"))
	}
	set := newSourceSet("image encoder", s, t)
	set.hashCache = hashCache
	return set, nil, nil
}
