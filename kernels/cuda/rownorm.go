//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"gorgonia.org/cu"

	"darkroom/kernels"
	"darkroom/tensor"
)

// Layer norms before products. The matrix holds the norm's scale, and the product is normalised in the epilogue, by moments
// of the rows (moments.cuh) that the product before it has left: the rows are not read or written for the norm's sake.

// granule is moments.cuh's kGranule.
const granule = 32

// momentsOf are the moments that the last product took along. Products write to two places in turn: one may read the
// moments of its input while it writes those of its result.
type momentsOf struct {
	places [2]scratch
	next   int
	at     cu.DevicePtr
	of     *kernels.Tensor // the tensor whose rows they are of; nil for none
	apart  bool            // they are always computed anew: for a test
}

func (m *momentsOf) free() {
	for i := range m.places {
		m.places[i].free()
	}
}

// moments is norm.cu's Moments.
type moments struct {
	a, d           cu.DevicePtr
	rows, channels int32
}

// momentsFor is room for the moments of a matrix. Both places get it at once: in a recording, which has another turn than the
// run before it, nothing can be allocated.
func (b *Backend) momentsFor(rows, columns int) (cu.DevicePtr, bool) {
	m := &b.moments
	for i := range m.places {
		at, ok := b.roomIn(&m.places[i], 8*rows*columns/granule)
		if !ok {
			return 0, false
		}
		if i == m.next {
			m.at = at
		}
	}
	m.next, m.of = 1-m.next, nil
	return m.at, true
}

// normalises says whether products of these rows are normalised in place of the rows. Weights in 8 bits are rounded as they
// are in the file, without a norm's scale.
func (b *Backend) normalises(columns int) bool {
	return b.products != plain && !b.int8 && b.dtype != tensor.F32 && columns%granule == 0
}

// folds says whether a weight is packed with the scale of its norm.
func (b *Backend) folds(w *kernels.Weight) bool { return w.Norm != nil && b.normalises(w.Shape[1]) }

// normed gives a product the norm that comes before it; false after an error.
func (b *Backend) normed(g *gemm, op *kernels.Linear) bool {
	n := op.LayerNorm()
	if n == nil {
		return true
	}
	rows, columns := int(g.m), int(g.k)
	if !b.folds(op.W) { // in a pass of its own
		at, ok := b.roomIn(&b.rows, op.In.Bytes())
		if ok {
			g.a = at
			b.LayerNorm(&kernels.Tensor{Shape: op.In.Shape, DType: op.In.DType, Mem: mem{at, op.In.Bytes()}}, n)
		}
		return ok
	}
	w := b.layout(op.W)
	g.sums = g.b + cu.DevicePtr(w.rows*w.rowBytes())
	g.shift = g.sums + cu.DevicePtr(4*w.rows)
	g.eps = n.Eps
	if m := &b.moments; m.of == nil || m.of != op.In.Root() || m.apart {
		at, ok := b.momentsFor(rows, columns)
		if !ok {
			return false
		}
		launch(b, kernel{"norm", "moments_" + b.suffix()}, [3]int{ceil(rows*columns/4, normThreads), 1, 1}, normThreads, 0,
			&moments{a: g.a, d: at, rows: g.m, channels: g.k})
	}
	g.moments = b.moments.at
	return true
}

// fold is what a norm makes of a matrix: its scale goes into the values. vectors are, by packed row, the sum of the values as
// they are stored, then what the norm's shift adds to the products.
type fold struct {
	gamma, beta []float32 // beta nil for 0
	vectors     []float32
}

// fold is nil where a weight has no norm, or one that is computed apart.
func (l layout) fold(w *kernels.Weight) (*fold, error) {
	if l.norm == nil {
		return nil, nil
	}
	f := &fold{gamma: make([]float32, l.width), vectors: make([]float32, 2*l.rows)}
	if err := l.norm.Gamma.Decode(f.gamma, 0); err != nil {
		return nil, err
	}
	if l.norm.Beta != nil {
		f.beta = make([]float32, l.width)
		if err := l.norm.Beta.Decode(f.beta, 0); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// scale takes a packed row's values through the norm's scale.
func (f *fold) scale(row []float32, at int) {
	var shift float64
	for c, v := range row {
		if f.beta != nil {
			shift += float64(f.beta[c]) * float64(v)
		}
		row[c] = f.gamma[c] * v
	}
	f.vectors[len(f.vectors)/2+at] = float32(shift)
}

// sum adds up a row as it was packed; into is room for its values.
func (f *fold) sum(packed tensor.Tensor, into []float32, at int) {
	packed.Float32(into)
	var sum float64
	for _, v := range into {
		sum += float64(v)
	}
	f.vectors[at] = float32(sum)
}
