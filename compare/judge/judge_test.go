package judge

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"darkroom/checkpoint"
	"darkroom/compare/internal/golden"
	"darkroom/kernels"
	"darkroom/kernels/ref"
)

// goldens is testdata/goldens.json, made by train/goldens_judge.py with transformers and torch.
type goldens struct {
	CLIP struct {
		Pictures []struct {
			Picture    string
			Pixels     []float32 // after preprocessing
			Features   []float64
			Preference float64
		}
		Texts []struct {
			Prompt    string
			Agreement []float64
		}
	}
	Classifier struct {
		Features []float64
		Nouns    map[string]float64
	}
}

func onDisk(name string) Source {
	return Source{Dir: "testdata/" + name, FS: os.DirFS("testdata/" + name), Label: name}
}

var options = Options{Backend: func() (kernels.Backend, error) { return ref.New(1), nil }}

func open(t *testing.T, s Source) Judge {
	t.Helper()
	j, err := Open(s, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// near compares arrays by the largest difference as a share of the largest value.
func near(t *testing.T, what string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	var worst, largest float64
	for i, w := range want {
		worst, largest = max(worst, math.Abs(float64(got[i])-w)), max(largest, math.Abs(w))
	}
	if !(worst <= tolerance*largest) {
		t.Errorf("%s: off by %.3g of %.3g, want %.0e", what, worst, largest, tolerance)
	}
}

func TestCLIP(t *testing.T) {
	g, ctx := golden.JSON[goldens](t).CLIP, context.Background()
	c := open(t, onDisk("clip")).(*CLIP)
	for i, p := range g.Pictures {
		picture := golden.PNG(t, p.Picture)
		if p.Pixels != nil {
			// Pillow rounds each pass of its bicubic filter to 8 bits with weights of 22 bits, imaging with others: two
			// grey values of 255, over the deviation of 0.26.
			for k, v := range c.model.Pixels(picture) {
				if d := math.Abs(float64(v - interleaved(p.Pixels)[k])); d > 2.01/255/0.26 {
					t.Errorf("%s: pixel %d is %v, want %v", p.Picture, k, v, interleaved(p.Pixels)[k])
					break
				}
			}
		}
		pixels := interleaved(p.Pixels)
		if pixels == nil {
			pixels = c.model.Pixels(picture) // of the right size: nothing is scaled
		}
		features, err := c.model.Picture(ctx, pixels)
		if err != nil {
			t.Fatal(err)
		}
		near(t, p.Picture, features, p.Features, 1e-5) // float32 sums of 147 terms, through two layers
		if score, ok := c.Preference(p.Features); !ok || math.Abs(score-p.Preference) > 1e-5 {
			t.Errorf("%s: preference %v, %v, want %v", p.Picture, score, ok, p.Preference)
		}
		for _, text := range g.Texts {
			score, ok, err := c.Agreement(ctx, p.Features, text.Prompt)
			if err != nil {
				t.Fatal(err)
			}
			if !ok || math.Abs(score-text.Agreement[i]) > 1e-3 { // of 100
				t.Errorf("%s and %.20q: agreement %v, want %v", p.Picture, text.Prompt, score, text.Agreement[i])
			}
		}
	}
}

// interleaved turns torch's [3,S,S] into [S,S,3].
func interleaved(chw []float32) (hwc []float32) {
	n := len(chw) / 3
	for i := range n {
		hwc = append(hwc, chw[i], chw[n+i], chw[2*n+i])
	}
	return hwc
}

func TestClassifier(t *testing.T) {
	g, ctx := golden.JSON[goldens](t).Classifier, context.Background()
	j := open(t, onDisk("classifier"))
	features, err := j.See(ctx, golden.PNG(t, "square"))
	if err != nil {
		t.Fatal(err)
	}
	near(t, "features", features, g.Features, 1e-5)
	for prompt, noun := range map[string]string{
		"An apple, on a table": "apple", "a red apple": "red apple", "the blue table": "blue table", "CAT": "cat", "a green-apple": "apple",
	} {
		score, ok, err := j.Agreement(ctx, g.Features, prompt)
		if err != nil || !ok || math.Abs(score-g.Nouns[noun]) > 1e-3 {
			t.Errorf("%q: %v, %v, %v; want the %v of %s", prompt, score, ok, err, g.Nouns[noun], noun)
		}
	}
	if _, ok, _ := j.Agreement(ctx, g.Features, "a catalogue of pineapples"); ok {
		t.Error("a noun was found inside another word")
	}
}

// altered is a judge's folder with a file changed; nil removes it.
func altered(t *testing.T, name, file string, change func(string) string) Source {
	t.Helper()
	files := fstest.MapFS{}
	dir := os.DirFS("testdata/" + name)
	err := fs.WalkDir(dir, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(dir, path)
		files[path] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if change == nil {
		delete(files, file)
	} else {
		files[file] = &fstest.MapFile{Data: []byte(change(string(files[file].Data)))}
	}
	return Source{FS: files, Label: "altered"}
}

// TestShards: weights in shards, found by their index, are the same judge; one that is missing is named.
func TestShards(t *testing.T) {
	whole, err := checkpoint.Open("testdata/clip/model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	s := altered(t, "clip", "model.safetensors", nil)
	files := s.FS.(fstest.MapFS)
	names := whole.Names()
	shardOf := map[string]string{}
	for i, part := range [][]string{names[:len(names)/2], names[len(names)/2:]} {
		shard := fmt.Sprintf("model-0000%d-of-00002.safetensors", i+1)
		header := map[string]any{}
		var body []byte
		for _, name := range part {
			w, _ := whole.Tensor(name)
			header[name] = map[string]any{"dtype": w.DType.String(), "shape": w.Shape, "data_offsets": []int{len(body), len(body) + len(w.Data)}}
			body = append(body, w.Data...)
			shardOf[name] = shard
		}
		text, err := json.Marshal(header)
		if err != nil {
			t.Fatal(err)
		}
		files[shard] = &fstest.MapFile{Data: append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), body...)}
	}
	index, err := json.Marshal(map[string]any{"weight_map": shardOf})
	if err != nil {
		t.Fatal(err)
	}
	files["model.safetensors.index.json"] = &fstest.MapFile{Data: index}

	picture := golden.PNG(t, "exact")
	want, err := open(t, onDisk("clip")).See(t.Context(), picture)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, s).See(t.Context(), picture); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	delete(files, "model-00002-of-00002.safetensors")
	if _, err := Open(s, options); err == nil || !strings.Contains(err.Error(), "shards are missing: model-00002-of-00002.safetensors") {
		t.Error(err)
	}
}

// A judge of the wrong shape says what is wrong.
func TestRefusals(t *testing.T) {
	replace := func(old, new string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, old) {
				t.Fatalf("there is no %q to replace", old)
			}
			return strings.Replace(s, old, new, 1)
		}
	}
	for _, c := range []struct {
		folder, file string
		change       func(string) string
		want         string
	}{
		{"clip", "config.json", nil, "no config.json"},
		{"clip", "config.json", func(string) string { return `{"model_type":"bert"}` }, `(model_type "bert") has neither a vision_config`},
		{"clip", "config.json", func(string) string { return `{` }, "config.json"},
		{"clip", "config.json", replace(`"patch_size": 7`, `"patch_size": 9`), "image_size is 28: it must be a multiple of patch_size 9"},
		{"clip", "config.json", replace(`"hidden_size": 24`, `"hidden_size": 48`), "config.json asks for 48×3×7×7"},
		{"clip", "config.json", replace(`"hidden_act": "gelu"`, `"hidden_act": "swish"`), "swish"},
		{"clip", "config.json", replace(`"num_hidden_layers": 2`, `"num_hidden_layers": 3`), "layers.2"},
		{"clip", "model.safetensors", nil, "none of diffusion_pytorch_model.safetensors, model.safetensors"},
		{"clip", "vocab.json", nil, "vocab"},
		{"clip", "head.safetensors", func(s string) string { return s[:20] }, "head"},
		{"classifier", "config.json", replace(`"kernel": 5`, `"kernel": 3`), "layers.0.weight"},
		{"classifier", "config.json", replace(`"noun"`, `"verb"`), `no "noun"`},
		{"classifier", "config.json", replace(`"in": 6`, `"in": 5`), "do not fit"},
		{"classifier", "config.json", replace(`"max"`, `"median"`), "mean and max"},
		{"classifier", "model.safetensors", nil, "has no weights: looked for diffusion_pytorch_model.safetensors, model.safetensors"},
	} {
		j, err := Open(altered(t, c.folder, c.file, c.change), options)
		if err == nil {
			j.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s: %v, want %q", c.folder, c.file, err, c.want)
		}
	}
	if _, err := Open(altered(t, "clip", "config.json", nil), options); !errors.Is(err, ErrNoJudge) {
		t.Errorf("%v is not ErrNoJudge", err)
	}
	// Without the text half, pictures are still seen.
	j := open(t, altered(t, "clip", "config.json", func(s string) string {
		return strings.Replace(s, `"text_config": {`, `"text_config": null, "was": {`, 1)
	}))
	f, err := j.See(context.Background(), golden.PNG(t, "exact"))
	if err != nil || len(f) != 12 {
		t.Errorf("without text: %d features, %v", len(f), err)
	}
	if _, ok, err := j.Agreement(context.Background(), golden.JSON[goldens](t).CLIP.Pictures[0].Features, "a cat"); ok || err != nil {
		t.Errorf("without text: an agreement (%v)", err)
	}
}

func FuzzOpen(f *testing.F) {
	for _, name := range []string{"clip", "classifier"} {
		config, err := os.ReadFile("testdata/" + name + "/config.json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(config)
	}
	f.Add([]byte(`{"layers":[{"in":3,"out":4096,"kernel":31,"stride":1}],"input":4096,"pool":["mean"],"heads":{"noun":["a"]}}`))
	f.Add([]byte(`{"vision_config":{"hidden_size":1048576,"num_hidden_layers":1048576}}`))
	weights := map[string][]byte{}
	for _, name := range []string{"clip", "classifier"} {
		data, err := os.ReadFile("testdata/" + name + "/model.safetensors")
		if err != nil {
			f.Fatal(err)
		}
		weights[name] = data
	}
	f.Fuzz(func(t *testing.T, config []byte) {
		for _, data := range weights { // a panic or an endless allocation fails; an error is right
			s := Source{FS: fstest.MapFS{"config.json": {Data: config}, "model.safetensors": {Data: data}}, Label: "fuzz"}
			if j, err := Open(s, options); err == nil {
				j.Close()
			}
		}
	})
}
