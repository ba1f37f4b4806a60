//go:build cgo && linux && amd64

package cpu_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"darkroom/kernels/cpu"
	"darkroom/pipeline"
	"darkroom/tensor"
)

// pictureCase is what train/goldens_cuda.py found about one model: the peak signal to noise, in dB, of torch's pictures in
// bfloat16 against its own in float32.
type pictureCase struct {
	Model, Prompt string
	Steps, Size   int
	CFG           float64
	Seeds         []uint64
	BF16          float64
}

// Whole pictures, from the text to the pixels, in bfloat16 against float32.
func TestPictures(t *testing.T) {
	if len(cpu.Instructions(tensor.BF16)) == 0 {
		t.Skip("SKIPPED: this processor does not compute in bfloat16")
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
		t.Run(c.Model, func(t *testing.T) {
			got, least := psnr(c.render(t, pipeline.CPU, "bf16"), c.render(t, pipeline.CPU, "fp32")), c.BF16-1 // as on a GPU: at most 1 dB below torch
			if got < least {
				t.Errorf("%.1f dB against float32; %.1f are wanted", got, least)
			}
			t.Logf("%.1f dB, %.1f wanted", got, least)
		})
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
