// Package noise draws the normal numbers that diffusion starts from, and reproduces PyTorch's two
// generators: a seed gives the picture here that it gives there.
//
// [TorchCPU] equals torch.randn with torch.Generator("cpu") on x86-64, bit for bit; [TorchCUDA] follows
// torch.randn with torch.Generator("cuda"): its integers and their layout are exact, its normals are
// within the error of the GPU's sine unit (see there).
//
// How many elements a call asks for is part of the stream: two draws of 8 are not one draw of 16. So
// each call of Normal stands for one call of torch.randn.
package noise

import (
	"fmt"
	"math"
)

// Source is a stream of standard normal numbers. It is not safe for concurrent use.
type Source interface {
	// Normal fills dst as one call of torch.randn(len(dst)) does.
	Normal(dst []float32)

	// NormalAs fills dst as torch.randn(len(dst), dtype=t) does; the values are widened to float32,
	// exactly. NormalAs(dst, Float32) is Normal(dst).
	NormalAs(dst []float32, t Type)

	// Seed is what the source was made with.
	Seed() uint64

	// State is the whole state, to go on from later, in another process or on another machine.
	State() []byte

	// Restore puts back what State gave. The error says how the bytes are not a state of this kind
	// of source; the source is then unchanged.
	Restore(state []byte) error
}

// The names that New knows.
const (
	KindTorchCPU  = "torch-cpu"
	KindTorchCUDA = "torch-cuda"
)

// Kinds lists the names that New knows, the default first.
func Kinds() []string { return []string{KindTorchCPU, KindTorchCUDA} }

// New makes a source by name; "" is "torch-cpu". The "torch-cuda" source has the zero [CUDADevice].
func New(kind string, seed uint64) (Source, error) {
	switch kind {
	case KindTorchCPU, "":
		return NewTorchCPU(seed), nil
	case KindTorchCUDA:
		return NewTorchCUDA(seed, CUDADevice{}), nil
	}
	return nil, fmt.Errorf("unknown noise %q: choose %s or %s", kind, KindTorchCPU, KindTorchCUDA)
}

// Type is the element type that a torch.randn call asks for.
type Type uint8

// The types that latents have.
const (
	Float32 Type = iota
	Float16
	BFloat16
)

// round gives the value of t nearest to v, ties to even. |v| must be below 65504.
func (t Type) round(v float32) float32 {
	b := math.Float32bits(v)
	switch {
	case t == BFloat16: // 8 significant bits of 24
		return math.Float32frombits((b + 0x7fff + b>>16&1) &^ 0xffff)
	case t == Float16 && b&0x7fffffff >= 0x38800000: // from 2⁻¹⁴: 11 significant bits of 24
		return math.Float32frombits((b + 0xfff + b>>13&1) &^ 0x1fff)
	case t == Float16: // subnormal, a multiple of 2⁻²⁴, which is the last place of 0.5
		half := float32(math.Copysign(0.5, float64(v)))
		return float32(math.Copysign(float64(float32(v+half)-half), float64(v)))
	}
	return v
}
