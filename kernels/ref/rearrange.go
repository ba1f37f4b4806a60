package ref

import "darkroom/kernels"

// Concat is the contract's loop.
func (b *Backend) Concat(dst *kernels.Tensor, op *kernels.Concat) {
	result, off, pitch := kernels.Floats(dst), 0, dst.Shape[op.Axis:].Len()
	for _, p := range op.Parts {
		in, row := kernels.Floats(p), op.Row(p)
		for i := range len(in) / row {
			copy(result[i*pitch+off:], in[i*row:][:row])
		}
		off += row
	}
}

// PixelShuffle is the contract's loop; one goroutine a row of the result.
func (b *Backend) PixelShuffle(dst *kernels.Tensor, op *kernels.PixelShuffle) {
	in, result, r := kernels.Floats(op.In), kernels.Floats(dst), op.Factor
	h, w, c := dst.Shape[1], dst.Shape[2], dst.Shape[3]
	b.parallel(dst.Shape[0]*h, func(row int) {
		n, y := row/h, row%h
		for x := range w {
			pixel := in[((n*h/r+y/r)*(w/r)+x/r)*c*r*r:]
			for k := range c {
				result[(row*w+x)*c+k] = pixel[(k*r+y%r)*r+x%r]
			}
		}
	})
}

// Surround is the contract's loop; one goroutine a row of the result.
func (b *Backend) Surround(dst *kernels.Tensor, op *kernels.Surround) {
	in, result := kernels.Floats(op.In), kernels.Floats(dst)
	h, w, c := dst.Shape[1], dst.Shape[2], dst.Shape[3]
	b.parallel(dst.Shape[0]*h, func(row int) {
		n, y := row/h, op.From(0, row%h)
		for x := range w {
			at, sx := result[(row*w+x)*c:][:c], op.From(1, x)
			if y < 0 || sx < 0 {
				clear(at)
				continue
			}
			copy(at, in[((n*op.In.Shape[1]+y)*op.In.Shape[2]+sx)*c:])
		}
	})
}

// Cut is the contract's loop.
func (b *Backend) Cut(dst *kernels.Tensor, op *kernels.Cut) {
	in, result := kernels.Floats(op.In), kernels.Floats(dst)
	from, length, pitch := op.Span()
	for i := range len(result) / length {
		copy(result[i*length:][:length], in[i*pitch+from:])
	}
}

// Swap is the contract's loop.
func (b *Backend) Swap(dst *kernels.Tensor, op *kernels.Swap) {
	in, result, s := kernels.Floats(op.In), kernels.Floats(dst), op.In.Shape
	for n := range s[0] {
		for i := range s[1] {
			for j := range s[2] {
				copy(result[((n*s[2]+j)*s[1]+i)*s[3]:][:s[3]], in[((n*s[1]+i)*s[2]+j)*s[3]:])
			}
		}
	}
}
