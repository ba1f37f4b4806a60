//go:build cuda && linux && (amd64 || arm64)

package drv

// gorgonia.org/cu links with -lcuda. stub/libcuda.a is an empty archive that satisfies the linker where no driver is
// installed; trampolines.c defines the functions.

/*
#cgo LDFLAGS: -L${SRCDIR}/stub -ldl
#include <cuda.h>
#include <stdlib.h>
int drv_status(const char **text);

// The kernel's one parameter is a struct; the driver knows its size and copies it.
static CUresult launch(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned threads, unsigned shared, CUstream s, void *parameter) {
	void *parameters[] = {parameter};
	return cuLaunchKernel(f, gx, gy, gz, threads, 1, 1, shared, s, parameters, 0);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"reflect"
	"unsafe"

	"gorgonia.org/cu"
)

// Error is a CUresult with the driver's own words.
type Error struct {
	Code int
	Call string
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s (CUDA error %d)", e.Call, e.Text, e.Code) }

// Code is the CUresult in an error of this package or of gorgonia.org/cu, 0 if there is none. The type of the latter's
// errors is an integer whose name is not exported, so only reflection can read it.
func Code(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	if v := reflect.ValueOf(err); v.IsValid() && v.Kind() == reflect.Int {
		return int(v.Int())
	}
	return 0
}

func check(call string, r C.CUresult) error {
	if r == 0 {
		return nil
	}
	return &Error{int(r), call, Text(int(r))}
}

// Text is the driver's description of an error code.
func Text(code int) string {
	var text *C.char
	if C.cuGetErrorString(C.CUresult(code), &text) != 0 || text == nil {
		return "unknown error"
	}
	return C.GoString(text)
}

// Status opens the driver if that was not tried yet, and says why it cannot be used.
func Status() error {
	var text *C.char
	if r := C.drv_status(&text); r != 0 {
		return fmt.Errorf("%s", C.GoString(text))
	}
	return nil
}

// A cu.Function, cu.Stream and cu.Graph are each a struct of one handle.
func function(f cu.Function) C.CUfunction { return *(*C.CUfunction)(unsafe.Pointer(&f)) }
func stream(s cu.Stream) C.CUstream       { return *(*C.CUstream)(unsafe.Pointer(&s)) }

// AllowSharedMemory lets a function be launched with n bytes of dynamic shared memory; without it
// 48 KiB are the limit.
func AllowSharedMemory(f cu.Function, n int) error {
	return check("cuFuncSetAttribute", C.cuFuncSetAttribute(function(f), C.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, C.int(n)))
}

// Launch queues a kernel whose one parameter is a struct of any size, which is copied before Launch returns.
// (*cu.Function).Launch copies 8 bytes of each parameter.
func Launch(f cu.Function, grid [3]int, threads, shared int, s cu.Stream, parameter unsafe.Pointer) error {
	return check("cuLaunchKernel", C.launch(function(f), C.uint(grid[0]), C.uint(grid[1]), C.uint(grid[2]), C.uint(threads), C.uint(shared), stream(s), parameter))
}

// DestroyStream frees a stream after its queued work is done.
func DestroyStream(s cu.Stream) error {
	return check("cuStreamDestroy", C.cuStreamDestroy(stream(s)))
}

// AllocPinned returns n bytes of page-locked host memory, which the device copies from without help
// of the CPU. Free it with FreePinned.
func AllocPinned(n int) ([]byte, error) {
	var p unsafe.Pointer
	if err := check("cuMemHostAlloc", C.cuMemHostAlloc(&p, C.size_t(n), 0)); err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), n), nil
}

// FreePinned frees what AllocPinned returned.
func FreePinned(b []byte) error {
	return check("cuMemFreeHost", C.cuMemFreeHost(unsafe.Pointer(unsafe.SliceData(b))))
}

// Graph is a recorded series of launches that is replayed with one call.
type Graph struct{ exec C.CUgraphExec }

// BeginCapture records what is queued on the stream, instead of running it, until EndCapture.
func BeginCapture(s cu.Stream) error {
	return check("cuStreamBeginCapture", C.cuStreamBeginCapture(stream(s), C.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))
}

// EndCapture returns what was recorded since BeginCapture, ready to launch.
func EndCapture(s cu.Stream) (Graph, error) {
	var g C.CUgraph
	if err := check("cuStreamEndCapture", C.cuStreamEndCapture(stream(s), &g)); err != nil {
		return Graph{}, err
	}
	defer C.cuGraphDestroy(g)
	var out Graph
	err := check("cuGraphInstantiate", C.cuGraphInstantiate(&out.exec, g, 0))
	return out, err
}

// Launch queues the recorded work on the stream.
func (g Graph) Launch(s cu.Stream) error {
	return check("cuGraphLaunch", C.cuGraphLaunch(g.exec, stream(s)))
}

// Destroy frees the graph.
func (g Graph) Destroy() error { return check("cuGraphExecDestroy", C.cuGraphExecDestroy(g.exec)) }
