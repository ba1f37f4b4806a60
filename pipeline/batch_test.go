package pipeline

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"strings"
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/cpu"
	"darkroom/recipe"
)

// backends that this machine can run.
func backends() []string {
	if !cpu.Available {
		return []string{Ref}
	}
	return []string{CPU, Ref}
}

// mixed is a company of requests as unlike each other as a batch may be: samplers with one and two calls a step,
// stochastic ones, other numbers of steps, of rows, and of tokens.
func mixed(p *Pipeline) []Request {
	var all []Request
	for i, change := range []func(*Request){
		func(r *Request) { r.Scheduler = "euler" },
		func(r *Request) { r.Scheduler, r.Steps = "dpm++2m-sde", 5 },
		func(r *Request) { r.Scheduler, r.Prompt, r.CFG = "heun", "two dogs", 1 },
		func(r *Request) { r.Scheduler, r.Noise, r.Guidance = "euler-a", "torch-cuda", "apg:momentum=-0.5" },
		func(r *Request) { r.Scheduler, r.Steps, r.Guidance = "unipc", 6, "cfg:start=0.3,stop=0.7" },
		func(r *Request) { r.Scheduler, r.Prompt = "ddim", strings.Repeat("very ", 100)+"long" },
		func(r *Request) { r.Scheduler, r.Negative, r.Guidance = "euler", "a cat", "perp-neg" },
		func(r *Request) { r.Scheduler, r.Steps, r.SDENoise = "dpm++2m-sde", 2, "brownian" },
	} {
		r := p.NewRequest("a red (apple:1.3) on a table")
		r.Seed, r.Steps = uint64(i), 4
		change(&r)
		all = append(all, r)
	}
	return all
}

// together renders a batch and returns what became of each request.
func together(t *testing.T, p *Pipeline, requests []Request, events func(int) Events) ([]*Image, []error) {
	t.Helper()
	images, errs, told := make([]*Image, len(requests)), make([]error, len(requests)), make([]int, len(requests))
	p.RenderBatch(t.Context(), requests, events, func(i int, img *Image, err error) {
		images[i], errs[i] = img, err
		told[i]++
	})
	for i, n := range told {
		if n != 1 {
			t.Errorf("request %d was told %d times", i, n)
		}
	}
	return images, errs
}

// TestBatchIsAlone: whatever the size of the batch and its company, each picture has the bits, and the recipe, of the one
// that is rendered alone.
func TestBatchIsAlone(t *testing.T) {
	for _, backend := range backends() {
		p := open(t, Options{Model: "testdata/models/sd1", Backend: backend, Threads: 2})
		requests := mixed(p)
		sizes := []int{1, 2, 3, 5, 8}
		if backend == Ref { // slow
			sizes = []int{3}
			for i := range requests {
				requests[i].Width, requests[i].Height = 32, 32
			}
		}
		alone := make([]recipe.Recipe, len(requests))
		for i, r := range requests {
			alone[i] = render(t, p, r).Recipe
		}
		for _, size := range sizes {
			for first := 0; first < len(requests); first += size {
				some := requests[first:min(first+size, len(requests))]
				images, errs := together(t, p, some, nil)
				for i, img := range images {
					if errs[i] != nil {
						t.Fatal(errs[i])
					}
					if want := alone[first+i]; img.Recipe.Result != want.Result || recipe.HashPixels(img.Pixels) != want.Result.Pixels {
						t.Errorf("%s: request %d in a batch of %d differs from alone: %+v, %+v", backend, first+i, size, img.Recipe.Result, want.Result)
					}
				}
			}
		}
	}
}

// TestBatchOneFails: a request that cannot be meant, one that an event ends, one whose numbers overflow, and one with a
// bug in its events fail alone; the pictures of the others are those that they are alone.
func TestBatchOneFails(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	requests := mixed(p)[:6]
	var want []recipe.Result
	for _, r := range requests {
		want = append(want, render(t, p, r).Recipe.Result)
	}
	requests[1].Width = 33
	stop := errors.New("seen enough")
	images, errs := together(t, p, requests, func(i int) Events {
		switch i {
		case 0:
			return Events{PreviewEvery: 2, Preview: func(int, *image.NRGBA) error { return stop }}
		case 2:
			return Events{Step: func(step int) {
				if step == 2 {
					panic("a bug")
				}
			}}
		case 4: // its latents become NaN, and with them what the U-Net gives for it
			return Events{latents: func(step int, x []float32) {
				if step == 2 {
					x[0] = float32(math.NaN())
				}
			}}
		}
		return Events{}
	})
	var usage *UsageError
	var broken *PanicError
	var bad *kernels.NonFiniteError
	for i, ok := range []bool{errors.Is(errs[0], stop), errors.As(errs[1], &usage), errors.As(errs[2], &broken), errs[3] == nil, errors.As(errs[4], &bad), errs[5] == nil} {
		if !ok {
			t.Errorf("request %d: %v", i, errs[i])
		}
	}
	if broken != nil && !strings.HasPrefix(broken.Error(), "rendering crashed: a bug\n") {
		t.Error(broken)
	}
	for _, i := range []int{3, 5} {
		if errs[i] == nil && images[i].Recipe.Result != want[i] {
			t.Errorf("request %d differs from alone", i)
		}
	}
}

// cats are requests of two steps that differ in their seeds.
func cats(p *Pipeline, n int) (requests []Request) {
	for seed := range n {
		r := p.NewRequest("a cat")
		r.Seed, r.Steps = uint64(seed), 2
		requests = append(requests, r)
	}
	return requests
}

// TestBatchMemory: as many rows run at once as there is memory for, and no program for more is made; the pictures are the
// same.
func TestBatchMemory(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	requests := cats(p, 6)
	want, _ := together(t, p, requests, nil)
	if p.model.Denoiser.Part().Size().Rows != 12 {
		t.Errorf("%d rows ran at once, not 12", p.model.Denoiser.Part().Size().Rows)
	}
	p.model.Shed()
	room := p.need(requests[0].Width, requests[0].Height, 5, false).Total()
	p.free = func() (uint64, bool) { return room, true }
	if n := p.BatchSize(requests[0], 6); n != 2 {
		t.Errorf("there is room for 5 rows, and %d pictures are rendered at once", n)
	}
	if n := p.BatchSize(requests[0], 0); n != 2 {
		t.Errorf("left to the program it is %d pictures", n)
	}
	got, errs := together(t, p, requests, nil)
	if p.model.Denoiser.Part().Size().Rows > 4 {
		t.Errorf("%d rows ran at once, with memory for 5", p.model.Denoiser.Part().Size().Rows)
	}
	for i := range want {
		if errs[i] != nil || got[i].Recipe.Result != want[i].Recipe.Result {
			t.Errorf("request %d: %v, or another picture", i, errs[i])
		}
	}
}

// fewBytes is a backend whose memory ends at a largest piece, as a GPU's may although it was said to be free.
type fewBytes struct {
	kernels.Backend
	most int
}

func (b *fewBytes) Alloc(n int) (kernels.Mem, error) {
	if n > b.most {
		return nil, fmt.Errorf("out of memory")
	}
	return b.Backend.Alloc(n)
}

// TestBatchOutOfMemory: where the memory for a batch is not to be had, it is done in parts; where there is none for a
// picture alone, all fail.
func TestBatchOutOfMemory(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	requests := cats(p, 4)
	want, _ := together(t, p, requests, nil)
	graph := func(part string) *kernels.Graph {
		p := p.model.Part(part)
		return p.Graph(p.Sizes(requests[0].Width, requests[0].Height, 2, false))
	}
	one, decoder := graph("unet"), graph("vae")
	p.model.Shed()
	p.device.Backend = &fewBytes{p.device.Backend, max(one.ArenaBytes(false), decoder.ArenaBytes(false))}
	got, errs := together(t, p, requests, nil)
	for i := range want {
		if errs[i] != nil || got[i].Recipe.Result != want[i].Recipe.Result {
			t.Errorf("request %d: %v, or another picture", i, errs[i])
		}
	}
	p.model.Shed()
	p.device.Backend.(*fewBytes).most = one.ArenaBytes(false) - 1
	_, errs = together(t, p, requests, nil)
	for i, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "out of memory") {
			t.Errorf("request %d: %v", i, err)
		}
	}
}

// TestBatchCancel ends all of a batch soon.
func TestBatchCancel(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	requests := []Request{p.NewRequest("a"), p.NewRequest("b")}
	for i := range requests {
		requests[i].Steps = 500
	}
	p.RenderBatch(ctx, requests, func(int) Events {
		return Events{Step: func(step int) {
			if step == 2 {
				cancel()
			}
		}}
	}, func(i int, _ *Image, err error) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("request %d: %v", i, err)
		}
	})
}
