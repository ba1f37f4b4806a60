package conformance

import (
	"fmt"
	"math"

	"darkroom/kernels"
	"darkroom/tensor"
)

func rotaryCases() []testCase {
	var out []testCase
	for _, r := range []struct {
		n, t, heads, d int
		norm, half     bool
		slow           bool
	}{
		{1, 1, 1, 2, false, false, false}, {3, 5, 2, 16, false, false, false}, {2, 7, 3, 10, true, false, false}, {2, 33, 2, 128, true, false, false},
		{1, 9, 4, 64, true, true, false}, {3, 5, 2, 18, false, true, false}, {2, 130, 6, 128, true, true, true},
	} {
		name := fmt.Sprintf("rotary/%d×%d, %d×%d", r.n, r.t, r.heads, r.d)
		if r.norm {
			name += " norm"
		}
		if r.half {
			name += " half"
		}
		out = append(out, testCase{name: name, batch: r.n, slow: r.slow, op: func(o *operands) kernels.Op {
			op := &kernels.Rotary{In: o.in(r.n, r.t, r.heads*r.d), Angles: o.angles(r.n, r.t, r.d), Heads: r.heads, Eps: 1e-6, Half: r.half}
			if r.norm {
				op.Gamma = o.weight(kernels.Vector, r.d)
			}
			return op
		}})
	}
	return out
}

// rotaryBound: both products of a pair, and before them a normalisation.
func (o *operands) rotaryBound(op *kernels.Rotary) []float64 {
	x := o.host[op.In]
	d := op.In.Shape[2] / op.Heads
	gamma := make([]float32, d)
	for i := range gamma {
		gamma[i] = 1
	}
	if op.Gamma != nil {
		gamma = floats(op.Gamma)
	}
	bound := make([]float64, len(x))
	for at := 0; at < len(x); at += d {
		head, inv := x[at:][:d], 1.0
		if op.Gamma != nil {
			var squares float64
			for _, v := range head {
				squares += float64(v) * float64(v)
			}
			inv = 1 / math.Sqrt(squares/float64(d)+float64(op.Eps))
		}
		for i := range d / 2 {
			p, q := 2*i, 2*i+1
			if op.Half {
				p, q = i, i+d/2
			}
			size := inv * (math.Abs(float64(head[p]*gamma[p])) + math.Abs(float64(head[q]*gamma[q])))
			bound[at+p], bound[at+q] = normalUlps*u*size, normalUlps*u*size
		}
	}
	return bound
}

// angles draws cosines and sines, which stay float32.
func (o *operands) angles(n, t, d int) *kernels.Tensor {
	values := make([]float32, n*t*d)
	for i := range n * t {
		for j := range d / 2 {
			sin, cos := math.Sincos(10 * o.rng.NormFloat64())
			values[i*d+j], values[i*d+d/2+j] = float32(cos), float32(sin)
		}
	}
	return o.constantInput(tensor.F32, tensor.Bytes(values), n, t, d)
}

// lengths draws how many of so many keys each image has: all of the first one's.
func (o *operands) lengths(n, most int) *kernels.Tensor {
	lengths := make([]int32, n)
	for i := range lengths {
		lengths[i] = int32(most)
		if i > 0 || n == 1 {
			lengths[i] = int32(1 + o.rng.IntN(most))
		}
	}
	b := make([]byte, 0, 4*n)
	for _, l := range lengths {
		b = append(b, byte(l), byte(l>>8), byte(l>>16), byte(l>>24))
	}
	return o.constantInput(tensor.I32, b, n)
}

// constantInput is an input of a type of its own.
func (o *operands) constantInput(d tensor.DType, data []byte, shape ...int) *kernels.Tensor {
	s := append(tensor.Shape{}, shape...)
	if o.v.count > 0 {
		image := len(data) / s[0]
		data = data[o.v.first*image : (o.v.first+o.v.count)*image]
		s[0] = o.v.count
	}
	t := &kernels.Tensor{Shape: s, DType: d, Mem: o.alloc(len(data))}
	must(o.b.Write(t.Mem, data))
	return t
}

// shared draws an input of F32 that all images read.
func (o *operands) shared(shape ...int) *kernels.Tensor {
	values := make([]float32, tensor.Shape(shape).Len())
	for i := range values {
		values[i] = float32(2 * o.rng.NormFloat64())
	}
	data := tensor.Bytes(values)
	t := &kernels.Tensor{Shape: shape, DType: tensor.F32, Mem: o.alloc(len(data))}
	must(o.b.Write(t.Mem, data))
	o.host[t] = values
	return t
}
