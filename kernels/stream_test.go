package kernels_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/ref"
	"darkroom/tensor"
)

// late is a backend whose operations run as late as they may, and whose fetches too, or with early as soon as they may:
// what is not ordered by a wait reads memory of another time. It also counts what is allocated.
type late struct {
	*ref.Backend
	early        bool
	fetches, ops []func() // queued
	log          []string // in the order in which it was queued
	used, most   int
}

func (l *late) Alloc(n int) (kernels.Mem, error) {
	l.used += n
	l.most = max(l.most, l.used)
	return l.Backend.Alloc(n)
}
func (l *late) Free(m kernels.Mem) { l.used -= m.Bytes() }
func (l *late) Load(w *kernels.Weight) error {
	l.used += l.PackedBytes(w)
	l.most = max(l.most, l.used)
	return l.Backend.Load(w)
}
func (l *late) Unload(w *kernels.Weight) {
	if m := l.Packed(w); m != nil {
		l.used -= m.Bytes()
	}
	l.Backend.Unload(w)
}

func (l *late) Fetch(dst kernels.Mem, w *kernels.Weight) {
	l.log = append(l.log, "fetch "+w.Name)
	if l.early {
		l.Backend.Fetch(dst, w)
		return
	}
	l.fetches = append(l.fetches, once(func() { l.Backend.Fetch(dst, w) }))
}

func (l *late) FetchesWaitForOps() {
	if l.early {
		flusher(&l.ops)()
		return
	}
	l.fetches = append(l.fetches, once(flusher(&l.ops)))
}

func (l *late) OpsWaitForFetches() {
	l.ops = append(l.ops, once(flusher(&l.fetches)))
}

// once is f, the first time that it is called.
func once(f func()) func() {
	done := false
	return func() {
		if !done {
			done = true
			f()
		}
	}
}

// flusher runs what is queued now when it is called.
func flusher(queue *[]func()) func() {
	n := len(*queue)
	before := *queue
	return func() {
		for _, f := range before[:n] {
			f()
		}
	}
}

func (l *late) Conv2D(dst *kernels.Tensor, op *kernels.Conv2D) {
	now := *op
	w := *op.W // where it lies when the operation is queued
	now.W = &w
	l.Place(&w, l.Packed(op.W))
	l.log = append(l.log, "conv "+w.Name)
	l.ops = append(l.ops, once(func() { l.Backend.Conv2D(dst, &now) }))
}

func (l *late) Sync() error {
	flusher(&l.ops)()
	l.ops = nil
	flusher(&l.fetches)()
	l.fetches = nil
	return l.Backend.Sync()
}

// streamed is a graph of convolutions with weights of several sizes, one of them read twice, in two blocks.
func streamed() (g *kernels.Graph, in, out *kernels.Tensor) {
	g = kernels.NewGraph(tensor.F32)
	in = g.Input("x", tensor.F32, 1, 4, 4, 8)
	x := in
	twice := weight("twice", kernels.Filter, 8, 8, 1, 1)
	for i, k := range []int{3, 1, 1, 1, 1, 3, 1, 3, 1, 1} {
		w := weight(fmt.Sprintf("w%d", i), kernels.Filter, 8, 8, k, k)
		if i == 2 || i == 6 {
			w = twice
		}
		x = g.Add("", &kernels.Conv2D{In: x, W: w, Pad: [2]int{k / 2, k / 2}})
	}
	g.Output("y", x)
	return g, in, x
}

// A program that streams gives the same bits as one that does not, however late copies and operations are, run after run.
func TestStreamedIsTheSame(t *testing.T) {
	run := func(compile func(g *kernels.Graph) (*kernels.Program, error)) (results [][]float32) {
		g, in, out := streamed()
		p, err := compile(g)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		r := rand.New(rand.NewPCG(3, 4))
		for range 3 {
			values := make([]float32, in.Shape.Len())
			for i := range values {
				values[i] = float32(r.NormFloat64())
			}
			result := make([]float32, out.Shape.Len())
			if err := p.Write(in, values); err != nil {
				t.Fatal(err)
			}
			if err := p.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := p.Read(result, out); err != nil {
				t.Fatal(err)
			}
			results = append(results, result)
		}
		return results
	}
	want := run(func(g *kernels.Graph) (*kernels.Program, error) { return g.Compile(ref.New(1)) })
	for _, early := range []bool{false, true} {
		b := &late{Backend: ref.New(1), early: early}
		got := run(func(g *kernels.Graph) (*kernels.Program, error) { return g.CompileStreamed(b) })
		for i := range want {
			if !slices.Equal(want[i], got[i]) {
				t.Errorf("early %v, run %d: %v and %v", early, i, got[i][:4], want[i][:4])
			}
		}
		if b.used != 0 {
			t.Errorf("%d bytes are left", b.used)
		}
		// The second block's weights are asked for before the first block computes.
		if conv, fetch := slices.Index(b.log, "conv w0"), slices.Index(b.log, "fetch w1"); fetch < 0 || conv < fetch {
			t.Errorf("the log is %s", b.log)
		}
	}
}

// What is counted is what is taken: two slots of the largest step's weights, and the arena.
func TestStreamedBytes(t *testing.T) {
	g, _, _ := streamed()
	b := &late{Backend: ref.New(1)}
	const largest = 8 * 8 * 9 * 4 // of a 3×3 filter
	if n := g.StreamedBytes(b); n != 2*largest {
		t.Errorf("%d bytes for weights, want %d", n, 2*largest)
	}
	p, err := g.CompileStreamed(b)
	if err != nil {
		t.Fatal(err)
	}
	if want := g.StreamedBytes(b) + g.ArenaBytes(true); b.most != want {
		t.Errorf("%d bytes were taken, %d were counted", b.most, want)
	}
	p.Close()
	if _, err := g.Compile(b); err != nil { // with the same weights
		t.Error(err)
	}
}
