package checkpoint

import (
	"encoding/binary"
	"math"

	"darkroom/tensor"
)

// decodeRange is Tensor.Float32Range for every element type: whole numbers and 8-bit floats are widened as they are, and
// what is not exact in float32 is rounded.
func decodeRange(t tensor.Tensor, dst []float32, start int) {
	size := t.DType.Size()
	b := t.Data[start*size : (start+len(dst))*size]
	switch t.DType {
	case tensor.F32, tensor.F16, tensor.BF16, tensor.F64:
		t.Float32Range(dst, start)
	case tensor.F8E4M3:
		for i, v := range b {
			dst[i] = f8e4m3[v]
		}
	case tensor.F8E5M2:
		for i, v := range b {
			dst[i] = tensor.HalfToFloat(uint16(v) << 8)
		}
	case tensor.I8:
		for i, v := range b {
			dst[i] = float32(int8(v))
		}
	case tensor.U8:
		for i, v := range b {
			dst[i] = float32(v)
		}
	case tensor.Bool:
		for i, v := range b {
			dst[i] = 0
			if v != 0 {
				dst[i] = 1
			}
		}
	case tensor.I16:
		for i := range dst {
			dst[i] = float32(int16(binary.LittleEndian.Uint16(b[2*i:])))
		}
	case tensor.U16:
		for i := range dst {
			dst[i] = float32(binary.LittleEndian.Uint16(b[2*i:]))
		}
	case tensor.I32:
		for i := range dst {
			dst[i] = float32(int32(binary.LittleEndian.Uint32(b[4*i:])))
		}
	case tensor.U32:
		for i := range dst {
			dst[i] = float32(binary.LittleEndian.Uint32(b[4*i:]))
		}
	case tensor.I64:
		for i := range dst {
			dst[i] = float32(int64(binary.LittleEndian.Uint64(b[8*i:])))
		}
	case tensor.U64:
		for i := range dst {
			dst[i] = float32(binary.LittleEndian.Uint64(b[8*i:]))
		}
	default:
		panic("checkpoint: no rule to widen " + t.DType.String())
	}
}

// f8e4m3 are the values of float8_e4m3fn: 4 bits of exponent with bias 7, 3 of fraction, no infinity, one NaN a sign.
var f8e4m3 = func() (table [256]float32) {
	for i := range table {
		exp, frac := i>>3&15, float64(i&7)
		v := math.Ldexp(1+frac/8, exp-7)
		switch {
		case exp == 15 && i&7 == 7:
			v = math.NaN()
		case exp == 0:
			v = math.Ldexp(frac, -9)
		}
		if i >= 128 {
			v = math.Copysign(v, -1)
		}
		table[i] = float32(v)
	}
	return table
}()
