//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"
	"runtime"
	"unsafe"

	"gorgonia.org/cu"

	"darkroom/kernels"
	"darkroom/kernels/cuda/drv"
	"darkroom/tensor"
)

// Backend implements kernels.Backend and kernels.Recorder on one GPU: one context, one stream, on which
// everything is queued in order. Errors of queued work are kept until Sync.
type Backend struct {
	kernels.Loaded
	name            string
	device          Device
	dtype           tensor.DType
	tf32            bool    // weights are rounded to it, and so are activations as they are multiplied
	int8            bool    // tolerant weights are kept in 8 bits
	products        class   // the best that may compute products
	only            *family // of products that have a choice, for tests
	simpleAttention bool    // in place of the tensor cores'
	hopperAttention bool    // by wgmma where it can, in place of mma.sync
	tuner           *tuner  // nil: the model alone chooses
	recording       bool
	sharedMost      int // bytes of shared memory that a block can have

	gpu     cu.Device
	context cu.CUContext
	stream  cu.Stream
	modules map[string]cu.Module
	loaded  map[string]cu.Function
	allowed map[string]int // bytes of shared memory that a function may be launched with, where these are many
	staging [2]stage
	copying copying // of weights that come and go
	scratch scratch
	plain   scratch // the weight at hand, unpacked
	largest int     // of the weights that were loaded, unpacked
	rows    scratch // rows that were normalised for the next product
	moments momentsOf
	tickets mem   // ticketCount zeros, with which the last part of a divided work knows itself: see counters
	apart   bool  // split sums are added by a kernel of their own: for a test
	err     error // first since the last Sync
	broken  error // a *DeviceError after which nothing works any more; nil as long as the device does
}

var _ kernels.Recorder = (*Backend)(nil)

// Open starts a device. It fails if there is none of that number or it cannot be used, saying why.
func Open(o Options) (kernels.Backend, error) {
	if o.DType != tensor.F32 && o.DType != tensor.F16 && o.DType != tensor.BF16 || o.Int8 && o.DType == tensor.F32 {
		panic("cuda: cannot compute in " + o.DType.String())
	}
	all, err := Devices()
	if err != nil {
		return nil, err
	}
	if o.Device < 0 || o.Device >= len(all) {
		return nil, fmt.Errorf("there is no CUDA device %d: this machine has %d, numbered from 0", o.Device, len(all))
	}
	d := all[o.Device]
	if d.Unusable != "" {
		return nil, fmt.Errorf("cuda:%d (%s) cannot be used: %s", d.Index, d.Name, d.Unusable)
	}
	b, err := start(d, o)
	if err != nil {
		return nil, err // not b: a nil *Backend is not a nil Backend
	}
	return b, nil
}

// Fork opens another queue on the same device, with the same kernels.
func (b *Backend) Fork() (kernels.Backend, error) {
	f, err := start(b.device, Options{Device: b.device.Index, DType: b.dtype, TF32: b.tf32, Int8: b.int8})
	if err != nil {
		return nil, err
	}
	f.products, f.simpleAttention, f.hopperAttention = b.products, b.simpleAttention, b.hopperAttention
	if b.tuner != nil {
		f.tuner = newTuner(b.tuner.path)
	}
	return f, nil
}

func start(d Device, o Options) (*Backend, error) {
	var err error
	// bfloat16 has no tensor-core instruction before sm_80.
	if o.TF32 && d.Capability[0] < 8 {
		return nil, fmt.Errorf("cuda:%d (%s) has compute capability %d.%d; TF32 needs 8.0: compute in float16 or float32", d.Index, d.Name, d.Capability[0], d.Capability[1])
	}
	simple := o.Simple || o.DType == tensor.F32 || o.DType == tensor.BF16 && d.Capability[0] < 8
	b := &Backend{
		name: fmt.Sprintf("cuda:%d", d.Index), device: d, dtype: o.DType,
		tf32: o.TF32 && o.DType == tensor.F32, int8: o.Int8, simpleAttention: simple,
		modules: map[string]cu.Module{}, loaded: map[string]cu.Function{}, allowed: map[string]int{},
	}
	if !simple || b.tf32 && !o.Simple {
		b.products = mmaSync
	}
	if b.gpu, err = cu.GetDevice(d.Index); err != nil {
		return nil, fmt.Errorf("%s: %w", b.name, err)
	}
	if b.sharedMost, err = b.gpu.Attribute(sharedMemoryOptIn); err != nil {
		return nil, fmt.Errorf("%s: %w", b.name, err)
	}
	if b.context, err = b.gpu.RetainPrimaryCtx(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", b.name, err)
	}
	defer b.enter()()
	if b.stream, err = cu.MakeStream(cu.NonBlocking); err != nil {
		b.gpu.ReleasePrimaryCtx()
		return nil, b.explain("starting", err)
	}
	return b, nil
}

// enter makes the context current on this goroutine's thread, to which it stays bound until the
// returned function is called.
func (b *Backend) enter() (leave func()) {
	runtime.LockOSThread()
	if err := cu.SetCurrentContext(b.context); err != nil {
		b.fail("cuCtxSetCurrent", err)
	}
	return runtime.UnlockOSThread
}

// fullAt is Info.FullAt: a GPU needs many rows to be filled.
const fullAt = 8 * 1024 * 1024

// Info says which GPU this is, and in which type it computes.
func (b *Backend) Info() kernels.Info {
	return kernels.Info{
		Kind: "cuda", Name: b.name, Device: b.device.Name, DTypes: []tensor.DType{b.dtype}, TF32: b.tf32, Int8: b.int8,
		Free: b.freeMemory, FullAt: fullAt,
	}
}

// Device describes the GPU that the backend runs on.
func (b *Backend) Device() Device { return b.device }

// Sync waits for the queue and returns the first error since the last call: a *DeviceError or an
// *OutOfMemoryError.
func (b *Backend) Sync() error {
	defer b.enter()()
	if err := b.stream.Synchronize(); err != nil {
		b.fail("waiting for the kernels", err)
	}
	b.tuner.save(b.device)
	err := b.err
	b.err = nil
	return err
}

// Close gives the device's memory back. Tensors and weights must have been freed.
func (b *Backend) Close() error {
	defer b.enter()()
	err := b.stream.Synchronize()
	for i := range b.staging {
		b.staging[i].free()
	}
	b.scratch.free()
	b.plain.free()
	b.rows.free()
	b.moments.free()
	if b.tickets.bytes > 0 {
		cu.MemFree(b.tickets.at)
	}
	b.copying.close()
	for _, m := range b.modules {
		m.Unload()
	}
	drv.DestroyStream(b.stream)
	if e := b.gpu.ReleasePrimaryCtx(); err == nil {
		err = e
	}
	if err != nil {
		return b.explain("closing", err)
	}
	return nil
}

// fail remembers the first error.
func (b *Backend) fail(doing string, err error) {
	if b.err == nil {
		b.err = b.explain(doing, err)
	}
}

// explain turns an error of the driver into one of ours.
func (b *Backend) explain(doing string, err error) error {
	code := drv.Code(err)
	if code == 0 {
		return fmt.Errorf("%s: %s: %w", b.name, doing, err)
	}
	e := &DeviceError{b.name, doing, code, drv.Text(code)}
	if e.Fatal() && b.broken == nil {
		b.broken = e
	}
	return e
}

// ---- launches ----

// kernel names a function of one of the fatbins.
type kernel struct{ module, name string }

func (b *Backend) function(k kernel, shared int) (cu.Function, error) {
	if f, ok := b.loaded[k.name]; ok {
		return f, b.allow(f, k, shared)
	}
	m, ok := b.modules[k.module]
	if !ok {
		image, err := fatbins.ReadFile("fatbin/" + k.module + ".fatbin")
		if err != nil {
			panic("cuda: " + err.Error())
		}
		if m, err = cu.LoadData(string(image)); err != nil {
			return cu.Function{}, err
		}
		b.modules[k.module] = m
	}
	f, err := m.Function(k.name)
	if err != nil {
		return f, err
	}
	if err := b.allow(f, k, shared); err != nil {
		return f, err
	}
	b.loaded[k.name] = f
	return f, nil
}

// allow lets a function be launched with so many bytes of shared memory.
func (b *Backend) allow(f cu.Function, k kernel, shared int) error {
	if shared <= max(48<<10, b.allowed[k.name]) {
		return nil
	}
	b.allowed[k.name] = shared
	return drv.AllowSharedMemory(f, shared)
}

// launch queues a kernel on a grid of blocks. Its one parameter is a struct with the layout of the kernel's.
func launch[P any](b *Backend, k kernel, grid [3]int, threads, shared int, parameter *P) {
	if b.err != nil {
		return // the device is not to be trusted any more
	}
	f, err := b.function(k, shared)
	if err != nil {
		b.fail("loading "+k.name, err)
		return
	}
	if err := drv.Launch(f, grid, threads, shared, b.stream, unsafe.Pointer(parameter)); err != nil {
		b.fail(k.name, err)
	}
}

// int32s is a size as a kernel takes it.
func int32s(n int) int32 {
	if n != int(int32(n)) {
		panic(fmt.Sprintf("cuda: the size %d does not fit the 32 bits of a kernel's parameter", n))
	}
	return int32(n)
}

// suffix is the element type's name in the kernels'.
func (b *Backend) suffix() string {
	return map[tensor.DType]string{tensor.F32: "f32", tensor.F16: "f16", tensor.BF16: "bf16"}[b.dtype]
}

// want panics if a tensor is not of the backend's type: a programmer's mistake.
func (b *Backend) want(ts ...*kernels.Tensor) {
	for _, t := range ts {
		if t != nil && t.DType != b.dtype {
			panic(fmt.Sprintf("cuda: a tensor of %v on a backend that computes in %v", t.DType, b.dtype))
		}
	}
}

// ---- recordings: one CUDA graph for a whole program ----

type recording struct {
	b *Backend
	g drv.Graph
}

// Record makes one CUDA graph of what f queues. It implements kernels.Recorder.
func (b *Backend) Record(f func()) (kernels.Recording, error) {
	defer b.enter()()
	if b.err != nil {
		return nil, b.err
	}
	if err := drv.BeginCapture(b.stream); err != nil {
		return nil, b.explain("recording", err)
	}
	b.recording = true
	b.moments.of = nil // a recording brings its own
	f()
	b.recording = false
	g, err := drv.EndCapture(b.stream)
	if b.err != nil {
		err, b.err = b.err, nil
		return nil, err
	}
	if err != nil {
		return nil, b.explain("recording", err)
	}
	return &recording{b, g}, nil
}

func (r *recording) Replay() {
	defer r.b.enter()()
	if r.b.err != nil {
		return
	}
	r.b.moments.of = nil // it overwrites them
	if err := r.g.Launch(r.b.stream); err != nil {
		r.b.fail("replaying a recording", err)
	}
}

func (r *recording) Free() {
	defer r.b.enter()()
	r.g.Destroy()
}
