// Package stage puts networks on devices. A Part is a network with its programs: compiled for the size at hand, fed and
// read by the names of its inputs and outputs, streamed where memory is short, and asked which layer failed. What the
// network is, a Part does not know.
package stage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// Device is where parts run.
type Device struct {
	Backend kernels.Backend
	DType   tensor.DType // of activations
	// LowMemory brings weights to the device block by block, except those of parts that run Once.
	LowMemory bool
	// Frugal has parts that run Once give their weights back after use: there is memory for the others and for one of them.
	Frugal bool
	// Trace has all programs recorded; nil as a rule.
	Trace *kernels.Trace
	// Another opens the same device anew in that type; nil where there is one type only.
	Another func(tensor.DType) (kernels.Backend, error)
	// Second runs half of the batch's rows of parts that are PerRow; nil as a rule.
	Second *Device
}

// Drops says whether parts that run Once give their weights back after use.
func (d *Device) Drops() bool { return d.LowMemory || d.Frugal }

// Part is a network on a device. Its methods are called from one goroutine at a time, except Ran.
type Part struct {
	// Name is the part's in the model's files, "unet". Title is for messages: "the U-Net".
	Name, Title string
	Net         nn.Network
	// Sizes are those of a picture of width×height pixels with so many rows of the denoiser's batch: what memory is planned
	// for. tiled says that large pictures are decoded in tiles.
	Sizes func(width, height, rows int, tiled bool) nn.Sizes
	// Once says that the part runs once a prompt and not once a step, so that its weights may go after use.
	Once bool
	// Large has the weights of a part that runs Once come block by block too where memory is short.
	Large bool
	// PerRow says that all inputs and outputs hold the batch's rows one after the other, and that no row depends on another.
	PerRow bool

	device *Device
	runs   *Part // where the part runs instead: see RunsOn
	second *Part // on device.Second; nil before it is first needed
	*compiled
	forms map[nn.Form]*compiled    // the programs that are there, all of one size but for its Cut
	ran   atomic.Pointer[nn.Sizes] // size, for Ran
	last  nn.Sizes                 // of the latest program, for Unload
}

// compiled is a program of a part.
type compiled struct {
	program *kernels.Program
	graph   *kernels.Graph
	size    nn.Sizes
	rows    int // of size, that run here; the others run on the second device
}

// shared says whether some rows run on the second device.
func (c *compiled) shared() bool { return c.rows != c.size.Rows }

// On is the part on a device: the same network, with programs of its own. The weights are shared, and packed once a
// backend.
func (p *Part) On(d *Device) *Part {
	return &Part{Name: p.Name, Title: p.Title, Net: p.Net, Sizes: p.Sizes, Once: p.Once, Large: p.Large, PerRow: p.PerRow, device: d}
}

// RunsOn is On for a part that runs on d and no longer on its own device: memory is counted there.
func (p *Part) RunsOn(d *Device) *Part {
	p.runs = p.On(d)
	return p.runs
}

// Device is where the part runs.
func (p *Part) Device() *Device { return p.device }

// Graph is the network written down for those sizes.
func (p *Part) Graph(s nn.Sizes) *kernels.Graph { return nn.Graph(p.Net, p.device.DType, s) }

// Ready compiles the program for those sizes, or takes the one that is there. One of each form of a cut network is kept,
// of the latest size: requests in a row have mostly the same. Another size replaces them, so that memory for activations
// does not add up.
func (p *Part) Ready(s nn.Sizes) error {
	here, there := p.split(s)
	if p.Has(s) {
		p.compiled = p.forms[s.Cut.Form]
		p.ran.Store(&s)
		return p.readySecond(there)
	}
	// A form for fewer rows, without guidance, stays beside those for all.
	uncut := func(s nn.Sizes) nn.Sizes { s.Cut, s.Rows = nn.Cut{}, 0; return s }
	for form, c := range p.forms {
		// Weights that come block by block belong to one program at a time.
		if form == s.Cut.Form || p.streamed() || uncut(c.size) != uncut(s) || c.size.Cut.Layers != s.Cut.Layers {
			p.close(form)
		}
	}
	if err := p.readySecond(there); err != nil {
		return err
	}
	g := p.Graph(here)
	program, err := p.compile(g)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Title, err)
	}
	if p.device.Trace != nil {
		program.Trace(p.device.Trace, p.Name)
	}
	if p.forms == nil {
		p.forms = map[nn.Form]*compiled{}
	}
	p.compiled = &compiled{program, g, s, here.Rows}
	p.forms[s.Cut.Form] = p.compiled
	p.last = s
	p.ran.Store(&s)
	return nil
}

// Has says whether there is a program for those sizes.
func (p *Part) Has(s nn.Sizes) bool {
	c := p.forms[s.Cut.Form]
	return c != nil && c.size == s
}

func (p *Part) compile(g *kernels.Graph) (*kernels.Program, error) {
	if s, ok := p.device.Backend.(kernels.Streamer); ok && p.streamed() {
		return g.CompileStreamed(s)
	}
	return g.Compile(p.device.Backend)
}

func (p *Part) streamed() bool { return p.device.LowMemory && p.streams() }

// streams says whether the weights come block by block where memory is short.
func (p *Part) streams() bool { return !p.Once || p.Large }

// Loaded says whether there is a program, and Size of what: of the latest one that was Ready.
func (p *Part) Loaded() bool { return p.compiled != nil }
func (p *Part) Size() nn.Sizes {
	if p.compiled == nil {
		return nn.Sizes{}
	}
	return p.size
}

// Ran says whether there is a program of those sizes with at least that many rows. It may be called while the part runs.
func (p *Part) Ran(s nn.Sizes) bool {
	now := p.ran.Load()
	if now == nil || now.Rows < s.Rows {
		return false
	}
	s.Rows = now.Rows
	return *now == s
}

// Shape is that of an input of the program that is ready; nil if the network has none of that name.
func (p *Part) Shape(name string) tensor.Shape {
	if t := p.graph.In(name); t != nil {
		return p.whole(t.Shape)
	}
	return nil
}

// Result is the shape of an output of the program that is ready.
func (p *Part) Result(name string) tensor.Shape { return p.whole(p.graph.Out(name).Shape) }

// Inputs lists the names of what the network reads, and Outputs of what it writes.
func (p *Part) Inputs() []string  { return p.graph.InputNames() }
func (p *Part) Outputs() []string { return p.graph.OutputNames() }

// Write fills an input of the program that is ready, whole numbers where it has them. What was written stays until it is
// written again.
func (p *Part) Write(name string, values []float32) error {
	if p.shared() {
		here := p.here(len(values))
		if err := p.second.Write(name, values[here:]); err != nil {
			return err
		}
		values = values[:here]
	}
	t := p.graph.In(name)
	if t.DType != tensor.I32 {
		return p.program.Write(t, values)
	}
	ids := make([]int32, len(values))
	for i, v := range values {
		ids[i] = int32(v)
	}
	return p.program.WriteIDs(t, ids)
}

// Exec runs the program that is ready on what was written.
func (p *Part) Exec(ctx context.Context) error {
	if p.shared() {
		return p.execBoth(ctx)
	}
	return p.program.Run(ctx)
}

// Read fetches an output of the latest Exec.
func (p *Part) Read(name string, dst []float32) error {
	if p.shared() {
		here := p.here(len(dst))
		if err := p.second.Read(name, dst[here:]); err != nil {
			return err
		}
		dst = dst[:here]
	}
	return p.program.Read(dst, p.graph.Out(name))
}

// Values are arrays by the names of inputs or outputs: float32, or int32 for the ids of tokens.
type Values map[string]tensor.Tensor

// Run runs the network on all of its inputs and returns the outputs of those names. Values that are not finite are a
// *NotFiniteError.
func (p *Part) Run(ctx context.Context, s nn.Sizes, in Values, out ...string) (Values, error) {
	if err := p.Ready(s); err != nil {
		return nil, err
	}
	for _, name := range p.Inputs() {
		v, ok := in[name]
		if !ok {
			panic(fmt.Sprintf("stage: nothing was given for the input %q of %s", name, p.Title))
		}
		var err error
		if v.DType == tensor.I32 {
			err = p.program.WriteIDs(p.graph.In(name), tensor.IDs(v))
		} else {
			err = p.Write(name, tensor.Floats(v.Data))
		}
		if err != nil {
			return nil, err
		}
	}
	if err := p.Exec(ctx); err != nil {
		return nil, err
	}
	results := Values{}
	for _, name := range out {
		shape := p.graph.Out(name).Shape
		values := make([]float32, shape.Len())
		if err := p.Read(name, values); err != nil {
			return nil, err
		}
		if kernels.NonFinite(values) >= 0 {
			return nil, p.NotFinite()
		}
		results[name] = tensor.Of(values, shape...)
	}
	return results, nil
}

// NotFiniteError says that a part gave NaN or infinity.
type NotFiniteError struct {
	part     *Part
	programs []*kernels.Program // of all devices
}

func (e *NotFiniteError) Error() string { return e.part.Title + " gave a number that is not finite" }

// Diagnosis runs the program again and names the layer. where, such as " at timestep 981", follows the part's title.
func (e *NotFiniteError) Diagnosis(ctx context.Context, where string) error {
	what := e.part.Title + where
	var err error
	for _, program := range e.programs {
		if err == nil {
			err = program.Diagnose(ctx)
		}
	}
	var bad *kernels.NonFiniteError
	switch {
	case errors.As(err, &bad):
		return fmt.Errorf("%s: no picture: %w. The weights may be damaged, or their values too large for the type: try --dtype fp32", what, bad)
	case err != nil:
		return fmt.Errorf("%s gave a number that is not finite; looking for the layer: %w", what, err)
	}
	return fmt.Errorf("%s gave a number that is not finite, but not when run again: the machine's memory or processor may be faulty", what)
}

// NotFinite is the error for a result of the latest Exec that was found to hold NaN or infinity.
func (p *Part) NotFinite() *NotFiniteError {
	e := &NotFiniteError{p, []*kernels.Program{p.program}}
	if p.shared() {
		e.programs = append(e.programs, p.second.program)
	}
	return e
}

// Close frees the activations, and weights that come block by block. The other weights stay.
func (p *Part) Close() {
	for form := range p.forms {
		p.close(form)
	}
}

// close frees the program of one form.
func (p *Part) close(form nn.Form) {
	c := p.forms[form]
	if c == nil {
		return
	}
	c.program.Close()
	if c.shared() {
		p.second.close(form)
	}
	delete(p.forms, form)
	if p.compiled == c {
		p.compiled = nil
		p.ran.Store(nil)
	}
}

// Unload frees the activations and the weights.
func (p *Part) Unload() { p.unload(nil) }

// UnloadBut is Unload for a part that has its weights in common with another, on the same backend: those stay.
func (p *Part) UnloadBut(other *Part) {
	keep := map[*kernels.Weight]bool{}
	for _, w := range other.all(p.last) {
		keep[w] = true
	}
	p.unload(keep)
}

// all are the weights of the whole network for those sizes.
func (p *Part) all(s nn.Sizes) []*kernels.Weight {
	if s == (nn.Sizes{}) {
		return nil
	}
	s.Cut = nn.Cut{}
	return p.Graph(s).Weights()
}

func (p *Part) unload(keep map[*kernels.Weight]bool) {
	weights := p.all(p.last) // none if it has not run since
	p.Close()
	p.last = nn.Sizes{}
	for _, w := range weights {
		if !keep[w] {
			p.device.Backend.Unload(w)
		}
	}
	if p.second != nil {
		p.second.unload(keep)
	}
}

// Replace gives weights of the part other arrays, with other adapters in them, say. What was packed of them is unloaded,
// and packed anew for the next run; the other weights stay where they are.
func (p *Part) Replace(arrays map[*kernels.Weight]tensor.Array) {
	if len(arrays) == 0 {
		return
	}
	p.Close() // recordings know where weights lie
	for w, a := range arrays {
		p.device.Backend.Unload(w)
		if p.device.Second != nil {
			p.device.Second.Backend.Unload(w)
		}
		w.Host, w.Shape = a, reshape(w.Shape, a.Shape())
	}
}

// reshape is the new shape of a weight of shape old: its rows may have become more.
func reshape(old, array tensor.Shape) tensor.Shape {
	s := slices.Clone(old)
	if len(s) > 0 && len(array) > 0 {
		s[0] = array[0]
	}
	return s
}

// Need is an estimate of memory in bytes, made from shapes alone.
type Need struct {
	Weights     uint64 // packed for the backend, of the parts that are not loaded yet
	Activations uint64 // the arenas at their fullest
}

// Total is the sum.
func (n Need) Total() uint64 { return n.Weights + n.Activations }

// Plus adds what is needed at the same time.
func (n Need) Plus(o Need) Need { return Need{n.Weights + o.Weights, n.Activations + o.Activations} }

// Need is what the part takes on its device for those sizes on top of what is loaded: its weights whole, or streamed.
func (p *Part) Need(s nn.Sizes, streamed bool) Need {
	if p.runs != nil {
		p = p.runs
	}
	s, _ = p.split(s)
	g, b := p.Graph(s), p.device.Backend
	n := Need{Activations: uint64(g.ArenaBytes(streamed) + unpacked(b, g))}
	if streamed && p.streams() {
		n.Weights = uint64(g.StreamedBytes(b))
		return n
	}
	for _, w := range g.Weights() {
		if b.Packed(w) == nil {
			n.Weights += uint64(packed(b, w))
		}
	}
	return n
}
