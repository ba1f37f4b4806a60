// Package checkpoint reads model files: safetensors, and folders of them in the diffusers layout with their
// configurations. Nothing it is given is trusted: a damaged or hostile file gives an error that says what is
// wrong where, and what memory it takes grows with the file's own length, not with the numbers in it.
package checkpoint

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"os"
	"slices"
	"unicode/utf8"

	"darkroom/config"
	"darkroom/tensor"
)

// maxHeader is the longest header that the safetensors library reads.
const maxHeader = 100_000_000

// maxAxes is how many axes a tensor may have here, as in PyTorch.
const maxAxes = 64

// File is one safetensors file: 8 bytes of header length, a JSON header that says where each tensor lies, and the
// tensors' bytes, little-endian, without gaps. Methods may be called concurrently, except Close.
type File struct {
	name    string // as messages show it
	path    string // on disk; "" for data in memory
	data    []byte
	mapped  bool
	tensors map[string]tensor.Tensor
	names   []string
	meta    map[string]string
}

// Open maps a file into memory (where the platform can; else it is read) and checks its header. The tensors point
// into the mapping: they must not be written to, not be used after Close, and the file must not be
// changed meanwhile.
func Open(path string) (*File, error) {
	data, mapped, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("opening weights: %w", err)
	}
	var f *File
	err = guard(path, func() (err error) {
		f, err = Parse(data, path)
		return err
	})
	if err != nil {
		if mapped {
			_ = unmap(data)
		}
		return nil, err
	}
	f.path, f.mapped = path, mapped
	return f, nil
}

// Parse reads a safetensors file that is in memory already. The tensors point into data, which is not copied.
// Errors begin with name.
func Parse(data []byte, name string) (*File, error) {
	f := &File{name: name, data: data, tensors: map[string]tensor.Tensor{}}
	if err := f.parse(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

// Name is the path that Open was given, or the name that Parse was.
func (f *File) Name() string { return f.name }

// Names lists the tensors in the order of their bytes.
func (f *File) Names() []string { return f.names }

// Tensor finds a tensor by name.
func (f *File) Tensor(name string) (tensor.Tensor, bool) {
	t, ok := f.tensors[name]
	return t, ok
}

// Metadata is the header's "__metadata__", often {"format": "pt"}; nil if there is none.
func (f *File) Metadata() map[string]string { return f.meta }

// Close unmaps the file. Its tensors must no longer be used.
func (f *File) Close() error {
	if !f.mapped {
		return nil
	}
	f.mapped = false
	data := f.data
	f.data, f.tensors = nil, nil
	return unmap(data)
}

// Release tells the system that the tensor's pages are not needed for now, so that they no longer count as this
// process's memory. The tensor stays valid: reading it again reads the file. It does nothing for data in memory.
func (f *File) Release(name string) {
	if t, ok := f.tensors[name]; ok && f.mapped {
		releasePages(t.Data)
	}
}

// header is one tensor's entry, as read.
type header struct {
	name       string
	dtype      tensor.DType
	shape      tensor.Shape
	begin, end int
}

func (f *File) parse() error {
	if len(f.data) < 8 {
		return fmt.Errorf("%d bytes are too few for a safetensors file", len(f.data))
	}
	n := binary.LittleEndian.Uint64(f.data)
	body := f.data[8:]
	switch {
	case n > maxHeader:
		return fmt.Errorf("not a safetensors file: its header would be %d bytes long, at most %d are allowed", n, maxHeader)
	case n > uint64(len(body)):
		return fmt.Errorf("header of %d bytes in a file of %d: cut off, fetch it again", n, len(f.data))
	}
	text, body := body[:n], body[n:]
	if len(text) == 0 || text[0] != '{' {
		return fmt.Errorf("not a safetensors file: its header does not begin with {")
	}
	if !utf8.Valid(text) {
		return fmt.Errorf("header: not UTF-8")
	}
	entries, err := config.Members(text)
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	all := make([]header, 0, len(entries))
	for _, e := range entries {
		if e.Key == "__metadata__" {
			if string(e.Value) == "null" { // as good as absent, to the safetensors library too
				continue
			}
			if f.meta, err = metadata(e.Value); err != nil {
				return fmt.Errorf("header: __metadata__: %w", err)
			}
			continue
		}
		h, err := tensorHeader(e, len(body))
		if err != nil {
			return fmt.Errorf("tensor %q: %w", e.Key, err)
		}
		all = append(all, h)
	}
	slices.SortStableFunc(all, func(a, b header) int {
		if a.begin != b.begin {
			return a.begin - b.begin
		}
		return a.end - b.end
	})
	return f.place(all, body)
}

// place checks that the tensors, in the order of their bytes, cover the body without overlap or gap.
func (f *File) place(all []header, body []byte) error {
	at, last := 0, ""
	f.names = make([]string, len(all))
	for i, h := range all {
		switch {
		case h.begin < at:
			return fmt.Errorf("tensors %q and %q overlap at byte %d", last, h.name, h.begin)
		case h.begin > at:
			return fmt.Errorf("bytes %d to %d, before tensor %q, belong to no tensor", at, h.begin, h.name)
		}
		at, last = h.end, h.name
		f.names[i] = h.name
		f.tensors[h.name] = tensor.Tensor{DType: h.dtype, Shape: h.shape, Data: body[h.begin:h.end:h.end]}
	}
	if at != len(body) {
		return fmt.Errorf("%d bytes after the last tensor belong to none: fetch the file again; if they are intended, load and save the file with the safetensors library", len(body)-at)
	}
	return nil
}

func metadata(text json.RawMessage) (map[string]string, error) {
	entries, err := config.Members(text)
	if err != nil {
		return nil, err
	}
	meta := make(map[string]string, len(entries))
	for _, e := range entries {
		var s *string
		if err := json.Unmarshal(e.Value, &s); err != nil || s == nil {
			return nil, fmt.Errorf("%q is %s, not a string", e.Key, config.Short(e.Value))
		}
		meta[e.Key] = *s
	}
	return meta, nil
}

// tensorHeader reads {"dtype": …, "shape": […], "data_offsets": [begin, end]} for a body of size bytes.
func tensorHeader(e config.Member, size int) (header, error) {
	h := header{name: e.Key}
	fields, err := config.Members(e.Value)
	if err != nil {
		return h, err
	}
	var dtype string
	var shape, offsets []uint64
	seen := 0
	for _, f := range fields {
		switch f.Key {
		case "dtype":
			err = json.Unmarshal(f.Value, &dtype)
		case "shape":
			shape, err = naturals(f.Value)
		case "data_offsets":
			offsets, err = naturals(f.Value)
		default:
			return h, fmt.Errorf("unknown field %q", f.Key)
		}
		if err != nil {
			return h, fmt.Errorf("%s is %s", f.Key, config.Short(f.Value))
		}
		seen++
	}
	if seen != 3 {
		return h, fmt.Errorf("dtype, shape and data_offsets are needed, have %d of them", seen)
	}
	if h.dtype, err = tensor.ParseDType(dtype); err != nil {
		return h, err
	}
	if len(shape) > maxAxes {
		return h, fmt.Errorf("%d axes, at most %d are allowed", len(shape), maxAxes)
	}
	h.shape = make(tensor.Shape, len(shape))
	total := uint64(h.dtype.Size())
	for i, d := range shape {
		over, low := bits.Mul64(total, d)
		if over != 0 || low > math.MaxInt || d > math.MaxInt {
			return h, fmt.Errorf("shape %v is too large", shape)
		}
		total, h.shape[i] = low, int(d)
	}
	if len(offsets) != 2 || offsets[0] > offsets[1] {
		return h, fmt.Errorf("data_offsets is %v, not [begin, end]", offsets)
	}
	if offsets[1] > uint64(size) {
		return h, fmt.Errorf("ends at byte %d of %d: the file is cut off, fetch it again", offsets[1], size)
	}
	if have := offsets[1] - offsets[0]; have != total {
		return h, fmt.Errorf("%v of %v takes %d bytes, data_offsets give it %d", h.shape, h.dtype, total, have)
	}
	h.begin, h.end = int(offsets[0]), int(offsets[1])
	return h, nil
}

// naturals reads a list of numbers 0, 1, 2, …
func naturals(text json.RawMessage) ([]uint64, error) {
	var list []uint64
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	if list == nil { // null
		return nil, fmt.Errorf("no list")
	}
	return list, nil
}

// openRegular opens a file to map it. Anything but a regular file is refused: opening a pipe would wait for a writer.
func openRegular(path string) (f *os.File, size int, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	if size = int(info.Size()); int64(size) != info.Size() {
		return nil, 0, fmt.Errorf("%s has %d bytes, too many for this platform", path, info.Size())
	}
	f, err = os.Open(path)
	return f, size, err
}
