package conformance

import (
	"slices"
	"strings"
	"testing"
	"unsafe"

	"darkroom/kernels"
	"darkroom/kernels/ref"
	"darkroom/tensor"
)

// flawed is the reference with one mistake, of the kinds that fast kernels make.
type flawed struct {
	*ref.Backend
	conv2D    func(b *ref.Backend, dst *kernels.Tensor, op *kernels.Conv2D)
	linear    func(dst *kernels.Tensor, op *kernels.Linear)
	attention func(dst *kernels.Tensor, op *kernels.Attention)
	groupNorm func(dst *kernels.Tensor, op *kernels.GroupNorm)
}

func (f *flawed) Conv2D(dst *kernels.Tensor, op *kernels.Conv2D) {
	f.Backend.Conv2D(dst, op)
	if f.conv2D != nil {
		f.conv2D(f.Backend, dst, op)
	}
}

func (f *flawed) Linear(dst *kernels.Tensor, op *kernels.Linear) {
	f.Backend.Linear(dst, op)
	if f.linear != nil {
		f.linear(dst, op)
	}
}

func (f *flawed) Attention(dst *kernels.Tensor, op *kernels.Attention) {
	f.Backend.Attention(dst, op)
	if f.attention != nil {
		f.attention(dst, op)
	}
}

func (f *flawed) GroupNorm(dst *kernels.Tensor, op *kernels.GroupNorm) {
	f.Backend.GroupNorm(dst, op)
	if f.groupNorm != nil {
		f.groupNorm(dst, op)
	}
}

// The suite must find each of these mistakes, by the check that is made for it.
func TestFindsFlaws(t *testing.T) {
	calls := 0
	for name, c := range map[string]struct {
		b     flawed
		check string
	}{
		"a tap is missing at the last pixel": {flawed{conv2D: func(b *ref.Backend, dst *kernels.Tensor, op *kernels.Conv2D) {
			out := kernels.Floats(dst)
			w := b.WeightFloats(op.W)
			out[len(out)-1] -= w[len(w)-1] * kernels.Floats(op.In)[op.In.Shape.Len()-1]
		}}, "accuracy"},
		"an ulp too many now and then": {flawed{linear: func(dst *kernels.Tensor, op *kernels.Linear) {
			calls++
			kernels.Floats(dst)[0] *= 1 + float32(calls%2)*0x1p-22
		}}, "again"},
		"writes one past the end": {flawed{conv2D: func(b *ref.Backend, dst *kernels.Tensor, op *kernels.Conv2D) {
			m := dst.Mem.(kernels.HostMem)
			*(*byte)(unsafe.Add(unsafe.Pointer(&m[0]), len(m))) = 0
		}}, "accuracy"},
		"depends on the size of the batch": {flawed{attention: func(dst *kernels.Tensor, op *kernels.Attention) {
			kernels.Floats(dst)[0] *= 1 + float32(dst.Shape[0])*0x1p-23
		}}, "image"},
		"swallows NaN": {flawed{groupNorm: func(dst *kernels.Tensor, op *kernels.GroupNorm) {
			for i, v := range kernels.Floats(dst) {
				if v != v {
					kernels.Floats(dst)[i] = 0
				}
			}
		}}, "NaN"},
		"writes to its input": {flawed{linear: func(dst *kernels.Tensor, op *kernels.Linear) {
			kernels.Floats(op.In)[0]++
		}}, "accuracy"},
	} {
		c.b.Backend = ref.New(2)
		found := false
		for _, v := range Check(&c.b, Options{Short: true, Match: func(name string) bool {
			return strings.Contains(name, "2×5") || strings.Contains(name, "2×6") || strings.Contains(name, "2×7") || strings.Contains(name, "16 queries")
		}}) {
			found = found || v.Err != nil && strings.HasPrefix(v.Check, c.check)
		}
		if !found {
			t.Errorf("not found: %s", name)
		}
	}
}

// A backend that rounds more often than its type asks for must fail the half-precision bound.
func TestHalfBound(t *testing.T) {
	s := newSuite(ref.New(2), Options{})
	c := testCase{name: "linear", batch: 1, op: func(o *operands) kernels.Op {
		return &kernels.Linear{In: o.in(1, 16, 64), W: o.weight(kernels.Matrix, 32, 64)}
	}}
	for _, d := range []tensor.DType{tensor.F16, tensor.BF16} {
		got, err := s.run(s.ref, c, variant{dtype: tensor.F32, rounded: d})
		if err != nil {
			t.Fatal(err)
		}
		encoded(d, got, tensor.Shape{len(got)}).Float32(got)
		if worst, err := s.againstRounding(c, d, got); err != nil || worst < 0.4 {
			t.Errorf("%v: rounding alone is %g of the bound, %v", d, worst, err)
		}
		for i := range got {
			got[i] *= 1 + 3*float32(1-2*(i%2))/float32(int(1)<<map[tensor.DType]int{tensor.F16: 9, tensor.BF16: 6}[d])
		}
		if _, err := s.againstRounding(c, d, got); err == nil {
			t.Errorf("%v: an error of six roundings passed", d)
		}
	}
}

// A prefix that no case has any more would leave a kernel out of every self-test.
func TestQuickFindsCases(t *testing.T) {
	for _, q := range quick {
		if !strings.HasPrefix(q, "memory/") && !slices.ContainsFunc(table(), func(c testCase) bool { return strings.HasPrefix(c.name, q) }) {
			t.Errorf("no case is called %s…", q)
		}
	}
}
