package pipeline

import (
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/kernels/cpu"
	"darkroom/kernels/ref"
	"darkroom/nn"
	"darkroom/tensor"
)

// Tiles and their blending are those of diffusers, seam by seam: see train/goldens_tiling.py.
func TestTilingAsDiffusers(t *testing.T) {
	file, err := checkpoint.Open(filepath.Join("testdata", "tiling.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p := open(t, Options{Model: "testdata/models/sd1"})
	for _, size := range [][2]int{{6, 7}, {4, 9}} {
		h, w := size[0], size[1]
		get := func(name string) []float32 { return goldens{file}.get(t, fmt.Sprintf("%s-%dx%d", name, h, w)) }
		latents := get("z")
		for i := range latents { // z is what the decoder is given
			latents[i] *= float32(p.decoderConfig.ScalingFactor)
		}
		d, err := p.decoding()
		if err != nil {
			t.Fatal(err)
		}
		tile := p.tileFor(h, w)
		if tile == nil {
			t.Fatalf("%d×%d latents are decoded whole", h, w)
		}
		values, err := d.run(t.Context(), latents, h, w, tile)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]float32, len(values))
		toNHWC(want, get("image"), 3)
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

// A picture of the embedded model in tiles is close to the whole one: what is lost is told by the PSNR.
func TestTiledPicture(t *testing.T) {
	whole := open(t, Options{})
	r := whole.NewRequest("a red apple on a table")
	r.Steps, r.Seed = 4, 3
	a := render(t, whole, r)
	r.Tiled = true
	if b := render(t, whole, r); b.Recipe.VAETiling || b.Recipe.Result != a.Recipe.Result {
		t.Error("a picture of the size of a tile was decoded in tiles")
	}
	whole.decoderConfig.SampleSize = max(r.Width/2, r.Height/2) // tiles of a quarter
	b := render(t, whole, r)
	if !b.Recipe.VAETiling || b.Recipe.Result.Latents != a.Recipe.Result.Latents || b.Recipe.Result.Pixels == a.Recipe.Result.Pixels {
		t.Fatalf("tiled: %+v, whole: %+v", b.Recipe, a.Recipe)
	}
	if again := FromRecipe(b.Recipe); !again.Tiled {
		t.Error("the recipe's picture would be decoded whole")
	}
	// A quarter of the picture sees a quarter of its surroundings. Below 20 dB tiles would be plain to see.
	if got := psnr(a.Pixels, b.Pixels); got < 20 {
		t.Errorf("%.1f dB between tiled and whole", got)
	} else {
		t.Logf("%.1f dB between tiled and whole", got)
	}
}

// Weights that come block by block change no bit, with other prompts and sizes in between.
func TestLowMemoryIsTheSame(t *testing.T) {
	for _, backend := range []string{Ref, CPU} {
		if backend == CPU && !cpu.Available {
			continue
		}
		resident := open(t, Options{Model: "testdata/models/sd1", Backend: backend})
		streamed := open(t, Options{Model: "testdata/models/sd1", Backend: backend, LowMemory: true})
		for _, c := range []struct {
			prompt string
			width  int
		}{{"a cat", 32}, {"a dog", 32}, {"a cat", 16}, {"a cat", 32}} {
			r := resident.NewRequest(c.prompt)
			r.Steps, r.Width, r.Height = 3, c.width, 32
			if a, b := render(t, resident, r).Recipe.Result, render(t, streamed, r).Recipe.Result; a != b {
				t.Errorf("%s, %s: %+v and %+v", backend, c.prompt, a, b)
			}
		}
		if streamed.textProg != nil {
			t.Error("the text encoder was not dropped")
		}
	}
}

// counting is the reference backend, and counts what is allocated.
type counting struct {
	*ref.Backend
	used, most int
}

func (c *counting) take(n int) { c.used += n; c.most = max(c.most, c.used) }

func (c *counting) Alloc(n int) (kernels.Mem, error) { c.take(n); return c.Backend.Alloc(n) }
func (c *counting) Free(m kernels.Mem)               { c.used -= m.Bytes() }
func (c *counting) Load(w *kernels.Weight) error {
	c.take(c.PackedBytes(w.Role, w.Shape))
	return c.Backend.Load(w)
}
func (c *counting) Unload(w *kernels.Weight) {
	if m := c.Packed(w); m != nil {
		c.used -= m.Bytes()
	}
	c.Backend.Unload(w)
}

// What a picture takes is what was estimated, no more, and with --low-memory less.
func TestNeedIsTaken(t *testing.T) {
	var most [2]int
	for i, low := range []bool{false, true} {
		p := open(t, Options{Model: "testdata/models/sd1", Backend: Ref, LowMemory: low})
		b := &counting{Backend: ref.New(0)}
		p.backend = b
		for _, prompt := range []string{"a cat", "a dog"} {
			r := p.NewRequest(prompt)
			r.Steps, r.Width, r.Height = 2, 64, 64
			need := p.need(r.Width, r.Height, 2)
			before := b.used
			render(t, p, r)
			if most := b.most - before; i == 0 && prompt == "a cat" && uint64(most) != need.Total() || uint64(most) > need.Total() {
				t.Errorf("low memory %v, %s: %d bytes were taken, %d estimated", low, prompt, most, need.Total())
			}
		}
		most[i] = b.most
	}
	if most[1] > most[0]*3/4 {
		t.Errorf("%d bytes with --low-memory, %d without", most[1], most[0])
	}
}

// halves counts weights as the CUDA backend packs them in float16: rows filled up to 32 elements, vectors in float32.
type halves struct{ *ref.Backend }

func (halves) PackedBytes(role kernels.Role, s tensor.Shape) int {
	switch role {
	case kernels.Vector:
		return 4 * s.Len()
	case kernels.Table:
		return 2 * s.Len()
	}
	width := s.Len() / s[0]
	return 2 * s[0] * ((width + 31) / 32 * 32)
}

// Stable Diffusion 1.5 at 512×512 with guidance, in float16 with --low-memory, fits into 2 GiB as counted by arenas and
// slots; and a picture of 1024×1024 fits into the same decoder. The plan needs no weights.
func TestStableDiffusionInTwoGiB(t *testing.T) {
	p := stableDiffusion(t)
	p.backend, p.dtype, p.lowMemory = halves{ref.New(1)}, tensor.F16, true
	need := p.need(512, 512, 2)
	if need.Total() > 2<<30 {
		t.Errorf("%s of weights and %s of activations: more than 2 GiB", gib(need.Weights), gib(need.Activations))
	}
	t.Logf("low memory: weights %s, activations %s; otherwise %s", gib(need.Weights), gib(need.Activations), gib(p.needWhere(512, 512, 2, false).Total()))
	// Without, the weights alone are 1.06 G parameters of 2 bytes.
	if whole := p.needWhere(512, 512, 2, false); whole.Weights < 1032e6*2 || need.Weights > whole.Weights/5 {
		t.Errorf("weights: %s with --low-memory, %s without", gib(need.Weights), gib(whole.Weights))
	}
	decoder := func(side int) uint64 {
		h := side / 8
		if tile := p.tileFor(h, h); tile != nil {
			h = tile.tile
		}
		g := nn.Graph(p.decoder, p.dtype, nn.Sizes{Rows: 1, H: h, W: h})
		return uint64(g.ArenaBytes())
	}
	if a, b := decoder(512), decoder(2048); a != b {
		t.Errorf("the decoder takes %d bytes at 512×512, %d at 2048×2048", a, b)
	}
}

// queues is a reference backend that opens another queue for the decoder, whose first operation waits until the U-Net
// of the next picture is at work.
type queues struct {
	*ref.Backend
	denoising, decoding chan struct{} // closed when the second picture's U-Net runs, when the first decode begins
	picture             *int
}

func (q queues) Fork() (kernels.Backend, error) { return &decoderQueue{ref.New(1), q, false}, nil }

func (q queues) Conv2D(dst *kernels.Tensor, op *kernels.Conv2D) {
	if *q.picture == 2 {
		<-q.decoding
		select {
		case <-q.denoising:
		default:
			close(q.denoising)
		}
	}
	q.Backend.Conv2D(dst, op)
}

type decoderQueue struct {
	*ref.Backend
	q     queues
	begun bool
}

func (d *decoderQueue) Conv2D(dst *kernels.Tensor, op *kernels.Conv2D) {
	if !d.begun {
		d.begun = true
		close(d.q.decoding)
		<-d.q.denoising // a deadlock if nothing denoises beside
	}
	d.Backend.Conv2D(dst, op)
}

// A picture is decoded while the next one is denoised, and neither has other bytes for it.
func TestDecodingBeside(t *testing.T) {
	alone := open(t, Options{Model: "testdata/models/sd1", Backend: Ref})
	r := alone.NewRequest("a cat")
	r.Steps, r.Width, r.Height = 2, 32, 32
	next := r
	next.Seed++
	want := [2]*Image{render(t, alone, r), render(t, alone, next)}

	p := open(t, Options{Model: "testdata/models/sd1", Backend: Ref})
	if p.DecodesBeside() {
		t.Error("the reference backend has one queue")
	}
	picture := 1
	p.backend = queues{ref.New(1), make(chan struct{}), make(chan struct{}), &picture}
	if !p.DecodesBeside() {
		t.Fatal("a backend with two queues does not decode beside")
	}
	first, err := p.Denoise(t.Context(), r, Events{})
	if err != nil {
		t.Fatal(err)
	}
	picture = 2
	decoded := make(chan *Image)
	go func() {
		img, err := first.Decode(t.Context())
		if err != nil {
			t.Error(err)
		}
		decoded <- img
	}()
	<-p.backend.(queues).decoding // the decoder is at work, and stays so until the next picture is
	second, err := p.Denoise(t.Context(), next, Events{})
	if err != nil {
		t.Fatal(err)
	}
	got := [2]*Image{<-decoded}
	if got[1], err = second.Decode(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if got[i] == nil || got[i].Recipe.Result != want[i].Recipe.Result {
			t.Errorf("picture %d differs", i+1)
		}
	}
}
