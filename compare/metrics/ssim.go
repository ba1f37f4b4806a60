package metrics

import (
	"image"
	"math"
)

// SSIM is the structural similarity of Wang et al. 2004: Gaussian window of 11×11 with σ = 1.5, K₁ = 0.01, K₂ = 0.03,
// the mean over the channels and all places where the window lies inside the picture. 1: equal. As
// skimage.metrics.structural_similarity with gaussian_weights, sigma=1.5, use_sample_covariance=False.
// NaN where the picture is smaller than the window.
func SSIM(a, b *image.NRGBA) float64 {
	mustAgree(a, b)
	pa, pb := planes(a), planes(b)
	var sum float64
	for c := range 3 {
		full, _ := ssim(pa[c], pb[c], a.Rect.Dx(), a.Rect.Dy())
		sum += full
	}
	return sum / 3
}

// scaleWeights are β₁ to β₅ of Wang et al. 2003, table of sec. 3.2.
var scaleWeights = []float64{0.0448, 0.2856, 0.3001, 0.2363, 0.1333}

// MSSSIM is the multi-scale structural similarity of Wang, Simoncelli and Bovik 2003: contrast and structure at each
// scale, luminance at the coarsest alone, halved by averaging 2×2 between scales. The five scales need 176 pixels a side;
// smaller pictures get as many as fit, with the weights of those scaled to a sum of 1. As torchmetrics' with
// normalize="relu": a negative mean counts as 0, and the picture is mirrored at its edges for the coarsest scale, so that the
// window reaches all of it. NaN where not even one scale fits.
func MSSSIM(a, b *image.NRGBA) float64 {
	mustAgree(a, b)
	w, h := a.Rect.Dx(), a.Rect.Dy()
	scales := msScales(w, h)
	if scales == 0 {
		return math.NaN()
	}
	var weight float64
	for _, β := range scaleWeights[:scales] {
		weight += β
	}
	pa, pb := planes(a), planes(b)
	product := 1.0
	for s := range scales {
		var mean float64
		for c := range 3 {
			if s == scales-1 {
				full, _ := ssim(mirrored(pa[c], w, h), mirrored(pb[c], w, h), w+10, h+10)
				mean += full / 3
				continue
			}
			_, contrast := ssim(pa[c], pb[c], w, h)
			mean += contrast / 3
			pa[c], pb[c] = halve(pa[c], w, h), halve(pb[c], w, h)
		}
		product *= math.Pow(max(mean, 0), scaleWeights[s]/weight)
		w, h = w/2, h/2
	}
	return product
}

// msScales is how many scales of MSSSIM a picture has room for.
func msScales(w, h int) int {
	n := 0
	for n < len(scaleWeights) && min(w, h) >= len(window) {
		n, w, h = n+1, w/2, h/2
	}
	return n
}

// window is the Gaussian with σ = 1.5, cut at 3.5σ.
var window = func() (g [11]float64) {
	var sum float64
	for i := range g {
		d := float64(i - 5)
		g[i] = math.Exp(-d * d / (2 * 1.5 * 1.5))
		sum += g[i]
	}
	for i := range g {
		g[i] /= sum
	}
	return g
}()

// ssim is the mean of the SSIM map of one channel, and of its contrast-structure factor alone.
func ssim(a, b []float64, w, h int) (full, contrast float64) {
	const c1, c2 = (0.01 * 255) * (0.01 * 255), (0.03 * 255) * (0.03 * 255)
	product := func(x, y []float64) []float64 {
		p := make([]float64, len(x))
		for i := range x {
			p[i] = x[i] * y[i]
		}
		return p
	}
	μa, μb := blurred(a, w, h), blurred(b, w, h)
	aa, bb, ab := blurred(product(a, a), w, h), blurred(product(b, b), w, h), blurred(product(a, b), w, h)
	for i := range μa {
		σaa, σbb, σab := aa[i]-μa[i]*μa[i], bb[i]-μb[i]*μb[i], ab[i]-μa[i]*μb[i]
		cs := (2*σab + c2) / (σaa + σbb + c2)
		contrast += cs
		full += cs * (2*μa[i]*μb[i] + c1) / (μa[i]*μa[i] + μb[i]*μb[i] + c1)
	}
	n := float64(len(μa))
	return full / n, contrast / n
}

// blurred convolves with the window where it lies inside: (w−10)·(h−10) values.
func blurred(p []float64, w, h int) []float64 {
	k := len(window)
	if w < k || h < k {
		return nil
	}
	rows := make([]float64, 0, (w-k+1)*h)
	for y := range h {
		for x := range w - k + 1 {
			var sum float64
			for i, g := range window {
				sum += g * p[y*w+x+i]
			}
			rows = append(rows, sum)
		}
	}
	out := make([]float64, 0, (w-k+1)*(h-k+1))
	for y := range h - k + 1 {
		for x := range w - k + 1 {
			var sum float64
			for i, g := range window {
				sum += g * rows[(y+i)*(w-k+1)+x]
			}
			out = append(out, sum)
		}
	}
	return out
}

// mirrored adds 5 pixels on each side, the edge itself not repeated.
func mirrored(p []float64, w, h int) []float64 {
	at := func(i, n int) int {
		if i < 0 {
			return -i
		}
		return min(i, 2*n-2-i)
	}
	out := make([]float64, 0, (w+10)*(h+10))
	for y := -5; y < h+5; y++ {
		for x := -5; x < w+5; x++ {
			out = append(out, p[at(y, h)*w+at(x, w)])
		}
	}
	return out
}

// halve averages squares of 2×2; an odd row or column at the end is left off.
func halve(p []float64, w, h int) []float64 {
	out := make([]float64, 0, (w/2)*(h/2))
	for y := range h / 2 {
		for x := range w / 2 {
			i := 2*y*w + 2*x
			out = append(out, (p[i]+p[i+1]+p[i+w]+p[i+w+1])/4)
		}
	}
	return out
}
