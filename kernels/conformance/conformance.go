// Package conformance holds the checks that every backend must pass: each operation over a
// table of shapes against kernels/ref, whose sums are float64, and the promises of
// kernels.Backend about determinism, batches, threads and memory.
//
// It returns verdicts and needs no package testing, so that a program can examine the machine that it
// runs on. Package suite turns them into subtests.
package conformance

import (
	"fmt"
	"iter"
	"math"
	"strings"

	"darkroom/kernels"
	"darkroom/kernels/ref"
	"darkroom/tensor"
)

// Options selects what is checked. The zero value checks everything that the backend alone allows.
type Options struct {
	// WithThreads returns a backend of the same kind that runs on n threads, to check that the
	// results do not depend on n. Nil where threads have no meaning.
	WithThreads func(n int) kernels.Backend
	// Short leaves out the cases that take the reference longer than about 50 ms.
	Short bool
	// TF32 says that convolutions and linear layers of a float32 backend round their operands to TF32. That has
	// float16's 11 significant bits, and they are held to what rounding to float16 costs.
	TF32 bool
	// Match keeps the cases for which it returns true; nil keeps all.
	Match func(name string) bool
}

// Verdict is the outcome of one check of one case.
type Verdict struct {
	Case  string // "conv2d/3×3 stride 2 pad 0,1"
	Check string // "accuracy F32", "batch", "threads", …
	// Err says what was wrong; nil is a pass.
	Err error
	// Worst is the largest error as a share of what the bound allows; 0 where the check has no bound.
	Worst float64
}

func (v Verdict) String() string {
	if v.Err != nil {
		return fmt.Sprintf("%s: %s: %v", v.Case, v.Check, v.Err)
	}
	return fmt.Sprintf("%s: %s: ok, %.0f%% of the bound", v.Case, v.Check, 100*v.Worst)
}

// Check examines the backend and returns a verdict for each check of each case. A panic of the
// backend is a verdict too.
func Check(b kernels.Backend, o Options) []Verdict {
	var out []Verdict
	for _, check := range Cases(b, o) {
		out = append(out, check()...)
	}
	return out
}

// Cases are the names of the cases, each with the function that checks it. The last one is memory.
func Cases(b kernels.Backend, o Options) iter.Seq2[string, func() []Verdict] {
	return func(yield func(string, func() []Verdict) bool) {
		s := newSuite(b, o)
		for _, c := range s.cases() {
			if !yield(c.name, func() []Verdict { return s.check(c) }) {
				return
			}
		}
		yield("memory", s.memory)
	}
}

type suite struct {
	b, ref kernels.Backend
	o      Options
	some   []kernels.Backend // on other numbers of threads
}

func newSuite(b kernels.Backend, o Options) *suite {
	s := &suite{b: b, ref: ref.New(0), o: o}
	if o.WithThreads != nil {
		// 1: no sharing at all; 2 and 5: shares that do not divide the work evenly.
		for _, n := range []int{1, 2, 5} {
			s.some = append(s.some, o.WithThreads(n))
		}
	}
	return s
}

func (s *suite) cases() []testCase {
	var out []testCase
	for _, c := range table() {
		if s.o.Short && c.slow || s.o.Match != nil && !s.o.Match(c.name) {
			continue
		}
		out = append(out, c)
	}
	return out
}

// check runs every check on one case.
func (s *suite) check(c testCase) (out []Verdict) {
	verdict := func(check string, f func() (float64, error)) {
		v := Verdict{Case: c.name, Check: check}
		v.Worst, v.Err = guarded(f)
		out = append(out, v)
	}
	for _, d := range s.b.Info().DTypes {
		f := in(d)
		var full []float32
		verdict("accuracy "+d.String(), func() (worst float64, err error) {
			if full, err = s.run(s.b, c, f); err != nil {
				return 0, err
			}
			if d == tensor.F32 && s.o.TF32 && (strings.HasPrefix(c.name, "conv2d/") || strings.HasPrefix(c.name, "linear/")) {
				return s.againstRounding(c, tensor.F16, full)
			}
			if d == tensor.F32 {
				return s.againstBound(c, full)
			}
			return s.againstRounding(c, d, full)
		})
		if full == nil {
			continue
		}
		same := func(b kernels.Backend, v variant) (float64, error) {
			got, err := s.run(b, c, v)
			if err != nil {
				return 0, err
			}
			return 0, sameBits(got, v.window(full, c.batch))
		}
		verdict("again "+d.String(), func() (float64, error) { return same(s.b, f) })
		for i := range c.batch {
			if c.batch == 1 {
				break
			}
			alone := in(d)
			alone.first, alone.count = i, 1
			verdict(fmt.Sprintf("image %d alone %v", i, d), func() (float64, error) { return same(s.b, alone) })
		}
		for i, b := range s.some {
			verdict(fmt.Sprintf("threads #%d %v", i, d), func() (float64, error) { return same(b, f) })
		}
		if strings.HasPrefix(c.name, "attention/") || strings.HasPrefix(c.name, "conv2d/") && strings.Contains(c.name, " per-channel") {
			verdict("columns "+d.String(), func() (float64, error) {
				got, err := s.columns(c, f)
				if err != nil {
					return 0, err
				}
				return 0, sameBits(got, full)
			})
		}
		verdict("NaN "+d.String(), func() (float64, error) { return 0, s.propagates(c, d) })
	}
	return out
}

// columns is an attention whose queries, keys and values are columns of wider tensors, or a convolution whose per-channel
// term is.
func (s *suite) columns(c testCase, v variant) ([]float32, error) {
	o := newOperands(s.b, c, v)
	defer o.free()
	op := c.op(o)
	switch op := op.(type) {
	case *kernels.Attention:
		op.Q, op.K, op.V = o.within(op.Q, 16, 24), o.within(op.K, 8, 40), o.within(op.V, 40, 8)
	case *kernels.Conv2D:
		op.PerChannel = o.within(op.PerChannel, 16, 32-op.PerChannel.Shape[1]%8)
	}
	return o.result(op)
}

// propagates puts one NaN into each input in turn: wherever the reference then has NaN, the backend
// must too, and images that did not hold it must not change.
func (s *suite) propagates(c testCase, d tensor.DType) error {
	clean, err := s.run(s.b, c, in(d))
	if err != nil {
		return err
	}
	o := newOperands(s.ref, c, in(tensor.F32))
	defer o.free()
	c.op(o)
	for i := range o.inputs {
		v, plain := in(d), in(tensor.F32)
		v.poison, plain.poison = i+1, i+1
		want, err := s.run(s.ref, c, plain)
		if err != nil {
			return err
		}
		got, err := s.run(s.b, c, v)
		if err != nil {
			return err
		}
		image := len(want) / c.batch
		for at, w := range want {
			if w != w && got[at] == got[at] {
				return fmt.Errorf("with NaN in input %d, value %d is %g and should be NaN", i, at, got[at])
			}
			// The poison lies in the last image.
			if at < len(want)-image && math.Float32bits(got[at]) != math.Float32bits(clean[at]) {
				return fmt.Errorf("with NaN in input %d of the last image, value %d of another image changed from %g to %g", i, at, clean[at], got[at])
			}
		}
	}
	return nil
}

func sameBits(got, want []float32) error {
	for i, v := range got {
		if math.Float32bits(v) != math.Float32bits(want[i]) {
			return fmt.Errorf("value %d of %d is %g and was %g before: bits %08x, %08x",
				i, len(got), v, want[i], math.Float32bits(v), math.Float32bits(want[i]))
		}
	}
	return nil
}

// guarded turns a panic into an error.
func guarded(f func() (float64, error)) (worst float64, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return f()
}

// Same returns a verdict for each case that the options keep: whether two backends of the same element type give the
// same bits.
func Same(a, b kernels.Backend, o Options) []Verdict {
	s := newSuite(a, o)
	var out []Verdict
	for _, c := range s.cases() {
		v := Verdict{Case: c.name, Check: "same bits"}
		_, v.Err = guarded(func() (float64, error) {
			in := in(a.Info().DTypes[0])
			first, err := s.run(a, c, in)
			if err != nil {
				return 0, err
			}
			second, err := s.run(b, c, in)
			if err != nil {
				return 0, err
			}
			return 0, sameBits(first, second)
		})
		out = append(out, v)
	}
	return out
}
