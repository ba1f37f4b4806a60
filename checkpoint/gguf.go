package checkpoint

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"darkroom/tensor"
)

// parseGGUF reads ggml's format: "GGUF", a version, the number of tensors and of facts, the facts (a key, a type, a
// value), the tensors' names, axes (innermost first), types and offsets, and their bytes, aligned.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
func parseGGUF(data []byte, mapped bool) (*contents, error) {
	g := &ggufReader{data: data, at: 4, facts: map[string]any{}}
	c := &contents{format: "GGUF", arrays: map[string]tensor.Array{}, meta: map[string]string{}, texts: map[string][]string{}}
	if version := g.uint32(); g.err == nil && (version < 2 || version > 3) {
		if swapped := bits.ReverseBytes32(version); swapped >= 2 && swapped <= 3 {
			return nil, fmt.Errorf("GGUF in big-endian order is not supported")
		}
		return nil, fmt.Errorf("GGUF version %d is not supported, only 2 and 3", version)
	}
	// The least that one takes: 8+1 bytes a name, 4 its axes, 4 a type, 8 an offset; 8+1+4+1 for a fact.
	tensors, facts := g.count(8+4+4+8), g.count(8+4+1)
	for range facts {
		key := g.text()
		if kind := g.uint32(); kind == 9 && strings.HasPrefix(key, "tokenizer.ggml.") {
			c.texts[key] = g.list()
		} else {
			g.facts[key] = g.value(kind, 0)
		}
		if g.err != nil {
			return nil, fmt.Errorf("fact %q: %w", key, g.err)
		}
	}
	infos := make([]ggufTensor, 0, tensors)
	for range tensors {
		info, err := g.tensor()
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	if g.err != nil {
		return nil, g.err
	}
	align := uint64(32)
	if a, ok := g.facts["general.alignment"].(uint64); ok {
		align = a
	}
	if align == 0 || align > 1<<20 || align&(align-1) != 0 {
		return nil, fmt.Errorf("general.alignment is %d, not a power of two", align)
	}
	body := data[min(len(data), int((uint64(g.at)+align-1)&^(align-1))):]
	for _, t := range infos {
		if t.offset > uint64(len(body)) || t.size > uint64(len(body))-t.offset {
			return nil, fmt.Errorf("tensor %q ends at byte %d of %d: the file is cut off, fetch it again", t.name, t.offset+t.size, len(body))
		}
		if c.arrays[t.name] != nil {
			return nil, fmt.Errorf("tensor %q appears twice", t.name)
		}
		b := body[t.offset : t.offset+t.size : t.offset+t.size]
		if t.kind.plain {
			c.arrays[t.name] = placed{tensor.Tensor{DType: t.kind.dtype, Shape: t.shape, Data: b}, mapped}
		} else {
			c.arrays[t.name] = &blocks{shape: t.shape, kind: t.kind, data: b, mapped: mapped}
		}
	}
	return c, g.describe(c)
}

// describe puts the facts into the metadata, and the shapes that a converter had to flatten back: it stores them as
// comfy.gguf.orig_shape.NAME.
func (g *ggufReader) describe(c *contents) error {
	for key, v := range g.facts {
		if name, ok := strings.CutPrefix(key, "comfy.gguf.orig_shape."); ok {
			shape, isShape := v.([]int)
			a := c.arrays[name]
			if !isShape || a == nil || tensor.Shape(shape).Len() != a.Shape().Len() || len(shape) > maxAxes {
				return fmt.Errorf("%s is %v, which does not fit its tensor", key, v)
			}
			switch a := a.(type) {
			case placed:
				a.Tensor.Shape = shape
				c.arrays[name] = a
			case *blocks:
				a.shape = shape
			}
			continue
		}
		switch v := v.(type) {
		case string:
			c.meta[key] = v
		case uint64:
			c.meta[key] = strconv.FormatUint(v, 10)
		case int64:
			c.meta[key] = strconv.FormatInt(v, 10)
		case float64:
			c.meta[key] = strconv.FormatFloat(v, 'g', -1, 64)
		case bool:
			c.meta[key] = strconv.FormatBool(v)
		}
	}
	return nil
}

type ggufTensor struct {
	name         string
	shape        tensor.Shape
	kind         *ggmlType
	offset, size uint64
}

func (g *ggufReader) tensor() (ggufTensor, error) {
	t := ggufTensor{name: g.text()}
	axes := g.uint32()
	if g.err == nil && axes > 8 {
		return t, fmt.Errorf("tensor %q has %d axes: at most 4 are supported", t.name, axes)
	}
	elements := uint64(1)
	for i := range axes {
		n := g.uint64()
		over, low := bits.Mul64(elements, n)
		if over != 0 || low > math.MaxInt/8 || n > math.MaxInt/8 {
			return t, fmt.Errorf("tensor %q is too large: axis %d is %d long", t.name, i, n)
		}
		elements = low
		t.shape = append(t.shape, int(n))
	}
	id := g.uint32()
	t.offset = g.uint64()
	if g.err != nil {
		return t, fmt.Errorf("tensor %q: %w", t.name, g.err)
	}
	t.kind = ggmlTypes[id]
	if t.kind == nil {
		return t, fmt.Errorf("tensor %q is of ggml type %d (%s), which is not supported; Q8_0, Q6_K, Q5_K and Q4_K are, among others", t.name, id, unreadTypes[id])
	}
	if block := uint64(t.kind.block); block > 1 && (len(t.shape) == 0 || uint64(t.shape[0])%block != 0) {
		return t, fmt.Errorf("tensor %q: rows of %v do not divide into blocks of %d (%s)", t.name, t.shape, block, t.kind.name)
	}
	t.size = elements / uint64(t.kind.block) * uint64(t.kind.bytes)
	slices.Reverse(t.shape)
	return t, nil
}

// ggufReader reads numbers and texts until the first error.
type ggufReader struct {
	data  []byte
	at    int
	err   error
	facts map[string]any
}

func (g *ggufReader) take(n uint64) []byte {
	if g.err != nil {
		return nil
	}
	if n > uint64(len(g.data)-g.at) {
		g.err = fmt.Errorf("the file ends within its header, at byte %d: it is cut off, fetch it again", len(g.data))
		return nil
	}
	b := g.data[g.at : g.at+int(n)]
	g.at += int(n)
	return b
}

func (g *ggufReader) uint(n int) (v uint64) {
	b := g.take(uint64(n))
	for i := len(b) - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v
}

func (g *ggufReader) uint32() uint32 { return uint32(g.uint(4)) }
func (g *ggufReader) uint64() uint64 { return g.uint(8) }
func (g *ggufReader) text() string   { return string(g.take(g.uint64())) }

// count is a number of things, each of which takes at least so many bytes of what is left.
func (g *ggufReader) count(least int) uint64 {
	n := g.uint64()
	if g.err == nil && n > uint64(len(g.data)-g.at)/uint64(least) {
		g.err = fmt.Errorf("%d entries do not fit a file of %d bytes: it is cut off or damaged", n, len(g.data))
	}
	if g.err != nil {
		return 0
	}
	return n
}

// ggufSizes are the bytes of the facts' types that are numbers; 8 is a text, 9 a list.
var ggufSizes = [...]int{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

// list reads a list of texts or of numbers, as texts; of other values it is nil.
func (g *ggufReader) list() (texts []string) {
	item := g.uint32()
	for range g.count(1) {
		switch v := g.value(item, 1).(type) {
		case string:
			texts = append(texts, v)
		case int64, uint64:
			texts = append(texts, fmt.Sprint(v))
		case float64:
			texts = append(texts, strconv.FormatFloat(v, 'g', -1, 64))
		}
		if g.err != nil {
			return nil
		}
	}
	return texts
}

// value reads a fact: a text, uint64, int64, float64, bool, or a list of whole numbers as []int if it is short. Other
// lists, such as vocabularies, are passed over.
func (g *ggufReader) value(kind uint32, depth int) any {
	switch {
	case kind == 8:
		return g.text()
	case kind == 9 && depth < 4:
		item := g.uint32()
		n := g.count(1)
		if int(item) < len(ggufSizes) && ggufSizes[item] > 0 && n > maxAxes {
			g.take(n * uint64(ggufSizes[item]))
			return nil
		}
		var ints []int
		for range n {
			switch v := g.value(item, depth+1).(type) {
			case uint64:
				ints = append(ints, int(min(v, math.MaxInt32)))
			case int64:
				ints = append(ints, int(max(min(v, math.MaxInt32), -1)))
			}
			if g.err != nil {
				return nil
			}
		}
		if len(ints) != int(n) || slices.Contains(ints, -1) {
			return nil
		}
		return ints
	case int(kind) >= len(ggufSizes) || ggufSizes[kind] == 0:
		if g.err == nil {
			g.err = fmt.Errorf("value type %d is unknown", kind)
		}
		return nil
	}
	size := ggufSizes[kind]
	v := g.uint(size)
	switch kind {
	case 1, 3, 5, 11:
		shift := 64 - 8*size
		return int64(v<<shift) >> shift
	case 6:
		return float64(math.Float32frombits(uint32(v)))
	case 12:
		return math.Float64frombits(v)
	case 7:
		return v != 0
	}
	return v
}

// blocks is an array in one of ggml's block formats.
type blocks struct {
	shape  tensor.Shape
	kind   *ggmlType
	data   []byte
	mapped bool
}

func (a *blocks) Shape() tensor.Shape               { return a.shape }
func (a *blocks) Type() string                      { return a.kind.name }
func (a *blocks) Bytes() int                        { return len(a.data) }
func (a *blocks) Plain() (t tensor.Tensor, ok bool) { return t, false }

func (a *blocks) Release() {
	if a.mapped {
		releasePages(a.data)
	}
}

func (a *blocks) Decode(dst []float32, start int) error {
	size := a.kind.block
	var whole [256]float32
	for at := start / size; len(dst) > 0; at++ {
		b := a.data[at*a.kind.bytes : (at+1)*a.kind.bytes]
		skip := start - at*size
		if skip == 0 && len(dst) >= size {
			a.kind.decode(dst[:size:size], b)
			dst, start = dst[size:], start+size
			continue
		}
		a.kind.decode(whole[:size], b)
		n := copy(dst, whole[skip:size])
		dst, start = dst[n:], start+n
	}
	return nil
}

// ggmlType is a way to store numbers: blocks of so many elements in so many bytes.
type ggmlType struct {
	name         string
	block, bytes int
	plain        bool
	dtype        tensor.DType // of plain ones
	decode       func(dst []float32, b []byte)
}

func plainType(d tensor.DType) *ggmlType {
	return &ggmlType{name: d.String(), block: 1, bytes: d.Size(), plain: true, dtype: d}
}

// ggmlTypes are the types by their numbers in files.
var ggmlTypes = map[uint32]*ggmlType{
	0: plainType(tensor.F32), 1: plainType(tensor.F16), 30: plainType(tensor.BF16), 28: plainType(tensor.F64),
	24: plainType(tensor.I8), 25: plainType(tensor.I16), 26: plainType(tensor.I32), 27: plainType(tensor.I64),
	2:  {name: "Q4_0", block: 32, bytes: 18, decode: decodeQ4_0},
	3:  {name: "Q4_1", block: 32, bytes: 20, decode: decodeQ4_1},
	6:  {name: "Q5_0", block: 32, bytes: 22, decode: decodeQ5_0},
	7:  {name: "Q5_1", block: 32, bytes: 24, decode: decodeQ5_1},
	8:  {name: "Q8_0", block: 32, bytes: 34, decode: decodeQ8_0},
	10: {name: "Q2_K", block: 256, bytes: 84, decode: decodeQ2K},
	11: {name: "Q3_K", block: 256, bytes: 110, decode: decodeQ3K},
	12: {name: "Q4_K", block: 256, bytes: 144, decode: decodeQ4K},
	13: {name: "Q5_K", block: 256, bytes: 176, decode: decodeQ5K},
	14: {name: "Q6_K", block: 256, bytes: 210, decode: decodeQ6K},
	15: {name: "Q8_K", block: 256, bytes: 292, decode: decodeQ8K},
	20: {name: "IQ4_NL", block: 32, bytes: 18, decode: decodeIQ4NL},
	23: {name: "IQ4_XS", block: 256, bytes: 136, decode: decodeIQ4XS},
	39: {name: "MXFP4", block: 32, bytes: 17, decode: decodeMXFP4},
}

// unreadTypes name other types for messages.
var unreadTypes = map[uint32]string{
	9: "Q8_1", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 40: "NVFP4",
}
