package render

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"darkroom/pipeline"
)

// The pictures of a count are denoised in step with each other, which is in the same runs of the U-Net, and each has the
// bits that it has alone.
func TestTogetherAsAlone(t *testing.T) {
	m, err := Open(func() (*pipeline.Pipeline, error) {
		return pipeline.Open(pipeline.Options{Model: "../pipeline/testdata/models/zsnr"})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p := m.Pipeline()
	request := func(i int) pipeline.Request {
		r := p.NewRequest("a red apple")
		r.Seed, r.Steps, r.CFG = 5+uint64(i), 4, 3
		return r
	}
	const n = 3
	var mu sync.Mutex
	var steps []string
	pictures := map[int]*pipeline.Image{}
	o := Options[int]{
		Source: Count(n), Devices: []Device[int]{Of(m, request)},
		Events: func(i int, _ string) pipeline.Events {
			return pipeline.Events{Step: func(step int) {
				mu.Lock()
				defer mu.Unlock()
				steps = append(steps, fmt.Sprint(step))
			}}
		},
		Made:   func(try Try[int], img *pipeline.Image) { pictures[try.Item] = img },
		Failed: func(try Try[int], err error) { t.Errorf("picture %d: %v", try.Item, err) },
	}
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(steps); got != "[1 1 1 2 2 2 3 3 3 4 4 4]" {
		t.Errorf("the pictures were not in step: %s", got)
	}
	for i := range n {
		alone, err := p.Render(t.Context(), request(i), pipeline.Events{})
		if err != nil {
			t.Fatal(err)
		}
		if pictures[i] == nil || !bytes.Equal(alone.Pixels.Pix, pictures[i].Pixels.Pix) || alone.Recipe.Result != pictures[i].Recipe.Result {
			t.Errorf("picture %d differs from the one that is made alone", i)
		}
	}
}

// After a panic the model is opened again; a model that cannot be is an error of each picture that follows.
func TestReopen(t *testing.T) {
	opened := 0
	m, err := Open(func() (*pipeline.Pipeline, error) {
		if opened++; opened > 2 {
			return nil, fmt.Errorf("the disk is gone")
		}
		return pipeline.Open(pipeline.Options{Model: "../pipeline/testdata/models/zsnr"})
	})
	if err != nil {
		t.Fatal(err)
	}
	r := m.Pipeline().NewRequest("x")
	r.Steps = 1
	render := func(bug bool) (err error) {
		events := pipeline.Events{Step: func(int) {
			if bug {
				panic("a bug")
			}
		}}
		m.RenderBatch(t.Context(), []pipeline.Request{r}, func(int) pipeline.Events { return events }, func(_ int, _ *pipeline.Image, e error) { err = e })
		return err
	}
	for round, c := range []struct {
		bug    bool
		opened int
		want   string
	}{{false, 1, ""}, {true, 2, "a bug"}, {false, 2, ""}, {true, 3, "a bug"}, {false, 3, "the disk is gone"}} {
		err := render(c.bug)
		if opened != c.opened || (err == nil) != (c.want == "") || err != nil && !bytes.Contains([]byte(err.Error()), []byte(c.want)) {
			t.Errorf("round %d: opened %d times, %v", round, opened, err)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
