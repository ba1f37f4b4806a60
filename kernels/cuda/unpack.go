//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"gorgonia.org/cu"

	"darkroom/kernels"
	"darkroom/kernels/conformance"
	"darkroom/tensor"
)

// codeBytes follow a row's codes in 8 bits: its scale as a float32, which code it is, and nothing up to 16.
const codeBytes = 16

// The codes of a row.
const (
	int8Code = iota // whole numbers from -127 to 127
	e4m3Code        // float8
)

// narrow says whether a weight is kept in 8 bits.
func (b *Backend) narrow(w *kernels.Weight) bool {
	return b.int8 && w.Tolerant && (w.Role == kernels.Filter || w.Role == kernels.Matrix || w.Role == kernels.MatrixGEGLU)
}

// NarrowBytes is the memory of a weight that is kept in 8 bits, 0 of another.
func (b *Backend) NarrowBytes(w *kernels.Weight) int {
	l := b.layout(w)
	if !l.coded {
		return 0
	}
	return l.rows * l.rowBytes()
}

// UnpackedBytes is the memory that such a weight takes beside that while it is multiplied.
func (b *Backend) UnpackedBytes(w *kernels.Weight) int {
	l := b.layout(w)
	if !l.coded {
		return 0
	}
	return l.rows * l.pitch * l.dtype.Size()
}

// unpack is unpack.cu's Unpack.
type unpack struct {
	w, d        cu.DevicePtr
	rows, pitch int32
}

// matrixAt is where a weight lies as gemm reads it. One in 8 bits is unpacked into memory that all of them share: the queue
// is in order. Its layers read it there before the next one comes.
func (b *Backend) matrixAt(w *kernels.Weight) cu.DevicePtr {
	l := b.layout(w)
	if !l.coded {
		return b.weightAt(w)
	}
	to, ok := b.grown(&b.plain, b.UnpackedBytes(w), b.largest)
	if !ok {
		return 0
	}
	p := unpack{b.weightAt(w), to, int32s(l.rows), int32s(l.pitch)}
	launch(b, kernel{"unpack", "unpack_" + b.suffix()}, [3]int{ceil(l.rows*l.pitch/16, 256), 1, 1}, 256, 0, &p)
	return to
}

// encode packs a row. Whole numbers of a 127th of the largest value lose less than float8, which is for files that hold
// float8: their values are kept as they are.
func encode(dst []byte, row []float32, stored string) {
	codes, end := dst[:len(row)], dst[len(row):]
	scale, ok := float32(0), false
	if stored == tensor.F8E4M3.String() {
		scale, ok = encodeE4M3(codes, row)
	}
	code := uint32(e4m3Code)
	if !ok {
		scale, code = encodeInt8(codes, row), int8Code
	}
	clear(end)
	binary.LittleEndian.PutUint32(end, math.Float32bits(scale))
	binary.LittleEndian.PutUint32(end[4:], code)
}

func largest(row []float32) (most float32) {
	for _, v := range row {
		most = max(most, float32(math.Abs(float64(v))))
	}
	return most
}

func encodeInt8(codes []byte, row []float32) (scale float32) {
	scale = largest(row) / 127
	if scale == 0 {
		clear(codes)
		return 0
	}
	for i, v := range row {
		q := math.RoundToEven(float64(v) / float64(scale))
		codes[i] = byte(int8(min(max(q, -127), 127)))
	}
	return scale
}

// encodeE4M3 finds the scale with which all values are of float8, whatever their file's was: the largest one has one of eight
// fractions. It fails where there is none, as after an adapter was added.
func encodeE4M3(codes []byte, row []float32) (scale float32, ok bool) {
	most := float64(largest(row))
	if most == 0 {
		clear(codes)
		return 1, true
	}
	for eighths := 8; eighths < 16; eighths++ {
		top := float64(eighths) * 32 // from 256 to 448, or 240 in the place of 480
		if eighths == 15 {
			top = 240
		}
		s := float32(most / top)
		if !slices.ContainsFunc(row, func(v float32) bool { return !isE4M3(float64(v) / float64(s)) }) {
			for i, v := range row {
				codes[i] = e4m3(float64(v) / float64(s))
			}
			return s, true
		}
	}
	return 0, false
}

// split is |v| as a whole number of the steps of float8 at its size. Below 2⁻⁶ the steps do not get smaller.
func split(v float64) (steps, exponent float64) {
	exponent = max(math.Floor(math.Log2(math.Abs(v)*(1+1e-9))), -6)
	return math.Abs(v) / math.Ldexp(1, int(exponent)-3), exponent
}

// isE4M3 says whether float32's rounding alone keeps a value from being one of float8.
func isE4M3(v float64) bool {
	steps, _ := split(v)
	return math.Abs(steps-math.Round(steps)) <= 1e-6*steps
}

// e4m3 is the code of such a value.
func e4m3(v float64) byte {
	steps, exponent := split(v)
	n := int(math.Round(steps)) // 8 to 15; less only of the smallest
	code := byte(n)
	if n >= 8 {
		code = byte((int(exponent)+7)<<3 + n - 8)
	}
	if math.Signbit(v) {
		code |= 0x80
	}
	return code
}

// checkUnpack checks that the device unpacks a weight to the values that were packed.
func (b *Backend) checkUnpack() conformance.Verdict {
	v := conformance.Verdict{Case: "linear/weights in 8 bits", Check: "bits"}
	v.Err = func() error {
		const rows, width = 37, 70
		for _, stored := range []tensor.DType{tensor.F32, tensor.F8E4M3} {
			values := make([]float32, rows*width)
			for i := range values {
				values[i] = float32(i*i%257-128) / 64
				if stored == tensor.F8E4M3 { // of its own values
					values[i] = float32(i%8+8) * float32(int(1)<<(i*i%11)) / 256 * float32(1-i%2*2)
				}
			}
			w := kernels.NewWeight("self-test", kernels.Matrix, tensor.Of(values, rows, width))
			w.Tolerant, w.Host = true, typed{w.Host, stored.String()}
			if err := b.Load(w); err != nil {
				return err
			}
			defer b.Unload(w)
			l := b.layout(w)
			got, want := make([]byte, b.UnpackedBytes(w)), make([]byte, b.UnpackedBytes(w))
			if err := b.Read(got, mem{b.matrixAt(w), len(got)}); err != nil {
				return err
			}
			if err := b.Sync(); err != nil {
				return err
			}
			packed := make([]byte, b.NarrowBytes(w))
			if err := l.pack(packed, w, 0, nil); err != nil {
				return err
			}
			for row := range rows {
				tensor.Encode(want[row*l.pitch*2:(row+1)*l.pitch*2], l.dtype, decoded(packed[row*l.rowBytes():(row+1)*l.rowBytes()]))
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("a weight that is stored in %v is unpacked to other values", stored)
			}
		}
		return nil
	}()
	return v
}

// typed is an array that is said to be stored in a type.
type typed struct {
	tensor.Array
	as string
}

func (t typed) Type() string { return t.as }

// decoded is a packed row as unpack.cu unpacks it, before it is rounded.
func decoded(packed []byte) []float32 {
	codes, end := packed[:len(packed)-codeBytes], packed[len(packed)-codeBytes:]
	scale := math.Float32frombits(binary.LittleEndian.Uint32(end))
	row := make([]float32, len(codes))
	for i, c := range codes {
		if v := float32(int8(c)); binary.LittleEndian.Uint32(end[4:]) == int8Code {
			row[i] = v * scale
			continue
		}
		n, exponent := int(c&7), int(c>>3&15)
		if exponent > 0 {
			n += 8
		}
		row[i] = float32(math.Ldexp(float64(n), max(exponent, 1)-10)) * scale
		if c&0x80 != 0 {
			row[i] = -row[i]
		}
	}
	return row
}
