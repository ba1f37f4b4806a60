package kernels

import (
	"context"
	"fmt"
	"math"
	"time"
	"unsafe"

	"darkroom/tensor"
)

// Program is a graph compiled for one backend: its weights loaded, its activations placed in an
// arena. It can be run any number of times.
type Program struct {
	backend Backend
	graph   *Graph
	steps   []step // in the order in which they run
	steady  int    // so many of the first depend on steady inputs alone
	fresh   bool   // their results are those of the inputs
	arena   Mem
	stream  *streaming // of a program whose weights come and go; nil where they stay

	trace    *Trace // nil as a rule
	traceRow string

	ran       bool      // once, without an error
	recording Recording // of the operations, from the second run on, if the backend records
}

// Compile loads the graph's weights (those that are not yet) and places its activations. On an error
// nothing stays allocated but the weights, which their owner unloads.
func (g *Graph) Compile(b Backend) (*Program, error) {
	if err := load(b, g.Weights(), func(*Weight) bool { return true }); err != nil {
		return nil, err
	}
	steps, steady := g.order()
	return g.place(b, steps, steady)
}

// load loads those of the weights that are wanted and not there yet.
func load(b Backend, weights []*Weight, wanted func(*Weight) bool) error {
	for _, w := range weights {
		if b.Packed(w) != nil || !wanted(w) {
			continue
		}
		if err := b.Load(w); err != nil {
			return fmt.Errorf("loading %s: %w", w.Name, err)
		}
		w.Host.Release()
	}
	return nil
}

// place allocates the arena.
func (g *Graph) place(b Backend, steps []step, steady int) (*Program, error) {
	places, bytes := g.plan(steps, steady)
	arena, err := b.Alloc(bytes)
	if err != nil {
		return nil, fmt.Errorf("allocating %d MiB for activations: %w", bytes>>20, err)
	}
	for _, p := range places {
		p.value.Mem = b.Slice(arena, p.offset, p.value.Bytes())
	}
	for _, t := range g.values {
		if t.base != nil {
			if t.Mem = t.base.Mem; t.off > 0 {
				t.Mem = b.Slice(t.base.Mem, t.off, t.base.Bytes()-t.off)
			}
		}
	}
	return &Program{backend: b, graph: g, steps: steps, steady: steady, arena: arena}, nil
}

// Close frees the activations. The weights stay loaded: other programs may use them.
func (p *Program) Close() {
	if p.recording != nil {
		p.recording.Free()
		p.recording = nil
	}
	if p.stream != nil {
		p.stream.close(p.backend.(Streamer))
		p.stream = nil
	}
	if p.arena != nil {
		p.backend.Free(p.arena)
		p.arena = nil
	}
}

// Write fills an input, converting to its type.
func (p *Program) Write(t *Tensor, values []float32) error {
	if len(values) != t.Shape.Len() {
		panic(fmt.Sprintf("kernels: %d values written to an input %v", len(values), t.Shape))
	}
	p.wrote(t)
	if t.DType == tensor.F32 {
		return p.backend.Write(t.Mem, tensor.Bytes(values))
	}
	b := make([]byte, t.Bytes())
	tensor.Encode(b, t.DType, values)
	return p.backend.Write(t.Mem, b)
}

// WriteIDs fills an input of type I32.
func (p *Program) WriteIDs(t *Tensor, ids []int32) error {
	if len(ids) != t.Shape.Len() || t.DType != tensor.I32 {
		panic(fmt.Sprintf("kernels: %d ids written to an input %v of %v", len(ids), t.Shape, t.DType))
	}
	p.wrote(t)
	return p.backend.Write(t.Mem, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(ids))), 4*len(ids)))
}

// wrote notes that what depends on an input must be computed anew.
func (p *Program) wrote(t *Tensor) {
	if p.graph.steady[root(t)] {
		p.fresh = false
	}
}

// Run executes the operations in order, those that depend on steady inputs alone only after these were written. It stops
// between two of them when ctx ends. On a Recorder the second run records the others, and from then on one call replays
// all of them.
func (p *Program) Run(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.trace != nil {
		return p.runTraced(ctx)
	}
	if err := p.refresh(ctx); err != nil {
		return err
	}
	if r, ok := p.backend.(Recorder); ok && p.ran && p.recording == nil && p.stream == nil {
		if err := p.record(r); err != nil {
			return err
		}
	}
	if p.recording != nil {
		p.recording.Replay()
		return p.backend.Sync()
	}
	err := p.each(ctx, p.steady, func(s step) error {
		s.op.Run(p.backend, s.out)
		return nil
	})
	if err != nil {
		return err
	}
	err = p.backend.Sync()
	p.ran = err == nil
	return err
}

// refresh runs the steady operations where their inputs were written.
func (p *Program) refresh(ctx context.Context) error {
	if p.fresh {
		return nil
	}
	for _, s := range p.steps[:p.steady] {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.op.Run(p.backend, s.out)
	}
	p.fresh = true
	return nil
}

// each calls f for every operation from the first on, in order, until ctx ends.
func (p *Program) each(ctx context.Context, first int, f func(step) error) error {
	unlessDone := func(s step) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return f(s)
	}
	if p.stream != nil {
		return p.stream.each(p.backend.(Streamer), p.steps, unlessDone)
	}
	for _, s := range p.steps[first:] {
		if err := unlessDone(s); err != nil {
			return err
		}
	}
	return nil
}

func (p *Program) record(r Recorder) (err error) {
	p.recording, err = r.Record(func() {
		for _, s := range p.steps[p.steady:] {
			s.op.Run(p.backend, s.out)
		}
	})
	if err != nil {
		return fmt.Errorf("recording the operations: %w", err)
	}
	return nil
}

// Read fetches an output as float32.
func (p *Program) Read(dst []float32, t *Tensor) error {
	if len(dst) != t.Shape.Len() {
		panic(fmt.Sprintf("kernels: %d values read from %v", len(dst), t.Shape))
	}
	if t.DType == tensor.F32 {
		return p.backend.Read(tensor.Bytes(dst), t.Mem)
	}
	b := make([]byte, t.Bytes())
	if err := p.backend.Read(b, t.Mem); err != nil {
		return err
	}
	tensor.Tensor{DType: t.DType, Shape: t.Shape, Data: b}.Float32(dst)
	return nil
}

// NonFiniteError says which operation first gave NaN or infinity.
type NonFiniteError struct {
	Label string // the operation's label, usually the name of its weight
	Kind  string // "conv2d", …
	NaN   bool   // or an infinity
}

func (e *NonFiniteError) Error() string {
	what := "an infinity"
	if e.NaN {
		what = "NaN"
	}
	return fmt.Sprintf("%s (%s) gave %s", e.Label, e.Kind, what)
}

// Diagnose runs the program again on the inputs that it has and returns a *NonFiniteError for the
// first operation with a result that is not finite, nil if there is none. It is slow: for use after
// Run's result was found to be bad.
func (p *Program) Diagnose(ctx context.Context) error {
	return p.each(ctx, 0, func(s step) error {
		s.op.Run(p.backend, s.out)
		if err := p.backend.Sync(); err != nil {
			return err
		}
		if s.out.DType == tensor.I32 {
			return nil
		}
		values := make([]float32, s.out.Shape.Len())
		if err := p.Read(values, s.out); err != nil {
			return err
		}
		if i := NonFinite(values); i >= 0 {
			return &NonFiniteError{s.label, s.op.Kind(), values[i] != values[i]}
		}
		return nil
	})
}

// NonFinite is the index of the first NaN or infinity, -1 if all values are finite.
func NonFinite(values []float32) int {
	for i, v := range values {
		if math.Float32bits(v)&0x7f800000 == 0x7f800000 {
			return i
		}
	}
	return -1
}

// StepTime is what Profile measured of one operation.
type StepTime struct {
	Label string
	Op    Op
	Out   tensor.Shape
	Time  time.Duration
}

// Profile runs the program once and times each operation, waiting for each to end.
func (p *Program) Profile(ctx context.Context) ([]StepTime, error) {
	times := make([]StepTime, 0, len(p.steps))
	err := p.each(ctx, 0, func(s step) error {
		start := time.Now()
		s.op.Run(p.backend, s.out)
		if err := p.backend.Sync(); err != nil {
			return err
		}
		times = append(times, StepTime{s.label, s.op, s.out.Shape, time.Since(start)})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return times, nil
}
