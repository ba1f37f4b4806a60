package conformance

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"

	"darkroom/kernels"
	"darkroom/tensor"
)

// variant is one way of running a case.
type variant struct {
	dtype        tensor.DType // of the activations
	rounded      tensor.DType // operands are rounded to it as they are drawn, and checkpoints hold it
	first, count int          // images of the batch; count 0 means all
	poison       int          // 1-based input that gets a NaN in the last image
}

// in is the variant that computes in the type d.
func in(d tensor.DType) variant { return variant{dtype: d, rounded: d} }

// window is the part of a result of the whole batch that the variant's images are.
func (v variant) window(full []float32, batch int) []float32 {
	if v.count == 0 {
		return full
	}
	image := len(full) / batch
	return full[v.first*image : (v.first+v.count)*image]
}

// operands draws a case's tensors and weights. The numbers depend on the case's name and the order
// of the calls alone, so that every backend, element type and window of the batch sees the same.
type operands struct {
	b      kernels.Backend
	v      variant
	rng    *rand.Rand
	host   map[*kernels.Tensor][]float32
	inputs []*kernels.Tensor
	loaded []*kernels.Weight
	mems   []kernels.Mem

	norm *kernels.RowNorm // of the matrix drawn next

	// Scale and offset of the inputs drawn next: x = Offset + Scale·N(0,1).
	scale, offset float64
}

func newOperands(b kernels.Backend, c testCase, v variant) *operands {
	h := fnv.New64a()
	h.Write([]byte(c.name))
	return &operands{b: b, v: v, rng: rand.New(rand.NewPCG(h.Sum64(), 7)), host: map[*kernels.Tensor][]float32{}, scale: 1}
}

func (o *operands) free() {
	for _, w := range o.loaded {
		o.b.Unload(w)
	}
	for _, m := range o.mems {
		o.b.Free(m)
	}
}

// in draws an activation; the first axis is the batch.
func (o *operands) in(shape ...int) *kernels.Tensor {
	values := make([]float32, tensor.Shape(shape).Len())
	for i := range values {
		values[i] = float32(o.offset + o.scale*o.rng.NormFloat64())
	}
	s := append(tensor.Shape{}, shape...)
	if o.v.count > 0 {
		image := len(values) / s[0]
		values = values[o.v.first*image : (o.v.first+o.v.count)*image]
		s[0] = o.v.count
	}
	if o.v.poison == len(o.inputs)+1 {
		image := len(values) / s[0]
		values[len(values)-image+image*2/3] = float32(math.NaN())
	}
	t := o.place(values, s)
	o.inputs = append(o.inputs, t)
	return t
}

// place rounds values and writes them to the backend's memory.
func (o *operands) place(values []float32, s tensor.Shape) *kernels.Tensor {
	encoded(o.v.rounded, values, s).Float32(values)
	data := encoded(o.v.dtype, values, s).Data
	t := &kernels.Tensor{Shape: s, DType: o.v.dtype, Mem: o.alloc(len(data))}
	must(o.b.Write(t.Mem, data))
	o.host[t] = values
	return t
}

// within is a copy of a tensor among others' columns, which are NaN: so many before it and after it, multiples of 8 as those
// of a model.
func (o *operands) within(t *kernels.Tensor, before, after int) *kernels.Tensor {
	values, width := o.host[t], t.Shape[len(t.Shape)-1]
	pitch := before + width + after
	wide := make([]float32, len(values)/width*pitch)
	for i := range wide {
		wide[i] = float32(math.NaN())
	}
	for row := range len(values) / width {
		copy(wide[row*pitch+before:], values[row*width:][:width])
	}
	size := o.v.dtype.Size()
	data := encoded(o.v.dtype, wide, tensor.Shape{len(wide)}).Data
	m := o.alloc(len(data))
	must(o.b.Write(m, data))
	return &kernels.Tensor{Shape: t.Shape, DType: o.v.dtype, Pitch: pitch, Mem: o.b.Slice(m, before*size, len(data)-before*size)}
}

// ids draws tokens below n.
func (o *operands) ids(n int, shape ...int) *kernels.Tensor {
	s := append(tensor.Shape{}, shape...)
	b := make([]byte, 4*s.Len())
	for i := range s.Len() {
		id := o.rng.IntN(n)
		b[4*i], b[4*i+1] = byte(id), byte(id>>8)
	}
	if o.v.count > 0 {
		row := len(b) / s[0]
		b = b[o.v.first*row : (o.v.first+o.v.count)*row]
		s[0] = o.v.count
	}
	t := &kernels.Tensor{Shape: s, DType: tensor.I32, Mem: o.alloc(len(b))}
	must(o.b.Write(t.Mem, b))
	return t
}

// weight draws a constant. Matrices and filters have variance 1/fan-in, so that results stay near 1.
func (o *operands) weight(role kernels.Role, shape ...int) *kernels.Weight {
	return o.stored(o.v.rounded, role, shape...)
}

// stored draws a constant that the checkpoint holds in the given type.
func (o *operands) stored(d tensor.DType, role kernels.Role, shape ...int) *kernels.Weight {
	s := tensor.Shape(shape)
	scale := 1 / math.Sqrt(float64(s.Len()/s[0]))
	if role == kernels.Vector || role == kernels.Table {
		scale = 1
	}
	values := make([]float32, s.Len())
	for i := range values {
		values[i] = float32(scale * o.rng.NormFloat64())
	}
	return o.constant(d, role, values, shape...)
}

func (o *operands) constant(d tensor.DType, role kernels.Role, values []float32, shape ...int) *kernels.Weight {
	w := kernels.NewWeight(fmt.Sprintf("weight %v", shape), role, encoded(d, values, shape))
	if role == kernels.Matrix || role == kernels.MatrixGEGLU {
		w.Norm, o.norm = o.norm, nil
	}
	must(o.b.Load(w))
	o.loaded = append(o.loaded, w)
	return w
}

func encoded(d tensor.DType, values []float32, shape tensor.Shape) tensor.Tensor {
	data := make([]byte, len(values)*d.Size())
	if d == tensor.F64 {
		for i, v := range values {
			u := math.Float64bits(float64(v))
			for k := range 8 {
				data[8*i+k] = byte(u >> (8 * k))
			}
		}
	} else {
		tensor.Encode(data, d, values)
	}
	return tensor.Tensor{DType: d, Shape: shape, Data: data}
}

func (o *operands) alloc(n int) kernels.Mem {
	m, err := o.b.Alloc(n)
	must(err)
	o.mems = append(o.mems, m)
	return m
}

// must panics on an error of the backend; guarded makes a verdict of it.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

const (
	redZone = 512  // bytes before and after the result; keeps its alignment
	red     = 0xA5 // what they hold
)

// run builds a case on a backend and returns its result. The result's memory held NaN before, and
// the red zones around it must be untouched after.
func (s *suite) run(b kernels.Backend, c testCase, v variant) ([]float32, error) {
	o := newOperands(b, c, v)
	defer o.free()
	return o.result(c.op(o))
}

func (o *operands) result(op kernels.Op) ([]float32, error) {
	shape, d := op.OutShape(), o.v.dtype
	n := shape.Len() * d.Size()
	image := make([]byte, n+2*redZone)
	for i := range image {
		image[i] = red
	}
	nan := make([]float32, shape.Len())
	for i := range nan {
		nan[i] = float32(math.NaN())
	}
	tensor.Encode(image[redZone:redZone+n], d, nan)
	whole := o.alloc(len(image))
	must(o.b.Write(whole, image))

	dst := &kernels.Tensor{Shape: shape, DType: d, Mem: o.b.Slice(whole, redZone, n)}
	op.Run(o.b, dst)
	if err := o.b.Sync(); err != nil {
		return nil, err
	}
	if err := o.b.Read(image, whole); err != nil {
		return nil, err
	}
	for i, v := range image {
		if v != red && (i < redZone || i >= redZone+n) {
			return nil, fmt.Errorf("wrote outside the result: byte %d of %d", i-redZone, n)
		}
	}
	out := make([]float32, shape.Len())
	tensor.Tensor{DType: d, Shape: shape, Data: image[redZone : redZone+n]}.Float32(out)
	for t, want := range o.host {
		got := make([]byte, t.Bytes())
		if err := o.b.Read(got, t.Mem); err != nil {
			return nil, err
		}
		values := make([]float32, len(want))
		tensor.Tensor{DType: t.DType, Shape: t.Shape, Data: got}.Float32(values)
		if sameBits(values, want) != nil {
			return nil, errors.New("wrote to an operand")
		}
	}
	return out, nil
}
