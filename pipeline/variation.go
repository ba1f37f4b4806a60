package pipeline

import (
	"math"

	"darkroom/noise"
	"darkroom/recipe"
)

// firstNoise draws the noise that the picture begins with, [C,h,w], and mixes in that of --variation, as the web UIs do
// with their variation seed: what is drawn later comes from the picture's own seed alone.
func (m *picture) firstNoise(dst []float32) {
	m.draw(dst)
	list, err := recipe.ParseVariation(m.Variation)
	if err != nil {
		panic("pipeline: " + err.Error()) // the plan checked it
	}
	other := make([]float32, len(dst))
	for _, v := range list {
		source, err := noise.New(m.Noise, v.Seed)
		if err != nil {
			panic("pipeline: " + err.Error()) // likewise
		}
		source.NormalAs(other, noiseType(m.p.device.DType))
		slerpColumns(dst, other, m.latentH, m.latentW, v.Strength)
	}
}

// slerpColumns turns a, [C,h,w], towards b by the share t, in place: each column of h values is a vector of its own,
//
//	a' = a·sin((1−t)ω)/sin ω + b·sin(tω)/sin ω,  cos ω = a·b / |a||b|
//
// (Shoemake 1985). Vectors that are all but parallel are mixed along the straight line.
func slerpColumns(a, b []float32, h, w int, t float64) {
	for begin := 0; begin < len(a); begin += h * w {
		for x := range w {
			at := func(y int) int { return begin + y*w + x }
			var aa, bb, ab float64
			for y := range h {
				p, q := float64(a[at(y)]), float64(b[at(y)])
				aa, bb, ab = aa+p*p, bb+q*q, ab+p*q
			}
			fa, fb := slerpShares(aa, bb, ab, t)
			for y := range h {
				i := at(y)
				a[i] = float32(fa*float64(a[i]) + fb*float64(b[i]))
			}
		}
	}
}

// slerpShares are the factors of a and b on the way from a to b: of their squared lengths and their product.
func slerpShares(aa, bb, ab, t float64) (fa, fb float64) {
	cos := ab / math.Sqrt(aa*bb)
	if !(math.Abs(cos) < 0.9995) { // parallel, opposite, or nothing
		return 1 - t, t
	}
	ω := math.Acos(cos)
	return math.Sin((1-t)*ω) / math.Sin(ω), math.Sin(t*ω) / math.Sin(ω)
}
