package family

import (
	"fmt"
	"math"
	"testing"

	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/kernels/cpu"
	"darkroom/kernels/cuda"
	"darkroom/kernels/ref"
	"darkroom/nn"
	"darkroom/stage"
	"darkroom/tensor"
)

// stableDiffusion15 is Stable Diffusion 1.5 without weights.
func stableDiffusion15(t *testing.T, d *stage.Device) *Model {
	t.Helper()
	m, err := StableDiffusion15(d, nn.Random{ShapesOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func gib(n uint64) string { return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30)) }

// Stable Diffusion 1.5 at 512×512 in float32 must fit into 5 GiB, and a run of it took 4.6 GiB in all
// (peak resident memory, with float16 weights on disk). The plan needs no weights.
func TestStableDiffusionFits(t *testing.T) {
	if !cpu.Available {
		t.Skip("this build has no CPU kernels, whose packing is what is counted")
	}
	b, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	m := stableDiffusion15(t, &stage.Device{Backend: b})
	need := m.Need(512, 512, 2, false, false)
	// 123 M + 860 M + 49 M parameters of 4 bytes, and what packing adds.
	if parameters := uint64(1032e6 * 4); need.Weights < parameters || need.Weights > parameters+parameters/50 {
		t.Errorf("weights take %s, want %s and little more", gib(need.Weights), gib(parameters))
	}
	if need.Total() > 5<<30 {
		t.Errorf("%s of weights and %s of activations: more than 5 GiB", gib(need.Weights), gib(need.Activations))
	}
	t.Logf("weights %s, activations %s", gib(need.Weights), gib(need.Activations))

	// The published size of the U-Net's forward pass at batch 1: about 0.8 TFLOP (two for each of 0.4 T
	// multiply-adds).
	u := m.Denoiser.Part()
	g := u.Graph(u.Sizes(512, 512, 1, false))
	if tflop := g.FLOPs() / 1e12; tflop < 0.7 || tflop > 0.9 {
		t.Errorf("the U-Net has %.2f TFLOP a call", tflop)
	}
}

// halves counts weights as the CUDA backend packs them in float16: rows filled up to 32 elements, vectors in float32.
type halves struct{ *ref.Backend }

func (halves) PackedBytes(w *kernels.Weight) int {
	s := w.Shape
	switch w.Role {
	case kernels.Vector:
		return 4 * s.Len()
	case kernels.Table:
		return 2 * s.Len()
	}
	width := s.Len() / s[0]
	n := 2 * s[0] * ((width + 31) / 32 * 32)
	if w.Norm != nil {
		n += 8 * s[0] // two vectors with which products are normalised
	}
	return n
}

// eighths counts weights as the CUDA backend packs them with --dtype int8: in 8 bits with 16 bytes a row where they bear it, which
// are unpacked into float16 one at a time.
type eighths struct{ halves }

func (e eighths) narrow(w *kernels.Weight) bool {
	return w.Tolerant && w.Role != kernels.Vector && w.Role != kernels.Table
}

func (e eighths) NarrowBytes(w *kernels.Weight) int {
	if !e.narrow(w) {
		return 0
	}
	return e.PackedBytes(w)/2 + 16*w.Shape[0]
}

func (e eighths) UnpackedBytes(w *kernels.Weight) int {
	if !e.narrow(w) {
		return 0
	}
	return e.PackedBytes(w)
}

// Stable Diffusion 1.5 at 512×512 with guidance, in float16 with --low-memory, fits into 2 GiB as counted by arenas and
// slots; and a picture of 1024×1024 fits into the same decoder. The plan needs no weights.
func TestStableDiffusionInTwoGiB(t *testing.T) {
	m := stableDiffusion15(t, &stage.Device{Backend: halves{ref.New(1)}, DType: tensor.F16, LowMemory: true})
	need := m.Need(512, 512, 2, true, true)
	if need.Total() > 2<<30 {
		t.Errorf("%s of weights and %s of activations: more than 2 GiB", gib(need.Weights), gib(need.Activations))
	}
	t.Logf("low memory: weights %s, activations %s; otherwise %s", gib(need.Weights), gib(need.Activations), gib(m.Need(512, 512, 2, false, false).Total()))
	// Without, the weights alone are 1.06 G parameters of 2 bytes.
	if whole := m.Need(512, 512, 2, false, false); whole.Weights < 1032e6*2 || need.Weights > whole.Weights/5 {
		t.Errorf("weights: %s with --low-memory, %s without", gib(need.Weights), gib(whole.Weights))
	}
	decoder := func(side int) uint64 {
		p := m.Part("vae")
		return uint64(p.Graph(p.Sizes(side, side, 1, true)).ArenaBytes(false))
	}
	if a, b := decoder(512), decoder(2048); a != b {
		t.Errorf("the decoder takes %d bytes at 512×512, %d at 2048×2048", a, b)
	}
}

// Tiles and their blending are those of diffusers, seam by seam: see train/goldens_tiling.py.
func TestTilingAsDiffusers(t *testing.T) {
	file, err := checkpoint.Open("../pipeline/testdata/tiling.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	folder, err := checkpoint.OpenFolder("../pipeline/testdata/models/sd1")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(folder, Options{}, &stage.Device{Backend: ref.New(0)})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	codec := m.Codec.(*autoencoder)
	for _, size := range [][2]int{{6, 7}, {4, 9}} {
		h, w := size[0], size[1]
		get := func(name string) []float32 {
			name = fmt.Sprintf("%s-%dx%d", name, h, w)
			v, ok := file.Tensor(name)
			if !ok {
				t.Fatalf("the golden file has no %s", name)
			}
			values := make([]float32, v.Len())
			v.Float32(values)
			return values
		}
		latents := get("z")
		for i := range latents { // z is what the decoder is given
			latents[i] *= float32(codec.config.ScalingFactor)
		}
		if !codec.Tiled(h, w) {
			t.Fatalf("%d×%d latents are decoded whole", h, w)
		}
		values, err := codec.run(t.Context(), codec.decoder, latents, Area{H: h, W: w, Tiled: true})
		if err != nil {
			t.Fatal(err)
		}
		want := make([]float32, len(values))
		tensor.ToNHWC(want, get("image"), 3)
		worst := 0.0
		for i, v := range values {
			worst = max(worst, math.Abs(float64(v-want[i])))
		}
		// float32 sums in another order, as in the goldens of the whole decoder: values are of order 1.
		if worst > 1e-4 {
			t.Errorf("%d×%d: %g from diffusers' tiles", h, w, worst)
		}
	}
}

// The keys and values of the text are computed once a prompt: two operations of each of 16 cross-attentions. Of 391 operations
// a step are left 291: queries, keys and values of self-attention are one product
// (-32), all blocks' time embeddings two (-20), and norms of rows are part of the product that follows (-48), whose input's
// moments the product before leaves.
func TestOperationsOfAStep(t *testing.T) {
	p := stableDiffusion15(t, &stage.Device{Backend: ref.New(1), DType: tensor.F32}).Denoiser.Part()
	g := p.Graph(p.Sizes(512, 512, 2, false))
	each, seldom := g.Launches()
	if each != 291 || seldom != 32 {
		t.Errorf("%d operations a step and %d a prompt, want 291 and 32", each, seldom)
	}
	launches := -seldom
	g.Ops(func(_ string, op kernels.Op, _ *kernels.Tensor) { launches += cuda.Launches(op, tensor.F16) })
	if launches != 309 {
		t.Errorf("%d launches a step on a GPU, want 309", launches)
	}
}
