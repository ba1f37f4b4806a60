// Package kernels defines the operations that a diffusion model is made of, independent of where
// they run. Each operation is a struct of operands whose doc comment is its reference loop; a
// Backend runs it. Models do not call a backend: they write down a Graph of operations once a
// shape, and Compile turns that into a Program with planned memory on one backend.
//
// Activations are NHWC (images) or [batch, tokens, channels]. The backends are kernels/ref (plain
// Go, the specification), kernels/cpu (C with vector instructions) and kernels/cuda.
package kernels

import (
	"darkroom/tensor"
)

// Mem is a stretch of a backend's memory. Only the backend that made it can use it.
type Mem interface {
	// Bytes is its length.
	Bytes() int
}

// Backend runs operations on one device. Its methods are called from one goroutine at a time.
//
// The operations write dst, which has the shape that the operation's OutShape gives and does not
// overlap any operand. They panic on operands that disagree: graphs are checked when they are
// built, so that is a programmer's mistake. A device's own errors are remembered and returned by
// the next Sync.
//
// Every backend is deterministic and batch-invariant: the numbers of image n of a batch are the
// same bits for any batch size, position and number of threads, and from run to run.
type Backend interface {
	// Name is "ref", "cpu" or "cuda:0".
	Name() string
	// DTypes lists the activation types that the operations accept, the preferred one first.
	DTypes() []tensor.DType

	// Alloc returns n bytes, aligned to at least 64, with any contents.
	Alloc(n int) (Mem, error)
	Free(Mem)
	// Slice is the part [off, off+n) of m, sharing its bytes.
	Slice(m Mem, off, n int) Mem
	// Write and Read copy between the host and the device; Read waits for what was queued before.
	Write(dst Mem, src []byte) error
	Read(dst []byte, src Mem) error

	// Load re-packs a weight for this backend and stores the result in w.Packed. It fails on NaN or
	// infinity, naming the weight, and where memory runs out.
	Load(w *Weight) error
	// Unload frees what Load made.
	Unload(w *Weight)
	// PackedBytes is the memory that Load will take for a weight of that shape and role.
	PackedBytes(role Role, shape tensor.Shape) int

	// Sync waits for all queued work and returns the first error since the last call.
	Sync() error
	Close() error

	Conv2D(dst *Tensor, op *Conv2D)
	Linear(dst *Tensor, op *Linear)
	Attention(dst *Tensor, op *Attention)
	GroupNorm(dst *Tensor, op *GroupNorm)
	LayerNorm(dst *Tensor, op *LayerNorm)
	Embed(dst *Tensor, op *Embed)
}

// Tensor is an activation: a shape, and memory once a Program has placed it. A nil *Tensor is an
// operand that is not there.
type Tensor struct {
	Shape tensor.Shape
	DType tensor.DType
	Mem   Mem

	base *Tensor // the tensor whose memory this one views, nil for its own
	id   int     // index in the graph's list of values
}

// Bytes is the memory it takes.
func (t *Tensor) Bytes() int { return t.Shape.Len() * t.DType.Size() }

// Role says how an operation reads a weight, which decides how a backend packs it.
type Role uint8

const (
	Vector      Role = iota // [C]: biases, norm scales and shifts; always float32 on the device
	Filter                  // [O, I, kH, kW]: Conv2D
	Matrix                  // [O, I]: Linear
	MatrixGEGLU             // [2·O, I]: Linear with GEGLU: values first, then gates
	Table                   // [rows, C]: Embed
)

// Weight is a constant of a model: the checkpoint's own array and what the backend made of it.
type Weight struct {
	Name string // as in the checkpoint, with the model part in front: "unet.conv_in.weight"
	Role Role
	Host tensor.Tensor // may be a read-only mapping; empty for a graph that is only planned, but for its Shape
	// Release, if set, is called after packing: the host's pages are not needed any more.
	Release func()

	Packed Mem
	// Staged is what a Streamer keeps on the host between two uses; nil for the others.
	Staged any
}

// Activation is what an operation applies to its result before the residual is added.
type Activation uint8

const (
	Identity  Activation = iota
	SiLU                 // x·σ(x)
	GELU                 // x·Φ(x), with the error function
	QuickGELU            // x·σ(1.702·x), OpenAI's CLIP
	GEGLU                // value·GELU(gate): Linear alone, halves the width (Shazeer 2020)
)

// Op is one operation with its operands.
type Op interface {
	// Kind is the operation's name: "conv2d", "linear", …
	Kind() string
	// OutShape is the result's shape. It panics on operands that disagree.
	OutShape() tensor.Shape
	// Inputs and Weights list the operands that are there.
	Inputs() []*Tensor
	Weights() []*Weight
	// FLOPs counts multiplications and additions.
	FLOPs() float64
	// Run calls the backend's method of the same name.
	Run(b Backend, dst *Tensor)
}

func present(ts ...*Tensor) []*Tensor {
	var out []*Tensor
	for _, t := range ts {
		if t != nil {
			out = append(out, t)
		}
	}
	return out
}

func presentWeights(ws ...*Weight) []*Weight {
	var out []*Weight
	for _, w := range ws {
		if w != nil {
			out = append(out, w)
		}
	}
	return out
}
