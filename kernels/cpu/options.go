package cpu

import (
	"unsafe"

	"darkroom/tensor"
)

// Options for New; the zero value is right for most.
type Options struct {
	Threads int          // 0: one for each processor that the program may use
	DType   tensor.DType // of activations and packed weights: F32 or, where the processor computes in it, BF16
	// Int8 packs the weights that are Tolerant in 8 bits, with a scale for each output channel, and rounds what they are
	// multiplied with to 8 bits. It needs BF16.
	Int8         bool
	Instructions string         // one of Instructions(DType); empty: the best that the processor has and that passes its test
	Kernels      unsafe.Pointer // a set of kernels that this package does not have, in place of the two above: cpu/lowered, for tests
}
