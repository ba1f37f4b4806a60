package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"darkroom/checkpoint"
	"darkroom/family"
	"darkroom/models/library"
	"darkroom/recipe"
)

// adaptation is what a request changes in the model's weights. Its key identifies it within the pipeline.
type adaptation struct {
	family.Adaptation
	key      string
	files    []recipe.File
	loras    []recipe.Use // those of the settings, by name: the others are in the prompts
	warnings []string
}

// extras are the files of adapters and embeddings that were used, opened once.
type extras struct {
	adapters   map[string]*checkpoint.Adapter
	embeddings map[string]*checkpoint.Embedding
	sources    []*checkpoint.Source
	now        string // the key of what is laid over the model
}

func (x *extras) close() error {
	var errs []error
	for _, s := range x.sources {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// adaptation reads the plan's adapters and embeddings: those of the settings, and those that the prompts' tags ask for.
func (p *Pipeline) adaptation(pl *plan) (*adaptation, error) {
	a := &adaptation{}
	uses, err := recipe.ParseUses(pl.LoRA)
	if err != nil {
		return nil, usagef("--lora %w", err)
	}
	tags, warnings := family.Networks(pl.Syntax, pl.Prompt, pl.Negative, pl.Regions, pl.Toward)
	a.warnings = warnings
	for _, u := range uses {
		path, err := p.addAdapter(a, u)
		if err != nil {
			return nil, fmt.Errorf("--lora %s: %w", u.Name, err)
		}
		u.Name = library.PartName(path)
		a.loras = append(a.loras, u)
	}
	for _, t := range tags {
		path, err := library.NamedPart(library.LoRAs, t.Name) // a prompt names no files
		if err != nil {                                       // as the web UIs do
			a.warnings = append(a.warnings, fmt.Sprintf("%.80q is left out: %v", t.Text, err))
			continue
		}
		if _, err := p.addAdapter(a, recipe.Use{Name: path, Weight: t.Weight, TextWeight: t.TextWeight}); err != nil {
			return nil, fmt.Errorf("%.80s: %w", t.Text, err)
		}
	}
	if err := p.addEmbeddings(a, pl); err != nil {
		return nil, err
	}
	return a, nil
}

func (p *Pipeline) addAdapter(a *adaptation, u recipe.Use) (path string, err error) {
	if path, err = library.FindPart(library.LoRAs, u.Name); err != nil {
		return "", &UsageError{err}
	}
	adapter := p.extras.adapters[path]
	if adapter == nil {
		s, err := p.extras.open(path)
		if err != nil {
			return "", err
		}
		if adapter, err = checkpoint.ReadAdapter(s); err != nil {
			return "", err
		}
		if p.extras.adapters == nil {
			p.extras.adapters = map[string]*checkpoint.Adapter{}
		}
		p.extras.adapters[path] = adapter
	}
	hash, err := checkpoint.HashFile(path, p.options.HashCache)
	if err != nil {
		return "", err
	}
	a.Adapters = append(a.Adapters, family.Adapter{Adapter: adapter, Weight: u.Weight, TextWeight: u.TextWeight})
	v3, err := checkpoint.AutoV3(path, p.options.HashCache)
	if err != nil {
		return "", err
	}
	a.files = append(a.files, recipe.File{Kind: "lora", Name: library.PartName(path), SHA256: hash, AutoV3: v3})
	a.key += fmt.Sprintf("lora %s %v %v\n", path, u.Weight, u.TextWeight)
	bundled, err := checkpoint.BundledEmbeddings(adapter.Source())
	if err != nil {
		return "", err
	}
	for _, e := range bundled {
		key := path + "\x00" + e.Token
		if p.extras.embeddings[key] == nil {
			p.extras.remember(key, e)
		}
		a.Embeddings = append(a.Embeddings, p.extras.embeddings[key])
	}
	return path, nil
}

func (x *extras) open(path string) (*checkpoint.Source, error) {
	s, err := checkpoint.OpenSource(path)
	if err == nil {
		x.sources = append(x.sources, s)
	}
	return s, err
}

func (x *extras) remember(key string, e *checkpoint.Embedding) {
	if x.embeddings == nil {
		x.embeddings = map[string]*checkpoint.Embedding{}
	}
	x.embeddings[key] = e
}

// adaptationOf distinguishes requests with different adaptations, without opening files.
func adaptationOf(r Request) string {
	key := r.LoRA + "\x00" + r.Embedding
	tags, _ := family.Networks(r.Syntax, r.Prompt, r.Negative, r.Regions, r.Toward)
	for _, t := range tags {
		key += "\x00" + t.Text
	}
	if strings.Contains(r.Embedding, recipe.EmbeddingsByWord) {
		key += "\x00" + strings.Join(mentioned(r), "\x00")
	}
	return key
}

// adapt applies an adaptation to the model, unless it is already applied.
func (p *Pipeline) adapt(a *adaptation) error {
	if a.key == p.extras.now {
		return nil
	}
	warnings, err := p.model.Adapt(a.Adaptation)
	if err != nil {
		return err
	}
	if p.steering.steered != nil {
		p.steering.steered.Close() // it knows where the weights lay
	}
	p.extras.now = a.key
	a.warnings = slices.Concat(a.warnings, warnings)
	return nil
}

// names lists the files of a kind, with commas between.
func (a *adaptation) names(kind string) string {
	var names []string
	for _, f := range a.files {
		if f.Kind == kind {
			names = append(names, f.Name)
		}
	}
	return strings.Join(names, ",")
}

// textModelName is the other text encoder's name for recipes.
func (p *Pipeline) textModelName() string {
	if p.options.TextModel == "" {
		return ""
	}
	var names []string
	for _, path := range strings.Split(p.options.TextModel, ";") {
		names = append(names, library.PartName(strings.TrimSpace(path)))
	}
	return strings.Join(names, ";")
}

// vaeName is the other autoencoder's name for recipes.
func (p *Pipeline) vaeName() string {
	if p.options.VAE == "" {
		return ""
	}
	return library.PartName(p.options.VAE)
}
