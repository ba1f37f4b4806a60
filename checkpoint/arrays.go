package checkpoint

import (
	"maps"
	"slices"
	"strings"

	"darkroom/tensor"
)

// The arrays here are other ones seen in another way. None holds a copy.

// reshaped is an array with other axes; the elements and their order are the same.
type reshaped struct {
	tensor.Array
	shape tensor.Shape
}

func (r reshaped) Shape() tensor.Shape { return r.shape }

func (r reshaped) Plain() (tensor.Tensor, bool) {
	t, ok := r.Array.Plain()
	t.Shape = r.shape
	return t, ok
}

// squeezed leaves off axes of length 1 at the end, down to n axes: a 1×1 convolution is read as a matrix.
func squeezed(a tensor.Array, n int) tensor.Array {
	s := a.Shape()
	if len(s) <= n {
		return a
	}
	for len(s) > n && s[len(s)-1] == 1 {
		s = s[:len(s)-1]
	}
	return reshaped{a, s}
}

// transposed is a matrix with its axes exchanged.
type transposed struct{ tensor.Array }

func (t transposed) Shape() tensor.Shape {
	s := t.Array.Shape()
	return tensor.Shape{s[1], s[0]}
}

func (t transposed) Plain() (tensor.Tensor, bool) { return tensor.Tensor{}, false }

// Decode reads the stored rows that hold the columns asked for, one at a time.
func (t transposed) Decode(dst []float32, start int) error {
	s := t.Array.Shape() // [columns of ours, rows of ours]
	row := make([]float32, s[1])
	for c := range s[0] {
		if err := t.Array.Decode(row, c*s[1]); err != nil {
			return err
		}
		for r := (start - c + s[0] - 1) / s[0]; ; r++ { // elements r·s[0] + c at and after start
			at := r*s[0] + c - start
			if at >= len(dst) {
				break
			}
			if at >= 0 {
				dst[at] = row[r]
			}
		}
	}
	return nil
}

// table is Weights by a list.
type table map[string]tensor.Array

func (t table) Array(name string) (tensor.Array, bool) {
	a, ok := t[name]
	return a, ok
}

// Names lists the arrays, sorted.
func (t table) Names() []string { return slices.Sorted(maps.Keys(t)) }

// below is the arrays whose names begin with a prefix, without it.
func (t table) below(prefix string) table {
	out := table{}
	for name, a := range t {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			out[rest] = a
		}
	}
	return out
}

// axis is the length of an axis, 0 if there is no such array or axis.
func (t table) axis(name string, i int) int {
	if s := t[name]; s != nil && i < len(s.Shape()) {
		return s.Shape()[i]
	}
	return 0
}
