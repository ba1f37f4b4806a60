package checkpoint

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"darkroom/tensor"
)

// Files of many kinds, by the names that their libraries give.
func TestKinds(t *testing.T) {
	f, err := os.Open("testdata/kinds.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]struct {
		Kind   Kind
		Family string
		Arrays map[string]tensor.Shape
	}
	if err := json.NewDecoder(z).Decode(&all); err != nil {
		t.Fatal(err)
	}
	if len(all) < 39 {
		t.Errorf("only %d kinds", len(all))
	}
	for name, want := range all {
		d := Describe(shaped(name, want.Arrays))
		if d.Kind != want.Kind || d.Family != want.Family || d.What == "" {
			t.Errorf("%s: %+v, want %s of %q", name, d, want.Kind, want.Family)
		}
		if runs(want.Family) { // models, if all of them is there
			continue
		}
		if _, err := NewSingle(shaped(name, want.Arrays), SingleOptions{}); err == nil || !strings.Contains(err.Error(), d.What) {
			t.Errorf("%s as a model: %v, want %q", name, err, d.What)
		}
	}
	for name, s := range readStructures(t) {
		if d := Describe(shaped(name, s.File)); d.Kind != KindModel || !strings.Contains(d.Hint, "--model") {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// What a refusal says is what the reader needs: what it is, and where it goes.
func TestWrongKind(t *testing.T) {
	s, err := OpenSource("testdata/adapters/kohya-sdxl.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = NewSingle(s, SingleOptions{})
	if want := "this is a LoRA for SDXL: give it with --lora"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

func TestAdapterFacts(t *testing.T) {
	for file, want := range map[string]AdapterFacts{
		"kohya-sd1":   {Algorithm: "LoRA", Layers: 9, TextLayers: 1, Convolutions: 4, MinRank: 2, MaxRank: 2},
		"kohya-sdxl":  {Algorithm: "LoRA", Family: "SDXL", Layers: 8, TextLayers: 2, Convolutions: 2, MinRank: 2, MaxRank: 2},
		"loha":        {Algorithm: "LoHa", Layers: 2, MinRank: 2, MaxRank: 2},
		"lokr-both":   {Algorithm: "LoKr", Layers: 2, MinRank: 2, MaxRank: 2},
		"dora-rows":   {Algorithm: "LoRA with weight decomposition (DoRA)", Layers: 2, Convolutions: 1, MinRank: 2, MaxRank: 2},
		"full":        {Algorithm: "full difference", Layers: 3},
		"ia3":         {Algorithm: "IA³", Layers: 2},
		"peft-dora":   {Algorithm: "LoRA with weight decomposition (DoRA)", Layers: 24, Convolutions: 12, MinRank: 2, MaxRank: 2},
		"lora-tucker": {Algorithm: "LoRA", Layers: 1, MinRank: 2, MaxRank: 2},
	} {
		s, err := OpenSource(filepath.Join("testdata/adapters", file+".safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		f := AdapterFactsOf(s)
		s.Close()
		f.FamilyWhy = ""
		if f.Algorithm != want.Algorithm || f.Family != want.Family || f.Layers != want.Layers || f.TextLayers != want.TextLayers ||
			f.Convolutions != want.Convolutions || f.MinRank != want.MinRank || f.MaxRank != want.MaxRank {
			t.Errorf("%s: %+v, want %+v", file, f, want)
		}
	}
}

func TestTriggers(t *testing.T) {
	for _, c := range []struct {
		meta map[string]string
		want []string
	}{
		{map[string]string{"ss_tag_frequency": `{"10_paint":{"old paint":40," a jug":12},"5_more":{"a jug":30,"sky":1}}`}, []string{"a jug", "old paint", "sky"}},
		{map[string]string{"modelspec.trigger_phrase": "old paint, thick ", "ss_tag_frequency": `{"a":{"b":1}}`}, []string{"old paint", "thick"}},
		{map[string]string{"ss_tag_frequency": `{"a":`}, nil},
		{nil, nil},
	} {
		if got := triggers(c.meta); !slices.Equal(got, c.want) {
			t.Errorf("%v gives %q, want %q", c.meta, got, c.want)
		}
	}
}

// All formats of textual inversions, as torch and safetensors hold them.
func TestEmbeddings(t *testing.T) {
	f := func(n, d int) tensor.Array {
		v := make([]float32, n*d)
		for i := range v {
			v[i] = float32(i)
		}
		return placed{tensor.Of(v, n, d), false}
	}
	flat := placed{tensor.Of(make([]float32, 768), 768), false}
	for name, c := range map[string]struct {
		arrays  table
		vectors int
		family  string
	}{
		"a.pt":          {table{"string_to_param.*": f(2, 768)}, 2, "Stable Diffusion 1"},
		"token.bin":     {table{"<old-paint>": flat}, 1, "Stable Diffusion 1"},
		"b.safetensors": {table{"emb_params": f(3, 1024)}, 3, "Stable Diffusion 2"},
		"c.safetensors": {table{"clip_l": f(4, 768), "clip_g": f(4, 1280)}, 4, "SDXL"},
		"g.safetensors": {table{"clip_g": f(4, 1280)}, 4, "SDXL"},
		"list.pt":       {table{"0.string_to_param.*": f(5, 768)}, 5, "Stable Diffusion 1"},
		"first.pt":      {table{"string_to_param.*": f(1, 768), "string_to_token.*": placed{tensor.Of([]float32{265}), false}}, 1, "Stable Diffusion 1"},
	} {
		s := &Source{name: "dir/" + name, contents: contents{format: "torch zip", arrays: c.arrays}}
		e, err := ReadEmbedding(s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if e.Vectors() != c.vectors || e.Family() != c.family || e.Token+filepath.Ext(name) != name {
			t.Errorf("%s: %d vectors of %q for %s", name, e.Vectors(), e.Token, e.Family())
		}
	}
	for name, arrays := range map[string]table{
		"weights":  {"a.weight": f(2, 768)},
		"two":      {"a": f(2, 768), "b": f(2, 768)},
		"disagree": {"clip_l": f(2, 768), "clip_g": f(3, 1280)},
		"3 axes":   {"a": shapedArray{shapeOnly{tensor.Shape{1, 2, 3}}}},
		"long":     {"a": shapedArray{shapeOnly{tensor.Shape{1 << 20, 768}}}},
	} {
		if e, err := ReadEmbedding(&Source{name: name, contents: contents{format: "safetensors", arrays: arrays}}); err == nil {
			t.Errorf("%s is taken: %+v", name, e)
		}
	}
	s, err := OpenSource("testdata/torch/embedding.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if e, err := ReadEmbedding(s); err != nil || e.Note != "old paint" || e.Token != "embedding" || e.Vectors() != 1 {
		t.Errorf("%+v, %v", e, err)
	}
}

// An extended table has its own rows first, then each embedding's.
func TestExtended(t *testing.T) {
	base := table{"t": placed{tensor.Of([]float32{1, 2, 3, 4}, 2, 2), false}, "other": placed{tensor.Of([]float32{9}, 1), false}}
	w, err := Extended(base, "t", placed{tensor.Of([]float32{5, 6}, 1, 2), false}, placed{tensor.Of([]float32{7, 8, 9, 10}, 2, 2), false})
	if err != nil {
		t.Fatal(err)
	}
	a, _ := w.Array("t")
	if !a.Shape().Equal(tensor.Shape{5, 2}) {
		t.Errorf("shape %v", a.Shape())
	}
	for start := range 10 {
		for n := 1; start+n <= 10; n++ {
			got := make([]float32, n)
			if err := a.Decode(got, start); err != nil {
				t.Fatal(err)
			}
			for i, v := range got {
				if v != float32(start+i+1) {
					t.Fatalf("from %d: %v", start, got)
				}
			}
		}
	}
	if o, ok := w.Array("other"); !ok || o.Shape().Len() != 1 {
		t.Error("the other array is gone")
	}
	if _, err := Extended(base, "t", placed{tensor.Of([]float32{1, 2, 3}, 1, 3), false}); err == nil {
		t.Error("another width is taken")
	}
}
