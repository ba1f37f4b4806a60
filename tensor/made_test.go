package tensor_test

import (
	"slices"
	"testing"

	"darkroom/tensor"
)

func counted(from, rows, columns int) tensor.Array {
	values := make([]float32, rows*columns)
	for i := range values {
		values[i] = float32(from + i)
	}
	return tensor.Stored(tensor.Of(values, rows, columns))
}

// Every window of a made array is that window of its values.
func checkWindows(t *testing.T, a tensor.Array, shape tensor.Shape, want []float32) {
	t.Helper()
	if !a.Shape().Equal(shape) {
		t.Fatalf("shape %v, want %v", a.Shape(), shape)
	}
	for from := range want {
		for to := from + 1; to <= len(want); to++ {
			got := make([]float32, to-from)
			if err := a.Decode(got, from); err != nil || !slices.Equal(got, want[from:to]) {
				t.Fatalf("[%d, %d) is %v (%v), want %v", from, to, got, err, want[from:to])
			}
		}
	}
}

func TestStack(t *testing.T) {
	checkWindows(t, tensor.Stack(counted(0, 2, 3), counted(10, 1, 3), counted(20, 2, 3)), tensor.Shape{5, 3},
		[]float32{0, 1, 2, 3, 4, 5, 10, 11, 12, 20, 21, 22, 23, 24, 25})
}

func TestGather(t *testing.T) {
	checkWindows(t, tensor.Gather(counted(0, 3, 4), tensor.Shape{2, 2, 2}, []int{2, 0}, []int{3, 1, 2, 0}, -1), tensor.Shape{2, 2, 2},
		[]float32{-11, -9, -10, -8, -3, -1, -2, -0})
	checkWindows(t, tensor.Gather(counted(0, 2, 2), tensor.Shape{2, 2}, nil, nil, 2), tensor.Shape{2, 2}, []float32{0, 2, 4, 6})
}

func TestReshape(t *testing.T) {
	checkWindows(t, tensor.Stack(tensor.Reshape(counted(0, 3, 1), 1, 3), counted(3, 1, 3)), tensor.Shape{2, 3}, []float32{0, 1, 2, 3, 4, 5})
}
