// Package golden reads the golden files of networks that train/goldens_nets.py describes, and compares with them what
// the networks here compute. For tests alone.
package golden

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/kernels/ref"
	"darkroom/nn"
	"darkroom/tensor"
)

// File is an open golden file.
type File struct{ file *checkpoint.File }

// Open opens a file until the test ends.
func Open(t testing.TB, path string) *File {
	t.Helper()
	f, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &File{f}
}

// Networks lists the networks of the file.
func (f *File) Networks() []string {
	var names []string
	for name := range f.file.Metadata() {
		if !strings.HasSuffix(name, ":weights") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Network is one network of a file: its configuration, its weights and its calls.
type Network struct {
	Name   string
	Config *checkpoint.Config
	Loader nn.Loader

	file   *File
	shapes shapes
}

// Network returns one of Networks.
func (f *File) Network(t testing.TB, name string) *Network {
	t.Helper()
	text, ok := f.file.Metadata()[name]
	if !ok {
		t.Fatalf("the golden file has no network %q", name)
	}
	c, err := checkpoint.ParseConfig([]byte(text), name+"/config.json")
	if err != nil {
		t.Fatal(err)
	}
	s := shapes{}
	if err := json.Unmarshal([]byte(f.file.Metadata()[name+":weights"]), &s); err != nil {
		t.Fatal(err)
	}
	return &Network{Name: name, Config: c, Loader: nn.NewLoader(name, s), file: f, shapes: s}
}

// Source is the network's weights.
func (n *Network) Source() nn.Source { return n.shapes }

// AllRead fails the test if the constructors left out a weight.
func (n *Network) AllRead(t testing.TB) {
	t.Helper()
	var names []string
	for name := range n.shapes {
		names = append(names, name)
	}
	if left := n.Loader.Unused(names); len(left) > 0 {
		t.Errorf("weights that nothing reads: %v", left)
	}
}

// shapes is an nn.Source of the weights that goldens_nets.py's weight makes up, by name.
type shapes map[string]tensor.Shape

func (s shapes) Array(name string) (tensor.Array, bool) {
	shape, ok := s[name]
	if !ok {
		return nil, false
	}
	return tensor.Stored(tensor.Of(weight(name, shape), shape...)), true
}

func weight(name string, shape tensor.Shape) []float32 {
	seed := uint64(14695981039346656037)
	for _, b := range []byte(name) {
		seed = (seed ^ uint64(b)) * 1099511628211
	}
	scale, shift := 0.5, 0.0
	switch {
	case len(shape) > 1:
		scale = 1
		for inputs := float64(shape.Len() / shape[0]); inputs > 6; inputs /= 4 {
			scale /= 2
		}
	case strings.Contains(name, "norm") && strings.HasSuffix(name, "weight"):
		shift = 1
	}
	out := make([]float32, shape.Len())
	for i := range out {
		x := seed + uint64(i+1)*0x9E3779B97F4A7C15
		x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
		x = (x ^ x>>27) * 0x94D049BB133111EB
		x ^= x >> 31
		out[i] = float32((float64(x>>53)/1024-1)*scale + shift)
	}
	return out
}

// Call is one run of a network.
type Call struct {
	net    *Network
	prefix string
}

// Call returns the run of that name.
func (n *Network) Call(name string) Call { return Call{n, n.Name + "=" + name + "/"} }

// Calls lists the runs by name.
func (n *Network) Calls() []string {
	var names []string
	for _, key := range n.file.file.Names() {
		if rest, ok := strings.CutPrefix(key, n.Name+"="); ok {
			name, _, _ := strings.Cut(rest, "/")
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// Has says whether the run kept a value of that name.
func (c Call) Has(key string) bool {
	_, ok := c.net.file.file.Tensor(c.prefix + key)
	return ok
}

// Floats returns a value with its shape.
func (c Call) Floats(t testing.TB, key string) ([]float32, tensor.Shape) {
	t.Helper()
	raw := c.tensor(t, key)
	values := make([]float32, raw.Len())
	raw.Float32(values)
	return values, raw.Shape
}

// IDs returns a value of whole numbers with its shape.
func (c Call) IDs(t testing.TB, key string) ([]int32, tensor.Shape) {
	t.Helper()
	raw := c.tensor(t, key)
	ids := make([]int32, raw.Len())
	for i := range ids {
		ids[i] = int32(binary.LittleEndian.Uint32(raw.Data[4*i:]))
	}
	return ids, raw.Shape
}

func (c Call) tensor(t testing.TB, key string) tensor.Tensor {
	t.Helper()
	raw, ok := c.net.file.file.Tensor(c.prefix + key)
	if !ok {
		t.Fatalf("the golden file has no value %s%s", c.prefix, key)
	}
	return raw
}

// Results are what a graph gives, by the names of the golden values.
type Results map[string]*kernels.Tensor

// Inputs are what a graph reads, filled before it runs.
type Inputs struct {
	t     testing.TB
	call  Call
	graph *kernels.Graph
	write []func(*kernels.Program) error
}

// Value is an input that holds the value of that name, changed by f unless that is nil.
func (in *Inputs) Value(key string, f func(float32) float32) *kernels.Tensor {
	in.t.Helper()
	values, shape := in.call.Floats(in.t, key)
	for i, v := range values {
		if f != nil {
			values[i] = f(v)
		}
	}
	return in.Given(values, shape...)
}

// Part is an input of the channels [from, to) of a value.
func (in *Inputs) Part(key string, from, to int) *kernels.Tensor {
	in.t.Helper()
	values, shape := in.call.Floats(in.t, key)
	var part []float32
	for width := shape[len(shape)-1]; len(values) > 0; values = values[width:] {
		part = append(part, values[from:to]...)
	}
	shape = slices.Clone(shape)
	shape[len(shape)-1] = to - from
	return in.Given(part, shape...)
}

// Given is an input that holds these values.
func (in *Inputs) Given(values []float32, shape ...int) *kernels.Tensor {
	x := in.graph.Input(in.name(), tensor.F32, shape...)
	in.write = append(in.write, func(p *kernels.Program) error { return p.Write(x, values) })
	return x
}

// name is one that no input has: a block may read a value twice.
func (in *Inputs) name() string { return fmt.Sprint("input ", len(in.write)) }

// fill gives an input of the graph the value of its name.
func (in *Inputs) fill(name string, x *kernels.Tensor) {
	in.t.Helper()
	if x.DType == tensor.I32 {
		ids, shape := in.call.IDs(in.t, name)
		in.must(name, x, shape)
		in.write = append(in.write, func(p *kernels.Program) error { return p.WriteIDs(x, ids) })
		return
	}
	values, shape := in.call.Floats(in.t, name)
	in.must(name, x, shape)
	in.write = append(in.write, func(p *kernels.Program) error { return p.Write(x, values) })
}

func (in *Inputs) must(name string, x *kernels.Tensor, shape tensor.Shape) {
	in.t.Helper()
	if !x.Shape.Equal(shape) {
		in.t.Fatalf("the graph's input %q is %v, the golden value %v", name, x.Shape, shape)
	}
}

// IDs is an input of whole numbers.
func (in *Inputs) IDs(key string) *kernels.Tensor {
	in.t.Helper()
	ids, shape := in.call.IDs(in.t, key)
	x := in.graph.Input(in.name(), tensor.I32, shape...)
	in.write = append(in.write, func(p *kernels.Program) error { return p.WriteIDs(x, ids) })
	return x
}

// Check writes a graph, runs it on the reference backend and compares its results with the values of those names: they
// may differ by the tolerance times the largest number of each.
func (c Call) Check(t testing.TB, tolerance float64, write func(g *kernels.Graph, in *Inputs) Results) {
	t.Helper()
	compared := 0
	c.run(t, write, func(key string, got []float32, shape tensor.Shape) {
		if !c.Has(key) {
			return
		}
		compared++
		want, wanted := c.Floats(t, key)
		if !shape.Equal(wanted) {
			t.Errorf("%s is %v, want %v", key, shape, wanted)
			return
		}
		Compare(t, key, got, want, tolerance)
	})
	if compared == 0 {
		t.Errorf("the golden file has no result of %s", c.prefix)
	}
}

// run gives each of a graph's results to f.
func (c Call) run(t testing.TB, write func(g *kernels.Graph, in *Inputs) Results, f func(key string, got []float32, shape tensor.Shape)) {
	t.Helper()
	g := kernels.NewGraph(tensor.F32)
	in := &Inputs{t: t, call: c, graph: g}
	for key, r := range write(g, in) {
		g.Output(key, r)
	}
	p, err := g.Compile(ref.New(1))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, write := range in.write {
		if err := write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, key := range g.OutputNames() {
		out := g.Out(key)
		got := make([]float32, out.Shape.Len())
		if err := p.Read(got, out); err != nil {
			t.Fatal(err)
		}
		f(key, got, out.Shape)
	}
}

// Run runs a network on the values of its inputs' names and returns what it gives.
func (c Call) Run(t testing.TB, net nn.Network, s nn.Sizes) map[string][]float32 {
	t.Helper()
	out := map[string][]float32{}
	c.run(t, c.network(net, s), func(key string, got []float32, _ tensor.Shape) { out[key] = got })
	return out
}

func (c Call) network(net nn.Network, s nn.Sizes) func(g *kernels.Graph, in *Inputs) Results {
	return func(g *kernels.Graph, in *Inputs) Results {
		g.Wrap = s.Wrap
		net.Write(g, s)
		for _, name := range g.InputNames() {
			in.fill(name, g.In(name))
		}
		return nil
	}
}

// CheckNetwork runs a network on the values of its inputs' names and compares those outputs that the call kept.
func (c Call) CheckNetwork(t testing.TB, tolerance float64, net nn.Network, s nn.Sizes) {
	t.Helper()
	c.Check(t, tolerance, c.network(net, s))
}

// Compare fails the test if a value is off by more than the tolerance times the largest that is wanted.
func Compare(t testing.TB, key string, got, want []float32, tolerance float64) {
	t.Helper()
	var largest, worst float64
	at := 0
	for i := range want {
		largest = max(largest, math.Abs(float64(want[i])))
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= worst) {
			worst, at = d, i
		}
	}
	if !(worst <= tolerance*largest) {
		t.Errorf("%s: value %d is %v, want %v: off by %.1e of the largest, %.3g; up to %.0e is allowed", key, at, got[at], want[at], worst/largest, largest, tolerance)
		return
	}
	t.Logf("%s: off by at most %.1e of the largest", key, worst/largest)
}

// Whole is an input of these whole numbers.
func (in *Inputs) Whole(values []float32, shape ...int) *kernels.Tensor {
	ids := make([]int32, len(values))
	for i, v := range values {
		ids[i] = int32(v)
	}
	x := in.graph.Input(in.name(), tensor.I32, shape...)
	in.write = append(in.write, func(p *kernels.Program) error { return p.WriteIDs(x, ids) })
	return x
}
