package family

import (
	"image"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/imagefile"
	"darkroom/kernels/ref"
	"darkroom/stage"
)

func loadPicture(t *testing.T, name string) *image.NRGBA {
	t.Helper()
	p, err := imagefile.Load(filepath.Join("testdata/upscale", name))
	if err != nil {
		t.Fatal(err)
	}
	return p.Pixels
}

func decibels(a, b *image.NRGBA) float64 {
	if a.Rect != b.Rect {
		return -1
	}
	var sum float64
	for i := range a.Pix {
		d := float64(a.Pix[i]) - float64(b.Pix[i])
		sum += d * d
	}
	return 10 * math.Log10(255*255*float64(len(a.Pix))/sum)
}

// Upscalers in every spelling give what a PyTorch forward gives; sides that the network does not take are filled up.
func TestUpscalersAsTorch(t *testing.T) {
	in := loadPicture(t, "in.png")
	for name, scale := range map[string]int{"first": 4, "trunk": 2, "own": 2} {
		u, err := OpenUpscaler(filepath.Join("testdata/upscale", name+".pth"), &stage.Device{Backend: ref.New(0)})
		if err != nil {
			t.Fatal(err)
		}
		if u.Scale != scale {
			t.Errorf("%s enlarges by %d, want %d", name, u.Scale, scale)
		}
		got, err := u.Upscale(t.Context(), in, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := loadPicture(t, name+".png")
		if dB := decibels(got, want); dB < 60 {
			t.Errorf("%s: %.1f dB from torch", name, dB)
		}
		// In tiles the picture is the same but where less surroundings are seen; there is no seam.
		tiles := 0
		tiled, err := u.Upscale(t.Context(), in, 24, func() { tiles++ })
		if err != nil {
			t.Fatal(err)
		}
		if n := u.Tiles(in.Rect.Dx(), in.Rect.Dy(), 24); tiles < 2 || tiles != n {
			t.Errorf("%s: %d tiles, %d were announced", name, tiles, n)
		}
		if dB := decibels(tiled, want); dB < 40 {
			t.Errorf("%s in tiles: %.1f dB from torch", name, dB)
		}
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestUpscalerErrors(t *testing.T) {
	for path, want := range map[string]string{
		"testdata/upscale/in.png": "this is a picture",
		"../pipeline/testdata/models/sd1/vae/diffusion_pytorch_model.safetensors": "this is a VAE",
		"testdata/upscale/none.pth": os.ErrNotExist.Error()[:4],
	} {
		_, err := OpenUpscaler(path, &stage.Device{Backend: ref.New(1)})
		if err == nil || !strings.Contains(err.Error(), want) && !os.IsNotExist(err) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
