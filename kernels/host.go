package kernels

import (
	"fmt"
	"unsafe"

	"darkroom/tensor"
)

// HostMem is memory of the host, for the backends that run there.
type HostMem []byte

func (m HostMem) Bytes() int { return len(m) }

// Floats views the memory as float32 values.
func (m HostMem) Floats() []float32 { return tensor.Floats(m) }

// Ints views the memory as int32 values.
func (m HostMem) Ints() []int32 {
	return unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(m))), len(m)/4)
}

// HostMemory is the memory half of a Backend on the host, to be embedded by it.
type HostMemory struct{}

// Alloc returns n bytes, 64-byte aligned.
func (HostMemory) Alloc(n int) (Mem, error) {
	b := make([]byte, n+64)
	off := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & 63
	return HostMem(b[off : off+n : off+n]), nil
}

func (HostMemory) Free(Mem) {} // the garbage collector's

func (HostMemory) Slice(m Mem, off, n int) Mem { return m.(HostMem)[off : off+n : off+n] }

func (HostMemory) Write(dst Mem, src []byte) error {
	copy(dst.(HostMem), src)
	return nil
}

func (HostMemory) Read(dst []byte, src Mem) error {
	copy(dst, src.(HostMem))
	return nil
}

// Stage has nothing to do: what Fetch reads is the checkpoint.
func (HostMemory) Stage(*Weight) error { return nil }

// Fetches and operations are done when their calls return.
func (HostMemory) FetchesWaitForOps() {}
func (HostMemory) OpsWaitForFetches() {}

// HostFullAt is Info.FullAt of a processor. A larger batch saves a sixth of the embedded model's work (128×128: fewer,
// larger products, weights read once), and nothing at the sizes of Stable Diffusion, where the activations no longer fit
// into its caches.
const HostFullAt = 16 * 128 * 128

// Floats views a tensor of a host backend; nil stays nil.
func Floats(t *Tensor) []float32 {
	if t == nil {
		return nil
	}
	return t.Mem.(HostMem).Floats()
}

// WeightFloats views what a host backend packed; nil stays nil.
func (l *Loaded) WeightFloats(w *Weight) []float32 {
	if w == nil {
		return nil
	}
	return l.Packed(w).(HostMem).Floats()
}

// NonFiniteWeightError says that a checkpoint holds NaN or infinity.
type NonFiniteWeightError struct {
	Name  string
	Index int
	Value float32
}

func (e *NonFiniteWeightError) Error() string {
	return fmt.Sprintf("weight %s holds %v at element %d: the file is damaged or was saved from a diverged training run", e.Name, e.Value, e.Index)
}

// Decode widens the weight's elements [start, start+len(dst)) to float32 and checks that they are finite.
func (w *Weight) Decode(dst []float32, start int) error {
	if err := w.Host.Decode(dst, start); err != nil {
		return fmt.Errorf("weight %s: %w", w.Name, err)
	}
	if i := NonFinite(dst); i >= 0 {
		return &NonFiniteWeightError{w.Name, start + i, dst[i]}
	}
	return nil
}
