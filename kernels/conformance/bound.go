package conformance

import (
	"fmt"
	"math"

	"darkroom/kernels"
	"darkroom/kernels/ref"
	"darkroom/tensor"
)

// u is the unit roundoff of float32: one rounding errs at most u·|result|.
const u = 1.0 / (1 << 24)

// steepest is the largest slope of any activation, GELU's at √2 (1.129).
const steepest = 1.13

// growth(k)·u·Σ|a·b| bounds the error of a float32 sum of k products, whatever its order.
//
// Each of the k roundings errs by at most u times a partial sum, which Σ|a·b| bounds. Their signs are
// as good as random, so that the total grows as √k (Higham & Mary 2019, "A new approach to
// probabilistic rounding error analysis"), with 2√k as the width of a bound that holds for every element
// of large results. The 8 is for what follows the sum: bias, the activation's few ulps, residual.
//
// It is tight enough to find a wrong term: one product is Σ|a·b|/k on average, and 2√k·u < 1/k up to
// k = 40,000, twice the longest sum of the models.
func growth(k int) float64 { return 8 + 2*math.Sqrt(float64(k)) }

// againstBound compares a float32 result with the reference, element by element, with a bound that
// follows from the number of roundings and the size of what was rounded.
func (s *suite) againstBound(c testCase, got []float32) (worst float64, err error) {
	o := newOperands(s.ref, c, in(tensor.F32))
	defer o.free()
	op := c.op(o)
	want, err := o.result(op)
	if err != nil {
		return 0, err
	}
	bound, err := o.bound(op, want)
	if err != nil {
		return 0, err
	}
	for i, w := range want {
		e := math.Abs(float64(got[i]) - float64(w))
		if !(e <= bound[i]) {
			return math.Inf(1), fmt.Errorf("value %d of %d is %g, the reference %g: the error %.3g is over the bound %.3g",
				i, len(want), got[i], w, e, bound[i])
		}
		if e > 0 {
			worst = max(worst, e/bound[i])
		}
	}
	return worst, nil
}

// againstRounding compares a half-precision result. Rounding the inputs, the weights and the result to
// the type costs an error that no kernel can avoid: the yardstick, measured on the reference. A
// kernel may err at most twice as much, in the root mean square and in the worst element.
func (s *suite) againstRounding(c testCase, d tensor.DType, got []float32) (worst float64, err error) {
	exact, err := s.run(s.ref, c, in(tensor.F32))
	if err != nil {
		return 0, err
	}
	rounded, err := s.run(s.ref, c, variant{dtype: tensor.F32, rounded: d})
	if err != nil {
		return 0, err
	}
	encoded(d, rounded, tensor.Shape{len(rounded)}).Float32(rounded)

	ulp := math.Ldexp(1, -11) // half the spacing of values near 1
	if d == tensor.BF16 {
		ulp = math.Ldexp(1, -8)
	}
	var yard, yardMax, err2, errMax float64
	for i, w := range exact {
		// At least the rounding of the result counts: with few elements, luck may make the yardstick 0.
		y := max(math.Abs(float64(rounded[i])-float64(w)), ulp*math.Abs(float64(w)))
		e := math.Abs(float64(got[i]) - float64(w))
		if e != e {
			return math.Inf(1), fmt.Errorf("value %d of %d is %g, the reference %g", i, len(exact), got[i], w)
		}
		yard, err2 = yard+y*y, err2+e*e
		yardMax, errMax = max(yardMax, y), max(errMax, e)
	}
	yard, err2 = math.Sqrt(yard/float64(len(exact))), math.Sqrt(err2/float64(len(exact)))
	if err2 > 2*yard || errMax > 2*yardMax {
		return math.Inf(1), fmt.Errorf("the error is %.3g rms, %.3g at most; rounding to %v alone gives %.3g and %.3g, and twice that is allowed",
			err2, errMax, d, yard, yardMax)
	}
	if yard == 0 {
		return 0, nil
	}
	return max(err2/(2*yard), errMax/(2*yardMax)), nil
}

// bound is the largest error allowed for each element of the result, want being the reference's.
func (o *operands) bound(op kernels.Op, want []float32) ([]float64, error) {
	switch op := op.(type) {
	case *kernels.Conv2D:
		w := op.W.Shape
		if op.Winograd && w[2] == 3 && w[3] == 3 && op.Step() == 1 {
			return o.winogradBound(op)
		}
		return o.sumBound(o.magnitudeConv2D(op), w[1]*w[2]*w[3])
	case *kernels.Linear:
		var δ *kernels.Tensor
		if op.W.Norm != nil {
			var err error
			if op, δ, err = o.unnormed(op); err != nil {
				return nil, err
			}
		}
		if op.Act.Gated() {
			return o.gegluBound(op, δ)
		}
		bound, err := o.sumBound(o.magnitudeLinear(op), op.W.Shape[1])
		if err != nil || δ == nil {
			return bound, err
		}
		return bound, o.propagated(bound, op, δ, steepest)
	case *kernels.Attention:
		return o.attentionBound(op)
	case *kernels.GroupNorm:
		return o.groupNormBound(op, want), nil
	case *kernels.LayerNorm:
		return o.layerNormBound(op, want), nil
	case *kernels.Pointwise:
		return o.pointwiseBound(op), nil
	case *kernels.Rotary:
		return o.rotaryBound(op), nil
	case *kernels.Concat, *kernels.PixelShuffle, *kernels.Surround, *kernels.Cut, *kernels.Swap:
		return make([]float64, len(want)), nil // nothing is computed
	case *kernels.Embed:
		return make([]float64, len(want)), nil // one addition, rounded once by everybody
	}
	panic("conformance: no bound for " + op.Kind())
}

// sumBound turns the same operation over absolute values, Σ|a·b| + |bias| + |residual|, into a bound.
func (o *operands) sumBound(magnitude kernels.Op, k int) ([]float64, error) {
	sums, err := o.result(magnitude)
	if err != nil {
		return nil, err
	}
	bound := make([]float64, len(sums))
	for i, m := range sums {
		bound[i] = steepest * growth(k) * u * float64(m)
	}
	return bound, nil
}

func (o *operands) magnitudeConv2D(op *kernels.Conv2D) *kernels.Conv2D {
	m := *op
	m.In, m.In2, m.PerChannel, m.Residual = o.abs(op.In), o.abs(op.In2), o.abs(op.PerChannel), o.abs(op.Residual)
	m.W, m.Bias, m.Act = o.absWeight(op.W), o.absWeight(op.Bias), kernels.Identity
	return &m
}

// winogradBound is that of the plain sum or, where that is larger, of F(4×4, 3×3): as many terms as channels, whose sizes
// the absolute values of all matrices bound, and a rounding for each step of the six passes through the matrices, three at
// most.
func (o *operands) winogradBound(op *kernels.Conv2D) ([]float64, error) {
	w := op.W.Shape
	magnitude := o.magnitudeConv2D(op)
	bound, err := o.sumBound(magnitude, w[1]*w[2]*w[3])
	if err != nil {
		return nil, err
	}
	shape := op.OutShape()
	dst := o.place(make([]float32, shape.Len()), shape)
	defer delete(o.host, dst)
	o.b.(*ref.Backend).Winograd(dst, magnitude, ref.F4(0.75, 1.5).Abs())
	for i, m := range kernels.Floats(dst) {
		bound[i] = max(bound[i], steepest*(growth(w[1])+18)*u*float64(m))
	}
	return bound, nil
}

// unnormed is a product of rows that were normalised before, and how far these may be off.
func (o *operands) unnormed(op *kernels.Linear) (plain *kernels.Linear, δ *kernels.Tensor, err error) {
	n := op.LayerNorm()
	rows, err := o.result(n)
	if err != nil {
		return nil, nil, err
	}
	bound := o.layerNormBound(n, rows)
	off := make([]float32, len(bound))
	for i, b := range bound {
		off[i] = float32(b)
	}
	m := *op
	m.In = o.place(rows, op.In.Shape)
	m.W = o.constant(tensor.F32, op.W.Role, floats(op.W), op.W.Shape...)
	return &m, o.place(off, op.In.Shape), nil
}

// propagated adds what errors δ of a product's input make of its result, times a slope.
func (o *operands) propagated(bound []float64, op *kernels.Linear, δ *kernels.Tensor, slope float64) error {
	errs, err := o.result(&kernels.Linear{In: δ, W: o.absWeight(op.W)})
	for i, e := range errs {
		bound[i] += slope * float64(e)
	}
	return err
}

func (o *operands) magnitudeLinear(op *kernels.Linear) *kernels.Linear {
	m := *op
	m.In, m.Residual = o.abs(op.In), o.abs(op.Residual)
	m.W, m.Bias, m.Act = o.absWeight(op.W), o.absWeight(op.Bias), kernels.Identity
	return &m
}

// gegluBound follows value·GELU(gate) + residual, or SiLU in its place, which is less steep: each factor's error times the other factor.
// δ are errors of the input; nil for none.
func (o *operands) gegluBound(op *kernels.Linear, δ *kernels.Tensor) ([]float64, error) {
	var half [2]struct { // values, gates: the sums, those over absolute values, and those of the input's errors
		value, size []float32
		input       []float64
	}
	for i := range half {
		l := &kernels.Linear{In: op.In, W: o.rows(op.W, i), Bias: o.rows(op.Bias, i)}
		var err error
		if half[i].value, err = o.result(l); err != nil {
			return nil, err
		}
		if half[i].size, err = o.result(o.magnitudeLinear(l)); err != nil {
			return nil, err
		}
		half[i].input = make([]float64, len(half[i].size))
		if δ != nil {
			if err := o.propagated(half[i].input, l, δ, 1); err != nil {
				return nil, err
			}
		}
	}
	g := growth(op.W.Shape[1]) * u
	bound := make([]float64, len(half[0].value))
	var residual []float32
	if op.Residual != nil {
		residual = o.host[op.Residual]
	}
	for i := range bound {
		value, gate := math.Abs(float64(half[0].value[i])), math.Abs(float64(half[1].value[i]))
		δvalue, δgate := g*float64(half[0].size[i])+half[0].input[i], g*float64(half[1].size[i])+half[1].input[i]
		bound[i] = δvalue*gate + value*steepest*δgate + δvalue*steepest*δgate + 8*u*value*gate
		if residual != nil {
			bound[i] += 2 * u * (value*gate + math.Abs(float64(residual[i])))
		}
	}
	return bound, nil
}

// largest is the largest absolute value.
func largest(values []float32) float64 {
	var most float64
	for _, v := range values {
		most = max(most, math.Abs(float64(v)))
	}
	return most
}

// attentionBound: an error δ of a score is a factor 1 ± δ of its weight and of the weights' sum, and the
// weighted sum of the values has its own rounding.
func (o *operands) attentionBound(op *kernels.Attention) ([]float64, error) {
	m := *op
	m.V = o.abs(op.V)
	sums, err := o.result(&m) // Σ p·|v|
	if err != nil {
		return nil, err
	}
	batch, queries, channels, keys := op.Q.Shape[0], op.Q.Shape[1], op.Q.Shape[2], op.K.Shape[1]
	d := channels / op.Heads
	group, shared := op.Heads/op.Shared(), op.K.Shape[2]
	norm := func(t *kernels.Tensor, row, width, h int) float64 {
		var sum float64
		for _, v := range o.host[t][row*width+h*d:][:d] {
			sum += float64(v) * float64(v)
		}
		return math.Sqrt(sum)
	}
	bound := make([]float64, len(sums))
	for n := range batch {
		for h := range op.Heads {
			var longest float64
			for j := range keys {
				longest = max(longest, norm(op.K, n*keys+j, shared, h/group))
			}
			for i := range queries {
				// Σ|q·k| ≤ ‖q‖·‖k‖ (Cauchy–Schwarz).
				row := n*queries + i
				δ := growth(d) * u * math.Abs(float64(op.Factor())) * norm(op.Q, row, channels, h) * longest
				if op.Bias != nil {
					δ += growth(1) * u * largest(o.host[op.Bias])
				}
				for c := h * d; c < (h+1)*d; c++ {
					at := row*channels + c
					bound[at] = (2*δ + growth(keys)*u) * float64(sums[at])
				}
			}
		}
	}
	return bound, nil
}

// The mean of a normalisation is a sum whose order is the backend's: 16 allows a pairwise or
// blocked float32 sum. x - μ then loses what the offset of x costs, the variance is a relative error,
// and 24 covers it with the root, the products and the activation.
const (
	meanUlps   = 16
	normalUlps = 24
)

func normBound(x, mean, inv, gamma, beta, size float64) float64 {
	δ := (meanUlps*size + math.Abs(x) + math.Abs(mean)) * u
	return steepest * (math.Abs(gamma)*inv*(δ+normalUlps*u*math.Abs(x-mean)) + normalUlps*u*math.Abs(beta))
}

// moments are the mean, the reciprocal deviation and the mean absolute value of the values.
func moments(n int, value func(i int) float64, eps float32) (mean, inv, size float64) {
	for i := range n {
		mean += value(i)
		size += math.Abs(value(i))
	}
	mean, size = mean/float64(n), size/float64(n)
	var squares float64
	for i := range n {
		squares += (value(i) - mean) * (value(i) - mean)
	}
	return mean, 1 / math.Sqrt(squares/float64(n)+float64(eps)), size
}

func (o *operands) groupNormBound(op *kernels.GroupNorm, want []float32) []float64 {
	out := op.OutShape()
	channels := out[len(out)-1]
	pixels := out.Len() / out[0] / channels
	per := channels / op.Groups
	c1 := op.In.Shape[len(out)-1]
	at := func(row, c int) float64 {
		if c < c1 {
			return float64(o.host[op.In][row*c1+c])
		}
		return float64(o.host[op.In2][row*(channels-c1)+c-c1])
	}
	gamma, beta := floats(op.Gamma), floats(op.Beta)
	bound := make([]float64, len(want))
	for n := range out[0] {
		for g := range op.Groups {
			cell := func(i int) (row, c int) { return n*pixels + i/per, g*per + i%per }
			mean, inv, size := moments(pixels*per, func(i int) float64 { return at(cell(i)) }, op.Eps)
			for i := range pixels * per {
				row, c := cell(i)
				bound[row*channels+c] = normBound(at(row, c), mean, inv, float64(gamma[c]), float64(beta[c]), size)
			}
		}
	}
	return bound
}

func (o *operands) layerNormBound(op *kernels.LayerNorm, want []float32) []float64 {
	x := o.host[op.In]
	channels := op.In.Shape[len(op.In.Shape)-1]
	image := len(want) / op.In.Shape[0]
	gamma, beta := make([]float32, channels), make([]float32, channels)
	for i := range gamma {
		gamma[i] = 1
	}
	if op.Gamma != nil {
		gamma = floats(op.Gamma)
	}
	if op.Beta != nil {
		beta = floats(op.Beta)
	}
	bound := make([]float64, len(want))
	for m := range len(want) / channels {
		row := x[m*channels:][:channels]
		mean, inv, size := moments(channels, func(i int) float64 { return float64(row[i]) }, op.Eps)
		if op.RMS {
			mean, size = 0, 0
			var squares float64
			for _, v := range row {
				squares += float64(v) * float64(v)
			}
			inv = 1 / math.Sqrt(squares/float64(channels)+float64(op.Eps))
		}
		n := m * channels / image * channels
		for c, v := range row {
			slope, shift := 1.0, 0.0
			if op.Scale != nil {
				slope = 1 + math.Abs(float64(o.host[op.Scale][n+c]))
			}
			if op.Shift != nil {
				shift = float64(o.host[op.Shift][n+c])
			}
			bound[m*channels+c] = normBound(float64(v), mean, inv, slope*float64(gamma[c]), slope*math.Abs(float64(beta[c]))+math.Abs(shift), size)
		}
	}
	return bound
}

// abs is an operand of absolute values.
func (o *operands) abs(t *kernels.Tensor) *kernels.Tensor {
	if t == nil {
		return nil
	}
	return o.place(absolute(o.host[t]), t.Shape)
}

func (o *operands) absWeight(w *kernels.Weight) *kernels.Weight {
	if w == nil {
		return nil
	}
	return o.constant(tensor.F32, w.Role, absolute(floats(w)), w.Shape...)
}

// rows is half i of a weight's rows, as a plain matrix or vector.
func (o *operands) rows(w *kernels.Weight, i int) *kernels.Weight {
	if w == nil {
		return nil
	}
	values := floats(w)
	half := len(values) / 2
	shape := append(tensor.Shape{}, w.Shape...)
	shape[0] /= 2
	role := w.Role
	if role == kernels.MatrixGEGLU {
		role = kernels.Matrix
	}
	return o.constant(tensor.F32, role, values[i*half:(i+1)*half], shape...)
}

func floats(w *kernels.Weight) []float32 {
	values := make([]float32, w.Shape.Len())
	if err := w.Host.Decode(values, 0); err != nil {
		panic(err) // the suite makes its weights in memory
	}
	return values
}

func absolute(values []float32) []float32 {
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = float32(math.Abs(float64(v)))
	}
	return out
}
