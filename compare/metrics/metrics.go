// Package metrics measures pictures and sets of pictures. Each function is a published measure, gives the value of its
// best-known implementation (testdata holds theirs), and knows nothing of models or files.
//
//	of two pictures   PSNR, SSIM, MSSSIM; RMSE for latents
//	of one picture    Look: sharpness, contrast, colour, clipping
//	of two sets       Frechet, KID, CMMD, PrecisionRecall, over features
//	of one set        Vendi, MeanDistance, over features
//
// Features are a matrix [n][d]: one row a picture, from whichever encoder.
package metrics

import (
	"fmt"
	"image"
	"math"
)

// RMSE is the root of the mean squared difference of a and b, which have one length.
func RMSE(a, b []float32) float64 {
	mustMatch(len(a), len(b))
	var sum float64
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		sum += d * d
	}
	return math.Sqrt(sum / float64(len(a)))
}

// PSNR is 10·log₁₀(255²/MSE) over the three channels, in decibels; +Inf for equal pictures.
func PSNR(a, b *image.NRGBA) float64 {
	mustAgree(a, b)
	var sum float64
	pa, pb := planes(a), planes(b)
	for c := range 3 {
		for i, v := range pa[c] {
			d := v - pb[c][i]
			sum += d * d
		}
	}
	return 10 * math.Log10(255*255/(sum/float64(3*len(pa[0]))))
}

// planes are red, green and blue, row by row, 0 to 255.
func planes(p *image.NRGBA) [3][]float64 {
	w, h := p.Rect.Dx(), p.Rect.Dy()
	var out [3][]float64
	for c := range out {
		out[c] = make([]float64, 0, w*h)
		for y := range h {
			row := p.Pix[y*p.Stride:]
			for x := range w {
				out[c] = append(out[c], float64(row[4*x+c]))
			}
		}
	}
	return out
}

func mustAgree(a, b *image.NRGBA) {
	if a.Rect.Size() != b.Rect.Size() {
		panic(fmt.Sprintf("metrics: pictures of %v and %v", a.Rect.Size(), b.Rect.Size()))
	}
}

func mustMatch(a, b int) {
	if a != b || a == 0 {
		panic(fmt.Sprintf("metrics: %d and %d values", a, b))
	}
}
