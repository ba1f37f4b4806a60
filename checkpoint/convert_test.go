package checkpoint

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"darkroom/tensor"
)

// The names for a single file are those that the inverse map of train/single_names.py gives, which diffusers undoes.
func TestJoinedStructures(t *testing.T) {
	for name, want := range readStructures(t) {
		m, err := NewSingle(shaped(name, want.File), SingleOptions{})
		if err != nil {
			t.Fatal(err)
		}
		parts := map[string]Weights{}
		for _, p := range m.Parts {
			parts[p], _ = m.Weights(p)
		}
		w, err := Joined(m.Family, parts)
		if err != nil {
			t.Fatal(err)
		}
		ignored := func(n string) bool {
			return strings.Contains(n, "position_ids") || n == "alphas_cumprod" || strings.HasPrefix(n, "model_ema.") ||
				m.Family == SD2 && (strings.Contains(n, "resblocks.23.") || strings.HasSuffix(n, "text_projection"))
		}
		bad := 0
		for n, shape := range want.File {
			if ignored(n) {
				continue
			}
			if a, ok := w.Array(n); !ok || !a.Shape().Equal(shape) {
				if bad++; bad < 5 {
					t.Errorf("%s: %s is %v, want %v", name, n, a, shape)
				}
			}
		}
		for _, n := range w.Names() {
			if _, ok := want.File[n]; !ok {
				t.Errorf("%s: %s is too much", name, n)
			}
		}
	}
}

// A file, the folder that is written of it, and the file that is written of that hold the same arrays and configurations.
func TestConvertThereAndBack(t *testing.T) {
	for _, name := range []string{"sd1.safetensors", "sd1.ckpt", "sd2.safetensors", "sdxl.safetensors", "sd1-diffusers.safetensors"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			first, err := OpenModel(filepath.Join("testdata/single", name), SingleOptions{})
			if err != nil {
				t.Fatal(err)
			}
			folder, file := filepath.Join(dir, "model"), filepath.Join(dir, "model.safetensors")
			if err := export(t, first).SaveFolder(folder); err != nil {
				t.Fatal(err)
			}
			second, err := OpenModel(folder, SingleOptions{})
			if err != nil {
				t.Fatal(err)
			}
			sameModel(t, first, second)
			if err := export(t, second).SaveFile(file); err != nil {
				t.Fatal(err)
			}
			third, err := OpenModel(file, SingleOptions{})
			if err != nil {
				t.Fatal(err)
			}
			sameModel(t, first, third)
			if a, b := first.Single(), third.Single(); a.Family != b.Family || a.Prediction.Type != b.Prediction.Type || a.Prediction.ZeroSNR != b.Prediction.ZeroSNR {
				t.Errorf("%+v became %+v", a.Prediction, b.Prediction)
			}
			if err := export(t, second).SaveFolder(folder); err == nil || !strings.Contains(err.Error(), "exists already") {
				t.Errorf("over a folder: %v", err)
			}
		})
	}
}

func export(t *testing.T, f *Folder) *Export {
	t.Helper()
	sets, err := OpenParts(f)
	if err != nil {
		t.Fatal(err)
	}
	e := &Export{Folder: f, Parts: map[string]Weights{}}
	for part, s := range sets {
		e.Parts[part] = s
		t.Cleanup(func() { s.Close() })
	}
	return e
}

func sameModel(t *testing.T, a, b *Folder) {
	t.Helper()
	x, y := export(t, a), export(t, b)
	if len(x.Parts) < 3 || len(x.Parts) != len(y.Parts) {
		t.Errorf("%d parts, %d", len(x.Parts), len(y.Parts))
	}
	for part, w := range x.Parts {
		v := y.Parts[part]
		if v == nil || !slices.Equal(w.Names(), v.Names()) {
			t.Errorf("%s: other names", part)
			continue
		}
		for _, n := range w.Names() {
			p, _ := w.Array(n)
			q, _ := v.Array(n)
			if !p.Shape().Equal(q.Shape()) || arrayDigest(t, p) != arrayDigest(t, q) {
				t.Errorf("%s: %s differs", part, n)
			}
		}
		for _, file := range []string{part + "/config.json", "scheduler/scheduler_config.json", "model_index.json", "tokenizer/tokenizer_config.json"} {
			p, err1 := a.ReadFile(file)
			q, err2 := b.ReadFile(file)
			if err1 != nil || err2 != nil || string(p) != string(q) {
				t.Errorf("%s differs: %v, %v", file, err1, err2)
			}
		}
	}
}

// Types are rounded as Encode does, whatever they are stored as; a file that cannot be finished is none.
func TestSaveTypes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	values := []float32{1, 1.00390625, -3.1415927, 65504, 6e-8}
	w := table{"f32": placed{tensor.Of(values, 5), false}, "f8": &scaledArray{Array: placed{tensor.Tensor{DType: tensor.F8E4M3, Shape: tensor.Shape{2}, Data: []byte{0x38, 0xb8}}, false}, scales: []float32{0.5}, row: 1},
		"empty": placed{tensor.Tensor{DType: tensor.F16, Shape: tensor.Shape{0, 3}}, false}, "scalar": placed{tensor.Of([]float32{2}), false}}
	for as, size := range map[string]int{"": 0, "F32": 4, "F16": 2, "BF16": 2} {
		if err := Save(path, w, as, map[string]string{"a": "b"}); err != nil {
			t.Fatal(err)
		}
		s, err := OpenSource(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Names()) != 4 || s.Metadata()["a"] != "b" {
			t.Errorf("%s: %v, %v", as, s.Names(), s.Metadata())
		}
		a, _ := s.Array("f32")
		got, want := make([]float32, 5), slices.Clone(values)
		if err := a.Decode(got, 0); err != nil {
			t.Fatal(err)
		}
		if size == 2 {
			d, _ := tensor.ParseDType(as)
			raw := make([]byte, 10)
			tensor.Encode(raw, d, values)
			tensor.Tensor{DType: d, Shape: tensor.Shape{5}, Data: raw}.Float32(want)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", as, got, want)
		}
		f8, _ := s.Array("f8")
		two := make([]float32, 2)
		if err := f8.Decode(two, 0); err != nil || two[0] != 0.5 || two[1] != -0.5 || as == "" && f8.Type() != "F16" {
			t.Errorf("%q: f8 as %s is %v, %v", as, f8.Type(), two, err)
		}
		s.Close()
	}
	bad := table{"x": shapedArray{shapeOnly{tensor.Shape{1 << 20}}}, "broken": brokenArray{}}
	os.Remove(path)
	if err := Save(path, bad, "F32", nil); err == nil || !strings.Contains(err.Error(), `"broken"`) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("half a file is left")
	}
}

type brokenArray struct{ shapedArray }

func (brokenArray) Shape() tensor.Shape               { return tensor.Shape{3} }
func (brokenArray) Decode(dst []float32, _ int) error { return os.ErrInvalid }
