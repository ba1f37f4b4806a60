package checkpoint

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"darkroom/tensor"
)

// openParts are the parts of a small model of testdata/single.
func openParts(t testing.TB, name string) map[string]Weights {
	t.Helper()
	s, err := OpenSource(filepath.Join("testdata/single", name+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	m, err := NewSingle(s, SingleOptions{})
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]Weights{}
	for _, p := range m.Parts {
		parts[p], _ = m.Weights(p)
	}
	return parts
}

func openAdapter(t testing.TB, path string) *Adapter {
	t.Helper()
	s, err := OpenSource(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	a, err := ReadAdapter(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Every kind of adapter makes the weights that were merged by hand in float64.
func TestAdapters(t *testing.T) {
	text, err := os.ReadFile("testdata/adapters/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]struct {
		Model      string
		Weight     float64
		TextWeight float64 `json:"text_weight"`
		Arrays     []string
		Unmatched  []string
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) < 24 {
		t.Errorf("only %d adapters", len(all))
	}
	models := map[string]map[string]Weights{"sd1": openParts(t, "sd1"), "sdxl": openParts(t, "sdxl")}
	for name, want := range all {
		t.Run(name, func(t *testing.T) {
			a := openAdapter(t, filepath.Join("testdata/adapters", name+".safetensors"))
			parts := models[want.Model]
			m, err := a.Match(parts)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(m.Unmatched, want.Unmatched) {
				t.Errorf("unmatched %v, want %v", m.Unmatched, want.Unmatched)
			}
			if m.Count() != len(want.Arrays) {
				t.Errorf("%d arrays change, want %d", m.Count(), len(want.Arrays))
			}
			merged, err := OpenSource(filepath.Join("testdata/adapters", name+".merged.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer merged.Close()
			for _, full := range want.Arrays {
				part, array, _ := strings.Cut(full, ".")
				if !slices.Contains(m.Touched(part), array) {
					t.Errorf("%s is not touched", full)
				}
				w := Patched(parts[part], part, Use{m, want.Weight, want.TextWeight})
				got, _ := w.Array(array)
				expect, _ := merged.Array(full)
				if _, plain := got.Plain(); plain {
					t.Errorf("%s is plain", full)
				}
				compareValues(t, full, got, expect)
				got.Release()
			}
		})
	}
}

// compareValues allows for float32: a few ulp of the largest, since sums run over at most some tens of products.
func compareValues(t *testing.T, name string, got, want tensor.Array) {
	t.Helper()
	n := want.Shape().Len()
	a, b := make([]float32, n), make([]float32, n)
	if got.Shape().Len() != n {
		t.Errorf("%s is %v, want %v", name, got.Shape(), want.Shape())
		return
	}
	for _, part := range [][2]int{{0, n / 3}, {n / 3, n}} {
		if err := got.Decode(a[part[0]:part[1]], part[0]); err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
	}
	if err := want.Decode(b, 0); err != nil {
		t.Fatal(err)
	}
	var most float64
	for _, v := range b {
		most = max(most, math.Abs(float64(v)))
	}
	for i := range a {
		if math.Abs(float64(a[i]-b[i])) > 4*most/(1<<23) {
			t.Errorf("%s[%d] = %v, merged by hand it is %v", name, i, a[i], b[i])
			return
		}
	}
}

// Several adapters add up, in any order; what none touches stays as it is stored.
func TestAdaptersTogether(t *testing.T) {
	parts := openParts(t, "sd1")
	var uses []Use
	for _, name := range []string{"kohya-sd1", "loha", "peft"} {
		m, err := openAdapter(t, filepath.Join("testdata/adapters", name+".safetensors")).Match(parts)
		if err != nil {
			t.Fatal(err)
		}
		uses = append(uses, Use{m, 0.5, 0.25})
	}
	const name = "down_blocks.0.resnets.1.conv1.weight"
	base, _ := parts["unet"].Array(name)
	n := base.Shape().Len()
	sum, one := make([]float32, n), make([]float32, n)
	if err := base.Decode(sum, 0); err != nil {
		t.Fatal(err)
	}
	plain := slices.Clone(sum)
	for _, u := range uses {
		a, _ := Patched(parts["unet"], "unet", u).Array(name)
		if err := a.Decode(one, 0); err != nil {
			t.Fatal(err)
		}
		for i, v := range one {
			sum[i] += v - plain[i]
		}
	}
	all, _ := Patched(parts["unet"], "unet", uses...).Array(name)
	compareValues(t, name, all, placed{tensor.Of(sum, base.Shape()...), false})

	w := Patched(parts["vae"], "vae", uses...)
	a, ok := w.Array("decoder.conv_in.weight")
	if _, plain := a.Plain(); !ok || !plain {
		t.Error("an array that nothing touches is not what it was")
	}
	none, _ := Patched(parts["unet"], "unet", Use{uses[0].Matched, 0, 1}).Array(name)
	if _, plain := none.Plain(); !plain {
		t.Error("a weight of 0 changes something")
	}
}

// An adapter for another family is an error that says so, not a crash and not silence.
func TestAdapterOfAnotherFamily(t *testing.T) {
	structures := readStructures(t)
	lora := func(modules map[string][2]int) *Source {
		shapes := map[string]tensor.Shape{}
		for name, size := range modules {
			shapes[name+".lora_down.weight"], shapes[name+".lora_up.weight"] = tensor.Shape{4, size[0]}, tensor.Shape{size[1], 4}
		}
		return shaped("lora", shapes)
	}
	sd1 := lora(map[string][2]int{
		"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k": {768, 640},
		"lora_te_text_model_encoder_layers_0_mlp_fc1":                          {768, 3072}, // fits SDXL's first encoder
	})
	sdxl := lora(map[string][2]int{
		"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k": {2048, 640},
		"lora_te1_text_model_encoder_layers_0_mlp_fc1":               {768, 3072},
		"lora_te2_text_model_encoder_layers_0_mlp_fc1":               {1280, 5120},
	})
	for _, c := range []struct {
		lora  *Source
		model string
		want  []string // of the error; nil: it fits
	}{
		{sd1, "sd15", nil}, {sdxl, "sdxl", nil},
		{sd1, "sdxl", []string{"a LoRA for Stable Diffusion 1", "640×768", "640×2048", "another family"}},
		{sdxl, "sd15", []string{"a LoRA for SDXL", "another family"}},
		{sdxl, "ssd-1b", nil}, // SDXL's widths, fewer blocks
	} {
		m, err := NewSingle(shaped(c.model, structures[c.model].File), SingleOptions{})
		if err != nil {
			t.Fatal(err)
		}
		parts := map[string]Weights{}
		for _, p := range m.Parts {
			parts[p], _ = m.Weights(p)
		}
		a, err := ReadAdapter(c.lora)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Match(parts)
		if (err == nil) != (c.want == nil) {
			t.Errorf("on %s: %v", c.model, err)
		}
		for _, w := range c.want {
			if err != nil && !strings.Contains(err.Error(), w) {
				t.Errorf("on %s: %v, want %q", c.model, err, w)
			}
		}
	}
	s, err := OpenSource("testdata/single/sd1.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := ReadAdapter(s); err == nil || !strings.Contains(err.Error(), "--model") {
		t.Errorf("a model as an adapter: %v", err)
	}
}

// Halves and contradictions are refused with the module's name.
func TestAdapterDamaged(t *testing.T) {
	parts := openParts(t, "sd1")
	const module = "lora_unet_conv_in"
	f := func(shape ...int) tensor.Array { return shapedArray{shapeOnly{shape}} }
	for name, arrays := range map[string]map[string]tensor.Array{
		"half":         {".lora_down.weight": f(2, 4, 3, 3)},
		"ranks":        {".lora_down.weight": f(2, 4, 3, 3), ".lora_up.weight": f(4, 3, 1, 1)},
		"other shape":  {".lora_down.weight": f(2, 5, 3, 3), ".lora_up.weight": f(4, 2, 1, 1)},
		"empty":        {".lora_down.weight": f(0, 4), ".lora_up.weight": f(4, 0)},
		"scalars":      {".lora_down.weight": f(), ".lora_up.weight": f()},
		"LoHa half":    {".hada_w1_a": f(4, 2), ".hada_w1_b": f(2, 36)},
		"LoHa core":    {".hada_w1_a": f(2, 4), ".hada_w1_b": f(2, 4), ".hada_w2_a": f(2, 4), ".hada_w2_b": f(2, 4), ".hada_t1": f(3, 2, 3, 3), ".hada_t2": f(2, 2, 3, 3)},
		"LoKr half":    {".lokr_w1": f(2, 2)},
		"LoKr zero":    {".lokr_w1": f(0, 2), ".lokr_w2": f(2, 18)},
		"core of 2":    {".lora_down.weight": f(2, 4), ".lora_up.weight": f(4, 2), ".lora_mid.weight": f(2, 2)},
		"diff":         {".diff": f(3)},
		"bias":         {".diff_b": f(5)},
		"OFT":          {".oft_blocks": f(2, 2, 2)},
		"IA3":          {".on_input": f(), ".weight": f(7)},
		"IA3 half":     {".on_input": f()},
		"DoRA of two":  {".dora_scale": f(2)},
		"only alpha":   {".alpha": f()},
		"magnitude by": {".lora_magnitude_vector": f(9)},
	} {
		shapes := map[string]tensor.Shape{}
		for suffix, a := range arrays {
			shapes[module+suffix] = a.Shape()
		}
		a, err := ReadAdapter(shaped("damaged", shapes))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m, err := a.Match(parts); err == nil {
			t.Errorf("%s is taken: %v", name, m.Touched("unet"))
		} else if !strings.Contains(err.Error(), module) {
			t.Errorf("%s: %v does not name the module", name, err)
		}
	}
}

// FuzzAdapter gives an adapter of any shapes to a model.
func FuzzAdapter(f *testing.F) {
	parts := openParts(f, "sd1")
	for i := range adapterSuffixes {
		f.Add(uint8(i), uint8(i+1), uint8(i+2), uint8(i+3), []byte{4, 2, 2, 4, 3, 3, 2, 2, 36})
	}
	f.Fuzz(func(t *testing.T, p1, p2, p3, p4 uint8, dims []byte) {
		arrays := map[string]tensor.Shape{}
		for i, p := range []uint8{p1, p2, p3, p4} {
			var s tensor.Shape
			for j := range int(p) % 5 {
				if k := i*4 + j; k < len(dims) {
					s = append(s, int(dims[k])%40)
				}
			}
			arrays["lora_unet_conv_in"+adapterSuffixes[int(p)%len(adapterSuffixes)].suffix] = s
		}
		a, err := ReadAdapter(shaped("fuzz", arrays))
		if err != nil {
			return
		}
		m, err := a.Match(parts)
		if err != nil {
			return
		}
		for _, name := range m.Touched("unet") {
			w, _ := Patched(parts["unet"], "unet", Use{m, 1, 1}).Array(name)
			_ = w.Decode(make([]float32, w.Shape().Len()), 0)
		}
	})
}
