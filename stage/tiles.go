package stage

// Tiles are how a network runs on a picture that is too large for one run: overlapping tiles, whose common margins are
// blended, so that memory for one tile's activations is enough for a picture of any size. A tile knows nothing of what
// lies beyond it (group norms and attention see it alone), so the result differs in its tones from that of one run.
//
// The tiles are those of diffusers' AutoencoderKL.tiled_decode and tiled_encode: each begins Step after the one before,
// and fades over Blend pixels of the result out of its neighbours.
type Tiles struct {
	Tile, Step  int // pixels of the input: a side of a tile, from one tile to the next
	Blend, Keep int // pixels of the result: what is blended, what is a tile's own
	// Scale gives the length of the result for a length of the input.
	Scale func(int) int
}

// tileOverlap is the share of a tile that the next one covers too.
const tileOverlap = 0.25

// DecodeTiles are for a decoder that makes factor pixels of one, trained on pictures of so many pixels a side.
func DecodeTiles(pixels, factor int) *Tiles {
	t := &Tiles{Tile: max(pixels/factor, 1), Scale: func(n int) int { return n * factor }}
	t.Step = max(int(float64(t.Tile)*(1-tileOverlap)), 1)
	t.Keep = t.Step * factor
	t.Blend = t.Tile*factor - t.Keep
	return t
}

// EncodeTiles are for an encoder that makes one pixel of factor, trained on pictures of so many pixels a side.
func EncodeTiles(pixels, factor int) *Tiles {
	small := max(pixels/factor, 1)
	t := &Tiles{Tile: small * factor, Scale: func(n int) int { return n / factor }}
	t.Step = max(int(float64(t.Tile)*(1-tileOverlap)), 1)
	t.Blend = int(float64(small) * tileOverlap)
	t.Keep = small - t.Blend
	return t
}

// Run runs f on x, [h,w,in], tile by tile, to a result of out channels, [h',w',out].
func (t *Tiles) Run(x []float32, h, w, in, out int, f func(x []float32, h, w int) ([]float32, error)) ([]float32, error) {
	width := t.Scale(w)
	result := make([]float32, t.Scale(h)*width*out)
	var above, row []patch
	for y := 0; y < h; y += t.Step {
		above, row = row, nil
		for x0 := 0; x0 < w; x0 += t.Step {
			th, tw := min(t.Tile, h-y), min(t.Tile, w-x0)
			part := make([]float32, 0, th*tw*in)
			for i := range th {
				from := ((y+i)*w + x0) * in
				part = append(part, x[from:from+tw*in]...)
			}
			values, err := f(part, th, tw)
			if err != nil {
				return nil, err
			}
			now := patch{values, t.Scale(th), t.Scale(tw), out}
			if y > 0 {
				now.blendDown(above[len(row)], t.Blend)
			}
			if x0 > 0 {
				now.blendRight(row[len(row)-1], t.Blend)
			}
			row = append(row, now)
			now.copyTo(result, width, y/t.Step*t.Keep, x0/t.Step*t.Keep, t.Keep)
		}
	}
	return result, nil
}

// RunWrapped is Run on x whose sides fit each other along some axes, rows and columns: what lies on the other side is put
// around it, as wide as a tile's margin, and cut off the result.
func (t *Tiles) RunWrapped(x []float32, h, w, in, out int, wrap [2]bool, f func(x []float32, h, w int) ([]float32, error)) ([]float32, error) {
	if wrap == [2]bool{} {
		return t.Run(x, h, w, in, out, f)
	}
	margin := func(n int, wraps bool) int {
		if !wraps {
			return 0
		}
		factor := max(t.Tile/t.Scale(t.Tile), 1) // a whole number of the result's pixels
		return min(t.Tile-t.Step, n) / factor * factor
	}
	top, left := margin(h, wrap[0]), margin(w, wrap[1])
	wide := make([]float32, 0, (h+2*top)*(w+2*left)*in)
	for y := -top; y < h+top; y++ {
		row := x[(y+h)%h*w*in:]
		for i := -left; i < w+left; i++ {
			wide = append(wide, row[(i+w)%w*in:][:in]...)
		}
	}
	values, err := t.Run(wide, h+2*top, w+2*left, in, out, f)
	if err != nil {
		return nil, err
	}
	result := make([]float32, 0, t.Scale(h)*t.Scale(w)*out)
	for y := range t.Scale(h) {
		from := (t.Scale(top)+y)*t.Scale(w+2*left) + t.Scale(left)
		result = append(result, values[from*out:][:t.Scale(w)*out]...)
	}
	return result, nil
}

// patch is the result of a tile, [h,w,c].
type patch struct {
	values  []float32
	h, w, c int
}

// blendDown fades from the last rows of the patch above into the first ones of this.
func (p patch) blendDown(above patch, most int) {
	n := min(above.h, p.h, most)
	for y := range n {
		a := above.values[(above.h-n+y)*above.w*p.c:]
		p.fade(p.values[y*p.w*p.c:(y+1)*p.w*p.c], a, float32(y)/float32(n))
	}
}

// blendRight fades from the last columns of the patch on the left into the first ones of this.
func (p patch) blendRight(left patch, most int) {
	n := min(left.w, p.w, most)
	for y := range p.h {
		for x := range n {
			a := left.values[(y*left.w+left.w-n+x)*p.c:]
			p.fade(p.values[(y*p.w+x)*p.c:][:p.c], a, float32(x)/float32(n))
		}
	}
}

func (patch) fade(to, from []float32, share float32) {
	for i, v := range to {
		to[i] = from[i]*(1-share) + v*share
	}
}

// copyTo puts the first keep rows and columns, as far as there are so many and the result has room, at a place of a
// result of that width.
func (p patch) copyTo(result []float32, width, y, x, keep int) {
	height := len(result) / (width * p.c)
	n := min(keep, p.w, width-x)
	for i := range min(keep, p.h, height-y) {
		copy(result[((y+i)*width+x)*p.c:][:n*p.c], p.values[i*p.w*p.c:])
	}
}
