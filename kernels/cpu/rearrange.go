//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

import (
	"unsafe"

	"darkroom/kernels"
)

// rows calls f for ranges of [0, n), on as many threads as the bytes to be moved are worth.
func (b *Backend) rows(n, bytes int, f func(start, end int)) {
	workers := min(len(b.pool.workers), max(1, n), max(1, bytes>>16))
	b.pool.run(workers, func(i int) { f(n*i/workers, n*(i+1)/workers) })
}

// Concat copies bytes, whatever they mean.
func (b *Backend) Concat(dst *kernels.Tensor, op *kernels.Concat) {
	out, size := dst.Mem.(kernels.HostMem), dst.DType.Size()
	off, pitch := 0, dst.Shape[op.Axis:].Len()*size
	for _, p := range op.Parts {
		in, row := p.Mem.(kernels.HostMem), op.Row(p)*size
		b.rows(p.Bytes()/row, p.Bytes(), func(start, end int) {
			for i := start; i < end; i++ {
				copy(out[i*pitch+off:], in[i*row:][:row])
			}
		})
		off += row
	}
}

// PixelShuffle moves elements by their size.
func (b *Backend) PixelShuffle(dst *kernels.Tensor, op *kernels.PixelShuffle) {
	if dst.DType.Size() == 2 {
		shuffle[uint16](b, dst, op)
		return
	}
	shuffle[uint32](b, dst, op)
}

func shuffle[T uint16 | uint32](b *Backend, dst *kernels.Tensor, op *kernels.PixelShuffle) {
	in, out := elements[T](op.In), elements[T](dst)
	h, w, c, r := dst.Shape[1], dst.Shape[2], dst.Shape[3], op.Factor
	b.rows(dst.Shape[0]*h, dst.Bytes(), func(start, end int) {
		for row := start; row < end; row++ {
			n, y := row/h, row%h
			line, at := in[(n*h/r+y/r)*w*c*r:], out[row*w*c:][:w*c]
			for x := range w {
				pixel := line[x/r*c*r*r+y%r*r+x%r:]
				for k := range c {
					at[x*c+k] = pixel[k*r*r]
				}
			}
		}
	})
}

func elements[T uint16 | uint32](t *kernels.Tensor) []T {
	m := t.Mem.(kernels.HostMem)
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(m))), t.Shape.Len())
}

// Surround copies pixels.
func (b *Backend) Surround(dst *kernels.Tensor, op *kernels.Surround) {
	in, out := op.In.Mem.(kernels.HostMem), dst.Mem.(kernels.HostMem)
	h, w, pixel := dst.Shape[1], dst.Shape[2], dst.Shape[3]*dst.DType.Size()
	columns := make([]int, w)
	for x := range columns {
		columns[x] = op.From(1, x)
	}
	b.rows(dst.Shape[0]*h, dst.Bytes(), func(start, end int) {
		for row := start; row < end; row++ {
			n, y := row/h, op.From(0, row%h)
			for x, sx := range columns {
				at := out[(row*w+x)*pixel:][:pixel]
				if y < 0 || sx < 0 {
					clear(at)
					continue
				}
				copy(at, in[((n*op.In.Shape[1]+y)*op.In.Shape[2]+sx)*pixel:])
			}
		}
	})
}

// Cut copies bytes, whatever they mean.
func (b *Backend) Cut(dst *kernels.Tensor, op *kernels.Cut) {
	in, out, size := op.In.Mem.(kernels.HostMem), dst.Mem.(kernels.HostMem), dst.DType.Size()
	from, length, pitch := op.Span()
	b.rows(dst.Shape.Len()/length, dst.Bytes(), func(start, end int) {
		for i := start; i < end; i++ {
			copy(out[i*length*size:][:length*size], in[(i*pitch+from)*size:])
		}
	})
}

// Swap copies bytes, whatever they mean.
func (b *Backend) Swap(dst *kernels.Tensor, op *kernels.Swap) {
	in, out := op.In.Mem.(kernels.HostMem), dst.Mem.(kernels.HostMem)
	s := op.In.Shape
	run := s[3] * dst.DType.Size()
	b.rows(s[0]*s[2], dst.Bytes(), func(start, end int) {
		for row := start; row < end; row++ { // of the result
			n, j := row/s[2], row%s[2]
			for i := range s[1] {
				copy(out[(row*s[1]+i)*run:][:run], in[((n*s[1]+i)*s[2]+j)*run:])
			}
		}
	})
}
