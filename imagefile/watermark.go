package imagefile

import (
	"image"
	"math"
	"math/rand/v2"
	"slices"
)

// The watermark is a choice of signs. A picture's brightness is brought to 64×64 by the mean of areas, whatever its size, and
// transformed by the cosine transform (DCT-II). Of some 650 coefficients of middle frequencies the signs are compared with signs that
// a fixed key gives: in a picture without the mark half of them agree, give or take chance; in one with it two thirds do. To mark a
// picture, those coefficients are turned that need it least, by a pattern that is added to the brightness of the pixels.
//
// So the mark stays where these coefficients keep their signs: under compression, other sizes, blur, moderate changes of brightness and
// contrast. It goes where the picture is cropped, turned or mirrored. The key is not secret: the mark tells honest people what a picture is;
// who wants to remove or forge it can.
const (
	markSide  = 64   // pixels a side of what is transformed
	markLow   = 5.0  // frequencies: half waves a side, the least
	markHigh  = 30.0 // and the largest
	markDelta = 6.0  // see delta
	markAim   = 11.0 // standard deviations above chance that a mark aims at
	markNoise = 3.8  // grey levels, root mean square, that the pattern may have
)

// MarkFound is the score from which on a picture is taken to be marked: standard deviations above chance, which exceeds it in three
// pictures of ten million.
const MarkFound = 5.0

// MinMarked is the side that a picture must have at least to be marked, in pixels.
const MinMarked = markSide

// coefficient is one of those that carry the mark.
type coefficient struct {
	u, v int // columns, rows
	sign float64
}

// coefficients lists them with their signs.
func coefficients() (list []coefficient) {
	key := rand.New(rand.NewPCG(0x6461726b726f6f6d, 0x77617465726d6172)) // "darkroom", "watermar"
	for v := range markSide {
		for u := range markSide {
			if r := math.Hypot(float64(u), float64(v)); r >= markLow && r <= markHigh {
				list = append(list, coefficient{u, v, float64(2*int(key.Uint64()>>63) - 1)})
			}
		}
	}
	return list
}

// MarkScore is by how many standard deviations more coefficients agree with the key than chance would have it; see MarkFound.
func MarkScore(img *image.NRGBA) float64 {
	if img.Rect.Dx() < 8 || img.Rect.Dy() < 8 {
		return 0
	}
	return score(transform(brightness(img)))
}

func score(c [][]float64) float64 {
	sum, n := 0.0, 0.0
	for _, k := range coefficients() {
		value := c[k.v][k.u]
		n++
		if math.Abs(value) < 0.01 { // a plain picture has no signs
			continue
		}
		sum += math.Copysign(1, value) * k.sign
	}
	return sum / math.Sqrt(n)
}

// delta is what a turned coefficient is at least, in grey levels of the orthonormal transform. The error of a JPEG of half the size is
// spread over more pixels in a larger picture.
func delta(img *image.NRGBA) float64 {
	return min(max(markDelta*192/float64(min(img.Rect.Dx(), img.Rect.Dy())), markDelta/3), markDelta)
}

// Mark puts the watermark into a picture, in place; false: the picture is too small, or has no room for it.
func Mark(img *image.NRGBA) bool {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	if w < MinMarked || h < MinMarked {
		return false
	}
	list, δ := coefficients(), delta(img)
	c := transform(brightness(img))
	// Those that are wrong or weak, the cheapest first.
	cost := func(k coefficient) float64 { return max(δ-k.sign*c[k.v][k.u], 0) }
	order := slices.Clone(list)
	slices.SortStableFunc(order, func(a, b coefficient) int {
		switch d := cost(a) - cost(b); {
		case d < 0:
			return -1
		case d > 0:
			return 1
		}
		return 0
	})
	need := int((float64(len(list)) + markAim*math.Sqrt(float64(len(list)))) / 2)
	energy := 0.0
	for i, k := range order {
		d := cost(k)
		if energy += d * d; i >= need || math.Sqrt(energy)/markSide > markNoise {
			order = order[:i]
			break
		}
	}
	// The pattern is measured again after rounding, and after what is white or black could not follow it.
	pattern := make([][]float64, markSide)
	for v := range pattern {
		pattern[v] = make([]float64, markSide)
	}
	out := image.NewNRGBA(img.Rect)
	for range 4 {
		for _, k := range order {
			pattern[k.v][k.u] += k.sign * max(δ-k.sign*c[k.v][k.u], 0)
		}
		add(out, img, pattern)
		c = transform(brightness(out))
	}
	if score(c) < MarkFound+2.5 {
		return false
	}
	copy(img.Pix, out.Pix)
	return true
}

// brightness is a picture's luma (ITU-R BT.601) as [64][64] means of areas.
func brightness(img *image.NRGBA) [][]float64 {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	rows := make([][]float64, h) // [h][64]
	columns := areas(w)
	for y := range h {
		line := make([]float64, w)
		for x := range w {
			p := img.Pix[y*img.Stride+4*x:]
			line[x] = 0.299*float64(p[0]) + 0.587*float64(p[1]) + 0.114*float64(p[2])
		}
		rows[y] = make([]float64, markSide)
		for i, a := range columns {
			rows[y][i] = a.mean(func(x int) float64 { return line[x] })
		}
	}
	out := make([][]float64, markSide)
	for j, a := range areas(h) {
		out[j] = make([]float64, markSide)
		for i := range out[j] {
			out[j][i] = a.mean(func(y int) float64 { return rows[y][i] })
		}
	}
	return out
}

// area is a share of a row of pixels: from one point to another.
type area struct{ from, to float64 }

// areas parts n pixels into 64 shares.
func areas(n int) []area {
	list := make([]area, markSide)
	for i := range list {
		list[i] = area{float64(i) * float64(n) / markSide, float64(i+1) * float64(n) / markSide}
	}
	return list
}

func (a area) mean(at func(int) float64) float64 {
	sum := 0.0
	for x := int(a.from); float64(x) < a.to; x++ {
		sum += at(x) * (min(a.to, float64(x+1)) - max(a.from, float64(x)))
	}
	return sum / (a.to - a.from)
}

// cosine is the orthonormal DCT-II's factor of frequency u at a place from 0 to 64.
func cosine(u int, at float64) float64 {
	scale := math.Sqrt(2.0 / markSide)
	if u == 0 {
		scale = math.Sqrt(1.0 / markSide)
	}
	return scale * math.Cos(math.Pi*float64(u)*at/markSide)
}

// transform is the DCT-II of [64][64] values, as [row frequency][column frequency].
func transform(x [][]float64) [][]float64 {
	var table [markSide][markSide]float64
	for u := range markSide {
		for i := range markSide {
			table[u][i] = cosine(u, float64(i)+0.5)
		}
	}
	once := func(x [][]float64) [][]float64 { // along rows, and transposed
		out := make([][]float64, markSide)
		for u := range markSide {
			out[u] = make([]float64, markSide)
			for j := range markSide {
				sum := 0.0
				for i, f := range table[u] {
					sum += f * x[j][i]
				}
				out[u][j] = sum
			}
		}
		return out
	}
	return once(once(x))
}

// add writes a picture with a pattern of frequencies added to its brightness.
func add(out, img *image.NRGBA, pattern [][]float64) {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	most := int(markHigh) + 1
	columns := make([][]float64, w) // [w][frequency]
	for x := range w {
		for u := range most {
			columns[x] = append(columns[x], cosine(u, (float64(x)+0.5)*markSide/float64(w)))
		}
	}
	for y := range h {
		line := make([]float64, most)
		for v := range most {
			f := cosine(v, (float64(y)+0.5)*markSide/float64(h))
			for u := range line {
				line[u] += f * pattern[v][u]
			}
		}
		for x := range w {
			d := 0.0
			for u, f := range columns[x] {
				d += f * line[u]
			}
			i := y*img.Stride + 4*x
			for k := range 3 {
				out.Pix[i+k] = uint8(math.Round(min(max(float64(img.Pix[i+k])+d, 0), 255)))
			}
			out.Pix[i+3] = img.Pix[i+3]
		}
	}
}
