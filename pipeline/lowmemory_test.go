package pipeline

import (
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/cpu"
	"darkroom/kernels/ref"
)

// A picture of the embedded model in tiles is close to the whole one: the PSNR says what is lost.
func TestTiledPicture(t *testing.T) {
	needsSpeed(t)
	whole := open(t, Options{})
	r := whole.NewRequest("a red apple on a table")
	r.Steps, r.Seed = 4, 3
	a := render(t, whole, r)
	r.Tiled = true
	if b := render(t, whole, r); b.Recipe.VAETiling || b.Recipe.Result != a.Recipe.Result {
		t.Error("a picture of the size of a tile was decoded in tiles")
	}
	r.Width, r.Tiled = 2*r.Width, false // tiles of half the picture and a rest
	a = render(t, whole, r)
	r.Tiled = true
	b := render(t, whole, r)
	if !b.Recipe.VAETiling || b.Recipe.Result.Latents != a.Recipe.Result.Latents || b.Recipe.Result.Pixels == a.Recipe.Result.Pixels {
		t.Fatalf("tiled: %+v, whole: %+v", b.Recipe, a.Recipe)
	}
	if again := FromRecipe(b.Recipe); !again.Tiled {
		t.Error("the recipe's picture would be decoded whole")
	}
	// A tile sees no more than its part of the picture. Below 20 dB tiles would be plain to see.
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
		if streamed.model.Part("text_encoder").Loaded() {
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
	c.take(c.PackedBytes(w))
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
		p.device.Backend = b
		for _, prompt := range []string{"a cat", "a dog"} {
			r := p.NewRequest(prompt)
			r.Steps, r.Width, r.Height = 2, 64, 64
			need := p.need(r.Width, r.Height, 2, low)
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
	p.device.Backend = queues{ref.New(1), make(chan struct{}), make(chan struct{}), &picture}
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
	<-p.device.Backend.(queues).decoding // the decoder is at work, and stays so until the next picture is
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
