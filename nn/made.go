package nn

import (
	"darkroom/kernels"
	"darkroom/tensor"
)

// Use is a weight and what it was made of.
type Use struct {
	Weight *kernels.Weight
	names  []string
	make   func(arrays []tensor.Array) tensor.Array // nil: the one array as it is
}

// Array is what the weight would be of other arrays of those names; false where one is missing.
func (u Use) Array(of func(name string) (tensor.Array, bool)) (tensor.Array, bool) {
	arrays := make([]tensor.Array, len(u.names))
	for i, name := range u.names {
		a, ok := of(name)
		if !ok {
			return nil, false
		}
		arrays[i] = a
	}
	if u.make == nil {
		return arrays[0], true
	}
	return u.make(arrays), true
}

// Part is an array that a weight is made of, with the shape that it must have.
type Part struct {
	Name  string
	Shape tensor.Shape
}

// Made is a weight made of other arrays than one as it is: rows of one, several in one, the values in another order. It
// bears the first one's name, and a mark.
func (l Loader) Made(mark string, role kernels.Role, shape tensor.Shape, build func(arrays []tensor.Array) tensor.Array, parts ...Part) *kernels.Weight {
	w := l.empty(l.name(parts[0].Name)+mark, role, shape)
	u := Use{Weight: w, make: build}
	for _, p := range parts {
		u.names = append(u.names, l.name(p.Name))
	}
	var arrays []tensor.Array
	for i, p := range parts {
		full := u.names[i]
		l.state.used[full] = true
		if m, ok := l.state.src.(maker); ok {
			w.Host = m.Make(full, shape)
			continue
		}
		if a, ok := l.array(full, p.Shape); ok {
			arrays = append(arrays, a)
			l.state.all[full] = append(l.state.all[full], u)
		}
	}
	if len(arrays) == len(parts) {
		w.Host = build(arrays)
	}
	return w
}

// LinearRows loads rows [from, to) of a matrix of so many rows as a layer of its own, without a bias: one of several that
// the file holds in one.
func (l Loader) LinearRows(in, rows, from, to int) Linear {
	return Linear{Weight: l.Made(mark(from, to), kernels.Matrix, tensor.Shape{to - from, in},
		func(a []tensor.Array) tensor.Array { return tensor.Rows(a[0], from, to) }, Part{"weight", tensor.Shape{rows, in}})}
}

// SwiGLU loads the gated layer of a transformer's MLP, without a bias, from two matrices: dst = value·SiLU(gate).
func (l Loader) SwiGLU(value, gate string, in, out int) Linear {
	shape := tensor.Shape{out, in}
	return Linear{Weight: l.Made(" and gates", kernels.MatrixGEGLU, tensor.Shape{2 * out, in},
		func(a []tensor.Array) tensor.Array { return tensor.Stack(a...) }, Part{value + ".weight", shape}, Part{gate + ".weight", shape})}
}

// SwiGLURows is SwiGLU of one matrix of so many rows, in which gates begin at row from and values follow.
func (l Loader) SwiGLURows(in, rows, from, out int) Linear {
	return Linear{Weight: l.Made(mark(from, from+2*out), kernels.MatrixGEGLU, tensor.Shape{2 * out, in},
		func(a []tensor.Array) tensor.Array {
			return tensor.Stack(tensor.Rows(a[0], from+out, from+2*out), tensor.Rows(a[0], from, from+out))
		}, Part{"weight", tensor.Shape{rows, in}})}
}
