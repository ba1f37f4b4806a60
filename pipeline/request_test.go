package pipeline

import (
	"encoding/json"
	"testing"

	"darkroom/recipe"
)

// TestRequestJSON: compare names pictures by the hash of a request's JSON, so that a folder begun by an earlier version
// goes on. What is new must be left out where it is not given.
func TestRequestJSON(t *testing.T) {
	r := Request{Settings: recipe.Settings{Prompt: "a", Syntax: "weighted", Noise: "torch-cpu", Width: 64, Height: 32, Steps: 3, Scheduler: "ddim", CFG: 7.5}}
	text, err := json.Marshal(r)
	want := `{"Prompt":"a","Negative":"","Syntax":"weighted","ClipSkip":0,"Seed":0,"Noise":"torch-cpu","Width":64,"Height":32,"Steps":3,"Scheduler":"ddim","Sigmas":"","Eta":null,"CFG":7.5,"Rescale":0,"Tiled":false}`
	if err != nil || string(text) != want {
		t.Errorf("got  %s\nwant %s (%v)", text, want, err)
	}
}

// TestDistilledDefaults: with the sampler of a distilled model there is no guidance unless it is asked for; a U-Net that reads the scale
// keeps its own.
func TestDistilledDefaults(t *testing.T) {
	plain, reads := open(t, Options{Model: "testdata/sdxl/models/xl"}), open(t, Options{Model: "testdata/sdxl/models/xl-lcm"})
	for _, c := range []struct {
		p     *Pipeline
		given map[string]any
		cfg   float64
	}{
		{plain, map[string]any{"scheduler": "lcm", "steps": 4}, 1}, {plain, map[string]any{"scheduler": "tcd"}, 1}, {plain, map[string]any{"scheduler": "lcm", "cfg": 7.5}, 7.5},
		{plain, map[string]any{"scheduler": "euler"}, DefaultCFG}, {plain, map[string]any{"steps": 4}, DefaultCFG}, {reads, map[string]any{"scheduler": "lcm"}, DefaultCFG},
	} {
		r := c.p.NewRequest("a cat")
		g := recipe.NewGiven(c.given)
		if r.Give(&g); r.CFG != c.cfg {
			t.Errorf("%v: cfg %v, want %v", c.given, r.CFG, c.cfg)
		}
	}
}
