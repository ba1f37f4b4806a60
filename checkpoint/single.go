package checkpoint

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// SingleOptions override what a single file shows.
type SingleOptions struct {
	// Prediction overrides what the file shows: "", Epsilon, VPrediction or FlowPred.
	Prediction string
	// EMA uses the averaged weights if the file has both.
	EMA bool
}

// Single is a model that is one file, seen as the folder that diffusers would make of it.
type Single struct {
	Family     Family
	FamilyWhy  string
	Prediction Prediction
	Class      string   // the pipeline of model_index.json
	Layout     string   // how the U-Net's names are written: "LDM" or "diffusers"
	Parts      []string // those that the file has: "unet" or "transformer", "vae", "text_encoder", "text_encoder_2"
	Missing    []string // those that the family needs besides
	EMA        bool     // there are averaged weights too
	Format     string   // of the file, as Source.Format
	Metadata   map[string]string

	source  *Source
	files   Embedded // configurations by name: "unet/config.json"
	weights map[string]table
}

// NewSingle finds the parts of a model in a file. Any other kind of file is an error that says what it is.
func NewSingle(s *Source, o SingleOptions) (*Single, error) {
	m, err := newSingle(s, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name(), err)
	}
	return m, nil
}

func newSingle(s *Source, o SingleOptions) (*Single, error) {
	p, err := splitParts(s.arrays, o.EMA)
	if err != nil {
		return nil, err
	}
	if f, t, original := findTransformer(s.arrays); p.unet == nil && t != nil {
		return newTransformerFile(s, p, f, t, original)
	}
	if p.unet == nil {
		return nil, wrongKind(Describe(s), "a model")
	}
	m := &Single{Layout: "diffusers", EMA: p.ema, Format: s.Format(), Metadata: s.Metadata(), source: s, files: Embedded{}, weights: map[string]table{}}
	if p.ldm {
		m.Layout = "LDM"
	}
	if m.Family, m.FamilyWhy, err = p.family(); err != nil {
		return nil, err
	}
	if m.Prediction, err = p.predict(m.Family, s, o.Prediction); err != nil {
		return nil, err
	}
	if m.Class, err = p.pipelineClass(m.Family); err != nil {
		return nil, err
	}
	unet, err := p.unetConfig(m.Family, m.Prediction)
	if err != nil && !strings.Contains(m.Metadata[ConfigKey], `"unet/config.json"`) {
		return nil, err
	}
	m.add("unet", p.unet, unet)
	if p.vae != nil {
		vae, err := p.vaeConfig(m.Family)
		if err != nil {
			return nil, err
		}
		if m.Prediction.EDM == "edm" {
			vae["latents_mean"], vae["latents_std"], vae["scaling_factor"] = m.Prediction.mean, m.Prediction.std, 0.5
		}
		m.add("vae", p.vae, vae)
	}
	if p.text != nil {
		c, err := textConfig(p.text, p.openCLIP || m.Family == SD2)
		if err != nil {
			return nil, err
		}
		pad := "<|endoftext|>"
		if m.Family == SD2 {
			pad = "!"
		}
		m.add("text_encoder", p.text, c)
		m.files["tokenizer/tokenizer_config.json"] = tokenizerConfig(c["max_position_embeddings"].(int), pad).text()
	}
	if p.text2 != nil {
		c, err := textConfig(p.text2, true)
		if err != nil {
			return nil, err
		}
		m.add("text_encoder_2", p.text2, c)
		m.files["tokenizer_2/tokenizer_config.json"] = tokenizerConfig(c["max_position_embeddings"].(int), "!").text()
	}
	sampling := schedulerConfig(m.Family, m.Prediction)
	m.files["scheduler/scheduler_config.json"] = sampling.text()
	m.files["model_index.json"] = p.indexConfig(m.Family, m.Class, sampling).text()
	if err := m.carried(o.Prediction != ""); err != nil {
		return nil, err
	}
	for _, part := range m.Family.parts() {
		if m.weights[part] == nil {
			m.Missing = append(m.Missing, part)
		}
	}
	return m, nil
}

// ConfigKey is where the metadata of files that this program writes carries a folder's configurations, by name: what
// keys and shapes do not show comes back as it was.
const ConfigKey = "darkroom.config"

// encodedEnd follows the names of files in it that are no text, in base64.
const encodedEnd = ".base64"

// carried takes the configurations that the file brings, but for the scheduler's, which model_index.json names, where the
// user says how to predict.
func (m *Single) carried(overridden bool) error {
	text := m.Metadata[ConfigKey]
	if text == "" {
		return nil
	}
	var files map[string]string
	if err := json.Unmarshal([]byte(text), &files); err != nil {
		return fmt.Errorf("metadata %s: %w", ConfigKey, err)
	}
	for name, text := range files {
		part, _, _ := strings.Cut(name, "/")
		if plain, ok := strings.CutSuffix(name, encodedEnd); ok {
			b, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return fmt.Errorf("metadata %s: %s: %w", ConfigKey, name, err)
			}
			name, text = plain, string(b)
		}
		scheduler := part == "scheduler"
		if name == "model_index.json" {
			if !overridden && m.hasAllOf(text) {
				m.files[name] = text
			}
			continue
		}
		known := scheduler || part == "darkroom.json" || strings.HasPrefix(part, "tokenizer") || m.weights[part] != nil
		if !fs.ValidPath(name) || scheduler && overridden || !known {
			continue
		}
		m.files[name] = text
	}
	if text := files["scheduler/scheduler_config.json"]; !overridden && text != "" && !m.hasAllOf(files["model_index.json"]) {
		return m.nameScheduler(text)
	}
	return nil
}

// nameScheduler has model_index.json name the class that a scheduler's configuration does.
func (m *Single) nameScheduler(config string) error {
	var own struct {
		Class string `json:"_class_name"`
	}
	var index map[string]json.RawMessage
	if err := json.Unmarshal([]byte(config), &own); err != nil {
		return fmt.Errorf("metadata %s: %w", ConfigKey, err)
	}
	if err := json.Unmarshal([]byte(m.files["model_index.json"]), &index); err != nil || own.Class == "" {
		return err
	}
	class, err := json.Marshal([]string{"diffusers", own.Class})
	if err != nil {
		return err
	}
	index["scheduler"] = class
	text, err := json.Marshal(index)
	m.files["model_index.json"] = string(text)
	return err
}

// hasAllOf reports whether the file has the parts that a model_index.json names.
func (m *Single) hasAllOf(index string) bool {
	x, err := FromFS(Embedded{"model_index.json": index}, m.source.Name()).Index()
	if err != nil {
		return false
	}
	for _, part := range partOrder {
		if _, named := x.Components[part]; named != (m.weights[part] != nil) {
			return false
		}
	}
	return true
}

func (m *Single) add(part string, t table, config object) {
	m.weights[part] = t
	m.files[part+"/config.json"] = config.text()
	m.Parts = append(m.Parts, part)
}

// parts are those that a model of the family has.
func (f Family) parts() []string {
	switch f {
	case SDXL:
		return []string{"unet", "vae", "text_encoder", "text_encoder_2"}
	case Refiner:
		return []string{"unet", "vae", "text_encoder_2"}
	case ZImage, Flux2:
		return []string{"transformer", "vae", "text_encoder"}
	case Flux1:
		return []string{"transformer", "vae", "text_encoder", "text_encoder_2"}
	case SD3:
		return []string{"transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"}
	}
	return []string{"unet", "vae", "text_encoder"}
}

// VAEOf reads a file that holds an autoencoder, alone or within a model, as the part of a model of the family f.
func VAEOf(s *Source, f Family) (weights Weights, config *Config, err error) {
	if t, c := tinyVAE(s.arrays); t != nil {
		config, err = ParseConfig([]byte(c.text()), s.Name())
		return t, config, err
	}
	p, err := splitParts(s.arrays, false)
	if err == nil && p.vae == nil {
		err = wrongKind(Describe(s), "a VAE")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", s.Name(), err)
	}
	c, err := p.vaeConfig(f)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", s.Name(), err)
	}
	config, err = ParseConfig([]byte(c.text()), s.Name())
	return p.vae, config, err
}

// OpenVAE opens an autoencoder by path, as the part of a model of the family f: a file that holds one, alone or within a
// model, a folder with its config.json, or a model's folder.
func OpenVAE(path string, f Family, hashCache string) (*Set, *Config, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the autoencoder: %w", err)
	}
	if info.IsDir() {
		folder, part := &Folder{fsys: os.DirFS(path), name: filepath.Clean(path), dir: path, HashCache: hashCache}, "vae"
		if !folder.Exists("vae") {
			part = "."
		}
		config, err := folder.Config(part)
		if err != nil {
			return nil, nil, err
		}
		set, err := folder.Weights(part)
		return set, config, err
	}
	s, err := OpenSource(path)
	if err != nil {
		return nil, nil, err
	}
	w, config, err := VAEOf(s, f)
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	set := newSourceSet("vae", s, w.(table))
	set.hashCache = hashCache
	return set, config, nil
}

// wrongKind says what a file is instead of what was wanted.
func wrongKind(d Description, wanted string) error {
	if d.Hint != "" {
		return fmt.Errorf("this is %s: %s", d.What, d.Hint)
	}
	return fmt.Errorf("this is %s, not %s", d.What, wanted)
}

// Weights are the arrays of a part by diffusers' names; false if the file lacks it.
func (m *Single) Weights(part string) (Weights, bool) {
	t, ok := m.weights[part]
	return t, ok
}

// Has reports whether the file has a part.
func (m *Single) Has(part string) bool { return slices.Contains(m.Parts, part) }

// Config is a part's configuration, "unet" or "scheduler/scheduler_config.json", derived from the file.
func (m *Single) Config(name string) (*Config, error) {
	f := FromFS(m.files, m.source.Name())
	return f.Config(name)
}

// OpenModel opens a model by path: a folder in the diffusers layout, or a single file, seen as the folder that diffusers
// would make of it. What is wrong with a file says what it is instead.
func OpenModel(path string, o SingleOptions) (*Folder, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("opening model: %w", err)
	}
	if info.IsDir() {
		return OpenFolder(path)
	}
	file := &singleFile{path: path, options: o}
	m, err := file.open()
	if err != nil {
		return nil, fmt.Errorf("opening model: %w", err)
	}
	defer m.source.Close()
	file.single, m.weights = m, nil
	return &Folder{fsys: m.files, name: filepath.Clean(path), file: file}, nil
}

// Single is what was found out about a model in a single file, without its weights; nil for a folder.
func (f *Folder) Single() *Single {
	if f.file == nil {
		return nil
	}
	return f.file.single
}

// singleFile presents a single file as a Folder. Each part's weights map it anew, so that each is closed by itself.
type singleFile struct {
	path    string
	options SingleOptions
	single  *Single

	borrowed map[string]*Folder // parts that another model lends

	mu   sync.Mutex
	hash string
}

func (f *singleFile) open() (*Single, error) {
	s, err := OpenSource(f.path)
	if err != nil {
		return nil, err
	}
	m, err := NewSingle(s, f.options)
	if err != nil {
		s.Close()
	}
	return m, err
}

func (f *singleFile) weights(part, hashCache string) (*Set, error) {
	m, err := f.open()
	if err != nil {
		return nil, err
	}
	t, ok := m.weights[part]
	if !ok {
		m.source.Close()
		return nil, fmt.Errorf("%s: the file has no %s, only %s", f.path, part, strings.Join(m.Parts, ", "))
	}
	set := newSourceSet(part, m.source, t)
	set.hashCache = hashCache
	set.hash = func() (string, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.hash != "" {
			return f.hash, nil
		}
		h, err := hashFiles(hashCache, content{path: f.path})
		f.hash = h
		return h, err
	}
	return set, nil
}
