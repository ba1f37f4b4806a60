package checkpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"

	"darkroom/tensor"
)

// Source is one file of weights, whatever its format: safetensors, torch.save's (zip, or the old one) or GGUF. It is
// Weights, by the names that the file has. Methods may be called concurrently, except Close.
type Source struct {
	name   string
	path   string // on disk; "" for data in memory
	data   []byte
	mapped bool
	contents
	names []string
}

// contents is what a file of weights holds, whatever its format.
type contents struct {
	format string // "safetensors", "torch zip", "torch legacy", "pickle", "GGUF"
	arrays map[string]tensor.Array
	meta   map[string]string
	texts  map[string][]string // a GGUF tokenizer's lists
}

// OpenSource maps a file and reads its directory. Its kind is recognised by its content, never by its name: there are .ckpt
// files that hold safetensors. Arrays must not be used after Close, and the file must not be changed meanwhile.
func OpenSource(path string) (*Source, error) {
	data, mapped, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("opening weights: %w", err)
	}
	var s *Source
	err = guard(path, func() (err error) {
		s, err = parseSource(data, path, mapped)
		return err
	})
	if err != nil {
		if mapped {
			_ = unmap(data)
		}
		return nil, err
	}
	s.path = path
	return s, nil
}

// IsSource reports whether a file begins as a file of weights does.
func IsSource(path string) bool {
	f, _, err := openRegular(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var b [9]byte
	if _, err := io.ReadFull(f, b[:]); err != nil {
		return false
	}
	return isSafetensors(b[:]) || bytes.HasPrefix(b[:], []byte("GGUF")) || bytes.HasPrefix(b[:], []byte("PK\x03\x04")) || isPickle(b[:])
}

// isSafetensors: a length of the header, and the header, JSON. It is asked before isPickle, since lengths may begin as one.
func isSafetensors(data []byte) bool {
	return len(data) > 8 && data[8] == '{' && binary.LittleEndian.Uint64(data) <= maxHeader
}

// isPickle: PROTO and its number.
func isPickle(data []byte) bool { return len(data) > 1 && data[0] == 0x80 && data[1] <= 5 }

// ParseSource reads a file that is in memory already. The arrays point into data. Errors begin with name.
func ParseSource(data []byte, name string) (*Source, error) { return parseSource(data, name, false) }

func parseSource(data []byte, name string, mapped bool) (*Source, error) {
	c, err := parseContents(data, name, mapped)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := c.scale(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if mapped {
		for n, a := range c.arrays {
			c.arrays[n] = guarded{a, name}
		}
	}
	return &Source{name: name, data: data, mapped: mapped, contents: *c, names: slices.Sorted(maps.Keys(c.arrays))}, nil
}

func parseContents(data []byte, name string, mapped bool) (*contents, error) {
	switch {
	case isSafetensors(data): // before pickles
	case bytes.HasPrefix(data, []byte("GGUF")):
		return parseGGUF(data, mapped)
	case bytes.HasPrefix(data, []byte("PK")), isPickle(data):
		return parseTorch(data, mapped)
	}
	for prefix, what := range map[string]string{
		"version https://git-lfs": "a Git LFS pointer: fetch the file itself with git lfs pull",
		"<!DOCTYPE":               "a web page: the download went wrong, fetch it again",
		"<html":                   "a web page: the download went wrong, fetch it again",
		"\x89PNG":                 "a picture",
		"\xff\xd8\xff":            "a picture",
		"7z\xbc\xaf\x27\x1c":      "a 7z archive: unpack it",
		"\x1f\x8b":                "a gzip file: unpack it",
	} {
		if bytes.HasPrefix(data, []byte(prefix)) {
			return nil, fmt.Errorf("this is %s", what)
		}
	}
	if !isSafetensors(data) {
		return nil, fmt.Errorf("this is not a safetensors file, a torch.save file or a GGUF file")
	}
	f := &File{data: data, tensors: map[string]tensor.Tensor{}}
	if err := f.parse(); err != nil {
		return nil, err
	}
	c := &contents{format: "safetensors", arrays: make(map[string]tensor.Array, len(f.tensors)), meta: f.meta}
	for n, t := range f.tensors {
		c.arrays[n] = placed{t, mapped}
	}
	return c, nil
}

// Name is the path that OpenSource was given, or the name that ParseSource was.
func (s *Source) Name() string { return s.name }

// Format is "safetensors", "torch zip", "torch legacy", "pickle" or "GGUF".
func (s *Source) Format() string { return s.format }

// Size is the file's length in bytes.
func (s *Source) Size() int { return len(s.data) }

// Names lists the arrays, sorted.
func (s *Source) Names() []string { return s.names }

// Array finds an array by name.
func (s *Source) Array(name string) (tensor.Array, bool) {
	a, ok := s.arrays[name]
	return a, ok
}

// Metadata is what the file says besides the arrays: safetensors' __metadata__, GGUF's texts and numbers, what stands in a
// pickle around the state_dict. It may be nil.
func (s *Source) Metadata() map[string]string { return s.meta }

// Close unmaps the file. Its arrays must no longer be used.
func (s *Source) Close() error {
	if !s.mapped {
		return nil
	}
	s.mapped = false
	data := s.data
	s.data, s.arrays = nil, nil
	return unmap(data)
}

// placed is an array whose elements lie in the file as they are.
type placed struct {
	tensor.Tensor
	mapped bool
}

func (p placed) Shape() tensor.Shape { return p.Tensor.Shape }
func (p placed) Type() string        { return p.DType.String() }
func (p placed) Bytes() int          { return len(p.Data) }

func (p placed) Decode(dst []float32, start int) error {
	decodeRange(p.Tensor, dst, start)
	return nil
}

func (p placed) Plain() (tensor.Tensor, bool) { return p.Tensor, p.DType.IsFloat() }

func (p placed) Release() {
	if p.mapped {
		releasePages(p.Data)
	}
}
