package family

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"

	"darkroom/checkpoint"
	"darkroom/esrgan"
	"darkroom/nn"
	"darkroom/stage"
	"darkroom/tensor"
)

// Upscaler enlarges pictures with a network of the ESRGAN kind.
type Upscaler struct {
	Scale     int // pixels of the result a side for one of the picture
	unshuffle int
	part      *stage.Part
	source    *checkpoint.Source
}

// OpenUpscaler opens a file of an upscaler.
func OpenUpscaler(path string, d *stage.Device) (*Upscaler, error) {
	w, source, err := checkpoint.OpenUpscaler(path)
	if err != nil {
		return nil, err
	}
	c, err := esrgan.ReadConfig(w)
	if err == nil && c.Scale < 1 {
		err = errors.New("it makes pictures smaller")
	}
	var m *esrgan.Model
	if err == nil {
		m, err = esrgan.New(c, nn.NewLoader("upscaler", w))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), source.Close())
	}
	part := &stage.Part{Name: "upscaler", Title: "the upscaler", Net: m, Once: true}
	return &Upscaler{c.Scale, c.Unshuffle, part.On(d), source}, nil
}

// Upscale enlarges a picture. A picture larger than tile pixels per side (0 is 256) is done in tiles. step, which may be
// nil, is called after each tile. Transparency is scaled with the picture.
func (u *Upscaler) Upscale(ctx context.Context, img *image.NRGBA, tile int, step func()) (*image.NRGBA, error) {
	if tile == 0 {
		tile = 256
	}
	tile = max(tile/u.unshuffle, 8) * u.unshuffle
	b := img.Bounds()
	w, h := u.padded(b.Dx()), u.padded(b.Dy())
	x := make([]float32, h*w*3)
	for i := range h {
		for j := range w {
			p := img.PixOffset(b.Min.X+min(j, b.Dx()-1), b.Min.Y+min(i, b.Dy()-1)) // the border goes on
			for c := range 3 {
				x[(i*w+j)*3+c] = float32(img.Pix[p+c]) / 255
			}
		}
	}
	run := func(x []float32, h, w int) ([]float32, error) {
		out, err := u.part.Run(ctx, nn.Sizes{Rows: 1, H: h, W: w}, stage.Values{"image": tensor.Of(x, 1, h, w, 3)}, "image")
		var bad *stage.NotFiniteError
		if errors.As(err, &bad) {
			return nil, bad.Diagnosis(ctx, "")
		}
		if err != nil {
			return nil, err
		}
		if step != nil {
			step()
		}
		return tensor.Floats(out["image"].Data), nil
	}
	var values []float32
	var err error
	if w <= tile && h <= tile {
		values, err = run(x, h, w)
	} else {
		values, err = u.tiles(tile).Run(x, h, w, 3, 3, run)
	}
	if err != nil {
		return nil, fmt.Errorf("enlarging: %w", err)
	}
	return u.picture(values, w, img), nil
}

// Tiles is how many tiles of a size a picture takes.
func (u *Upscaler) Tiles(width, height, tile int) int {
	if tile == 0 {
		tile = 256
	}
	if width <= tile && height <= tile {
		return 1
	}
	step := u.tiles(max(tile/u.unshuffle, 8) * u.unshuffle).Step
	return ((width + step - 1) / step) * ((height + step - 1) / step)
}

// tiles overlap by a quarter, over which each fades into the next, so that there is no seam: where a tile's border lacks
// surroundings, it does not count.
func (u *Upscaler) tiles(tile int) *stage.Tiles {
	step := max(tile*3/4/u.unshuffle, 1) * u.unshuffle
	return &stage.Tiles{Tile: tile, Step: step, Keep: step * u.Scale, Blend: (tile - step) * u.Scale, Scale: func(n int) int { return n * u.Scale }}
}

// padded is a side that the network takes.
func (u *Upscaler) padded(n int) int { return (n + u.unshuffle - 1) / u.unshuffle * u.unshuffle }

// picture rounds values of rows of width·Scale pixels, and takes transparency from the picture that was enlarged.
func (u *Upscaler) picture(values []float32, width int, from *image.NRGBA) *image.NRGBA {
	b := from.Bounds()
	out := image.NewNRGBA(image.Rect(0, 0, b.Dx()*u.Scale, b.Dy()*u.Scale))
	for y := range out.Rect.Dy() {
		for x := range out.Rect.Dx() {
			p := out.PixOffset(x, y)
			for c := range 3 {
				v := values[(y*width*u.Scale+x)*3+c]
				out.Pix[p+c] = uint8(math.RoundToEven(float64(min(max(v, 0), 1)) * 255))
			}
			out.Pix[p+3] = from.Pix[from.PixOffset(b.Min.X+x/u.Scale, b.Min.Y+y/u.Scale)+3]
		}
	}
	return out
}

// Close gives back memory.
func (u *Upscaler) Close() error {
	u.part.Unload()
	return u.source.Close()
}
