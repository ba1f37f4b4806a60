package pipeline

import (
	"encoding/json"
	"testing"

	"darkroom/recipe"
)

// TestRequestJSON: compare names pictures by the hash of a request's JSON, so that a folder begun by an earlier version
// goes on. What is new must be left out where it is not given.
func TestRequestJSON(t *testing.T) {
	r := Request{recipe.Settings{Prompt: "a", Syntax: "weighted", Noise: "torch-cpu", Width: 64, Height: 32, Steps: 3, Scheduler: "ddim", CFG: 7.5}}
	text, err := json.Marshal(r)
	want := `{"Prompt":"a","Negative":"","Syntax":"weighted","ClipSkip":0,"Seed":0,"Noise":"torch-cpu","Width":64,"Height":32,"Steps":3,"Scheduler":"ddim","Sigmas":"","Eta":null,"CFG":7.5,"Rescale":0,"Tiled":false}`
	if err != nil || string(text) != want {
		t.Errorf("got  %s\nwant %s (%v)", text, want, err)
	}
}
