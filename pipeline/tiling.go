package pipeline

// tiling decodes large pictures in overlapping tiles, whose common margins are blended: memory for one tile's
// activations is enough for a picture of any size. The tiles are those of diffusers' AutoencoderKL.tiled_decode: as large
// as the pictures that the autoencoder was trained on, overlapping by a quarter. A tile knows nothing of what lies
// beyond it (its group norms and its attention see it alone), so the picture differs in its tones from one that is decoded
// whole, and is a recipe of its own.
type tiling struct {
	tile   int // latent pixels a side
	step   int // from tile to tile, latent pixels
	blend  int // pixels that are blended
	keep   int // pixels of each tile that are its own: the rest is the next one's
	factor int // pixels for each latent pixel
}

// tileOverlap is the share of a tile that the next one covers too.
const tileOverlap = 0.25

// newTiling is for tiles of so many pixels a side.
func newTiling(pixels, factor int) *tiling {
	t := &tiling{tile: max(pixels/factor, 1), factor: factor}
	t.step = max(int(float64(t.tile)*(1-tileOverlap)), 1)
	t.keep = t.step * factor
	t.blend = t.tile*factor - t.keep
	return t
}

// tile is how the plan's picture is decoded; nil is whole.
func (p *Pipeline) tile(pl *plan) *tiling {
	if !(pl.Tiled || p.lowMemory) {
		return nil
	}
	return p.tileFor(pl.latentH, pl.latentW)
}

// tileFor is nil where the whole picture is no larger than a tile.
func (p *Pipeline) tileFor(h, w int) *tiling {
	c := p.decoderConfig
	pixels := c.SampleSize
	if pixels == 0 {
		pixels = 512
	}
	t := newTiling(pixels, c.Factor())
	if h <= t.tile && w <= t.tile {
		return nil
	}
	return t
}

// decode decodes z, [h,w,C], tile by tile, to [H,W,3].
func (t *tiling) decode(z []float32, h, w, channels int, decode func(z []float32, h, w int) ([]float32, error)) ([]float32, error) {
	width := w * t.factor
	out := make([]float32, h*t.factor*width*3)
	var above, row []patch
	for y := 0; y < h; y += t.step {
		above, row = row, nil
		for x := 0; x < w; x += t.step {
			th, tw := min(t.tile, h-y), min(t.tile, w-x)
			part := make([]float32, 0, th*tw*channels)
			for i := range th {
				from := ((y+i)*w + x) * channels
				part = append(part, z[from:from+tw*channels]...)
			}
			values, err := decode(part, th, tw)
			if err != nil {
				return nil, err
			}
			now := patch{values, th * t.factor, tw * t.factor}
			if y > 0 {
				now.blendDown(above[len(row)], t.blend)
			}
			if x > 0 {
				now.blendRight(row[len(row)-1], t.blend)
			}
			row = append(row, now)
			now.copyTo(out, width, y/t.step*t.keep, x/t.step*t.keep, t.keep)
		}
	}
	return out, nil
}

// patch is a decoded tile, [h,w,3].
type patch struct {
	values []float32
	h, w   int
}

// blendDown fades from the last rows of the patch above into the first ones of this.
func (p patch) blendDown(above patch, most int) {
	n := min(above.h, p.h, most)
	for y := range n {
		a := above.values[(above.h-n+y)*above.w*3:]
		p.fade(p.values[y*p.w*3:(y+1)*p.w*3], a, float32(y)/float32(n))
	}
}

// blendRight fades from the last columns of the patch on the left into the first ones of this.
func (p patch) blendRight(left patch, most int) {
	n := min(left.w, p.w, most)
	for y := range p.h {
		for x := range n {
			a := left.values[(y*left.w+left.w-n+x)*3:]
			p.fade(p.values[(y*p.w+x)*3:(y*p.w+x)*3+3], a, float32(x)/float32(n))
		}
	}
}

func (patch) fade(to, from []float32, share float32) {
	for i, v := range to {
		to[i] = from[i]*(1-share) + v*share
	}
}

// copyTo puts the first keep rows and columns, as far as there are so many, at a place of a picture of that width.
func (p patch) copyTo(out []float32, width, y, x, keep int) {
	n := min(keep, p.w)
	for i := range min(keep, p.h) {
		copy(out[((y+i)*width+x)*3:][:n*3], p.values[i*p.w*3:])
	}
}
