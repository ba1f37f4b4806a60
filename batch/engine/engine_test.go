package engine

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"darkroom/batch/jobs"
	"darkroom/pipeline"
	"darkroom/recipe"

	"github.com/google/go-cmp/cmp"
)

func request(seed uint64) *jobs.Request {
	return &jobs.Request{Given: recipe.NewGiven(map[string]any{"prompt": "a red apple", "seed": seed, "steps": 2, "width": 64, "height": 64})}
}

// TestPureFunction: an image has the same bytes alone, in another order, and after others of another size, prompt and
// sampler.
func TestPureFunction(t *testing.T) {
	render := func(e *Engine, q *jobs.Request) []byte {
		img, err := e.Render(t.Context(), q, pipeline.Events{})
		if err != nil {
			t.Fatal(err)
		}
		data, err := Encode(q, img)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	other := request(9)
	other.Prompt, other.Width, other.Scheduler, other.Steps = "two dogs", 32, "euler-a", 3
	alone := New(Options{})
	want := render(alone, request(1))
	alone.Close()

	e := New(Options{})
	defer e.Close()
	render(e, request(2))
	render(e, other)
	if !bytes.Equal(render(e, request(1)), want) {
		t.Error("the image depends on what was rendered before")
	}
	if bytes.Equal(render(e, request(2)), want) {
		t.Error("two seeds give one image")
	}
}

// TestBatch: several requests at once give the files that they give alone; a model that a bug has broken is closed, and
// the next request opens it anew.
func TestBatch(t *testing.T) {
	opened := 0
	e := New(Options{OnModel: func(_ string, open bool) {
		if open {
			opened++
		}
	}})
	defer e.Close()
	all := []*jobs.Request{request(1), request(2), request(3)}
	all[1].Prompt, all[2].Scheduler = "two dogs", "euler-a"
	if n := e.BatchSize(all[0], 0); n < 2 {
		t.Errorf("%d pictures of 64×64 are rendered at once", n)
	}
	var got [][]byte
	e.RenderBatch(t.Context(), all, nil, func(i int, img *pipeline.Image, err error) {
		if err != nil {
			t.Fatal(err)
		}
		data, err := Encode(all[i], img)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, data)
	})
	for i, q := range all {
		img, err := e.Render(t.Context(), q, pipeline.Events{})
		if err != nil {
			t.Fatal(err)
		}
		if data, err := Encode(q, img); err != nil || !bytes.Equal(data, got[i]) {
			t.Errorf("request %d differs from alone, %v", i, err)
		}
	}
	failed := 0
	e.RenderBatch(t.Context(), all, func(i int) pipeline.Events {
		return pipeline.Events{Step: func(int) {
			if i == 1 {
				panic("a bug")
			}
		}}
	}, func(_ int, _ *pipeline.Image, err error) {
		if err != nil {
			failed++
		}
	})
	if failed != 1 || opened != 1 {
		t.Errorf("%d failed, the model was opened %d times", failed, opened)
	}
	if _, err := e.Render(t.Context(), request(1), pipeline.Events{}); err != nil || opened != 2 {
		t.Errorf("%v; the model was opened %d times", err, opened)
	}
}

func TestBadRequestFailsAlone(t *testing.T) {
	e := New(Options{})
	defer e.Close()
	bad := request(1)
	bad.Width = 63
	var usage *pipeline.UsageError
	if _, err := e.Render(t.Context(), bad, pipeline.Events{}); !errors.As(err, &usage) {
		t.Errorf("a width of 63 gives %v", err)
	}
	_, err := e.Render(t.Context(), request(1), pipeline.Events{Step: func(int) { panic("a bug") }})
	if err == nil || !strings.HasPrefix(err.Error(), "rendering crashed: a bug\n") {
		t.Errorf("a panic gives %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Render(ctx, request(1), pipeline.Events{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := e.Render(t.Context(), request(1), pipeline.Events{}); err != nil {
		t.Errorf("after these: %v", err)
	}
}

// TestBudget: the model that was not used for longest is closed when the memory is needed.
func TestBudget(t *testing.T) {
	var log []string
	o := Options{
		Resolve: func(name string) (string, error) {
			if name == "secret" {
				return "", errors.New("no such model")
			}
			return "", nil // every name is the embedded model
		},
		OnModel: func(_ string, opened bool) { log = append(log, map[bool]string{true: "open", false: "close"}[opened]) },
	}
	q := func(backend string) *jobs.Request { r := request(1); r.Backend = backend; return r }
	e := New(o) // room for both
	for _, b := range []string{"ref", "cpu", "ref", "cpu"} {
		if _, err := e.ModelHash(q(b)); err != nil {
			t.Skip(err) // a build without the cpu backend
		}
	}
	e.Close()
	if d := cmp.Diff([]string{"open", "open"}, log); d != "" {
		t.Error(d)
	}
	log = nil
	o.Budget = 1 // room for none: one is kept
	e = New(o)
	for _, b := range []string{"ref", "ref", "cpu", "ref"} {
		e.ModelHash(q(b))
	}
	e.Close()
	if d := cmp.Diff([]string{"open", "close", "open", "close", "open"}, log); d != "" {
		t.Error(d)
	}
	secret := request(1)
	secret.Model = "secret"
	if _, err := New(o).Render(t.Context(), secret, pipeline.Events{}); err == nil || err.Error() != "no such model" {
		t.Error(err)
	}
}
