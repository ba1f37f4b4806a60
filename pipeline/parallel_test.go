package pipeline

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/kernels"
	"darkroom/kernels/ref"
	"darkroom/recipe"
	"darkroom/stage"
)

// pair opens a model on two devices.
func pair(t *testing.T, o Options) *Pipeline {
	second := 1
	o.Backend, o.Second = Ref, &second
	return open(t, o)
}

// ranOnSecond says whether the second device has weights of the denoiser.
func ranOnSecond(p *Pipeline) bool {
	part := p.model.Denoiser.Part()
	for _, w := range part.Graph(part.Sizes(32, 32, 2, false)).Weights() {
		if p.device.Second.Backend.Packed(w) != nil {
			return true
		}
	}
	return false
}

// TestParallelCFG: two devices, each with a part of the denoiser's rows, make the pictures that one makes.
func TestParallelCFG(t *testing.T) {
	t.Setenv("DARKROOM_MODELS", adapted)
	o := Options{Model: "testdata/models/sd1", Backend: Ref}
	one, two := open(t, o), pair(t, o)
	request := func(change func(*Request)) Request {
		r := one.NewRequest("a cat")
		r.Seed, r.Steps, r.Width, r.Height = 3, 3, 32, 32
		if change != nil {
			change(&r)
		}
		return r
	}
	var all []Request
	var want []recipe.Result
	for _, c := range []struct {
		name   string
		change func(*Request)
	}{
		{"cfg", nil},
		{"interval", func(r *Request) { r.Guidance = "cfg:start=0.3,stop=0.7" }},
		{"three rows", func(r *Request) { r.Guidance = "perp-neg"; r.Negative = "dog" }},
		{"deepcache", func(r *Request) { r.Cache, r.Steps = "deepcache:every=2", 5 }},
		{"t-gate", func(r *Request) { r.Cache, r.Steps = "tgate:gate=2", 4 }},
		{"adapter", func(r *Request) { r.LoRA = "sd-kohya:0.8" }},
		{"plain", nil}, // after it: the adapter is gone on both
		{"unguided", func(r *Request) { r.CFG = 1 }},
	} {
		r := request(c.change)
		alone, together := render(t, one, r).Recipe, render(t, two, r).Recipe
		if alone.Result != together.Result {
			t.Errorf("%s: %+v on two devices, %+v on one", c.name, together.Result, alone.Result)
		}
		all, want = append(all, r), append(want, alone.Result)
	}
	if !ranOnSecond(two) {
		t.Error("the second device computed nothing")
	}
	images, errs := together(t, two, all, nil)
	for i, img := range images {
		if errs[i] != nil || img.Recipe.Result != want[i] {
			t.Errorf("request %d in a batch on two devices: %v, or another picture", i, errs[i])
		}
	}
}

// TestParallelControl: the same with networks that steer, with streamed weights, and after a second model has taken over.
func TestParallelControl(t *testing.T) {
	var steer steerCase
	for _, c := range steerCases(t) {
		if c.Control != "" && !c.Init && !c.Mask && !c.Depth {
			steer = c
			break
		}
	}
	for _, low := range []bool{false, true} {
		o := Options{Model: filepath.Join(steers, steer.Model), Backend: Ref, LowMemory: low}
		one, two := open(t, o), pair(t, o)
		r := steer.request(one)
		r.Steps, r.Width, r.Height = 2, 32, 32
		for range 2 { // with, and without
			if alone, together := render(t, one, r).Recipe, render(t, two, r).Recipe; alone.Result != together.Result {
				t.Errorf("low memory %v, control %q: two devices make another picture", low, r.Control)
			}
			r.Control = ""
		}
	}
}

// unlike is a backend of another kind of device.
type unlike struct {
	kernels.Backend
	free uint64
}

func (u unlike) Info() kernels.Info {
	i := u.Backend.Info()
	i.Name, i.Free = "second", func() (uint64, bool) { return u.free, true }
	return i
}

// ofKind is a backend that says it is of another kind.
type ofKind struct {
	kernels.Backend
	kind string
}

func (k ofKind) Info() kernels.Info {
	i := k.Backend.Info()
	i.Kind = k.kind
	return i
}

// TestParallelErrors: what the second device lacks or breaks is said, with its name.
func TestParallelErrors(t *testing.T) {
	p := pair(t, Options{Model: "testdata/models/sd1"})
	r := p.NewRequest("a cat")
	r.Steps, r.Width, r.Height = 2, 32, 32
	p.device.Second.Backend = unlike{ref.New(1), 1000}
	var memory *MemoryError
	if _, err := p.Render(t.Context(), r, Events{}); !errors.As(err, &memory) || memory.Device != "second" {
		t.Errorf("with 1000 bytes there: %v", err)
	}
	p.device.Second.Backend = &fewBytes{ref.New(1), 1000}
	if _, err := p.Render(t.Context(), r, Events{}); err == nil || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("a second device without room: %v", err)
	}
	one := 1
	var usage *UsageError
	processor := &Pipeline{device: &stage.Device{Backend: ofKind{ref.New(1), CPU}}}
	if err := processor.openSecond(Options{Second: &one}); !errors.As(err, &usage) {
		t.Errorf("on a processor: %v", err)
	}
	var said []string
	r.CFG = 1
	if _, err := pair(t, Options{Model: "testdata/models/sd1"}).Render(t.Context(), r, Events{Warn: func(s string) { said = append(said, s) }}); err != nil || !strings.Contains(strings.Join(said, ""), "--parallel cfg") {
		t.Errorf("without guidance: %v, %q", err, said)
	}
}
