//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/kernels"
	"darkroom/tensor"
)

// runLinear runs one layer of 200 rows on the backend.
func runLinear(t *testing.T, b *Backend) {
	t.Helper()
	g := kernels.NewGraph(tensor.F16)
	w := kernels.NewWeight("w", kernels.Matrix, tensor.Tensor{DType: tensor.F16, Shape: tensor.Shape{128, 64}, Data: make([]byte, 2*128*64)})
	g.Output("y", g.Add("", &kernels.Linear{In: g.Input("x", tensor.F16, 1, 200, 64), W: w}))
	p, err := g.Compile(b)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Unload(w)
	defer p.Close()
	if err := p.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func tuned(t *testing.T, path string) *Backend {
	t.Helper()
	b := open(t, Options{DType: tensor.F16})
	b.tuner = newTuner(path)
	return b
}

// A shape's tile is measured when it is first met, and kept.
func TestTuner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tiles.json")
	b := tuned(t, path)
	runLinear(t, b)
	for _, want := range b.choices() {
		if _, ok := b.loaded["gemm_mma_f16_"+want.name]; !ok {
			t.Errorf("tile %s was not tried", want.name)
		}
	}
	kept := readChoices(path)
	if len(kept) != 1 {
		t.Fatalf("the file holds %v, not one shape", kept)
	}
	// A later process takes what it finds there, whatever it is, and measures nothing.
	for shape := range kept {
		for _, want := range b.choices() {
			body, _ := json.Marshal(choices{Tiles: map[string]string{shape: want.name}})
			write(t, path, string(body))
			b := tuned(t, path)
			runLinear(t, b)
			for _, other := range b.choices() {
				if _, loaded := b.loaded["gemm_mma_f16_"+other.name]; loaded != (other.name == want.name) {
					t.Errorf("with %s in the file, %s was loaded: %v", want.name, other.name, loaded)
				}
			}
		}
	}
}

// While a graph is recorded nothing is measured, nor when the time for it is spent.
func TestTunerModel(t *testing.T) {
	for _, change := range []func(b *Backend){func(b *Backend) { b.recording = true }, func(b *Backend) { b.tuner.left = 0 }} {
		b := tuned(t, "")
		change(b)
		runLinear(t, b)
		if len(b.loaded) != 1 || len(b.tuner.chosen) != 0 {
			t.Errorf("%d kernels were loaded, %d choices made", len(b.loaded), len(b.tuner.chosen))
		}
	}
}

// Files that are damaged, hostile or no files are passed over, and a good one takes their place.
func TestTunerFile(t *testing.T) {
	for name, body := range map[string]string{
		"empty": "", "cut": `{"Tiles":{"f16`, "another type": `{"Tiles":[1,2]}`, "an unknown tile": `{"Tiles":{"x":"1x1"}}`,
		"binary": "\x00\xff\xfe", "deep": strings.Repeat("[", 1<<19), "large": `{"Tiles":{"x":"` + strings.Repeat("y", 2<<20) + `"}}`,
	} {
		path := filepath.Join(t.TempDir(), "tiles.json")
		write(t, path, body)
		if c := newTuner(path).chosen; len(c) != 0 {
			t.Errorf("%s: read as %d choices", name, len(c))
		}
		b := newTuner(path)
		b.chosen["shape"], b.dirty = families[0].name, true
		b.save(Device{})
		if got := newTuner(path).chosen["shape"]; got != families[0].name {
			t.Errorf("%s: then a choice was written and read as %q", name, got)
		}
	}
	folder := t.TempDir()
	if c := newTuner(folder).chosen; len(c) != 0 {
		t.Error("a folder was read")
	}
}
