package checkpoint

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"darkroom/tensor"
)

// parseTorch reads what torch.save writes: a zip since PyTorch 1.6, pickles one after the other before it. Classes
// outside a short list are refused, and none is ever run.
func parseTorch(data []byte, mapped bool) (*contents, error) {
	if bytes.HasPrefix(data, []byte("PK")) {
		return parseTorchZip(data, mapped)
	}
	return parseTorchLegacy(data, mapped)
}

// maxInflation bounds the unpacked bytes of a compressed zip, by its length; weights shrink by a half at best, and those
// of zeros only may be 16 MiB beyond it.
const maxInflation = 64

// parseTorchZip reads NAME/data.pkl, whose storages are the files NAME/data/KEY. torch stores them as they are, aligned,
// and so they are used in place; a zip that was packed again is unpacked storage by storage when it is asked for.
func parseTorchZip(data []byte, mapped bool) (*contents, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("zip: %w: the file is cut off or damaged, fetch it again", err)
	}
	files, root, left := map[string]*zip.File{}, "", uint64(maxInflation*len(data)+16<<20)
	for _, f := range z.File {
		if path.Base(f.Name) == "data.pkl" && strings.Count(f.Name, "/") <= 1 {
			root = strings.TrimSuffix(f.Name, "data.pkl")
		}
		if files[f.Name] != nil {
			return nil, fmt.Errorf("zip: %q appears twice", f.Name)
		}
		files[f.Name] = f
	}
	main := files[root+"data.pkl"]
	switch {
	case main == nil && files["model_index.json"] != nil:
		return nil, fmt.Errorf("a zip of a folder in the diffusers layout: unpack it and name the folder")
	case main == nil:
		return nil, fmt.Errorf("a zip without a data.pkl: it was not written by torch.save")
	case files[root+"constants.pkl"] != nil:
		return nil, fmt.Errorf("this is a TorchScript program, not a file of weights")
	}
	if order := files[root+"byteorder"]; order != nil {
		b, err := unzip(data, order, 16)
		if err != nil {
			return nil, err
		}
		if string(b) != "little" {
			return nil, fmt.Errorf("weights in %.16q byte order are not supported", b)
		}
	}
	pickle, err := unzip(data, main, maxPickle)
	if err != nil {
		return nil, err
	}
	host := &torchHost{keys: map[string]*torchStorage{}}
	host.storage = func(key string, size int) (*blob, error) {
		f := files[root+"data/"+key]
		if f == nil {
			return nil, fmt.Errorf("%sdata/%s is missing from the zip", root, key)
		}
		if f.UncompressedSize64 < uint64(size) {
			return nil, fmt.Errorf("%s has %d bytes, %d are needed", f.Name, f.UncompressedSize64, size)
		}
		if f.Method == zip.Store {
			b, err := unzip(data, f, size)
			return &blob{size: size, data: b}, err
		}
		if f.UncompressedSize64 > left {
			return nil, fmt.Errorf("%s unpacks to %d bytes, in all to more than %d times the file's length: a zip bomb", f.Name, f.UncompressedSize64, maxInflation)
		}
		left -= f.UncompressedSize64
		return &blob{size: size, read: func() ([]byte, error) { return unzip(data, f, size) }}, nil
	}
	value, _, err := unpickle(pickle, host)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", main.Name, err)
	}
	return torchContents(value, "torch zip", mapped)
}

// unzip gives the first bytes of a file, most at most: in place where it is stored as it is.
func unzip(data []byte, f *zip.File, most int) ([]byte, error) {
	if f.Method == zip.Store {
		at, err := f.DataOffset()
		n := min(f.UncompressedSize64, uint64(most))
		if err != nil || at < 0 || at > int64(len(data)) || n > uint64(int64(len(data))-at) {
			return nil, fmt.Errorf("%s reaches beyond the end of the zip: the file is cut off, fetch it again", f.Name)
		}
		return data[at : at+int64(n) : at+int64(n)], nil
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, int64(most)))
	if err == nil && uint64(len(b)) < min(f.UncompressedSize64, uint64(most)) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return b, nil
}

// legacyMagic begins the format of before PyTorch 1.6, as a pickle of its own.
const legacyMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"

// parseTorchLegacy reads five pickles (a magic number, the version 1001, facts on the machine, the object, the storages'
// keys), and then each storage: its length in elements, 8 bytes, and its bytes.
func parseTorchLegacy(data []byte, mapped bool) (*contents, error) {
	host := &torchHost{keys: map[string]*torchStorage{}}
	host.storage = func(_ string, size int) (*blob, error) {
		if size > len(data) {
			return nil, fmt.Errorf("%d bytes are needed, the file has %d: it is cut off, fetch it again", size, len(data))
		}
		return &blob{size: size}, nil
	}
	var values [5]any
	at := 0
	for i := range values {
		value, n, err := unpickle(data[at:], host)
		if err != nil {
			return nil, fmt.Errorf("from byte %d on: %w", at, err)
		}
		values[i] = value
		at += n
		if i == 0 && value != pyLong(legacyMagic) {
			if len(data) == n {
				return torchContents(value, "pickle", mapped) // of numpy arrays
			}
			return nil, fmt.Errorf("a pickle that torch.save did not write")
		}
	}
	keys, ok := values[4].(*pyList)
	if values[1] != int64(1001) || !ok {
		return nil, fmt.Errorf("version %v of torch's old format is not supported", values[1])
	}
	for _, k := range keys.items {
		key, _ := k.(string)
		s := host.keys[key]
		if s == nil {
			return nil, fmt.Errorf("storage %v belongs to no tensor", k)
		}
		if len(data)-at < 8 {
			return nil, fmt.Errorf("storage %q: the file is cut off, fetch it again", key)
		}
		if n := binary.LittleEndian.Uint64(data[at:]); n != uint64(s.numel) {
			return nil, fmt.Errorf("storage %q has %d elements, the tensors need %d", key, n, s.numel)
		}
		at += 8
		if s.blob.size > len(data)-at {
			return nil, fmt.Errorf("storage %q: the file is cut off, fetch it again", key)
		}
		s.blob.data = data[at : at+s.blob.size : at+s.blob.size]
		at += s.blob.size
	}
	for key, s := range host.keys {
		if s.blob.data == nil && s.blob.size > 0 {
			return nil, fmt.Errorf("storage %q is not in the file", key)
		}
	}
	return torchContents(values[3], "torch legacy", mapped)
}

// wrappers are the keys under which weights lie a level deeper: training checkpoints, and ESRGAN's of several kinds.
var wrappers = []string{"state_dict", "params_ema", "params", "model_state_dict", "model", "net"}

// torchContents names the tensors of an object by the keys that lead to them. What encloses a state_dict is left off;
// its numbers and texts become metadata.
func torchContents(value any, format string, mapped bool) (*contents, error) {
	c := &contents{format: format, arrays: map[string]tensor.Array{}, meta: map[string]string{}}
	w := &torchWalk{contents: c, seen: map[any]bool{}, mapped: mapped}
	for range 8 {
		d, ok := value.(*pyDict)
		if !ok {
			break
		}
		inner := unwrap(d)
		if inner == nil {
			break
		}
		for _, p := range d.pairs {
			if k, ok := p.key.(string); ok && p.value != any(inner) {
				w.scalar(k, p.value)
			}
		}
		value = inner
	}
	w.walk("", value, 0)
	if len(c.arrays) == 0 {
		return nil, fmt.Errorf("the pickle holds no tensors, but a %s", pyKind(value))
	}
	if len(c.meta) == 0 {
		c.meta = nil
	}
	return c, nil
}

// unwrap is the dict of weights within a dict that has none itself.
func unwrap(d *pyDict) *pyDict {
	for i, key := range wrappers {
		v, _ := d.get(key)
		inner, ok := v.(*pyDict)
		if ok && (i == 0 || !holdsTensors(d)) {
			return inner
		}
	}
	return nil
}

func holdsTensors(d *pyDict) bool {
	return slices.ContainsFunc(d.pairs, func(p pyPair) bool { _, ok := p.value.(*torchTensor); return ok })
}

// torchWalk collects tensors. A dict or list that is met again is not entered again, so that one that holds itself, or
// many times the same, costs no more than its length.
type torchWalk struct {
	*contents
	seen   map[any]bool
	mapped bool
}

func (w *torchWalk) walk(name string, value any, depth int) {
	below := func(key string) string {
		if name == "" {
			return key
		}
		return name + "." + key
	}
	if o, ok := value.(*pyObject); ok {
		v, ok := numpyValue(o)
		if o.class.name == "ParameterDict" {
			v, ok = parameters(o)
		}
		if !ok {
			return
		}
		value = v
	}
	switch v := value.(type) {
	case *torchTensor:
		w.arrays[name] = &torchArray{t: v, shape: v.shape, mapped: w.mapped}
	case *pyDict:
		if depth >= 16 || w.seen[v] {
			return
		}
		w.seen[v] = true
		for _, p := range v.pairs {
			switch k := p.key.(type) {
			case string:
				w.walk(below(k), p.value, depth+1)
			case int64:
				w.walk(below(strconv.FormatInt(k, 10)), p.value, depth+1)
			}
		}
	case *pyList:
		if depth >= 16 || w.seen[v] {
			return
		}
		w.seen[v] = true
		w.items(below, v.items, depth)
	case pyTuple:
		if depth < 16 {
			w.items(below, v, depth)
		}
	default:
		w.scalar(name, v)
	}
}

// parameters are those of an nn.ParameterDict, in which the first textual inversions were saved.
func parameters(o *pyObject) (any, bool) {
	state, ok := o.state.(*pyDict)
	if !ok {
		return nil, false
	}
	return state.get("_parameters")
}

// items are a list's; of numbers there may be millions in what is not weights, so only others are looked at.
func (w *torchWalk) items(below func(string) string, items []any, depth int) {
	for i, item := range items {
		switch item.(type) {
		case *pyDict, *pyList, *torchTensor, *pyObject:
			w.walk(below(strconv.Itoa(i)), item, depth+1)
		}
	}
}

// scalar notes a number or a text.
func (w *torchWalk) scalar(name string, value any) {
	if o, ok := value.(*pyObject); ok {
		value, _ = numpyValue(o)
	}
	switch v := value.(type) {
	case string:
		if len(v) <= 1<<16 {
			w.meta[name] = v
		}
	case int64:
		w.meta[name] = strconv.FormatInt(v, 10)
	case float64:
		w.meta[name] = strconv.FormatFloat(v, 'g', -1, 64)
	case bool:
		w.meta[name] = strconv.FormatBool(v)
	}
}

// torchArray is a tensor with its storage.
type torchArray struct {
	t      *torchTensor
	shape  tensor.Shape
	mapped bool
}

func (a *torchArray) Shape() tensor.Shape { return a.shape }
func (a *torchArray) Type() string        { return a.t.dtype.String() }
func (a *torchArray) Bytes() int          { return a.shape.Len() * a.t.dtype.Size() }

// storage is the bytes from the tensor's first element on.
func (a *torchArray) storage() ([]byte, error) {
	data, err := a.t.storage.blob.bytes()
	if err != nil {
		return nil, err
	}
	return data[a.t.storage.offset+a.t.offset*a.t.dtype.Size():], nil
}

// contiguous reports whether the elements lie row by row.
func (a *torchArray) contiguous() bool {
	step := 1
	for i := len(a.shape) - 1; i >= 0; i-- {
		if a.shape[i] != 1 && a.t.stride[i] != step {
			return false
		}
		step *= a.shape[i]
	}
	return true
}

func (a *torchArray) Decode(dst []float32, start int) error {
	if a.shape.Len() == 0 {
		return nil
	}
	data, err := a.storage()
	if err != nil {
		return err
	}
	t := tensor.Tensor{DType: a.t.dtype, Data: data}
	if a.contiguous() {
		decodeRange(t, dst, start)
		return nil
	}
	// Rows of the last axis at a time; index counts the axes before it.
	last := len(a.shape) - 1
	index, rest := make([]int, last), start/a.shape[last]
	for i := last - 1; i >= 0; i-- {
		index[i], rest = rest%a.shape[i], rest/a.shape[i]
	}
	for x := start % a.shape[last]; len(dst) > 0; x = 0 {
		at := x * a.t.stride[last]
		for i, n := range index {
			at += n * a.t.stride[i]
		}
		n := min(a.shape[last]-x, len(dst))
		for i := range n {
			decodeRange(t, dst[i:i+1], at+i*a.t.stride[last])
		}
		dst = dst[n:]
		for i := last - 1; i >= 0; i-- {
			if index[i]++; index[i] < a.shape[i] {
				break
			}
			index[i] = 0
		}
	}
	return nil
}

func (a *torchArray) Plain() (tensor.Tensor, bool) {
	if a.t.storage.blob.read != nil || !a.contiguous() || !a.t.dtype.IsFloat() {
		return tensor.Tensor{}, false
	}
	data, n := []byte(nil), a.Bytes()
	if n > 0 {
		data, _ = a.storage()
	}
	return tensor.Tensor{DType: a.t.dtype, Shape: a.shape, Data: data[:n:n]}, true
}

func (a *torchArray) Release() {
	b := a.t.storage.blob
	if b.read != nil {
		b.mu.Lock()
		b.data = nil
		b.mu.Unlock()
	} else if a.mapped {
		releasePages(b.data)
	}
}
