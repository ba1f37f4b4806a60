package preprocess

import (
	"image"
	"math"
)

// slopes are Sobel's derivatives at each pixel, of the colour that changes most there. Beyond the border the picture goes on.
type slopes struct {
	w, h   int
	dx, dy []int32
}

func newSlopes(img *image.NRGBA) slopes {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	s := slopes{w, h, make([]int32, w*h), make([]int32, w*h)}
	at := func(x, y, c int) int32 {
		x, y = min(max(x, 0), w-1), min(max(y, 0), h-1)
		return int32(img.Pix[4*(y*w+x)+c])
	}
	for y := range h {
		for x := range w {
			most := int32(-1)
			for c := range 3 {
				dx := at(x+1, y-1, c) + 2*at(x+1, y, c) + at(x+1, y+1, c) - at(x-1, y-1, c) - 2*at(x-1, y, c) - at(x-1, y+1, c)
				dy := at(x-1, y+1, c) + 2*at(x, y+1, c) + at(x+1, y+1, c) - at(x-1, y-1, c) - 2*at(x, y-1, c) - at(x+1, y-1, c)
				if m := abs(dx) + abs(dy); m > most {
					most, s.dx[y*w+x], s.dy[y*w+x] = m, dx, dy
				}
			}
		}
	}
	return s
}

func abs(v int32) int32 { return max(v, -v) }

// size is the slope |dx| + |dy|; 0 beyond the border.
func (s slopes) size(x, y int) int32 {
	if x < 0 || y < 0 || x >= s.w || y >= s.h {
		return 0
	}
	return abs(s.dx[y*s.w+x]) + abs(s.dy[y*s.w+x])
}

// canny is Canny 1986, "A Computational Approach to Edge Detection", as OpenCV computes it: Sobel's filter of 3×3, the norm
// |dx| + |dy|, of several colours the steepest. A pixel is an edge where the slope is a maximum in its direction, and
// above low; and where such pixels lead to one above high.
func canny(img *image.NRGBA, o Options) *image.NRGBA {
	low, high := or(o.Low, 100), or(o.High, 200)
	if low > high {
		low, high = high, low
	}
	floor := func(v float64) int32 { return int32(math.Min(math.Floor(v), math.MaxInt32)) }
	weak, strong := floor(low), floor(high)
	s := newSlopes(img)
	edge := make([]bool, s.w*s.h) // maxima above low
	out := image.NewNRGBA(image.Rect(0, 0, s.w, s.h))
	for i := 3; i < len(out.Pix); i += 4 {
		out.Pix[i] = 255
	}
	var open []int
	mark := func(i int) {
		if out.Pix[4*i] == 0 {
			out.Pix[4*i], out.Pix[4*i+1], out.Pix[4*i+2] = 255, 255, 255
			open = append(open, i)
		}
	}
	for y := range s.h {
		for x := range s.w {
			if m := s.size(x, y); m > weak && s.peak(x, y, m) {
				edge[y*s.w+x] = true
				if m > strong {
					mark(y*s.w + x)
				}
			}
		}
	}
	for len(open) > 0 {
		i := open[len(open)-1]
		open = open[:len(open)-1]
		for dy := -1; dy <= 1; dy++ {
			for dx := -1; dx <= 1; dx++ {
				x, y := i%s.w+dx, i/s.w+dy
				if x >= 0 && y >= 0 && x < s.w && y < s.h && edge[y*s.w+x] {
					mark(y*s.w + x)
				}
			}
		}
	}
	return out
}

// peak says whether the slope m is a maximum in its direction, of which there are four. Of two equal neighbours one is
// taken, the left or the upper one's next.
func (s slopes) peak(x, y int, m int32) bool {
	const tan22 = 13573 // tan(22.5°) · 2¹⁵
	dx, dy := s.dx[y*s.w+x], s.dy[y*s.w+x]
	ax, ay := int64(abs(dx)), int64(abs(dy))<<15
	flat := ax * tan22
	switch steep := flat + ax<<16; {
	case ay < flat:
		return m > s.size(x-1, y) && m >= s.size(x+1, y)
	case ay > steep:
		return m > s.size(x, y-1) && m >= s.size(x, y+1)
	}
	d := 1
	if dx^dy < 0 {
		d = -1
	}
	return m > s.size(x-d, y-1) && m > s.size(x+d, y+1)
}

// edges is the Euclidean size of Sobel's slope.
func edges(img *image.NRGBA, o Options) *image.NRGBA {
	s := newSlopes(img)
	sizes := make([]float64, s.w*s.h)
	white := 1.0
	for i := range sizes {
		sizes[i] = math.Hypot(float64(s.dx[i]), float64(s.dy[i]))
		white = max(white, sizes[i])
	}
	white = or(o.High, white)
	out := image.NewNRGBA(image.Rect(0, 0, s.w, s.h))
	for i, v := range sizes {
		g := uint8(min(math.Round(v/white*255), 255))
		out.Pix[4*i], out.Pix[4*i+1], out.Pix[4*i+2], out.Pix[4*i+3] = g, g, g, 255
	}
	return out
}
