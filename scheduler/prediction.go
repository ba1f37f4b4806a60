package scheduler

import (
	"fmt"
	"math"
)

// PredictionType is what a model's output means.
type PredictionType int

const (
	Epsilon     PredictionType = iota // ε, the noise (Ho et al. 2020)
	VPrediction                       // v = α·ε − σ·x₀ at α²+σ² = 1 (Salimans and Ho 2022)
	Sample                            // x₀, the picture
	Flow                              // v = ε − x₀ at α+σ = 1 (Liu et al. 2022, Lipman et al. 2022)
	EDM                               // F of Karras et al. 2022, table 1: see edm.go
)

var predictionNames = []string{"epsilon", "v_prediction", "sample", "flow_prediction", "edm"}

// String is the name that scheduler_config.json uses.
func (p PredictionType) String() string { return predictionNames[p] }

// ParsePredictionType is the inverse of String.
func ParsePredictionType(s string) (PredictionType, error) {
	for i, n := range predictionNames {
		if s == n {
			return PredictionType(i), nil
		}
	}
	return 0, fmt.Errorf("prediction type %q: supported are %s", s, quoted(predictionNames))
}

// InputScale is the factor on x before it enters the model, 1/√(α²+σ²): the model was trained on unit
// variance. Flow models see x as it is.
func (p PredictionType) InputScale(at Level) float64 {
	if p == Flow {
		return 1
	}
	if d := at.Data; d > 0 {
		return 1 / math.Sqrt(d*d+at.Sigma*at.Sigma)
	}
	return 1 / math.Sqrt(at.Alpha*at.Alpha+at.Sigma*at.Sigma)
}

// Split turns the model's output into a Prediction, for x at a level of any convention. With
// s = √(α²+σ²), a = α/s, b = σ/s:
//
//	epsilon        ε = out              x₀ = (x − σ·out)/α
//	v_prediction   ε = a·out + b·x/s    x₀ = a·x/s − b·out
//	sample         ε = (x − α·out)/σ    x₀ = out
//	flow           ε = x + (1−σ)·out    x₀ = x − σ·out
//	edm            ε = (x − x₀)/σ       x₀ as in edm.go, and so v_prediction of models of that kind
//
// x and out are only read; they and the result have one length. With epsilon α must not be 0.
func (p PredictionType) Split(x, out []float32, at Level) Prediction {
	return p.SplitInto(Prediction{X0: make([]float32, len(x)), Eps: make([]float32, len(x))}, x, out, at)
}

// SplitInto is Split into dst's slices, which must have x's length and may be x or out themselves only
// where the two are not read again.
func (p PredictionType) SplitInto(dst Prediction, x, out []float32, at Level) Prediction {
	α, σ := at.Alpha, at.Sigma
	if at.Data > 0 {
		skip, scale := p.edmScales(at)
		combine(dst.X0, term{skip, x}, term{scale, out})
		combine(dst.Eps, term{σ / (σ*σ + at.Data*at.Data), x}, term{-scale / σ, out})
		return dst
	}
	s := math.Sqrt(α*α + σ*σ)
	switch p {
	case Epsilon:
		sub := float32(σ)
		div := float32(α)
		for i := range x {
			dst.X0[i] = (x[i] - float32(sub*out[i])) / div
		}
		copy(dst.Eps, out)
	case VPrediction:
		if α == 1 { // in diffusers' own rounding: at σ = 4096, of zero-SNR schedules, any other shows
			σ := float32(σ)
			s2 := float32(σ*σ) + 1
			c := -σ / sqrt32(s2)
			for i := range x {
				dst.X0[i] = float32(out[i]*c) + x[i]/s2
			}
		} else {
			combine(dst.X0, term{α / s / s, x}, term{-σ / s, out})
		}
		combine(dst.Eps, term{α / s, out}, term{σ / s / s, x})
	case Sample:
		copy(dst.X0, out)
		combine(dst.Eps, term{1 / σ, x}, term{-α / σ, out})
	case Flow:
		combine(dst.X0, term{1, x}, term{-σ, out})
		combine(dst.Eps, term{1, x}, term{1 - σ, out})
	default:
		panic(fmt.Sprintf("scheduler: prediction type %d", int(p)))
	}
	return dst
}
