package kernels

import (
	"fmt"
	"slices"

	"darkroom/tensor"
)

// Graph is a list of operations in the order in which a model's code wrote them down. Nothing is
// computed until it is compiled for a backend, so a Graph also answers how much memory and how many
// operations a model of a given size needs before anything is loaded.
type Graph struct {
	// DType is the type of the activations that the operations give.
	DType tensor.DType
	// Wrap makes images tile a plane, along rows and columns: layers that look beyond an edge see the other side.
	Wrap [2]bool
	// Winograd is set in the graph's convolutions: see Conv2D.
	Winograd bool

	values  []*Tensor
	steps   []step
	inputs  []named
	outputs []named
	steady  map[*Tensor]bool // inputs that stay as they are over many runs
}

// named is an input or output with the name by which callers find it.
type named struct {
	name string
	t    *Tensor
}

func find(all []named, name string) *Tensor {
	for _, n := range all {
		if n.name == name {
			return n.t
		}
	}
	return nil
}

type step struct {
	op    Op
	out   *Tensor
	label string
}

// NewGraph starts an empty graph with activations of the given type.
func NewGraph(dtype tensor.DType) *Graph { return &Graph{DType: dtype} }

func (g *Graph) value(dtype tensor.DType, shape tensor.Shape) *Tensor {
	t := &Tensor{Shape: shape, DType: dtype, id: len(g.values)}
	g.values = append(g.values, t)
	return t
}

// Input declares a tensor that Program.Write fills. A second one of that name panics.
func (g *Graph) Input(name string, dtype tensor.DType, shape ...int) *Tensor {
	if find(g.inputs, name) != nil {
		panic(fmt.Sprintf("kernels: two inputs are called %q", name))
	}
	t := g.value(dtype, slices.Clone(shape))
	g.inputs = append(g.inputs, named{name, t})
	return t
}

// SteadyInput is Input for what is written seldom, such as the prompt of a denoiser. What depends on such inputs alone is
// computed when they were written, and not in every run.
func (g *Graph) SteadyInput(name string, dtype tensor.DType, shape ...int) *Tensor {
	t := g.Input(name, dtype, shape...)
	if g.steady == nil {
		g.steady = map[*Tensor]bool{}
	}
	g.steady[t] = true
	return t
}

// Output keeps a tensor until Program.Read has fetched it. A second one of that name panics.
func (g *Graph) Output(name string, t *Tensor) {
	if find(g.outputs, name) != nil {
		panic(fmt.Sprintf("kernels: two outputs are called %q", name))
	}
	g.outputs = append(g.outputs, named{name, t})
}

// In is the input of that name, nil if there is none.
func (g *Graph) In(name string) *Tensor { return find(g.inputs, name) }

// Out is the output of that name, nil if there is none.
func (g *Graph) Out(name string) *Tensor { return find(g.outputs, name) }

// InputNames lists the inputs in the order in which they were declared.
func (g *Graph) InputNames() []string {
	names := make([]string, len(g.inputs))
	for i, n := range g.inputs {
		names[i] = n.name
	}
	return names
}

// OutputNames lists the outputs in the order in which they were declared.
func (g *Graph) OutputNames() []string {
	names := make([]string, len(g.outputs))
	for i, n := range g.outputs {
		names[i] = n.name
	}
	return names
}

// Reshape views a tensor with other axes of the same total length.
func (g *Graph) Reshape(t *Tensor, shape ...int) *Tensor {
	s := tensor.Shape(slices.Clone(shape))
	if s.Len() != t.Shape.Len() || t.Pitch != 0 {
		panic(fmt.Sprintf("reshape: %v to %v", t.Shape, s))
	}
	v := g.value(t.DType, s)
	v.base, v.off = root(t), t.off
	return v
}

// Columns views columns [from, to) of a tensor, for Attention: keys beside queries and values, of one product; and for
// Conv2D.PerChannel.
func (g *Graph) Columns(t *Tensor, from, to int) *Tensor {
	last := len(t.Shape) - 1
	if t.Pitch != 0 || from < 0 || from >= to || to > t.Shape[last] {
		panic(fmt.Sprintf("columns %d to %d of %v", from, to, t.Shape))
	}
	s := slices.Clone(t.Shape)
	s[last] = to - from
	v := g.value(t.DType, s)
	v.Pitch, v.base, v.off = t.Shape[last], root(t), t.off+from*t.DType.Size()
	return v
}

func root(t *Tensor) *Tensor {
	if t.base != nil {
		return t.base
	}
	return t
}

// Add appends an operation and returns its result. The label names it in errors and profiles; empty,
// it is the name of the operation's first weight.
func (g *Graph) Add(label string, op Op) *Tensor {
	if label == "" {
		label = op.Kind()
		if ws := op.Weights(); len(ws) > 0 {
			label = ws[0].Name
		}
	}
	return g.add(label, op, g.DType)
}

// AddNumbers is Add of an operation whose result is of I32.
func (g *Graph) AddNumbers(label string, op Op) *Tensor { return g.add(label, op, tensor.I32) }

func (g *Graph) add(label string, op Op, d tensor.DType) *Tensor {
	if _, reads := op.(*Attention); !reads {
		conv, _ := op.(*Conv2D)
		for _, t := range op.Inputs() {
			if t.Pitch != 0 && (conv == nil || t != conv.PerChannel) {
				panic(fmt.Sprintf("kernels: %s %s reads columns of a wider tensor", op.Kind(), label))
			}
		}
	}
	if l, ok := op.(*Linear); ok && l.W.Norm != nil {
		g.takesMoments(root(l.In))
	}
	out := g.value(d, op.OutShape())
	g.steps = append(g.steps, step{op, out, label})
	return out
}

// takesMoments marks a tensor whose rows are normalised, if a Linear makes it.
func (g *Graph) takesMoments(t *Tensor) {
	for i := len(g.steps) - 1; i >= 0; i-- {
		if s := g.steps[i]; s.out == t {
			_, t.Moments = s.op.(*Linear)
			return
		}
	}
}

// Launches counts the operations of every run, and those that run only when steady inputs were written.
func (g *Graph) Launches() (each, seldom int) {
	steps, steady := g.order()
	return len(steps) - steady, steady
}

// FLOPs counts the whole graph's multiplications and additions.
func (g *Graph) FLOPs() float64 {
	var sum float64
	for _, s := range g.steps {
		sum += s.op.FLOPs()
	}
	return sum
}

// Weights lists every weight that the operations read, each once, in order of first use.
func (g *Graph) Weights() []*Weight {
	var out []*Weight
	seen := map[*Weight]bool{}
	for _, s := range g.steps {
		for _, w := range s.op.Weights() {
			if !seen[w] {
				seen[w] = true
				out = append(out, w)
			}
		}
	}
	return out
}

// Ops calls f for each operation in order with its label and result.
func (g *Graph) Ops(f func(label string, op Op, out *Tensor)) {
	for _, s := range g.steps {
		f(s.label, s.op, s.out)
	}
}
