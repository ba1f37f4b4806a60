// Package enlarge makes pictures larger, with an upscaler's network or by a filter.
package enlarge

import (
	"context"
	"fmt"
	"image"
	"strings"
	"sync"

	"github.com/disintegration/imaging"

	"darkroom/family"
	"darkroom/imagefile"
	"darkroom/models/library"
	"darkroom/pipeline"
	"darkroom/stage"
)

// Enlarger enlarges one picture at a time, on one device.
type Enlarger struct {
	Device pipeline.Options
	// Pixels is the largest picture that is made; 0 is imagefile.MaxPixels.
	Pixels int

	mu sync.Mutex
}

// The ways that need no network.
const (
	Lanczos = "Lanczos"
	Nearest = "Nearest"
)

// To enlarges a picture to a size, by an upscaler of that name, Lanczos or Nearest; "" and None are Lanczos.
func (e *Enlarger) To(ctx context.Context, name string, img *image.NRGBA, width, height int) (*image.NRGBA, error) {
	most := e.Pixels
	if most == 0 {
		most = imagefile.MaxPixels
	}
	if width < 1 || height < 1 || width > most/height {
		return nil, fmt.Errorf("%d×%d pixels: at most %d in all are made", width, height, most)
	}
	filter := imaging.Lanczos
	switch strings.ToLower(name) {
	case "", "none", "lanczos":
	case "nearest":
		filter = imaging.NearestNeighbor
	default:
		var err error
		if img, _, err = e.network(ctx, name, img, most); err != nil {
			return nil, err
		}
	}
	if b := img.Bounds(); b.Dx() == width && b.Dy() == height {
		return img, nil
	}
	return imaging.Resize(img, width, height, filter), nil
}

// By enlarges a picture by an upscaler's own factor.
func (e *Enlarger) By(ctx context.Context, name string, img *image.NRGBA) (*image.NRGBA, Upscaler, error) {
	most := e.Pixels
	if most == 0 {
		most = imagefile.MaxPixels
	}
	return e.network(ctx, name, img, most)
}

// network runs an upscaler's network.
func (e *Enlarger) network(ctx context.Context, name string, img *image.NRGBA, most int) (_ *image.NRGBA, by Upscaler, err error) {
	path, err := library.NamedPart(library.Upscalers, name)
	if err != nil {
		return nil, by, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	defer func() {
		if v := recover(); v != nil {
			err = pipeline.NewPanicError(v)
		}
	}()
	b, err := pipeline.NewBackend(e.Device)
	if err != nil {
		return nil, by, err
	}
	defer b.Close()
	u, err := family.OpenUpscaler(path, &stage.Device{Backend: b, DType: b.Info().DTypes[0], LowMemory: e.Device.LowMemory})
	if err != nil {
		return nil, by, err
	}
	defer u.Close()
	size := img.Bounds().Size()
	if w, h := size.X*u.Scale, size.Y*u.Scale; w > most/h {
		return nil, by, fmt.Errorf("%s makes %d×%d pixels of %d×%d: at most %d in all are made", name, w, h, size.X, size.Y, most)
	}
	larger, err := u.Upscale(ctx, img, 0, nil)
	return larger, Upscaler{path, u.Scale, e.Device.HashCache}, err
}
