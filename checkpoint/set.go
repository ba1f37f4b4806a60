package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"darkroom/tensor"
)

// Set is the weights of one model part: from one file, from shards, or some of what is in a file of another format.
// Methods may be called concurrently, except Close.
type Set struct {
	name      string // as messages show it: "unet"
	files     []*File
	where     map[string]*File
	hashCache string
	source    *Source // where there are no files; arrays are what the part has of it, by its own names
	arrays    table
	hash      func() (string, error) // of the source, once for all its sets

	mu   sync.Mutex
	used map[string]bool
}

// NewSet joins files, whose tensors must all have different names. name begins messages.
func NewSet(name string, files ...*File) (*Set, error) {
	s := &Set{name: name, files: files, where: map[string]*File{}, used: map[string]bool{}}
	for _, f := range files {
		for _, n := range f.names {
			if other := s.where[n]; other != nil {
				return nil, fmt.Errorf("%s: tensor %q is in %s and in %s", name, n, filepath.Base(other.name), filepath.Base(f.name))
			}
			s.where[n] = f
		}
	}
	return s, nil
}

// NewSourceSet is all arrays of a source. Closing it closes the source.
func NewSourceSet(name string, source *Source) *Set { return newSourceSet(name, source, source.arrays) }

// newSourceSet is a part's arrays of a source, which it closes.
func newSourceSet(name string, source *Source, arrays table) *Set {
	return &Set{name: name, source: source, arrays: arrays, used: map[string]bool{}}
}

// Name is the part's name.
func (s *Set) Name() string { return s.name }

// Files are the files, in the order of their names.
func (s *Set) Files() []*File { return s.files }

// Names lists the tensors, sorted.
func (s *Set) Names() []string {
	if s.source != nil {
		return s.arrays.Names()
	}
	names := make([]string, 0, len(s.where))
	for n := range s.where {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Has reports whether there is a tensor of the name. It does not count as using it.
func (s *Set) Has(name string) bool { return s.where[name] != nil || s.arrays[name] != nil }

// Tensor finds a tensor by name and counts it as used. What is stored in another way is decoded into memory.
func (s *Set) Tensor(name string) (tensor.Tensor, bool) {
	if s.source != nil {
		return s.decoded(name)
	}
	f := s.where[name]
	if f == nil {
		return tensor.Tensor{}, false
	}
	s.use(name)
	return f.Tensor(name)
}

func (s *Set) use(name string) {
	s.mu.Lock()
	s.used[name] = true
	s.mu.Unlock()
}

func (s *Set) decoded(name string) (tensor.Tensor, bool) {
	a, ok := s.Array(name)
	if !ok {
		return tensor.Tensor{}, false
	}
	if t, ok := a.Plain(); ok {
		return t, true
	}
	values := make([]float32, a.Shape().Len())
	if a.Decode(values, 0) != nil {
		return tensor.Tensor{}, false
	}
	return tensor.Of(values, a.Shape()...), true
}

// Array finds an array by name and counts it as used. Its Release is the set's.
func (s *Set) Array(name string) (tensor.Array, bool) {
	if s.source != nil {
		a, ok := s.arrays[name]
		if ok {
			s.use(name)
		}
		return a, ok
	}
	t, ok := s.Tensor(name)
	if !ok {
		return nil, false
	}
	stored := tensor.Stored(t)
	if t.DType == tensor.F8E4M3 || t.DType == tensor.F8E5M2 {
		stored = placed{t, false}
	}
	return mapped{guarded{stored, s.where[name].name}, func() { s.Release(name) }}, true
}

// mapped is an array of a file that may give back the memory that holds it.
type mapped struct {
	tensor.Array
	release func()
}

func (m mapped) Release() { m.release() }

// Get is Tensor for weights: the error says that the name is missing, that the elements are not floating point, or that
// the shape is not the one that the configuration asks for. A length of -1 in shape stands for any.
func (s *Set) Get(name string, shape ...int) (tensor.Tensor, error) {
	t, ok := s.Tensor(name)
	if !ok {
		return t, fmt.Errorf("%s: tensor %q is missing from %s", s.name, name, s.fileNames())
	}
	if !t.DType.IsFloat() {
		return t, fmt.Errorf("%s: tensor %q is of %v: weights of F32, F16, BF16 or F64 are needed", s.name, name, t.DType)
	}
	same := len(shape) == len(t.Shape)
	for i := 0; same && i < len(shape); i++ {
		same = shape[i] == -1 || shape[i] == t.Shape[i]
	}
	if !same {
		return t, fmt.Errorf("%s: tensor %q is %v, its config.json makes it %s", s.name, name, t.Shape,
			strings.ReplaceAll(tensor.Shape(shape).String(), "-1", "any"))
	}
	return t, nil
}

// Unused lists the tensors that neither Tensor nor Get was asked for, sorted.
func (s *Set) Unused() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(s.Names(), func(n string) bool { return s.used[n] })
}

// Release gives back the memory of a tensor that was copied elsewhere: see File.Release.
func (s *Set) Release(name string) {
	if f := s.where[name]; f != nil {
		f.Release(name)
	}
	if a := s.arrays[name]; a != nil {
		a.Release()
	}
}

// Close unmaps the files. Tensors must no longer be used.
func (s *Set) Close() error {
	if s.source != nil {
		return s.source.Close()
	}
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// TypeStats counts the tensors of one element type.
type TypeStats struct {
	Tensors    int
	Parameters int64 // elements
	Bytes      int64
}

// Stats counts what a set holds.
type Stats struct {
	TypeStats
	ByType map[string]TypeStats // by Array.Type
}

// BytesAs is the memory that the parameters take when those that are numbers of a fraction are held as d.
func (s Stats) BytesAs(d tensor.DType) int64 {
	var n int64
	for name, c := range s.ByType {
		if t, err := tensor.ParseDType(name); err == nil && !t.IsFloat() && t != tensor.F8E4M3 && t != tensor.F8E5M2 {
			n += c.Bytes
		} else {
			n += c.Parameters * int64(d.Size())
		}
	}
	return n
}

// Stats counts tensors, parameters and bytes. It reads no weights.
func (s *Set) Stats() Stats {
	all := Stats{ByType: map[string]TypeStats{}}
	count := func(kind string, parameters, bytes int) {
		c := all.ByType[kind]
		for _, p := range []*TypeStats{&c, &all.TypeStats} {
			p.Tensors++
			p.Parameters += int64(parameters)
			p.Bytes += int64(bytes)
		}
		all.ByType[kind] = c
	}
	for _, a := range s.arrays {
		count(a.Type(), a.Shape().Len(), a.Bytes())
	}
	for name, f := range s.where {
		t := f.tensors[name]
		count(t.DType.String(), t.Len(), len(t.Data))
	}
	return all
}

// fileNames is for messages: "a.safetensors, b.safetensors".
func (s *Set) fileNames() string {
	if s.source != nil {
		return filepath.Base(s.source.name)
	}
	names := make([]string, len(s.files))
	for i, f := range s.files {
		names[i] = filepath.Base(f.name)
	}
	if len(names) > 3 {
		names = append(names[:3], fmt.Sprintf("%d more", len(s.files)-3))
	}
	return strings.Join(names, ", ")
}

// Hash is the SHA-256 of the weight files' contents, in hexadecimal: of one file it is what sha256sum prints;
// of shards, that of their contents one after the other, in the order of their names. The parts of a model in a single
// file all have the file's.
func (s *Set) Hash() (string, error) {
	if s.hash != nil {
		return s.hash()
	}
	if s.source != nil {
		return hashFiles(s.hashCache, content{s.source.path, s.source.data})
	}
	files := make([]content, len(s.files))
	for i, f := range s.files {
		files[i] = content{f.path, f.data}
	}
	return hashFiles(s.hashCache, files...)
}

// content is a file on disk, or data in memory.
type content struct {
	path string
	data []byte
}

// HashFile is the SHA-256 of a file, kept in the folder cache by path, size and time of change; "" keeps none.
func HashFile(path, cache string) (string, error) { return hashFiles(cache, content{path: path}) }

func hashFiles(cache string, files ...content) (string, error) {
	key := cacheKey(files)
	if h, ok := readHash(cache, key); ok {
		return h, nil
	}
	sum := sha256.New()
	for _, f := range files {
		if f.path == "" {
			sum.Write(f.data)
			continue
		}
		// Read, not through the mapping: its pages would count as this process's memory.
		r, err := os.Open(f.path)
		if err != nil {
			return "", fmt.Errorf("hashing weights: %w", err)
		}
		_, err = io.Copy(sum, r)
		r.Close()
		if err != nil {
			return "", fmt.Errorf("hashing weights: %w", err)
		}
	}
	h := hex.EncodeToString(sum.Sum(nil))
	writeHash(cache, key, h)
	return h, nil
}

// Whole reports whether the part is of one file that may hold others too, whose hash is the file's.
func (s *Set) Whole() bool { return s.hash != nil }
