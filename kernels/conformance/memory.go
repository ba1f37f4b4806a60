package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"darkroom/kernels"
	"darkroom/tensor"
)

// memory checks what is not an operation: copies, slices and the loading of weights.
func (s *suite) memory() (out []Verdict) {
	add := func(name, check string, f func() error) {
		if s.o.Match != nil && !s.o.Match("memory/"+name) {
			return
		}
		_, err := guarded(func() (float64, error) { return 0, f() })
		out = append(out, Verdict{Case: "memory/" + name, Check: check, Err: err})
	}
	add("copies", "write and read", s.copies)
	for _, c := range []struct {
		name  string
		role  kernels.Role
		shape tensor.Shape
	}{
		{"vector", kernels.Vector, tensor.Shape{37}},
		{"filter", kernels.Filter, tensor.Shape{19, 5, 3, 3}},
		{"filter 1×1", kernels.Filter, tensor.Shape{33, 18, 1, 1}},
		{"matrix", kernels.Matrix, tensor.Shape{50, 23}},
		{"geglu", kernels.MatrixGEGLU, tensor.Shape{42, 31}},
		{"table", kernels.Table, tensor.Shape{11, 7}},
	} {
		add("load "+c.name, "size", func() error {
			_, w := sample(tensor.F32, c.role, c.shape)
			return s.packedSize(w)
		})
		for _, d := range []tensor.DType{tensor.F32, tensor.F16, tensor.BF16} {
			for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
				add("load "+c.name, fmt.Sprintf("refuses %g in %v", bad, d), func() error { return s.refuses(c.role, c.shape, d, float32(bad)) })
			}
		}
	}
	add("load normalised matrix", "size", func() error {
		_, w := sample(tensor.F32, kernels.Matrix, tensor.Shape{50, 64})
		_, gamma := sample(tensor.F32, kernels.Vector, tensor.Shape{64})
		w.Norm = &kernels.RowNorm{Gamma: gamma, Eps: 1}
		return s.packedSize(w)
	})
	return out
}

// copies writes a pattern to part of a block and reads it and its surroundings back.
func (s *suite) copies() error {
	m, err := s.b.Alloc(1024)
	if err != nil {
		return err
	}
	defer s.b.Free(m)
	if m.Bytes() != 1024 {
		return fmt.Errorf("asked for 1024 bytes, got %d", m.Bytes())
	}
	want := make([]byte, 1024)
	for i := range want {
		want[i] = byte(i * 7)
	}
	if err := s.b.Write(m, want); err != nil {
		return err
	}
	part := bytes.Repeat([]byte{0xEE}, 256)
	if err := s.b.Write(s.b.Slice(m, 512, 256), part); err != nil {
		return err
	}
	copy(want[512:], part)
	got := make([]byte, 1024)
	if err := s.b.Read(got, m); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("what was read is not what was written")
	}
	return nil
}

func sample(d tensor.DType, role kernels.Role, shape tensor.Shape) ([]float32, *kernels.Weight) {
	values := make([]float32, shape.Len())
	for i := range values {
		values[i] = float32(i%13) - 6
	}
	return values, kernels.NewWeight("unet.sample", role, encoded(d, values, shape))
}

func (s *suite) packedSize(w *kernels.Weight) error {
	if err := s.b.Load(w); err != nil {
		return err
	}
	defer s.b.Unload(w)
	if got, want := s.b.Packed(w).Bytes(), s.b.PackedBytes(w); got != want {
		return fmt.Errorf("PackedBytes says %d, Load took %d", want, got)
	}
	return nil
}

// refuses puts one bad value at several places, the corners among them.
func (s *suite) refuses(role kernels.Role, shape tensor.Shape, d tensor.DType, bad float32) error {
	n := shape.Len()
	for _, at := range []int{0, n / 3, n - 1} {
		values, w := sample(d, role, shape)
		values[at] = bad
		w.Host = tensor.Stored(encoded(d, values, shape))
		var e *kernels.NonFiniteWeightError
		err := s.b.Load(w)
		if err == nil {
			s.b.Unload(w)
			return fmt.Errorf("Load accepted %g", bad)
		}
		if !errors.As(err, &e) {
			return fmt.Errorf("Load gave another error than a NonFiniteWeightError: %w", err)
		}
		if e.Name != w.Name || e.Index != at || (e.Value == e.Value) != (bad == bad) {
			return fmt.Errorf("element %d holds %g, but Load says: %w", at, bad, e)
		}
		if s.b.Packed(w) != nil {
			return errors.New("a weight that failed to load is packed")
		}
	}
	return nil
}
