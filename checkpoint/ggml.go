package checkpoint

import (
	"encoding/binary"
	"math"

	"darkroom/tensor"
)

// ggml's block formats, as its dequantize_row functions compute them. Scales d and minima m are float16 unless a comment
// says otherwise; every product and sum is rounded to float32 (the conversions keep the compiler from fusing them), so
// that the bits are those of the gguf package.

func half(b []byte) float32 { return tensor.HalfToFloat(binary.LittleEndian.Uint16(b)) }

// decodeQ4_0: d, 16 bytes of two 4-bit numbers, the first half of the block in the low ones. x = d·(q - 8).
func decodeQ4_0(dst []float32, b []byte) {
	d := half(b)
	for i, q := range b[2:18] {
		dst[i] = d * float32(int(q&15)-8)
		dst[i+16] = d * float32(int(q>>4)-8)
	}
}

// decodeQ4_1: d, m, 16 bytes. x = d·q + m.
func decodeQ4_1(dst []float32, b []byte) {
	d, m := half(b), half(b[2:])
	for i, q := range b[4:20] {
		dst[i] = float32(d*float32(q&15)) + m
		dst[i+16] = float32(d*float32(q>>4)) + m
	}
}

// decodeQ5_0: d, 32 fifth bits, 16 bytes. x = d·(q - 16).
func decodeQ5_0(dst []float32, b []byte) {
	d, high := half(b), binary.LittleEndian.Uint32(b[2:])
	for i, q := range b[6:22] {
		dst[i] = d * float32(int(q&15|byte(high>>i&1)<<4)-16)
		dst[i+16] = d * float32(int(q>>4|byte(high>>(i+16)&1)<<4)-16)
	}
}

// decodeQ5_1: d, m, 32 fifth bits, 16 bytes. x = d·q + m.
func decodeQ5_1(dst []float32, b []byte) {
	d, m, high := half(b), half(b[2:]), binary.LittleEndian.Uint32(b[4:])
	for i, q := range b[8:24] {
		dst[i] = float32(d*float32(q&15|byte(high>>i&1)<<4)) + m
		dst[i+16] = float32(d*float32(q>>4|byte(high>>(i+16)&1)<<4)) + m
	}
}

// decodeQ8_0: d, 32 signed bytes. x = d·q.
func decodeQ8_0(dst []float32, b []byte) {
	d := half(b)
	for i, q := range b[2:34] {
		dst[i] = d * float32(int8(q))
	}
}

// The K formats have blocks of 256 with a scale, and often a minimum, for each 16 or 32, themselves quantised.

// decodeQ2K: 16 bytes of a scale (low) and a minimum (high), 64 bytes of four 2-bit numbers, d, dmin.
// x = d·scale·q - dmin·min.
func decodeQ2K(dst []float32, b []byte) {
	d, dmin := half(b[80:]), half(b[82:])
	for i := range 16 { // of 16 each
		scale, low := d*float32(b[i]&15), dmin*float32(b[i]>>4)
		q, shift := b[16+i/8*32+i%2*16:], i%8/2*2
		for j := range 16 {
			dst[16*i+j] = float32(scale*float32(q[j]>>shift&3)) - low
		}
	}
}

// decodeQ3K: 32 bytes of third bits (inverted), 64 bytes of four 2-bit numbers, 12 bytes of 16 6-bit scales, d.
// x = d·(scale - 32)·(q - 4).
func decodeQ3K(dst []float32, b []byte) {
	d, s := half(b[108:]), b[96:108]
	for i := range 16 { // of 16 each
		scale := s[i%8]>>(i/8*4)&15 | s[8+i%4]>>(i/4*2)&3<<4
		dl := d * float32(int(scale)-32)
		q, shift := b[32+i/8*32+i%2*16:], i%8/2*2
		high := b[i%2*16:]
		for j := range 16 {
			v := int(q[j] >> shift & 3)
			if high[j]>>(i/2)&1 == 0 {
				v -= 4
			}
			dst[16*i+j] = dl * float32(v)
		}
	}
}

// scaleMin is the 6-bit scale and minimum of part i of 8, from the 12 bytes of Q4_K and Q5_K.
func scaleMin(s []byte, i int) (scale, low float32) {
	if i < 4 {
		return float32(s[i] & 63), float32(s[i+4] & 63)
	}
	return float32(s[i+4]&15 | s[i-4]>>6<<4), float32(s[i+4]>>4 | s[i]>>6<<4)
}

// decodeQ4K: d, dmin, 12 bytes of scales and minima, 128 bytes of two 4-bit numbers. x = d·scale·q - dmin·min.
func decodeQ4K(dst []float32, b []byte) {
	d, dmin := half(b), half(b[2:])
	for i := range 8 { // of 32 each
		scale, low := scaleMin(b[4:16], i)
		scale, low = d*scale, dmin*low
		q, shift := b[16+i/2*32:], i%2*4
		for j := range 32 {
			dst[32*i+j] = float32(scale*float32(q[j]>>shift&15)) - low
		}
	}
}

// decodeQ5K: as Q4_K, with 32 bytes of fifth bits before the numbers, bit i for part i.
func decodeQ5K(dst []float32, b []byte) {
	d, dmin, high := half(b), half(b[2:]), b[16:48]
	for i := range 8 {
		scale, low := scaleMin(b[4:16], i)
		scale, low = d*scale, dmin*low
		q, shift := b[48+i/2*32:], i%2*4
		for j := range 32 {
			dst[32*i+j] = float32(scale*float32(q[j]>>shift&15|high[j]>>i&1<<4)) - low
		}
	}
}

// decodeQ6K: 128 bytes of two low halves, 64 bytes of four upper pairs of bits, 16 signed scales, d.
// x = d·scale·(q - 32).
func decodeQ6K(dst []float32, b []byte) {
	d := half(b[208:])
	for i := range 16 { // of 16 each
		dl := d * float32(int8(b[192+i]))
		half, part := i/8, i%8/2 // the half of the block, and which 32 of its 128
		low, shift := b[64*half+part%2*32+i%2*16:], part/2*4
		high, up := b[128+32*half+i%2*16:], part*2
		for j := range 16 {
			dst[16*i+j] = dl * float32(int(low[j]>>shift&15|high[j]>>up&3<<4)-32)
		}
	}
}

// decodeQ8K: d as float32, 256 signed bytes, 16 sums that are of use in products only.
func decodeQ8K(dst []float32, b []byte) {
	d := math.Float32frombits(binary.LittleEndian.Uint32(b))
	for i, q := range b[4:260] {
		dst[i] = d * float32(int8(q))
	}
}

// iq4 are the levels of the IQ4 formats, denser near zero.
var iq4 = [16]float32{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

// decodeIQ4NL: as Q4_0, with levels. x = d·level[q].
func decodeIQ4NL(dst []float32, b []byte) {
	d := half(b)
	for i, q := range b[2:18] {
		dst[i], dst[i+16] = d*iq4[q&15], d*iq4[q>>4]
	}
}

// decodeIQ4XS: d, upper pairs of bits of 8 scales, their low halves in 4 bytes, 8 times 16 bytes as IQ4_NL's.
// x = d·(scale - 32)·level[q].
func decodeIQ4XS(dst []float32, b []byte) {
	d, high := half(b), binary.LittleEndian.Uint16(b[2:])
	for i := range 8 {
		scale := int(b[4+i/2]>>(i%2*4)&15) | int(high>>(2*i)&3)<<4
		dl := d * float32(scale-32)
		for j, q := range b[8+16*i : 24+16*i] {
			dst[32*i+j], dst[32*i+16+j] = dl*iq4[q&15], dl*iq4[q>>4]
		}
	}
}

// fp4 are twice the values of a 4-bit float: 2 bits of exponent, 1 of fraction, a sign.
var fp4 = [16]float32{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

// decodeMXFP4: an exponent e, 16 bytes as Q4_0's. x = 2^(e-128)·fp4[q] (OCP Microscaling v1.0).
func decodeMXFP4(dst []float32, b []byte) {
	bits := uint32(0x00200000) << b[0]
	if b[0] >= 2 {
		bits = uint32(b[0]-1) << 23
	}
	d := math.Float32frombits(bits)
	for i, q := range b[1:17] {
		dst[i], dst[i+16] = d*fp4[q&15], d*fp4[q>>4]
	}
}
