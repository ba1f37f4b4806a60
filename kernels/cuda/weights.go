//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"errors"
	"math"
	"runtime"
	"sync"

	"gorgonia.org/cu"

	"darkroom/kernels"
	"darkroom/tensor"
)

// layout is how a weight lies on the device: rows of `width` elements, padded to pitch.
//
//	Vector       one row of float32
//	Filter       row o: [kH, kW, I], so that a tap's channels lie together as they do in an image
//	Matrix       row o as it is
//	MatrixGEGLU  rows value 0, gate 0, value 1, gate 1, …: one lane of gemm_mma gets both
//	Table        as it is, not padded
//
// In 8 bits a row is followed by its scale: see unpack.go.
type layout struct {
	rows, width, pitch int
	dtype              tensor.DType
	taps               int               // kH·kW of a filter, else 1
	source             func(row int) int // the checkpoint's row
	tf32               bool              // values are rounded to TF32
	coded              bool              // in 8 bits
	norm               *kernels.RowNorm  // whose scale the values contain; the vectors of its products follow the rows
}

func (b *Backend) layout(w *kernels.Weight) layout {
	l := b.plainLayout(w)
	l.coded = b.narrow(w)
	return l
}

func (b *Backend) plainLayout(w *kernels.Weight) layout {
	role, s := w.Role, w.Shape
	same := func(row int) int { return row }
	l := layout{rows: s[0], width: s.Len() / s[0], dtype: b.dtype, taps: 1, source: same, tf32: b.tf32 && role != kernels.Table}
	l.pitch = (l.width + depth - 1) / depth * depth
	switch role {
	case kernels.Vector:
		return layout{rows: s.Len(), width: 1, pitch: 1, dtype: tensor.F32, taps: 1, source: same}
	case kernels.Table:
		l.pitch = l.width
	case kernels.Filter:
		l.taps = s[2] * s[3]
	case kernels.MatrixGEGLU:
		l.source = func(row int) int { return row/2 + row%2*(s[0]/2) }
	}
	if b.folds(w) {
		l.norm = w.Norm
	}
	return l
}

// bytes is the length of the packed weight.
func (l layout) bytes() int {
	n := l.rows * l.rowBytes()
	if l.norm != nil {
		n += 4 * 2 * l.rows
	}
	return n
}

func (l layout) rowBytes() int {
	if l.coded {
		return l.pitch + codeBytes
	}
	return l.pitch * l.dtype.Size()
}

// PackedBytes is the size of the padded rows; those of 8 bits take less: see NarrowBytes.
func (b *Backend) PackedBytes(w *kernels.Weight) int { return b.plainLayout(w).bytes() }

// Load packs the weight's rows into page-locked memory, part by part, while the part before is copied
// to the device.
func (b *Backend) Load(w *kernels.Weight) error {
	defer b.enter()()
	l := b.layout(w)
	m, err := b.alloc(l.bytes())
	if err != nil {
		return err
	}
	if err := b.upload(w, l, m); err != nil {
		cu.MemFree(m.at)
		return err
	}
	b.Place(w, m)
	b.largest = max(b.largest, b.UnpackedBytes(w))
	return nil
}

func (b *Backend) upload(w *kernels.Weight, l layout, m mem) error {
	perPart := max(1, stageBytes/l.rowBytes())
	f, err := l.fold(w)
	if err != nil {
		return err
	}
	for first, part := 0, 0; first < l.rows; first, part = first+perPart, part+1 {
		n := min(perPart, l.rows-first)
		s := &b.staging[part%len(b.staging)]
		host, err := s.ready(n * l.rowBytes())
		if err != nil {
			return b.explain("allocating page-locked memory", err)
		}
		if err := l.pack(host[:n*l.rowBytes()], w, first, f); err != nil {
			return err
		}
		if err := s.upload(m.at+cu.DevicePtr(first*l.rowBytes()), n*l.rowBytes(), b.stream); err != nil {
			return b.explain("uploading "+w.Name, err)
		}
	}
	if f != nil {
		return b.Write(mem{m.at + cu.DevicePtr(l.rows*l.rowBytes()), 4 * len(f.vectors)}, tensor.Bytes(f.vectors))
	}
	return nil
}

// pack fills dst with the rows from first on, on every processor.
func (l layout) pack(dst []byte, w *kernels.Weight, first int, f *fold) error {
	rows := len(dst) / l.rowBytes()
	workers := min(runtime.GOMAXPROCS(0), max(1, rows*l.width/(1<<14)))
	failed := make([]error, workers)
	var wait sync.WaitGroup
	for i := range workers {
		wait.Go(func() {
			lo, hi := rows*i/workers, rows*(i+1)/workers
			failed[i] = l.packRows(dst[lo*l.rowBytes():hi*l.rowBytes()], w, first+lo, f)
		})
	}
	wait.Wait()
	return firstBad(failed)
}

func (l layout) packRows(dst []byte, w *kernels.Weight, first int, f *fold) error {
	src, row := make([]float32, l.width), make([]float32, l.pitch)
	channels := l.width / l.taps
	for i := range len(dst) / l.rowBytes() {
		if err := w.Decode(src, l.source(first+i)*l.width); err != nil {
			return err
		}
		if l.tf32 {
			roundTF32(src)
		}
		if f != nil {
			f.scale(src, first+i)
		}
		for c := range channels {
			for t := range l.taps {
				row[t*channels+c] = src[c*l.taps+t]
			}
		}
		packed := dst[i*l.rowBytes() : (i+1)*l.rowBytes()]
		if l.coded {
			encode(packed, row, w.Host.Type())
			continue
		}
		tensor.Encode(packed, l.dtype, row)
		if f != nil {
			f.sum(tensor.Tensor{DType: l.dtype, Shape: tensor.Shape{l.pitch}, Data: packed}, row, first+i)
		}
	}
	return nil
}

// roundTF32 rounds finite values to 11 significant bits, ties away from zero.
func roundTF32(x []float32) {
	for i, v := range x {
		x[i] = math.Float32frombits((math.Float32bits(v) + 1<<12) &^ (1<<13 - 1))
	}
}

// firstBad is the error that names the earliest element, whichever goroutine met it.
func firstBad(errs []error) error {
	var first error
	at := -1
	for _, err := range errs {
		var e *kernels.NonFiniteWeightError
		if errors.As(err, &e) && at >= 0 && e.Index >= at {
			continue
		}
		if err != nil {
			first = err
			if e != nil {
				at = e.Index
			}
		}
	}
	return first
}

// Unload frees what Load made.
func (b *Backend) Unload(w *kernels.Weight) {
	if m := b.Packed(w); m != nil {
		b.Free(m)
		b.Place(w, nil)
	}
	b.unstage(w)
}
