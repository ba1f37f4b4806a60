package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"darkroom/config"
)

// maxConfig is the size up to which ReadFile reads; the largest real ones, tokenizer.json, have a few MB.
const maxConfig = 64 << 20

// Folder is a model in the diffusers layout: model_index.json, and a subfolder for each part (unet, vae,
// text_encoder, tokenizer, scheduler) with its configuration and weights.
type Folder struct {
	// Variant chooses weights such as diffusion_pytorch_model.fp16.safetensors by the word in the middle. Empty: the
	// plain file, or the fp16 one where there is no plain one.
	Variant string

	// HashCache is a directory where Set.Hash keeps the hashes of files on disk, by path, size and time of change;
	// empty: they are computed each time.
	HashCache string

	fsys fs.FS
	name string
	dir  string // on disk; "" otherwise
	file *singleFile
}

// OpenFolder opens a folder on disk. Its weights are mapped, not read.
func OpenFolder(dir string) (*Folder, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("opening model: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("opening model: %s is a file; a folder in the diffusers layout (with a model_index.json) is needed", dir)
	}
	f := &Folder{fsys: os.DirFS(dir), name: filepath.Clean(dir), dir: dir}
	if !f.Exists("model_index.json") {
		return nil, fmt.Errorf("opening model: %s has no model_index.json: a folder in the diffusers layout is needed", dir)
	}
	return f, nil
}

// OpenPart opens a folder of a single network, as transformers writes it: a configuration and weights, which are part ".".
func OpenPart(dir string) (*Folder, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("opening a model: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("opening a model: %s is not a folder", dir)
	}
	return &Folder{fsys: os.DirFS(dir), name: dir, dir: dir}, nil
}

// FromFS opens a folder in any file system. Weights are used in place where it is a [Viewer], such as [Embedded], else
// they are read into memory.
func FromFS(fsys fs.FS, name string) *Folder { return &Folder{fsys: fsys, name: name} }

// Name is the path, or the name given to FromFS.
func (f *Folder) Name() string { return f.name }

// Exists reports whether there is a file or folder of that slash-separated name.
func (f *Folder) Exists(name string) bool {
	_, err := fs.Stat(f.fsys, name)
	return err == nil
}

// Sub is the file system of a subfolder, such as "tokenizer".
func (f *Folder) Sub(name string) fs.FS {
	sub, err := fs.Sub(f.fsys, name)
	if err != nil {
		panic("checkpoint: Sub(" + name + "): not a slash-separated path")
	}
	return sub
}

// ReadFile reads a small file, such as "tokenizer/merges.txt". The result must not be written to.
func (f *Folder) ReadFile(name string) ([]byte, error) {
	if v, ok := f.fsys.(Viewer); ok {
		b, err := v.View(name)
		return b, f.wrap(err)
	}
	file, err := f.fsys.Open(name)
	if err != nil {
		return nil, f.wrap(err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxConfig+1))
	if err == nil && len(b) > maxConfig {
		err = fmt.Errorf("%s is longer than %d bytes", name, maxConfig)
	}
	return b, f.wrap(err)
}

func (f *Folder) wrap(err error) error {
	if err != nil {
		return fmt.Errorf("reading model %s: %w", f.name, err)
	}
	return nil
}

// Config opens a part's configuration: scheduler/scheduler_config.json for "scheduler", unet/config.json for "unet", and
// so on; a name that ends in .json is taken as it is.
func (f *Folder) Config(part string) (*Config, error) {
	file := path.Join(part, "config.json")
	switch {
	case strings.HasSuffix(part, ".json"):
		file = part
	case path.Base(part) == "scheduler":
		file = path.Join(part, "scheduler_config.json")
	}
	b, err := f.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return config.Parse(b, f.label(file))
}

// label is how messages name a file of the model.
func (f *Folder) label(file string) string {
	if f.dir != "" {
		return filepath.Join(f.dir, filepath.FromSlash(file))
	}
	return path.Join(f.name, file)
}

// Component is a model part as model_index.json names it, such as {"diffusers", "UNet2DConditionModel"}.
type Component struct{ Library, Class string }

// Index is model_index.json: the pipeline's class and its parts. Parts that the model does without (null) are left out.
type Index struct {
	Class      string
	Components map[string]Component
}

// Index reads model_index.json.
func (f *Folder) Index() (*Index, error) {
	c, err := f.Config("model_index.json")
	if err != nil {
		return nil, err
	}
	x := &Index{Class: c.String("_class_name"), Components: map[string]Component{}}
	for _, k := range c.Keys() {
		var pair []*string
		if json.Unmarshal(c.Raw(k), &pair) != nil || len(pair) != 2 {
			continue // an option of the pipeline
		}
		if pair[0] != nil && pair[1] != nil {
			x.Components[k] = Component{*pair[0], *pair[1]}
		}
		c.Ignore(k)
	}
	c.Ignore(c.Keys()...) // options are the pipeline's business; here only the class must be right
	return x, c.Done()
}

// Weights opens the weights of a part: one file, or shards with an index. Both naming schemes are known, that of
// diffusers (diffusion_pytorch_model) and that of transformers (model).
func (f *Folder) Weights(part string) (*Set, error) {
	if f.file != nil && f.file.borrowed[part] != nil {
		return f.file.borrowed[part].Weights(part)
	}
	if f.file != nil {
		return f.file.weights(part, f.HashCache)
	}
	s, err := f.weights(part)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", f.name, err)
	}
	s.hashCache = f.HashCache
	return s, nil
}

func (f *Folder) weights(part string) (*Set, error) {
	variants := []string{f.Variant}
	if f.Variant == "" {
		variants = append(variants, "fp16")
	}
	looked := namesOf(variants)
	if f.Variant == "" {
		variants = append(variants, f.otherVariants(part)...)
	}
	for _, v := range variants {
		for _, stem := range []string{"diffusion_pytorch_model", "model"} {
			single, indexes := weightNames(stem, v)
			if f.Exists(path.Join(part, single)) {
				file, err := f.open(path.Join(part, single))
				if err != nil {
					return nil, err
				}
				return NewSet(part, file)
			}
			for _, index := range indexes {
				if f.Exists(path.Join(part, index)) {
					return f.sharded(part, index)
				}
			}
		}
	}
	for _, stem := range []string{"diffusion_pytorch_model", "pytorch_model"} { // of before safetensors
		for _, v := range variants {
			name := path.Join(part, strings.TrimSuffix(stem+"."+v, ".")+".bin")
			if f.Exists(name) {
				return f.openPickle(part, name)
			}
		}
	}
	return nil, f.noWeights(part, looked)
}

// namesOf are the single files of the variants, in both naming schemes.
func namesOf(variants []string) (names []string) {
	for _, v := range variants {
		for _, stem := range []string{"diffusion_pytorch_model", "model"} {
			single, _ := weightNames(stem, v)
			names = append(names, single)
		}
	}
	return names
}

// variantOf finds the variant in the name of a file of weights or of an index.
var variantOf = regexp.MustCompile(`^(?:diffusion_pytorch_model|model)(?:\.(\w+)\.safetensors(?:\.index\.json)?|\.safetensors\.index\.(\w+)\.json)$`)

// otherVariants are the variants that a part has, bf16 first: one of them does where there is no plain file.
func (f *Folder) otherVariants(part string) (variants []string) {
	entries, _ := fs.ReadDir(f.fsys, part) // no folder: noWeights says so
	for _, e := range entries {
		if m := variantOf.FindStringSubmatch(e.Name()); m != nil && m[1]+m[2] != "fp16" && !slices.Contains(variants, m[1]+m[2]) {
			variants = append(variants, m[1]+m[2])
		}
	}
	if at := slices.Index(variants, "bf16"); at > 0 { // ReadDir sorts the others
		variants = slices.Concat(variants[at:at+1], variants[:at], variants[at+1:])
	}
	return variants
}

// openPickle opens a part that was saved with torch.save.
func (f *Folder) openPickle(part, name string) (*Set, error) {
	var s *Source
	var err error
	if f.dir != "" {
		s, err = OpenSource(f.label(name))
	} else {
		var b []byte
		if b, err = fs.ReadFile(f.fsys, name); err == nil {
			s, err = ParseSource(b, f.label(name))
		}
	}
	if err != nil {
		return nil, err
	}
	return newSourceSet(part, s, s.arrays), nil
}

// weightNames are the names of a part's weight file and of its indexes, in the spellings that diffusers has had.
func weightNames(stem, variant string) (single string, indexes []string) {
	if variant == "" {
		return stem + ".safetensors", []string{stem + ".safetensors.index.json"}
	}
	return stem + "." + variant + ".safetensors", []string{
		stem + ".safetensors.index." + variant + ".json",
		stem + "." + variant + ".safetensors.index.json",
	}
}

// noWeights says what is there instead.
func (f *Folder) noWeights(part string, looked []string) error {
	entries, err := fs.ReadDir(f.fsys, part)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no folder %s", part)
	}
	var others []string
	for _, e := range entries {
		switch path.Ext(e.Name()) {
		case ".bin", ".pt", ".pth", ".ckpt", ".safetensors", ".gguf":
			others = append(others, e.Name())
		}
	}
	if part == "." {
		part = "the folder"
	}
	if len(others) > 0 {
		return fmt.Errorf("%s has %s, but none of %s: rename one of them, or fetch what is missing", part, strings.Join(others, ", "), strings.Join(looked, ", "))
	}
	return fmt.Errorf("%s has no weights: looked for %s", part, strings.Join(looked, ", "))
}

// open opens one weight file, in the cheapest way there is.
func (f *Folder) open(name string) (*File, error) {
	if f.dir != "" {
		return Open(f.label(name))
	}
	if v, ok := f.fsys.(Viewer); ok {
		b, err := v.View(name)
		if err != nil {
			return nil, err
		}
		return Parse(b, f.label(name))
	}
	b, err := fs.ReadFile(f.fsys, name)
	if err != nil {
		return nil, err
	}
	return Parse(b, f.label(name))
}

// sharded opens the shards of an index and checks that both agree on which tensor is where.
func (f *Folder) sharded(part, index string) (*Set, error) {
	shardOf, err := f.readIndex(path.Join(part, index))
	if err != nil {
		return nil, err
	}
	var shards, missing []string
	for _, s := range shardOf {
		if !slices.Contains(shards, s) {
			shards = append(shards, s)
		}
	}
	slices.Sort(shards)
	for _, s := range shards {
		if !f.Exists(path.Join(part, s)) {
			missing = append(missing, s)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s/%s: shards are missing: %s", part, index, strings.Join(missing, ", "))
	}
	set, err := f.openShards(part, shards)
	if err != nil {
		return nil, err
	}
	if err := checkShards(shardOf, set); err != nil {
		set.Close()
		return nil, fmt.Errorf("%s/%s: %w", part, index, err)
	}
	return set, nil
}

func (f *Folder) openShards(part string, shards []string) (*Set, error) {
	var files []*File
	closeAll := func() {
		for _, file := range files {
			file.Close()
		}
	}
	for _, s := range shards {
		file, err := f.open(path.Join(part, s))
		if err != nil {
			closeAll()
			return nil, err
		}
		files = append(files, file)
	}
	set, err := NewSet(part, files...)
	if err != nil {
		closeAll()
	}
	return set, err
}

// checkShards compares the index with what the shards hold.
func checkShards(shardOf map[string]string, set *Set) error {
	var missing []string
	for name, shard := range shardOf {
		file := set.where[name]
		if file == nil || path.Base(filepath.ToSlash(file.name)) != shard {
			missing = append(missing, fmt.Sprintf("%q is not in %s", name, shard))
		}
	}
	for name, file := range set.where {
		if _, ok := shardOf[name]; !ok {
			missing = append(missing, fmt.Sprintf("%q of %s is not listed", name, path.Base(filepath.ToSlash(file.name))))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	more := ""
	if len(missing) > 3 {
		more = fmt.Sprintf(" and %d more", len(missing)-3)
		missing = missing[:3]
	}
	return fmt.Errorf("tensor %s%s", strings.Join(missing, ", tensor "), more)
}

// readIndex reads {"weight_map": {tensor: shard}}.
func (f *Folder) readIndex(name string) (map[string]string, error) {
	b, err := f.ReadFile(name)
	if err != nil {
		return nil, err
	}
	top, err := config.Members(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, e := range top {
		if e.Key != "weight_map" {
			continue
		}
		shardOf, err := metadata(e.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: weight_map: %w", name, err)
		}
		for t, s := range shardOf {
			if !fs.ValidPath(s) || strings.ContainsAny(s, `/\`) || path.Ext(s) != ".safetensors" {
				return nil, fmt.Errorf("%s: tensor %q is in %q, which is not the name of a .safetensors file beside it", name, t, s)
			}
		}
		return shardOf, nil
	}
	return nil, fmt.Errorf("%s: weight_map is missing", name)
}
