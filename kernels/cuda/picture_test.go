//go:build cuda && linux && (amd64 || arm64)

package cuda_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"darkroom/kernels/cuda"
	"darkroom/pipeline"
)

// pictureCase is what train/goldens_cuda.py found about one model: the peak signal to noise, in dB, of torch's pictures in
// half precision against its own in float32.
type pictureCase struct {
	Model, Prompt string
	Steps, Size   int
	CFG           float64
	Seeds         []uint64
	FP16, BF16    float64
	INT8          float64 // float16 with 8-bit weights
}

// Whole pictures, from the text to the pixels, against the CPU's float32.
func TestPictures(t *testing.T) {
	if _, err := cuda.Devices(); err != nil {
		t.Skipf("SKIPPED, no CUDA device: %v. Run kernels/cuda/test.sh for the emulated one", err)
	}
	text, err := os.ReadFile("testdata/torch_psnr.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []pictureCase
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if c.Model == "default" && os.Getenv("CUDA_LONG") == "" {
			continue // a minute on the emulated device
		}
		t.Run(c.Model, func(t *testing.T) {
			exact := c.render(t, pipeline.CPU, "fp32")
			for _, d := range []struct {
				dtype string
				least float64 // dB
			}{
				{"fp32", 50},         // what the design asks of float32
				{"fp16", c.FP16 - 1}, // no worse than 1 dB below torch in that type
				{"bf16", c.BF16 - 1},
				{"int8", c.INT8 - 1},
			} {
				if got := psnr(c.render(t, pipeline.CUDA, d.dtype), exact); got < d.least {
					t.Errorf("%s: %.1f dB against the CPU's float32; %.1f are wanted", d.dtype, got, d.least)
				} else {
					t.Logf("%s: %.1f dB, %.1f wanted", d.dtype, got, d.least)
				}
			}
		})
	}
}

// Pictures of the transformers' families, against the CPU's float32. In bfloat16, the default, they are near: 20 dB, as the
// tiny models' weights are random and carry the rounding of each layer on.
func TestTransformerPictures(t *testing.T) {
	if _, err := cuda.Devices(); err != nil {
		t.Skipf("SKIPPED, no CUDA device: %v. Run kernels/cuda/test.sh for the emulated one", err)
	}
	for _, c := range []struct {
		model string
		cfg   float64
	}{{"transformers/models/z-turbo", 1}, {"transformers/models/klein", 1}, {"mmdit/models/flux-schnell", 1}, {"mmdit/models/sd35-medium", 3}} {
		t.Run(filepath.Base(c.model), func(t *testing.T) {
			draw := func(backend, dtype string) []uint8 {
				p, err := pipeline.Open(pipeline.Options{Model: filepath.Join("../../pipeline/testdata", c.model), Backend: backend, DType: dtype})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				r := p.NewRequest("a red apple")
				r.Seed, r.Steps, r.CFG, r.Width, r.Height = 1, 2, c.cfg, 32, 24
				image, err := p.Render(context.Background(), r, pipeline.Events{})
				if err != nil {
					t.Fatal(err)
				}
				if dtype == pipeline.Auto && image.Recipe.DType != "bf16" {
					t.Errorf("the type is %q by default, want bf16, as float16's range is too small", image.Recipe.DType)
				}
				return image.Pixels.Pix
			}
			exact := draw(pipeline.CPU, "fp32")
			for dtype, least := range map[string]float64{"fp32": 50, pipeline.Auto: 20} {
				if got := psnr(draw(pipeline.CUDA, dtype), exact); got < least {
					t.Errorf("%s: %.1f dB against the CPU's float32; %.0f are wanted", dtype, got, least)
				} else {
					t.Logf("%s: %.1f dB, %.0f wanted", dtype, got, least)
				}
			}
		})
	}
}

// A seamless picture wraps around in the U-Net and in the decoder, on the GPU as on the CPU.
func TestTiledPictures(t *testing.T) {
	if _, err := cuda.Devices(); err != nil {
		t.Skipf("SKIPPED, no CUDA device: %v. Run kernels/cuda/test.sh for the emulated one", err)
	}
	draw := func(backend, tile string) []uint8 {
		p, err := pipeline.Open(pipeline.Options{Model: "../../pipeline/testdata/models/sd1", Backend: backend, DType: "fp32"})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		r := p.NewRequest("a red apple")
		r.Seed, r.Steps, r.Width, r.Height, r.Tile = 5, 2, 96, 64, tile
		image, err := p.Render(context.Background(), r, pipeline.Events{})
		if err != nil {
			t.Fatal(err)
		}
		return image.Pixels.Pix
	}
	for _, tile := range []string{"x", "both"} {
		want := draw(pipeline.CPU, tile)
		if got := psnr(draw(pipeline.CUDA, tile), want); got < 60 {
			t.Errorf("--tile %s: %.1f dB against the CPU, 60 are wanted", tile, got)
		}
		if plain := psnr(draw(pipeline.CPU, "off"), want); plain > 40 {
			t.Errorf("--tile %s changes nothing: %.1f dB", tile, plain)
		}
	}
}

// render gives the pixels of all seeds' pictures.
func (c pictureCase) render(t *testing.T, backend, dtype string) (pixels []uint8) {
	t.Helper()
	o := pipeline.Options{Backend: backend, DType: dtype}
	if c.Model != "default" {
		o.Model = filepath.Join("../../pipeline/testdata/models", c.Model)
	}
	p, err := pipeline.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, seed := range c.Seeds {
		r := p.NewRequest(c.Prompt)
		r.Seed, r.Steps, r.CFG, r.Scheduler, r.Width, r.Height = seed, c.Steps, c.CFG, "ddim", c.Size, c.Size
		image, err := p.Render(context.Background(), r, pipeline.Events{})
		if err != nil {
			t.Fatal(err)
		}
		pixels = append(pixels, image.Pixels.Pix...)
	}
	return pixels
}

// psnr is over the three colours of NRGBA pixels, in dB.
func psnr(a, b []uint8) float64 {
	var sum float64
	for i := range a {
		if i%4 < 3 {
			d := float64(a[i]) - float64(b[i])
			sum += d * d
		}
	}
	if sum == 0 {
		return math.Inf(1)
	}
	return 10 * math.Log10(255*255*float64(len(a)/4*3)/sum)
}
