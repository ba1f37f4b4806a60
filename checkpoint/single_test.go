package checkpoint

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"darkroom/tensor"
)

// shapeOnly is an array of which only the shape matters; its elements are zero.
type shapeOnly struct{ tensor.Shape }

func (s shapeOnly) Bytes() int                        { return 4 * s.Len() }
func (s shapeOnly) Type() string                      { return "F32" }
func (s shapeOnly) Plain() (t tensor.Tensor, ok bool) { return t, false }
func (s shapeOnly) Release()                          {}
func (s shapeOnly) Decode(dst []float32, _ int) error {
	clear(dst)
	return nil
}

type shapedArray struct{ shapeOnly }

func (s shapedArray) Shape() tensor.Shape { return s.shapeOnly.Shape }

// structure is a model of real size by names and shapes, in one file and as diffusers' folders have it.
type structure struct {
	File   map[string]tensor.Shape
	Parts  map[string]map[string]tensor.Shape
	Config map[string]map[string]any
}

func readStructures(t *testing.T) map[string]structure {
	t.Helper()
	f, err := os.Open("testdata/single/structures.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]structure
	if err := json.NewDecoder(z).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// shaped is a file of arrays of those shapes.
func shaped(name string, arrays map[string]tensor.Shape) *Source {
	s := &Source{name: name, contents: contents{format: "safetensors", arrays: map[string]tensor.Array{}}}
	for n, shape := range arrays {
		s.arrays[n] = shapedArray{shapeOnly{shape}}
		s.names = append(s.names, n)
	}
	slices.Sort(s.names)
	return s
}

// Models of real size, whole and U-Net alone, have the arrays and the configurations of their folders.
func TestSingleStructures(t *testing.T) {
	families := map[string]Family{"sd15": SD1, "sd15-inpaint": SD1, "pix2pix": SD1, "tiny-sd": SD1, "sd21": SD2, "depth": SD2, "refiner": Refiner,
		"sdxl": SDXL, "sdxl-lcm": SDXL, "ssd-1b": SDXL, "vega": SDXL}
	classes := map[string]string{"sd15-inpaint": "StableDiffusionInpaintPipeline", "pix2pix": "StableDiffusionInstructPix2PixPipeline",
		"depth": "StableDiffusionDepth2ImgPipeline", "refiner": "StableDiffusionXLImg2ImgPipeline", "sdxl": "StableDiffusionXLPipeline", "sd21": "StableDiffusionPipeline"}
	all := readStructures(t)
	if len(all) != len(families) {
		t.Errorf("%d structures, %d families", len(all), len(families))
	}
	for name, want := range all {
		t.Run(name, func(t *testing.T) {
			m, err := NewSingle(shaped(name, want.File), SingleOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if m.Family != families[name] || len(m.Missing) > 0 || m.Layout != "LDM" || m.EMA {
				t.Errorf("family %s, missing %v, layout %s, EMA %v", m.Family, m.Missing, m.Layout, m.EMA)
			}
			if c := classes[name]; c != "" && m.Class != c {
				t.Errorf("class %s, want %s", m.Class, c)
			}
			if len(m.Parts) != len(want.Parts) {
				t.Errorf("parts %v, want %d", m.Parts, len(want.Parts))
			}
			for part, arrays := range want.Parts {
				compareShapes(t, part, m, arrays)
			}
			index, err := FromFS(m.files, name).Index()
			sampling, err2 := m.Config("scheduler")
			if err != nil || err2 != nil || index.Class != m.Class || index.Components["scheduler"].Class != sampling.String("_class_name") {
				t.Errorf("model_index.json %+v, %v, %v", index, err, err2)
			}
			if c := index.Components["scheduler"].Class; m.Family == SDXL && c != "EulerDiscreteScheduler" || m.Family == SD1 && c != "PNDMScheduler" {
				t.Errorf("the scheduler is %s", c)
			}
			switch name {
			case "refiner": // its first level has no transformers: how deep they would be has no effect
				want.Config["unet"]["transformer_layers_per_block"] = []any{1.0, 4.0, 4.0, 4.0}
			case "vega": // up as down, which goes without saying
				delete(want.Config["unet"], "reverse_transformer_layers_per_block")
			}
			compareConfig(t, "unet", m.files["unet/config.json"], want.Config["unet"])
			compareConfig(t, "vae", m.files["vae/config.json"], want.Config["vae"])

			// The U-Net alone, without a prefix, and under another.
			for _, prefix := range []string{"", "diffusion_model."} {
				alone := map[string]tensor.Shape{}
				for n, s := range want.File {
					if rest, ok := strings.CutPrefix(n, "model.diffusion_model."); ok {
						alone[prefix+rest] = s
					}
				}
				u, err := NewSingle(shaped(name, alone), SingleOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if u.Family != m.Family || !slices.Equal(u.Parts, []string{"unet"}) || len(u.Missing) != len(m.Family.parts())-1 {
					t.Errorf("alone: family %s, parts %v, missing %v", u.Family, u.Parts, u.Missing)
				}
				compareShapes(t, "unet", u, want.Parts["unet"])
			}
			// In diffusers' names.
			folder := map[string]tensor.Shape{}
			for part, arrays := range want.Parts {
				for n, s := range arrays {
					folder[part+"."+n] = s
				}
			}
			d, err := NewSingle(shaped(name, folder), SingleOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if d.Family != m.Family && name != "refiner" || d.Layout != "diffusers" || len(d.Parts) != len(want.Parts) {
				t.Errorf("in diffusers' names: family %s, parts %v", d.Family, d.Parts)
			}
			for part, arrays := range want.Parts {
				compareShapes(t, part, d, arrays)
			}
		})
	}
}

func compareShapes(t *testing.T, part string, m *Single, want map[string]tensor.Shape) {
	t.Helper()
	w, ok := m.Weights(part)
	if !ok {
		t.Errorf("%s is missing", part)
		return
	}
	bad := 0
	for name, shape := range want {
		if a, ok := w.Array(name); !ok || !a.Shape().Equal(shape) {
			if bad++; bad < 4 {
				t.Errorf("%s: %s is %v, want %v", part, name, a, shape)
			}
		}
	}
	for _, name := range w.Names() {
		if _, ok := want[name]; !ok {
			if bad++; bad < 8 {
				t.Errorf("%s: %s is not a name that diffusers uses", part, name)
			}
		}
	}
}

// compareConfig compares what was derived with the configuration that the model was made from.
func compareConfig(t *testing.T, part, got string, want map[string]any) {
	t.Helper()
	var derived map[string]any
	if err := json.Unmarshal([]byte(got), &derived); err != nil {
		t.Fatal(err)
	}
	for key, v := range derived {
		w, known := want[key]
		if key == "_class_name" || key == "sample_size" || !known && (key == "force_upcast") {
			continue
		}
		if key == "scaling_factor" || key == "force_upcast" { // the family's, which the bare VAE does not have
			continue
		}
		n := 1
		if levels, ok := derived["block_out_channels"].([]any); ok {
			n = len(levels)
		}
		if !reflect.DeepEqual(spread(v, n), spread(w, n)) {
			t.Errorf("%s: %s is %v, want %v", part, key, v, w)
		}
	}
	for _, key := range []string{"time_cond_proj_dim", "addition_embed_type", "reverse_transformer_layers_per_block", "class_embed_type"} {
		if want[key] != nil && derived[key] == nil {
			t.Errorf("%s: %s is not derived, want %v", part, key, want[key])
		}
	}
}

// spread writes one number for all as a list, and a list of equal numbers as one number within it.
func spread(v any, n int) any {
	list, ok := v.([]any)
	if !ok {
		if f, isNumber := v.(float64); isNumber {
			return strings.TrimSpace(strings.Repeat(fmt.Sprint(f)+" ", n))
		}
		return v
	}
	var parts []string
	for _, item := range list {
		if inner, ok := item.([]any); ok {
			same := true
			for _, x := range inner {
				same = same && reflect.DeepEqual(x, inner[0])
			}
			if same {
				item = inner[0]
			}
		}
		parts = append(parts, fmt.Sprint(item))
	}
	return strings.Join(parts, " ")
}

// A small file of each kind holds the arrays of its folder, bit by bit.
func TestSingleArrays(t *testing.T) {
	text, err := os.ReadFile("testdata/single/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string]map[string][2]any
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	for name, want := range all {
		t.Run(name, func(t *testing.T) {
			file := map[string]string{"sd1-ckpt": "sd1.ckpt", "sd1-ema": "sd1.ckpt"}[name]
			if file == "" {
				file = name + ".safetensors"
			}
			s, err := OpenSource(filepath.Join("testdata/single", file))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			m, err := NewSingle(s, SingleOptions{EMA: name == "sd1-ema"})
			if err != nil {
				t.Fatal(err)
			}
			if m.EMA != (file == "sd1.ckpt") || len(m.Missing) > 0 {
				t.Errorf("EMA %v, missing %v", m.EMA, m.Missing)
			}
			for part, arrays := range want {
				w, ok := m.Weights(part)
				if !ok || len(w.Names()) != len(arrays) {
					t.Errorf("%s: %d arrays, want %d", part, len(w.Names()), len(arrays))
				}
				for n, e := range arrays {
					a, ok := w.Array(n)
					if !ok {
						t.Errorf("%s: %s is missing", part, n)
						continue
					}
					if got := fmt.Sprint(a.Shape()); got != shapeText(e[0]) {
						t.Errorf("%s: %s is %s, want %s", part, n, got, shapeText(e[0]))
						continue
					}
					if got := arrayDigest(t, a); got != e[1] {
						t.Errorf("%s: %s has other values", part, n)
					}
					if p, ok := a.Plain(); ok {
						v := make([]float32, p.Len())
						p.Float32(v)
						if h := sha256.Sum256(tensor.Bytes(v)); hex.EncodeToString(h[:8]) != e[1] {
							t.Errorf("%s: %s has other plain values", part, n)
						}
					}
				}
			}
		})
	}
}

func shapeText(v any) string {
	var s tensor.Shape
	for _, n := range v.([]any) {
		s = append(s, int(n.(float64)))
	}
	return s.String()
}

// arrayDigest is that of the values, decoded in three pieces.
func arrayDigest(t *testing.T, a tensor.Array) string {
	t.Helper()
	v := make([]float32, a.Shape().Len())
	for _, part := range [][2]int{{0, len(v) / 3}, {len(v) / 3, len(v) - len(v)/5}, {len(v) - len(v)/5, len(v)}} {
		if err := a.Decode(v[part[0]:part[1]], part[0]); err != nil {
			t.Fatal(err)
		}
	}
	h := sha256.Sum256(tensor.Bytes(v))
	return hex.EncodeToString(h[:8])
}

func TestPrediction(t *testing.T) {
	all := readStructures(t)
	with := func(name string, extra ...string) *Source {
		s := shaped(name, all[name].File)
		for _, e := range extra {
			key, value, isMeta := strings.Cut(e, "=")
			if isMeta {
				if s.meta == nil {
					s.meta = map[string]string{}
				}
				s.meta[key] = value
				continue
			}
			n := 0
			if strings.HasPrefix(e, "edm_vpred") {
				n = 1
			} else if strings.HasPrefix(e, "edm") {
				n = 4
			}
			s.arrays[e] = placed{tensor.Of(make([]float32, n), n), false}
		}
		return s
	}
	for _, c := range []struct {
		source   *Source
		override string
		want     Prediction
	}{
		{with("sdxl"), "", Prediction{Type: Epsilon}},
		{with("sdxl", "v_pred"), "", Prediction{Type: VPrediction}},
		{with("sdxl", "v_pred", "ztsnr"), "", Prediction{Type: VPrediction, ZeroSNR: true}},
		{with("sdxl", "v_pred", "ztsnr"), Epsilon, Prediction{Type: Epsilon}},
		{with("sdxl"), VPrediction, Prediction{Type: VPrediction}},
		{with("sdxl", "edm_mean", "edm_std"), "", Prediction{Type: Epsilon, EDM: "edm"}},
		{with("sdxl", "edm_vpred.sigma_max", "edm_vpred.sigma_min"), "", Prediction{Type: VPrediction, EDM: "edm-v"}},
		{with("sdxl", "modelspec.prediction_type=v"), "", Prediction{Type: VPrediction}},
		{with("sd15"), "", Prediction{Type: Epsilon}},
		{with("sd15", "v_pred"), "", Prediction{Type: VPrediction}},
		{with("sd21"), "", Prediction{Type: Epsilon}}, // zeros do not spread
		{with("sd21", "global_step=110000"), "", Prediction{Type: VPrediction}},
		{with("sd21", "global_step=875000"), "", Prediction{Type: Epsilon}},
	} {
		m, err := NewSingle(c.source, SingleOptions{Prediction: c.override})
		if err != nil {
			t.Error(err)
			continue
		}
		p := m.Prediction
		if p.Type != c.want.Type || p.ZeroSNR != c.want.ZeroSNR || p.EDM != c.want.EDM || p.Why == "" {
			t.Errorf("%s: %+v, want %+v", c.source.name, p, c.want)
		}
	}

	// The bias that tells Stable Diffusion 2's two kinds apart.
	s := with("sd21")
	const bias = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
	spread := make([]float32, 320)
	for i := range spread {
		spread[i] = 0.1 * float32(1-2*(i%2))
	}
	if _, ok := s.arrays[bias]; !ok {
		t.Fatal("no such bias")
	}
	s.arrays[bias] = placed{tensor.Of(spread, 320), false}
	m, err := NewSingle(s, SingleOptions{})
	if err != nil || m.Prediction.Type != VPrediction || !strings.Contains(m.Prediction.Why, "0.100") {
		t.Errorf("%+v, %v", m.Prediction, err)
	}
}

// A .yaml beside the file, as older programs want one, decides where the file does not.
func TestPredictionBeside(t *testing.T) {
	dir := t.TempDir()
	b, err := os.ReadFile("testdata/single/sd1.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "model.safetensors")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	for yaml, want := range map[string]string{
		"model:\n  params:\n    parameterization: \"v\"\n": VPrediction, "model:\n  params:\n    parameterization: eps # usual\n": Epsilon, "model:\n": Epsilon,
	} {
		if err := os.WriteFile(filepath.Join(dir, "model.yaml"), []byte(yaml), 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := OpenSource(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := NewSingle(s, SingleOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if m.Prediction.Type != want || strings.Contains(yaml, "param") != strings.Contains(m.Prediction.Why, "model.yaml") && strings.Contains(yaml, "parameterization") {
			t.Errorf("%q: %+v, want %s", yaml, m.Prediction, want)
		}
		s.Close()
	}
}

// FuzzSingle gives the names of real files with other shapes, some left out: an error or a model, never a crash.
func FuzzSingle(f *testing.F) {
	var names []string
	for _, golden := range []string{"sd1", "sd2", "sdxl", "sd1-diffusers"} {
		s, err := OpenSource(filepath.Join("testdata/single", golden+".safetensors"))
		if err != nil {
			f.Fatal(err)
		}
		names = append(names, s.Names()...)
		s.Close()
	}
	f.Add([]byte{1, 2, 3, 4, 5}, uint16(0), uint16(400), uint16(1))
	f.Add([]byte{0}, uint16(300), uint16(1200), uint16(3))
	f.Add([]byte{9, 0, 7}, uint16(0), uint16(2000), uint16(7))
	f.Fuzz(func(t *testing.T, dims []byte, from, to, step uint16) {
		arrays := map[string]tensor.Shape{}
		for i := int(from); i < int(to) && i < len(names) && len(dims) > 0; i += 1 + int(step)%16 {
			var shape tensor.Shape
			for j := range int(dims[i%len(dims)]) % 5 {
				shape = append(shape, int(dims[(i+j+1)%len(dims)]))
			}
			arrays[names[i]] = shape
		}
		s := shaped("fuzz", arrays)
		Describe(s)
		_, _, _ = VAEOf(s, SDXL)
		_, _ = ReadEmbedding(s)
		m, err := NewSingle(s, SingleOptions{})
		if err != nil {
			return
		}
		parts := map[string]Weights{}
		for _, p := range m.Parts {
			parts[p], _ = m.Weights(p)
		}
		if w, err := Joined(m.Family, parts); err == nil {
			for _, n := range w.Names() {
				if a, _ := w.Array(n); a.Shape().Len() < 1<<12 {
					_ = a.Decode(make([]float32, a.Shape().Len()), 0)
				}
			}
		}
	})
}
