// Package tensor holds what every layer agrees on about arrays: shapes, element types and their
// conversion to and from float32. It knows of no device; a Tensor here is bytes in host memory,
// often a mapped file.
package tensor

import (
	"fmt"
	"math"
	"strings"
	"unsafe"
)

// DType is the type of an array's elements.
type DType uint8

// The element types of safetensors files; the first three are those that models compute in.
const (
	F32 DType = iota
	F16
	BF16
	F64
	I64
	I32
	I16
	I8
	U8
	Bool
	F8E4M3
	F8E5M2
	U16
	U32
	U64
)

var dtypes = [...]struct {
	name string
	size int
}{
	F32: {"F32", 4}, F16: {"F16", 2}, BF16: {"BF16", 2}, F64: {"F64", 8},
	I64: {"I64", 8}, I32: {"I32", 4}, I16: {"I16", 2}, I8: {"I8", 1},
	U8: {"U8", 1}, Bool: {"BOOL", 1}, F8E4M3: {"F8_E4M3", 1}, F8E5M2: {"F8_E5M2", 1},
	U16: {"U16", 2}, U32: {"U32", 4}, U64: {"U64", 8},
}

// String is the name that safetensors files use: "F32", "BF16", …
func (d DType) String() string { return dtypes[d].name }

// Size is the number of bytes of one element.
func (d DType) Size() int { return dtypes[d].size }

// IsFloat says whether Float32 can decode the type.
func (d DType) IsFloat() bool { return d == F32 || d == F16 || d == BF16 || d == F64 }

// ParseDType is the inverse of String.
func ParseDType(name string) (DType, error) {
	for d, t := range dtypes {
		if t.name == name {
			return DType(d), nil
		}
	}
	return 0, fmt.Errorf("unknown element type %q", name)
}

// Shape is the length of each axis, outermost first. The empty shape is a scalar.
type Shape []int

// Len is the number of elements.
func (s Shape) Len() int {
	n := 1
	for _, d := range s {
		n *= d
	}
	return n
}

// Equal says whether both have the same axes.
func (s Shape) Equal(o Shape) bool {
	if len(s) != len(o) {
		return false
	}
	for i, d := range s {
		if d != o[i] {
			return false
		}
	}
	return true
}

// String is "2×64×64×320".
func (s Shape) String() string {
	if len(s) == 0 {
		return "scalar"
	}
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = fmt.Sprint(d)
	}
	return strings.Join(parts, "×")
}

// Tensor is an array in host memory, row-major, little-endian. Data may be a read-only mapping.
type Tensor struct {
	DType DType
	Shape Shape
	Data  []byte
}

// Of wraps float32 values without copying.
func Of(values []float32, shape ...int) Tensor {
	s := Shape(shape)
	if s.Len() != len(values) {
		panic(fmt.Sprintf("tensor: %d values for shape %v", len(values), s))
	}
	return Tensor{F32, s, Bytes(values)}
}

// OfIDs wraps int32 values without copying.
func OfIDs(ids []int32, shape ...int) Tensor {
	s := Shape(shape)
	if s.Len() != len(ids) {
		panic(fmt.Sprintf("tensor: %d ids for shape %v", len(ids), s))
	}
	return Tensor{I32, s, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(ids))), 4*len(ids))}
}

// IDs views the elements of a tensor of type I32 that OfIDs made.
func IDs(t Tensor) []int32 {
	return unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(t.Data))), t.Len())
}

// Len is the number of elements.
func (t Tensor) Len() int { return t.Shape.Len() }

// Float32 decodes all elements into dst, which must have room for Len of them. It panics on types
// that are not floating point.
func (t Tensor) Float32(dst []float32) {
	t.Float32Range(dst[:t.Len()], 0)
}

// Float32Range decodes len(dst) elements from element start on.
func (t Tensor) Float32Range(dst []float32, start int) {
	size := t.DType.Size()
	b := t.Data[start*size : (start+len(dst))*size]
	switch t.DType {
	case F32:
		copy(Bytes(dst), b)
	case F16:
		for i := range dst {
			dst[i] = HalfToFloat(uint16(b[2*i]) | uint16(b[2*i+1])<<8)
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(b[2*i])<<16 | uint32(b[2*i+1])<<24)
		}
	case F64:
		for i := range dst {
			var u uint64
			for k := 7; k >= 0; k-- {
				u = u<<8 | uint64(b[8*i+k])
			}
			dst[i] = float32(math.Float64frombits(u))
		}
	default:
		panic("tensor: " + t.DType.String() + " does not decode to float32")
	}
}

// Encode rounds src to d (to nearest, ties to even) into dst, which must have len(src)·d.Size() bytes.
// It panics on types that models do not compute in.
func Encode(dst []byte, d DType, src []float32) {
	switch d {
	case F32:
		copy(dst, Bytes(src))
	case F16:
		for i, v := range src {
			h := FloatToHalf(v)
			dst[2*i], dst[2*i+1] = byte(h), byte(h>>8)
		}
	case BF16:
		for i, v := range src {
			h := FloatToBFloat(v)
			dst[2*i], dst[2*i+1] = byte(h), byte(h>>8)
		}
	default:
		panic("tensor: cannot encode to " + d.String())
	}
}

// Bytes views float32 values as the bytes that hold them. Every supported platform is little-endian.
func Bytes(v []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
}

// Floats views bytes as float32 values; b must be 4-byte aligned.
func Floats(b []byte) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

// HalfToFloat widens an IEEE 754 binary16 value, exactly.
func HalfToFloat(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp := uint32(h>>10) & 0x1f
	frac := uint32(h & 0x3ff)
	switch {
	case exp == 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	case exp == 0: // zero and subnormals: frac · 2⁻²⁴
		f := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// FloatToHalf rounds to IEEE 754 binary16, to nearest, ties to even; overflow gives infinity.
func FloatToHalf(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b>>16) & 0x8000
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00 | uint16(b>>13)&0x3ff
	case b >= 0x47800000: // 65536 and more, infinity
		return sign | 0x7c00
	case b < 0x38800000: // below 2⁻¹⁴: a multiple of 2⁻²⁴, which adding 0.5 rounds to
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-0x3f000000)
	}
	b += 0xfff + b>>13&1
	return sign | uint16((b-0x38000000)>>13)
}

// FloatToBFloat rounds to bfloat16, to nearest, ties to even.
func FloatToBFloat(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// Name is the type as the command line spells it: "fp32", "bf16", "fp16"; another type's own name.
func (d DType) Name() string {
	switch d {
	case F32:
		return "fp32"
	case F16:
		return "fp16"
	case BF16:
		return "bf16"
	}
	return d.String()
}

// ToNHWC copies an image from channel planes [C,H·W], the order in which torch draws noise and the samplers work, to
// interleaved channels [H·W,C], the order of the kernels.
func ToNHWC(dst, src []float32, channels int) {
	pixels := len(src) / channels
	for c := range channels {
		for i, v := range src[c*pixels:][:pixels] {
			dst[i*channels+c] = v
		}
	}
}

// ToNCHW is the inverse of ToNHWC.
func ToNCHW(dst, src []float32, channels int) {
	pixels := len(src) / channels
	for c := range channels {
		plane := dst[c*pixels:][:pixels]
		for i := range plane {
			plane[i] = src[i*channels+c]
		}
	}
}
