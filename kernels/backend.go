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
	// Info says what the backend is and can do.
	Info() Info

	// Alloc returns n bytes, aligned to at least 64, with any contents.
	Alloc(n int) (Mem, error)
	Free(Mem)
	// Slice is the part [off, off+n) of m, sharing its bytes.
	Slice(m Mem, off, n int) Mem
	// Write and Read copy between the host and the device; Read waits for what was queued before.
	Write(dst Mem, src []byte) error
	Read(dst []byte, src Mem) error

	// Load re-packs a weight for this backend, which remembers the result. It fails on NaN or infinity, naming the
	// weight, and where memory runs out.
	Load(w *Weight) error
	// Packed is what this backend made of a weight; nil before Load and after Unload.
	Packed(w *Weight) Mem
	// Unload frees what Load made.
	Unload(w *Weight)
	// PackedBytes is the memory that Load will take for a weight, whose Host it does not read.
	PackedBytes(w *Weight) int

	// Sync waits for all queued work and returns the first error since the last call.
	Sync() error
	Close() error

	Conv2D(dst *Tensor, op *Conv2D)
	Linear(dst *Tensor, op *Linear)
	Attention(dst *Tensor, op *Attention)
	GroupNorm(dst *Tensor, op *GroupNorm)
	LayerNorm(dst *Tensor, op *LayerNorm)
	Embed(dst *Tensor, op *Embed)
	Pointwise(dst *Tensor, op *Pointwise)
	Concat(dst *Tensor, op *Concat)
	PixelShuffle(dst *Tensor, op *PixelShuffle)
	Surround(dst *Tensor, op *Surround)
	Cut(dst *Tensor, op *Cut)
	Swap(dst *Tensor, op *Swap)
	Rotary(dst *Tensor, op *Rotary)
}

// Info is what callers may know of a backend.
type Info struct {
	Kind string // "ref", "cpu" or "cuda"
	Name string // of this one among its kind: "cpu", "cuda:0"
	// Device is what computes, for people to read: a GPU's name, or the system and the processor's architecture.
	Device string
	// DTypes lists the activation types that the operations accept, the preferred one first.
	DTypes []tensor.DType
	TF32   bool // products of float32 values are rounded to TF32
	// Winograd says that convolutions that allow it may be computed with fewer multiplications.
	Winograd bool
	Int8     bool // tolerant weights, and what they are multiplied with, are rounded to 8 bits
	// Kernels names the instructions in use and Threads how many processors; "" and 0 where that says nothing.
	Kernels string
	Threads int
	// Peak measures how many floating-point operations a second the device makes at the most, with about that many a
	// thread: what the kernels' speed is compared with. nil where it cannot be measured.
	Peak func(flops float64) float64
	// Free is the memory that the device could still give, in bytes; nil where it is the host's.
	Free func() (bytes uint64, known bool)
	// FullAt is how many pixels of pictures in a batch fill the device: beyond, a larger batch gains nothing.
	FullAt int
}

// Tensor is an activation: a shape, and memory once a Program has placed it. A nil *Tensor is an
// operand that is not there.
type Tensor struct {
	Shape tensor.Shape
	DType tensor.DType
	Mem   Mem

	// Pitch is how many elements lie between the beginnings of two rows, where they are columns of a wider tensor, as
	// Graph.Columns has them; 0: the rows lie one after the other. Only Attention and Conv2D.PerChannel read such columns.
	Pitch int

	// Moments says that an operation that follows normalises the rows: it is quicker where the one that makes them takes
	// their moments along. Graph.Add sets it.
	Moments bool

	base *Tensor // the tensor whose memory this one views, nil for its own
	off  int     // bytes from the beginning of base
	id   int     // index in the graph's list of values
}

// Root is the tensor whose memory this one views, itself as a rule.
func (t *Tensor) Root() *Tensor { return root(t) }

// Row is how many elements lie between the beginnings of two rows.
func (t *Tensor) Row() int {
	if t.Pitch != 0 {
		return t.Pitch
	}
	return t.Shape[len(t.Shape)-1]
}

// Bytes is the memory it takes.
func (t *Tensor) Bytes() int { return t.Shape.Len() * t.DType.Size() }

// Role says how an operation reads a weight, which decides how a backend packs it.
type Role uint8

const (
	Vector      Role = iota // [C]: biases, norm scales and shifts; always float32 on the device
	Filter                  // [O, I, kH, kW]: Conv2D
	Matrix                  // [O, I]: Linear
	MatrixGEGLU             // [2·O, I]: Linear with GEGLU or SwiGLU: values first, then gates
	Table                   // [rows, C]: Embed
)

// Weight is a constant of a model. Backends remember what they packed of it, so that it may live on several.
type Weight struct {
	Name  string // as in the checkpoint, with the model part in front: "unet.conv_in.weight"
	Role  Role
	Shape tensor.Shape
	// Host has Shape's elements; nil in a graph that is only planned. Its own shape may lack or add axes of length 1 at
	// the end.
	Host tensor.Array
	// Tolerant says that little is lost where a backend keeps this weight, and what it is multiplied with, in 8 bits. The
	// first and last layers of a network are not, nor those of its time embedding.
	Tolerant bool
	// Norm, of a matrix, is the normalisation that Linear does before it multiplies; nil for none.
	Norm *RowNorm
}

// NewWeight is a weight over a plain tensor.
func NewWeight(name string, role Role, t tensor.Tensor) *Weight {
	return &Weight{Name: name, Role: role, Shape: t.Shape, Host: tensor.Stored(t)}
}

// Loaded is a backend's memory of what it packed, to be embedded by it. The zero value is ready.
type Loaded struct{ packed map[*Weight]Mem }

// Packed is what was remembered of a weight, nil if nothing was.
func (l *Loaded) Packed(w *Weight) Mem { return l.packed[w] }

// Place remembers where a packed weight lies; nil forgets it.
func (l *Loaded) Place(w *Weight, m Mem) {
	if m == nil {
		delete(l.packed, w)
		return
	}
	if l.packed == nil {
		l.packed = map[*Weight]Mem{}
	}
	l.packed[w] = m
}

// Activation is what an operation applies to its result before the residual is added.
type Activation uint8

const (
	Identity  Activation = iota
	SiLU                 // x·σ(x)
	GELU                 // x·Φ(x), with the error function
	QuickGELU            // x·σ(1.702·x), OpenAI's CLIP
	TanhGELU             // x·½(1 + tanh(√(2/π)·(x + 0.044715·x³))), GELU as its paper approximates it (Hendrycks & Gimpel 2016)
	GEGLU                // value·GELU(gate): Linear alone, halves the width (Shazeer 2020)
	SwiGLU               // value·SiLU(gate): the same
	TanhGEGLU            // value·TanhGELU(gate): the same

	// Of Pointwise alone.
	ReLU      // max(x, 0)
	LeakyReLU // x, 0.2·x below 0
	PReLU     // x, Slope[c]·x below 0
	SoftClip  // 3·tanh(x/3)
	Tanh
)

// Gated says whether an activation takes values and gates, and halves the width.
func (a Activation) Gated() bool { return a == GEGLU || a == SwiGLU || a == TanhGEGLU }

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
