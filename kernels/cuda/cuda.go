// Package cuda runs the operations on an NVIDIA GPU with kernels of our own: gemm.cu (Conv2D and
// Linear), attention.cu, norm.cu, embed.cu and pointwise.cu, launched through gorgonia.org/cu. It is compiled with
// the build tag cuda, after build.sh has made the fatbins; without the tag Open and Devices say so.
//
// A Backend computes in one element type. In F16 and BF16 the products run on tensor cores with
// float32 sums, in F32 those of Conv2D and Linear do on request (Options.TF32); the plain kernels of the same name
// with "simple" in it serve F32, every type on request (Options.Simple), and the shapes that tensor cores do not like.
package cuda

import (
	"errors"
	"fmt"

	"darkroom/kernels/conformance"
	"darkroom/tensor"
)

// Options say how to open a device. The zero value is device 0 in float32.
type Options struct {
	Device int          // as Devices numbers them
	DType  tensor.DType // of activations and packed weights: F32, F16 or BF16
	// TF32 lets the products of F32 run on tensor cores, which read 11 significant bits of a float32 and add up in
	// float32. Attention and everything else stay float32. It needs compute capability 8.0; Open says so.
	TF32 bool
	// Int8 keeps the weights that are Tolerant in 8 bits, and unpacks each just before it is used. DType must be F16 or BF16.
	Int8 bool
	// Simple avoids tensor cores: slower, for comparison and where a device fails the self-test.
	Simple bool
}

// Device describes a GPU.
type Device struct {
	Index      int
	Name       string
	Capability [2]int // compute capability, {8, 9}
	Memory     int    // bytes
	Free       int    // bytes free now; 0 if unknown
	Driver     string // the newest CUDA version that the driver supports, "12.9"
	Processors int    // streaming multiprocessors
	// Unusable says why the device cannot be used; empty if it can.
	Unusable string
}

// Verdict is the outcome of a device's self-test; it is kept in a file for the next start.
type Verdict struct {
	Device, Driver, Build string
	DType                 string   // that was computed in
	Failed                []string // checks of the tensor-core kernels, with what was wrong
	SimpleGEMM            bool     // the simple kernels of a family replace the ones that failed
	SimpleAttention       bool
	Hopper                string // of products by wgmma: "" not tried, "faster" and so used, "slower", or what was wrong
	HopperAttention       string // the same of attention
	Wrong                 string // a check that the slower kernels fail too, so that the device is of no use; "" is good
}

// Replaced names the operations for which slower kernels are used.
func (v Verdict) Replaced() []string {
	var names []string
	if v.SimpleGEMM {
		names = append(names, "conv2d", "linear")
	}
	if v.SimpleAttention {
		names = append(names, "attention")
	}
	return names
}

// Report is a self-test in full.
type Report struct {
	Device  Device
	Checks  []conformance.Verdict // with the kernels that the device is used with at first
	Again   []conformance.Verdict // with slower ones in the place of those that failed; nil if none did
	Verdict Verdict
	Broken  error  // the device failed during the test, which says nothing of the kernels
	Path    string // where the verdict is kept; "" where there is no place
}

// ErrNotBuilt is why there is no device in a build without the tag cuda.
var ErrNotBuilt = errors.New("this build of darkroom has no CUDA support; build it with `make cuda`")

// OutOfMemoryError says how much was asked for and how much there was.
type OutOfMemoryError struct {
	Device             string
	Asked, Free, Total int // bytes
}

func (e *OutOfMemoryError) Error() string {
	return fmt.Sprintf("%s is out of memory: %d MiB were asked for, %d of %d MiB are free; use a smaller size or count, --low-memory, or another --device",
		e.Device, mib(e.Asked), e.Free>>20, e.Total>>20)
}

func mib(n int) int { return (n + 1<<20 - 1) >> 20 }

// DeviceError is a failure of the device itself. After a fatal one the process can make no further use of the
// device: every later call fails too.
type DeviceError struct {
	Device string
	Doing  string // the kernel or call that it was noticed in; the cause may lie before
	Code   int    // CUresult
	Text   string // the driver's words
}

func (e *DeviceError) Error() string {
	hint := ""
	switch e.Code {
	case codeECC:
		hint = "; its memory is faulty: restart the machine, and replace the card if it happens again"
	case codeIllegalAddress, codeMisaligned, codeIllegalInstruction:
		hint = "; this is a mistake in darkroom's kernels or unstable hardware: please report it with the command line"
	case codeLaunchFailed, codeUnavailable, codeUnknown:
		hint = "; the device was lost: look for Xid messages in the system log, then start darkroom again"
	}
	return fmt.Sprintf("%s failed at %s: %s (CUDA error %d)%s", e.Device, e.Doing, e.Text, e.Code, hint)
}

// Fatal says whether the device is lost to this process: CUDA's documentation asks to end and start it again after
// these, and opening the device once more gives the same error.
func (e *DeviceError) Fatal() bool {
	switch e.Code {
	case codeECC, codeIllegalAddress, codeIllegalInstruction, codeMisaligned, codeLaunchFailed, codeUnavailable, codeUnknown,
		codeHardwareStack, codeAddressSpace, codeInvalidPC, codeAssert, codeNVLink:
		return true
	}
	return false
}

// Lost says whether an error took its device with it: a fatal DeviceError, however wrapped.
func Lost(err error) bool {
	var e *DeviceError
	return errors.As(err, &e) && e.Fatal()
}

// CUresult values of cuda.h.
const (
	codeOutOfMemory        = 2
	codeUnavailable        = 46
	codeECC                = 214
	codeNVLink             = 220
	codeIllegalAddress     = 700
	codeAssert             = 710
	codeHardwareStack      = 714
	codeIllegalInstruction = 715
	codeMisaligned         = 716
	codeAddressSpace       = 717
	codeInvalidPC          = 718
	codeLaunchFailed       = 719
	codeUnknown            = 999
)
