package checkpoint

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strings"
	"sync"

	"darkroom/tensor"
)

// torchStorage is memory that tensors view: numel elements of a type, from element offset of root.
type torchStorage struct {
	key    string
	dtype  tensor.DType
	bytes  bool // untyped: its elements are bytes
	numel  int
	offset int // bytes, of a view of another storage
	blob   *blob
}

// blob is the bytes of a storage: in place where the file has them as they are, else read when first asked for.
type blob struct {
	size int                    // bytes that the storages ask for
	read func() ([]byte, error) // nil: data is in place

	mu   sync.Mutex
	data []byte
}

func (b *blob) bytes() ([]byte, error) {
	if b.read == nil {
		return b.data, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.data == nil {
		data, err := b.read()
		if err != nil {
			return nil, err
		}
		b.data = data
	}
	return b.data, nil
}

// torchTensor is a view of a storage.
type torchTensor struct {
	storage       *torchStorage
	dtype         tensor.DType
	offset        int // elements
	shape, stride []int
}

// storageTypes are the element types by torch's class names.
var storageTypes = map[string]tensor.DType{
	"FloatStorage": tensor.F32, "HalfStorage": tensor.F16, "BFloat16Storage": tensor.BF16, "DoubleStorage": tensor.F64,
	"LongStorage": tensor.I64, "IntStorage": tensor.I32, "ShortStorage": tensor.I16, "CharStorage": tensor.I8,
	"ByteStorage": tensor.U8, "BoolStorage": tensor.Bool,
}

// torchTypes are the element types by torch's own names.
var torchTypes = map[string]tensor.DType{
	"float32": tensor.F32, "float16": tensor.F16, "bfloat16": tensor.BF16, "float64": tensor.F64, "int64": tensor.I64,
	"int32": tensor.I32, "int16": tensor.I16, "int8": tensor.I8, "uint8": tensor.U8, "bool": tensor.Bool,
	"float8_e4m3fn": tensor.F8E4M3, "float8_e5m2": tensor.F8E5M2, "uint16": tensor.U16, "uint32": tensor.U32, "uint64": tensor.U64,
}

// inert are the modules whose classes stand in training checkpoints beside the weights. They are kept as names: what
// they hold is not looked at.
var inert = []string{
	"pytorch_lightning.", "lightning.", "lightning_fabric.", "omegaconf.", "torch.optim.",
	"numpy.core.multiarray.", "numpy._core.multiarray.", "numpy.dtype", "numpy.ndarray", "numpy.float", "numpy.int", "numpy.uint",
	"datetime.", "pathlib.", "argparse.Namespace", "types.SimpleNamespace", "typing.", "decimal.Decimal", "fractions.Fraction",
	"collections.", "torch.device", "torch.Size", "torch.Tensor", "torch.nn.parameter.", "torch.Generator",
	"torch.storage.", "torch.serialization._get_layout", "_codecs.encode",
}

// plainTypes are the built-in classes that hold values; getattr, eval, open and their like are not among them.
var plainTypes = map[string]bool{
	"set": true, "frozenset": true, "list": true, "dict": true, "tuple": true, "bytes": true, "bytearray": true, "str": true,
	"int": true, "float": true, "bool": true, "complex": true, "object": true, "slice": true, "range": true, "long": true, "unicode": true,
}

// torchHost gives torch's names their meaning.
type torchHost struct {
	storage func(key string, size int) (*blob, error)
	keys    map[string]*torchStorage
}

func (h *torchHost) class(c pyClass) error {
	name := c.String()
	switch {
	case c.module == "builtins" || c.module == "__builtin__":
		if plainTypes[c.name] {
			return nil
		}
	case c.module == "torch" && (torchTypes[c.name] != 0 || c.name == "float32" || isStorage(c.name)):
		return nil
	case strings.HasPrefix(name, "torch._utils._rebuild_tensor"), strings.HasPrefix(name, "torch._utils._rebuild_parameter"),
		name == "torch._tensor._rebuild_from_type_v2":
		return nil
	case name == "torch.nn.modules.container.ParameterDict":
		return nil
	case strings.HasPrefix(c.module, "__torch__"):
		return fmt.Errorf("%s: this is a TorchScript program, not a file of weights", name)
	case strings.HasPrefix(c.module, "torch.nn.modules"):
		return fmt.Errorf("%s: a whole module was saved, which only the program that made it can read: save its state_dict() instead", name)
	}
	for _, prefix := range inert {
		if strings.HasPrefix(name, prefix) && !strings.Contains(c.name, ".") {
			return nil
		}
	}
	return fmt.Errorf("%s is refused: a pickle could run code through it, and no weights need it", name)
}

func isStorage(name string) bool {
	_, ok := storageTypes[name]
	return ok || name == "UntypedStorage" || name == "_UntypedStorage"
}

func (h *torchHost) call(c pyClass, args pyTuple) (any, error) {
	switch name := c.String(); name {
	case "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3":
		return rebuildTensor(name, args)
	case "torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state", "torch.nn.parameter.Parameter":
		if len(args) == 0 {
			return nil, fmt.Errorf("%s of nothing", name)
		}
		return args[0], nil
	case "torch._tensor._rebuild_from_type_v2": // (function, type, arguments, state)
		if len(args) >= 3 {
			f, ok1 := args[0].(pyClass)
			inner, ok2 := args[2].(pyTuple)
			if ok1 && ok2 && strings.HasPrefix(f.String(), "torch._utils._rebuild_") {
				return h.call(f, inner)
			}
		}
		return nil, fmt.Errorf("%s: its arguments are not a tensor's", name)
	case "collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict":
		return newDict(args)
	case "_codecs.encode": // how protocol 2 writes bytes: encode("text", "latin1")
		return latin1(args)
	}
	if c.module == "torch._utils" {
		return nil, fmt.Errorf("%s: tensors of this kind are not supported", c)
	}
	return &pyObject{class: c, args: args}, nil
}

// newDict is OrderedDict() or OrderedDict([(key, value), …]).
func newDict(args pyTuple) (any, error) {
	d := &pyDict{}
	for _, a := range args {
		l, ok := a.(*pyList)
		if !ok {
			continue // a defaultdict's factory
		}
		for _, item := range l.items {
			pair, ok := item.(pyTuple)
			if !ok {
				if inner, isList := item.(*pyList); isList {
					pair = inner.items
				}
			}
			if len(pair) != 2 {
				return nil, fmt.Errorf("a dict of something but pairs")
			}
			d.pairs = append(d.pairs, pyPair{pair[0], pair[1]})
		}
	}
	return d, nil
}

func latin1(args pyTuple) (any, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("_codecs.encode of nothing")
	}
	text, ok := args[0].(string)
	if !ok {
		return nil, fmt.Errorf("_codecs.encode of a %s", pyKind(args[0]))
	}
	b := make([]byte, 0, len(text))
	for _, r := range text {
		if r > 255 {
			return nil, fmt.Errorf("_codecs.encode of a character beyond Latin-1")
		}
		b = append(b, byte(r))
	}
	return b, nil
}

// persistent is ("storage", class, key, location, elements), and in the old format one more: None, or the key of
// another storage with the offset and length of a view of it. The old format also has ("module", class, file, source).
func (h *torchHost) persistent(id any) (any, error) {
	t, ok := id.(pyTuple)
	if ok && len(t) > 1 && t[0] == "module" {
		return t[1], nil // its name was checked; the source is not read
	}
	if !ok || len(t) < 5 || t[0] != "storage" {
		return nil, fmt.Errorf("a persistent id that is not a storage")
	}
	class, ok1 := t[1].(pyClass)
	key, ok2 := t[2].(string)
	numel, ok3 := t[4].(int64)
	if !ok1 || !ok2 || !ok3 || numel < 0 {
		return nil, fmt.Errorf("a storage of %s, %s, %s", pyKind(t[1]), pyKind(t[2]), pyKind(t[4]))
	}
	dtype, typed := storageTypes[class.name]
	if !typed {
		if !isStorage(class.name) {
			return nil, fmt.Errorf("storage %q: %s is not supported", key, class)
		}
		dtype = tensor.U8
	}
	over, size := bits.Mul64(uint64(numel), uint64(dtype.Size()))
	if over != 0 || size > math.MaxInt {
		return nil, fmt.Errorf("storage %q of %d elements is too large", key, numel)
	}
	s := h.keys[key]
	if s == nil {
		s = &torchStorage{key: key, dtype: dtype, bytes: !typed, numel: int(numel)}
		var err error
		if s.blob, err = h.storage(key, int(size)); err != nil {
			return nil, fmt.Errorf("storage %q: %w", key, err)
		}
		h.keys[key] = s
	}
	if s.dtype != dtype || s.numel != int(numel) {
		return nil, fmt.Errorf("storage %q is %d %v at first and %d %v later", key, s.numel, s.dtype, numel, dtype)
	}
	if len(t) > 5 && t[5] != nil {
		return storageView(s, t[5])
	}
	return s, nil
}

func storageView(s *torchStorage, meta any) (any, error) {
	m, ok := meta.(pyTuple)
	if !ok || len(m) != 3 {
		return nil, fmt.Errorf("storage %q: a view of %s", s.key, pyKind(meta))
	}
	offset, ok1 := m[1].(int64)
	size, ok2 := m[2].(int64)
	if !ok1 || !ok2 || offset < 0 || size < 0 || offset > int64(s.numel) || size > int64(s.numel)-offset {
		return nil, fmt.Errorf("storage %q: a view beyond its end", s.key)
	}
	v := *s
	v.offset, v.numel = int(offset)*s.dtype.Size(), int(size)
	return &v, nil
}

// rebuildTensor is _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks); v3 has the element type after
// those.
func rebuildTensor(name string, args pyTuple) (any, error) {
	if len(args) < 4 {
		return nil, fmt.Errorf("%s with %d arguments", name, len(args))
	}
	storage, ok := args[0].(*torchStorage)
	if !ok {
		return nil, fmt.Errorf("%s of a %s", name, pyKind(args[0]))
	}
	t := &torchTensor{storage: storage, dtype: storage.dtype}
	if strings.HasSuffix(name, "_v3") {
		if len(args) < 7 {
			return nil, fmt.Errorf("%s with %d arguments", name, len(args))
		}
		c, _ := args[6].(pyClass)
		if t.dtype, ok = torchTypes[c.name]; !ok || c.module != "torch" {
			return nil, fmt.Errorf("%s: element type %s is not supported", name, pyKind(args[6]))
		}
	} else if storage.bytes {
		return nil, fmt.Errorf("%s: an untyped storage without an element type", name)
	}
	var err error
	if t.shape, err = pyInts(args[2]); err == nil {
		t.stride, err = pyInts(args[3])
	}
	offset, ok := args[1].(int64)
	if err != nil || !ok || offset < 0 || len(t.shape) != len(t.stride) || len(t.shape) > maxAxes {
		return nil, fmt.Errorf("%s: offset %v, size %v and stride %v make no tensor", name, args[1], args[2], args[3])
	}
	t.offset = int(offset)
	return t, t.check()
}

// check makes sure that every element lies within the storage.
func (t *torchTensor) check() error {
	last, elements := uint64(t.offset), uint64(1)
	for i, n := range t.shape {
		over, low := bits.Mul64(elements, uint64(n))
		if over != 0 || low > math.MaxInt/8 {
			return fmt.Errorf("a tensor of %v is too large", t.shape)
		}
		elements = low
		if n > 0 {
			over, step := bits.Mul64(uint64(n-1), uint64(t.stride[i]))
			if last += step; over != 0 || step > math.MaxInt || last > math.MaxInt {
				return fmt.Errorf("a tensor of %v with strides %v is too large", t.shape, t.stride)
			}
		}
	}
	have := uint64(t.storage.numel * t.storage.dtype.Size() / t.dtype.Size())
	if elements > 0 && last >= have {
		return fmt.Errorf("a tensor of %v, strides %v, from element %d on reaches beyond storage %q of %d", t.shape, t.stride, t.offset, t.storage.key, have)
	}
	if elements > have && elements > 1<<20 { // a stride of 0 repeats elements without end
		return fmt.Errorf("a tensor of %v repeats a storage of %d elements: no weights do", t.shape, have)
	}
	return nil
}

func pyInts(v any) ([]int, error) {
	items, ok := v.(pyTuple)
	if o, isObject := v.(*pyObject); isObject && len(o.args) == 1 { // torch.Size((1, 2))
		items, ok = o.args[0].(pyTuple)
	}
	if !ok {
		return nil, fmt.Errorf("a %s where a tuple is needed", pyKind(v))
	}
	ints := make([]int, len(items))
	for i, item := range items {
		n, ok := item.(int64)
		if !ok || n < 0 || n > math.MaxInt {
			return nil, fmt.Errorf("%v is not a length", item)
		}
		ints[i] = int(n)
	}
	return ints, nil
}

// numpyValue reads what numpy's pickles hold: a scalar is scalar(dtype, bytes), an array is _reconstruct(…) with the state
// (version, shape, dtype, by columns, bytes). Anything else gives false.
func numpyValue(o *pyObject) (any, bool) {
	if !strings.HasPrefix(o.class.module, "numpy.") || !strings.HasSuffix(o.class.module, "multiarray") {
		return nil, false
	}
	switch o.class.name {
	case "scalar":
		if len(o.args) != 2 {
			return nil, false
		}
		dtype, ok1 := numpyType(o.args[0])
		b, ok2 := o.args[1].([]byte)
		if !ok1 || !ok2 || len(b) != dtype.Size() {
			return nil, false
		}
		switch dtype {
		case tensor.I64:
			return int64(binary.LittleEndian.Uint64(b)), true
		case tensor.F64:
			return math.Float64frombits(binary.LittleEndian.Uint64(b)), true
		}
		one := make([]float32, 1)
		decodeRange(tensor.Tensor{DType: dtype, Shape: tensor.Shape{1}, Data: b}, one, 0)
		return float64(one[0]), true
	case "_reconstruct":
		state, ok := o.state.(pyTuple)
		if !ok || len(state) != 5 {
			return nil, false
		}
		shape, err := pyInts(state[1])
		dtype, ok1 := numpyType(state[2])
		byColumns, ok2 := state[3].(bool)
		b, ok3 := state[4].([]byte)
		if err != nil || !ok1 || !ok2 || !ok3 || len(shape) > maxAxes {
			return nil, false
		}
		s := &torchStorage{key: "numpy", dtype: dtype, numel: len(b) / dtype.Size(), blob: &blob{size: len(b), data: b}}
		t := &torchTensor{storage: s, dtype: dtype, shape: shape, stride: strides(shape, byColumns)}
		return t, t.check() == nil
	}
	return nil, false
}

// numpyType is dtype("f4", …).
func numpyType(v any) (tensor.DType, bool) {
	o, ok := v.(*pyObject)
	if !ok || o.class.String() != "numpy.dtype" || len(o.args) == 0 {
		return 0, false
	}
	if state, ok := o.state.(pyTuple); ok && len(state) > 1 && state[1] == ">" {
		return 0, false
	}
	name, _ := o.args[0].(string)
	d, ok := map[string]tensor.DType{"f2": tensor.F16, "f4": tensor.F32, "f8": tensor.F64, "i8": tensor.I64, "i4": tensor.I32,
		"i2": tensor.I16, "i1": tensor.I8, "u1": tensor.U8, "b1": tensor.Bool, "u2": tensor.U16, "u4": tensor.U32, "u8": tensor.U64}[name]
	return d, ok
}

// strides are those of an array without gaps, by rows or by columns.
func strides(shape []int, byColumns bool) []int {
	s := make([]int, len(shape))
	step := 1
	for i := range shape {
		at := len(shape) - 1 - i
		if byColumns {
			at = i
		}
		s[at] = step
		step *= max(shape[at], 1)
	}
	return s
}
