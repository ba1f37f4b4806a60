package metrics

import (
	"image"
	"math"
)

// Look is what a picture looks like in five numbers, which tell washed-out, burnt and blurred ones from the rest.
type Look struct {
	Sharpness  float64 `json:"sharpness"`  // variance of the Laplacian of luma (Pech-Pacheco et al. 2000)
	Brightness float64 `json:"brightness"` // mean luma, 0 to 255
	Contrast   float64 `json:"contrast"`   // standard deviation of luma
	Colourful  float64 `json:"colourful"`  // Hasler and Süsstrunk 2003
	Saturation float64 `json:"saturation"` // mean of HSV's S, 0 to 1
	Burnt      float64 `json:"burnt"`      // share of pixels with one channel at 255 and another below 64
}

// LookOf measures a picture.
func LookOf(p *image.NRGBA) Look {
	rgb := planes(p)
	luma := make([]float64, len(rgb[0]))
	var l Look
	for i := range luma {
		r, g, b := rgb[0][i], rgb[1][i], rgb[2][i]
		luma[i] = 0.299*r + 0.587*g + 0.114*b // ITU-R BT.601
		if top := max(r, g, b); top > 0 {
			l.Saturation += (top - min(r, g, b)) / top
		}
		if burnt(r, g, b) {
			l.Burnt++
		}
	}
	n := float64(len(luma))
	l.Saturation /= n
	l.Burnt /= n
	l.Brightness, l.Contrast = moments(luma)
	_, s := moments(laplacian(luma, p.Rect.Dx(), p.Rect.Dy()))
	l.Sharpness = s * s
	l.Colourful = colourfulness(rgb)
	return l
}

// burnt says whether a coloured pixel has run into the end of its range: a channel at 255 while another is below 64.
// Plain white and plain black say nothing about clipping.
func burnt(r, g, b float64) bool { return max(r, g, b) == 255 && min(r, g, b) < 64 }

// colourfulness is √(σrg² + σyb²) + 0.3·√(μrg² + μyb²) with rg = R−G, yb = (R+G)/2 − B.
func colourfulness(rgb [3][]float64) float64 {
	rg, yb := make([]float64, len(rgb[0])), make([]float64, len(rgb[0]))
	for i := range rg {
		r, g, b := rgb[0][i], rgb[1][i], rgb[2][i]
		rg[i], yb[i] = r-g, (r+g)/2-b
	}
	μrg, σrg := moments(rg)
	μyb, σyb := moments(yb)
	return math.Hypot(σrg, σyb) + 0.3*math.Hypot(μrg, μyb)
}

// laplacian is the sum of the four neighbours less four times the pixel; at the edge, the pixel is its own neighbour.
func laplacian(p []float64, w, h int) []float64 {
	out := make([]float64, len(p))
	for y := range h {
		for x := range w {
			out[y*w+x] = p[max(y-1, 0)*w+x] + p[min(y+1, h-1)*w+x] + p[y*w+max(x-1, 0)] + p[y*w+min(x+1, w-1)] - 4*p[y*w+x]
		}
	}
	return out
}

// moments are the mean and the standard deviation of a population.
func moments(v []float64) (mean, deviation float64) {
	for _, x := range v {
		mean += x
	}
	mean /= float64(len(v))
	var squares float64
	for _, x := range v {
		squares += (x - mean) * (x - mean)
	}
	return mean, math.Sqrt(squares / float64(len(v)))
}
