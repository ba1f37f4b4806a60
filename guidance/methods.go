package guidance

import (
	"math"
	"slices"
)

// Guide is the guidance of one picture: a method, a scale, and what the method remembers between steps. Because of
// that memory every picture needs a Guide of its own, also those of a batch that share method and scale.
type Guide struct {
	Method
	Scale    float64   // 1 is none
	Channels int       // of the prediction, channels first; dynamic thresholding works on each
	Momentum []float32 // apg's running difference; nil at the start, to be kept where a run is interrupted
}

// At is where in a run a prediction was made.
type At struct {
	Step, Steps int     // the step from 0, of how many; Steps is −1 where only the run tells
	Ratio       float64 // the noise level σ/α, +Inf where there is nothing but noise
}

// Active says whether there is guidance at a place, and with it whether uncond is looked at: outside of its interval or
// at scale 1 the prediction for the prompt is taken as it is.
func (g *Guide) Active(at At) bool {
	step := at.Steps < 0 || at.Step >= share(g.value("start"), at.Steps) && at.Step < share(g.value("stop"), at.Steps)
	ratio := min(at.Ratio, math.MaxFloat32) // it is infinite where a zero-SNR schedule begins
	return step && ratio > g.value("low") && ratio <= g.value("high") && g.Scale != 1
}

// share is so much of n steps, rounded down; a share such as 0.29 of 100 is 29 whatever it is in binary.
func share(of float64, n int) int { return int(of*float64(n) + 1e-9) }

// Combine writes the guided prediction into dst, which may be cond. All slices have one length; empty, the
// prediction for an empty prompt, is read by perp-neg alone and may be nil otherwise. Where guidance is not
// active uncond may be nil too.
func (g *Guide) Combine(dst, cond, uncond, empty []float32, at At) {
	if g.Name == "cfg-zero" && at.Step < int(g.value("zero")) {
		clear(dst)
		return
	}
	if !g.Active(at) {
		copy(dst, cond)
		return
	}
	φ, before := g.value("rescale"), 0.0
	if φ > 0 {
		before = deviation(cond) // dst may be cond
	}
	switch g.Name {
	case "", "cfg":
		plain(dst, cond, uncond, g.Scale)
	case "cfg-zero":
		zeroStar(dst, cond, uncond, g.Scale)
	case "apg":
		g.projected(dst, cond, uncond)
	case "dynamic":
		g.thresholded(dst, cond, uncond)
	case "perp-neg":
		perpendicular(dst, cond, uncond, empty, g.Scale, g.value("negative"))
	default:
		panic("guidance: no method " + g.Name)
	}
	if φ > 0 {
		rescale(dst, before, φ)
	}
}

// plain is classifier-free guidance (Ho and Salimans 2022, eq. 6): u + s·(c − u).
func plain(dst, cond, uncond []float32, s float64) {
	for i, u := range uncond {
		dst[i] = u + float32(float32(s)*(cond[i]-u))
	}
}

// rescale is eq. 15 and 16 of Lin et al. 2024: φ·x·(σ_cond/σ_x) + (1−φ)·x, with the standard deviations of the
// prompt's prediction and of the guided one.
func rescale(x []float32, before, φ float64) {
	after := deviation(x)
	if after == 0 {
		return
	}
	k := float32(φ*before/after + 1 - φ)
	for i := range x {
		x[i] *= k
	}
}

// zeroStar is CFG-Zero* (Fan et al. 2025, eq. 7): plain guidance from s*·u, s* = ⟨c,u⟩/‖u‖² the best multiple of u.
func zeroStar(dst, cond, uncond []float32, s float64) {
	star := float32(dot(cond, uncond) / (dot(uncond, uncond) + 1e-8))
	for i, u := range uncond {
		u *= star
		dst[i] = u + float32(float32(s)*(cond[i]-u))
	}
}

// projected is adaptive projected guidance (Sadat et al. 2024, algorithm 1). With Δ the running difference c − u, cut to
// length norm, and Δ∥ its part along c:
//
//	u + s·(Δ − Δ∥ + η·Δ∥)
func (g *Guide) projected(dst, cond, uncond []float32) {
	if g.Momentum == nil {
		g.Momentum = make([]float32, len(cond))
	}
	Δ, β := make([]float32, len(cond)), float32(g.value("momentum"))
	for i := range Δ {
		Δ[i] = cond[i] - uncond[i] + float32(β*g.Momentum[i])
	}
	copy(g.Momentum, Δ)
	if norm, length := g.value("norm"), math.Sqrt(dot(Δ, Δ)); norm > 0 && length > norm {
		k := float32(norm / length)
		for i := range Δ {
			Δ[i] *= k
		}
	}
	along := 0.0 // Δ∥ = along·c
	if c2 := dot(cond, cond); c2 > 0 {
		along = dot(Δ, cond) / c2
	}
	k := float32((g.value("eta") - 1) * along)
	for i, u := range uncond {
		dst[i] = u + float32(float32(g.Scale)*(Δ[i]+float32(k*cond[i])))
	}
}

// thresholded keeps, channel by channel, the mean of guidance at the full scale, and fits its deviations from it, cut
// at a percentile, into the range that guidance at the mimicked scale has.
func (g *Guide) thresholded(dst, cond, uncond []float32) {
	n := len(cond) / max(g.Channels, 1)
	φ, q := float32(g.value("phi")), g.value("percentile")
	full, mimic := make([]float32, n), make([]float32, n)
	for c := 0; c+n <= len(cond); c += n {
		plain(full, cond[c:c+n], uncond[c:c+n], g.Scale)
		plain(mimic, cond[c:c+n], uncond[c:c+n], g.value("mimic"))
		mean := centre(full)
		centre(mimic)
		extent := quantileAbs(mimic, 1)
		cut := max(extent, quantileAbs(full, q))
		for i, v := range full {
			w := v
			if cut > 0 {
				w = min(max(v, -cut), cut) / cut * extent
			}
			dst[c+i] = φ*(w+mean) + (1-φ)*(v+mean)
		}
	}
}

// perpendicular is Perp-Neg (Armandpour et al. 2023, eq. 6): e + s·(p − w·(n − ⟨n,p⟩/‖p‖²·p)), p and n the prompt's and the
// negative prompt's differences from the empty prompt e.
func perpendicular(dst, cond, negative, empty []float32, s, w float64) {
	var np, pp float64
	for i, e := range empty {
		p, n := float64(cond[i]-e), float64(negative[i]-e)
		np += n * p
		pp += p * p
	}
	along := float32(0)
	if pp > 0 {
		along = float32(np / pp)
	}
	for i, e := range empty {
		p, n := cond[i]-e, negative[i]-e
		dst[i] = e + float32(float32(s)*(p-float32(float32(w)*(n-float32(along*p)))))
	}
}

// centre takes the mean off v and returns it.
func centre(v []float32) float32 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x)
	}
	mean := float32(sum / float64(len(v)))
	for i := range v {
		v[i] -= mean
	}
	return mean
}

// quantileAbs is the q-quantile of |v|, linear between neighbours.
func quantileAbs(v []float32, q float64) float32 {
	a := make([]float32, len(v))
	for i, x := range v {
		a[i] = float32(math.Abs(float64(x)))
	}
	slices.Sort(a)
	rank := q * float64(len(a)-1)
	i := min(int(rank), len(a)-1)
	w := float32(rank - float64(i))
	return a[i] + float32(w*(a[min(i+1, len(a)-1)]-a[i]))
}

func dot(a, b []float32) (sum float64) {
	for i, x := range a {
		sum += float64(x) * float64(b[i])
	}
	return sum
}

// deviation is the standard deviation with Bessel's correction, as torch.std has it.
func deviation(v []float32) float64 {
	if len(v) < 2 {
		return 0
	}
	var sum, squares float64
	for _, x := range v {
		sum += float64(x)
	}
	mean := sum / float64(len(v))
	for _, x := range v {
		squares += (float64(x) - mean) * (float64(x) - mean)
	}
	return math.Sqrt(squares / float64(len(v)-1))
}
