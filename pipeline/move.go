package pipeline

import (
	"image"
	"math"

	"darkroom/recipe"
)

// moved zooms, turns and shifts a picture about its middle. What comes in from beyond the edges is mirrored at them.
func moved(img *image.NRGBA, m *recipe.Move) *image.NRGBA {
	if m == nil {
		return img
	}
	w, h := img.Rect.Dx(), img.Rect.Dy()
	out := image.NewNRGBA(img.Rect)
	sin, cos := math.Sincos(-m.Rotate * math.Pi / 180)
	midX, midY := float64(w-1)/2, float64(h-1)/2
	for y := range h {
		for x := range w {
			// Where the pixel was before: shifted back, turned back, and nearer to the middle.
			dx, dy := float64(x)-midX-m.X, float64(y)-midY-m.Y
			sample(out.Pix[out.PixOffset(x, y):], img, midX+(dx*cos-dy*sin)/m.Zoom, midY+(dx*sin+dy*cos)/m.Zoom)
		}
	}
	return out
}

// sample interpolates between four pixels.
func sample(pixel []uint8, img *image.NRGBA, x, y float64) {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	x0, y0 := math.Floor(x), math.Floor(y)
	fx, fy := x-x0, y-y0
	at := func(i, j float64) []uint8 { return img.Pix[img.PixOffset(mirrored(int(i), w), mirrored(int(j), h)):] }
	a, b, c, d := at(x0, y0), at(x0+1, y0), at(x0, y0+1), at(x0+1, y0+1)
	for k := range 3 {
		v := (1-fy)*((1-fx)*float64(a[k])+fx*float64(b[k])) + fy*((1-fx)*float64(c[k])+fx*float64(d[k]))
		pixel[k] = uint8(math.Round(v))
	}
	pixel[3] = 255
}

// mirrored brings an index into 0 to n−1.
func mirrored(i, n int) int {
	i %= 2 * n
	if i < 0 {
		i += 2 * n
	}
	return min(i, 2*n-1-i)
}
