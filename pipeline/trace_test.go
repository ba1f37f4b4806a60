package pipeline

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"darkroom/kernels"
)

// DARKROOM_TRACE writes every operation of every part, in a format that browsers read; the picture is the same.
func TestTrace(t *testing.T) {
	plain := open(t, Options{Model: "testdata/models/sd1"})
	r := plain.NewRequest("a cat")
	r.Steps, r.Width, r.Height = 2, 32, 32
	want := render(t, plain, r).Recipe.Result

	file := filepath.Join(t.TempDir(), "trace.json")
	t.Setenv("DARKROOM_TRACE", file)
	p, err := Open(Options{Model: "testdata/models/sd1"})
	if err != nil {
		t.Fatal(err)
	}
	got := render(t, p, r).Recipe.Result
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Error("a traced picture is another one")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var events []struct {
		Name, Ph string
		Ts, Dur  float64
		Tid      int
		Args     map[string]any
	}
	if err := json.Unmarshal(text, &events); err != nil {
		t.Fatal(err)
	}
	rows, ops := map[int]string{}, map[string]int{}
	for _, e := range events {
		switch e.Ph {
		case "M":
			rows[e.Tid] = e.Args["name"].(string)
		case "X":
			ops[rows[e.Tid]]++
			if e.Dur <= 0 {
				t.Errorf("%s took %v", e.Name, e.Dur)
			}
		}
	}
	unet := p.model.Denoiser.Part()
	steps := 0
	unet.Graph(unet.Sizes(32, 32, 2, false)).Ops(func(string, kernels.Op, *kernels.Tensor) { steps++ })
	// Two steps of the U-Net; two prompts and one decode, which are runs of their own.
	if ops["unet"] != 2*steps || ops["runs"] != 5 || ops["text_encoder"] == 0 || ops["vae"] == 0 {
		t.Errorf("%v; the U-Net has %d operations", ops, steps)
	}
}
