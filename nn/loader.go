// Package nn holds the layers that models are built of: each pairs weights, found by their names in
// a checkpoint, with the kernels operation that reads them. Forward methods write operations into a
// kernels.Graph; nothing is computed here.
package nn

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"

	"darkroom/kernels"
	"darkroom/tensor"
)

// Source is where weights come from: a checkpoint, or Random.
type Source interface {
	// Array returns the array of that name, false if there is none.
	Array(name string) (tensor.Array, bool)
}

// maker is a Source that makes up an array of the shape that is asked for.
type maker interface {
	Make(name string, shape tensor.Shape) tensor.Array
}

// Loader walks the names of a checkpoint as a model is put together. It is a value: At gives one for
// a part below. Missing names and wrong shapes are collected, so that constructors read like the
// model and Err reports everything at once.
type Loader struct {
	path     string
	tolerant bool
	state    *loading
}

type loading struct {
	part    string
	src     Source
	errs    []error
	used    map[string]bool
	shared  map[string]*kernels.Weight
	all     map[string][]Use
	skipped []string
}

// NewLoader starts at the root of src. The part ("unet", "vae") goes in front of the weights' names
// in errors and profiles.
func NewLoader(part string, src Source) Loader {
	return Loader{state: &loading{part: part, src: src, used: map[string]bool{}, shared: map[string]*kernels.Weight{}, all: map[string][]Use{}}}
}

// At is the loader for a part below: At("down_blocks", 0, "resnets", 1) is "down_blocks.0.resnets.1".
func (l Loader) At(parts ...any) Loader {
	for _, p := range parts {
		l.path = l.name(fmt.Sprint(p))
	}
	return l
}

// Tolerant is a loader whose weights say that they bear 8 bits: see kernels.Weight.
func (l Loader) Tolerant(yes bool) Loader {
	l.tolerant = yes
	return l
}

func (l Loader) name(last string) string {
	if l.path == "" {
		return last
	}
	return l.path + "." + last
}

// Has says whether the checkpoint has that name below this part.
func (l Loader) Has(name string) bool {
	if _, ok := l.state.src.(maker); ok {
		return true
	}
	_, ok := l.state.src.Array(l.name(name))
	return ok
}

// Err returns everything that was missing or had a wrong shape or type, nil if the model is whole.
func (l Loader) Err() error {
	const most = 8
	errs := l.state.errs
	if n := len(errs); n > most {
		errs = append(slices.Clone(errs[:most]), fmt.Errorf("… and %d more", n-most))
	}
	return errors.Join(errs...)
}

// Weights are all that were loaded, by the arrays' names. One array may be read in two roles, and a weight be made of
// several arrays.
func (l Loader) Weights() map[string][]Use { return l.state.all }

// Skip says that the arrays below this part are not wanted: Unused leaves them out.
func (l Loader) Skip() { l.state.skipped = append(l.state.skipped, l.path+".") }

// Unused lists, sorted, those of the given names that no layer asked for.
func (l Loader) Unused(names []string) []string {
	var out []string
	for _, n := range names {
		skipped := slices.ContainsFunc(l.state.skipped, func(path string) bool { return strings.HasPrefix(n, path) })
		if !l.state.used[n] && !skipped && !strings.HasSuffix(n, "position_ids") {
			out = append(out, n)
		}
	}
	sort.Strings(out)
	return out
}

// Weight fetches an array that must have the given shape. Dimensions of length 1 at the end may be
// missing or added: a 1×1 convolution is read as a matrix and the other way round.
func (l Loader) Weight(name string, role kernels.Role, shape ...int) *kernels.Weight {
	full := l.name(name)
	s := l.state
	s.used[full] = true
	if w := s.shared[full]; w != nil && w.Role == role && w.Shape.Equal(shape) {
		return w
	}
	w := l.empty(full, role, shape)
	if m, ok := s.src.(maker); ok {
		w.Host = m.Make(full, w.Shape)
	} else if a, ok := l.array(full, w.Shape); ok {
		w.Host = a
		s.shared[full] = w
		s.all[full] = append(s.all[full], Use{Weight: w, names: []string{full}})
	}
	return w
}

func (l Loader) empty(full string, role kernels.Role, shape []int) *kernels.Weight {
	return &kernels.Weight{Name: l.state.part + "." + full, Role: role, Shape: slices.Clone(shape), Tolerant: l.tolerant}
}

// array finds an array of that shape and of numbers; what is wrong with it is noted.
func (l Loader) array(full string, want tensor.Shape) (tensor.Array, bool) {
	s := l.state
	a, ok := s.src.Array(full)
	switch {
	case !ok:
		s.errs = append(s.errs, fmt.Errorf("%s: the checkpoint has no weight %s (%v): it is incomplete, or config.json belongs to another model", s.part, full, want))
		return nil, false
	case !trim(a.Shape()).Equal(trim(want)):
		s.errs = append(s.errs, fmt.Errorf("%s: weight %s is %v, but config.json asks for %v", s.part, full, a.Shape(), want))
		return nil, false
	}
	if t, ok := a.Plain(); ok && !t.DType.IsFloat() {
		s.errs = append(s.errs, fmt.Errorf("%s: weight %s has element type %v; F32, F16, BF16 and F64 are supported", s.part, full, t.DType))
		return nil, false
	}
	return a, true
}

// Rows is rows [from, to) of a weight's first axis as a weight of its own: one of several that the file holds in one.
// A single row is a vector.
func Rows(w *kernels.Weight, from, to int) *kernels.Weight {
	r := &kernels.Weight{Name: w.Name + mark(from, to), Role: w.Role, Shape: append(tensor.Shape{to - from}, w.Shape[1:]...)}
	if to == from+1 {
		r.Role, r.Shape = kernels.Vector, w.Shape[1:]
	}
	if w.Host != nil {
		r.Host = tensor.Rows(w.Host, from, to)
	}
	return r
}

func mark(from, to int) string { return fmt.Sprintf("[%d:%d]", from, to) }

func trim(s tensor.Shape) tensor.Shape {
	for len(s) > 1 && s[len(s)-1] == 1 {
		s = s[:len(s)-1]
	}
	return s
}

// Random is a Source of made-up weights of any name and shape, for benchmarks and plans: normal with
// the variance that keeps activations of order one. The zero value is ready.
type Random struct {
	// ShapesOnly leaves the arrays without data, for graphs that are planned but never run.
	ShapesOnly bool
	// DType is what the arrays are stored as.
	DType tensor.DType
}

func (Random) Array(string) (tensor.Array, bool) { return nil, false }

func (r Random) Make(name string, shape tensor.Shape) tensor.Array {
	if r.ShapesOnly {
		return nil
	}
	t := tensor.Tensor{DType: r.DType, Shape: shape}
	fan := shape.Len() / shape[0]
	scale, shift := float32(1/math.Sqrt(float64(fan))), float32(0)
	if len(shape) == 1 {
		scale = 0.02
		if strings.Contains(name, "norm") && strings.HasSuffix(name, "weight") {
			shift = 1
		}
	}
	// A short period of random numbers is enough and quick to make for a billion weights.
	rng := rand.New(rand.NewPCG(uint64(len(name)), uint64(shape.Len())))
	period := make([]float32, min(shape.Len(), 65521))
	for i := range period {
		period[i] = shift + scale*float32(rng.NormFloat64())
	}
	size := r.DType.Size()
	once := make([]byte, len(period)*size)
	tensor.Encode(once, r.DType, period)
	t.Data = make([]byte, shape.Len()*size)
	for at := 0; at < len(t.Data); at += len(once) {
		copy(t.Data[at:], once)
	}
	return tensor.Stored(t)
}

// fail records an error about the part at hand.
func (l Loader) fail(format string, args ...any) {
	l.state.errs = append(l.state.errs, fmt.Errorf("%s: %s: %s", l.state.part, l.path, fmt.Sprintf(format, args...)))
}
