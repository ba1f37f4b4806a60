package tensor

import "fmt"

// Array is a weight as it is stored, in whatever form that is. Decode is the one door to its values: it widens,
// dequantises, adds adapters.
type Array interface {
	Shape() Shape
	// Type is how the elements are stored: "F16", "Q4_K".
	Type() string
	// Bytes is the size of what is stored.
	Bytes() int
	// Decode fills dst with the elements [start, start+len(dst)), in row-major order.
	Decode(dst []float32, start int) error
	// Plain is the stored tensor, whose bytes a packer may read itself; false where only Decode knows the values.
	Plain() (Tensor, bool)
	// Release gives back memory that holds the stored bytes. They can still be decoded, at the cost of reading them again.
	Release()
}

// Stored is a tensor as an Array.
func Stored(t Tensor) Array { return stored{t} }

type stored struct{ t Tensor }

func (s stored) Shape() Shape          { return s.t.Shape }
func (s stored) Type() string          { return s.t.DType.String() }
func (s stored) Bytes() int            { return len(s.t.Data) }
func (s stored) Plain() (Tensor, bool) { return s.t, true }
func (s stored) Release()              {}

func (s stored) Decode(dst []float32, start int) error {
	if !s.t.DType.IsFloat() {
		return fmt.Errorf("elements of type %v are not weights", s.t.DType)
	}
	s.t.Float32Range(dst, start)
	return nil
}
