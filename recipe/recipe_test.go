package recipe

import (
	"encoding/json"
	"image"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample() Recipe {
	return Recipe{
		Version: "0.1.0", Numerics: "1", Prompt: "a <red> apple & \"pear\"", Negative: "blurry, low\nquality", PromptSyntax: "weighted",
		Seed: math.MaxUint64, Noise: "torch-cpu", Width: 512, Height: 768, Steps: 20,
		Scheduler: "dpm++2m", Sigmas: "karras", CFG: 7.5, Model: "sd15", ModelHash: strings.Repeat("0123456789abcdef", 4),
		Prediction: "epsilon", DType: "fp32", Backend: "cpu", Device: "avx2",
		Result: Result{Noise: strings.Repeat("1", 64), Latents: strings.Repeat("2", 64), Pixels: strings.Repeat("3", 64)},
	}
}

// The JSON is a file format: its bytes are written down here once, by hand.
func TestJSONIsStable(t *testing.T) {
	want := `{"version":"0.1.0","numerics":"1","prompt":"a <red> apple & \"pear\"","negative":"blurry, low\nquality",` +
		`"prompt_syntax":"weighted","clip_skip":0,"seed":18446744073709551615,"noise":"torch-cpu","width":512,"height":768,` +
		`"steps":20,"scheduler":"dpm++2m","sigmas":"karras","eta":0,"cfg":7.5,"guidance_rescale":0,"model":"sd15",` +
		`"model_hash":"` + strings.Repeat("0123456789abcdef", 4) + `","prediction":"epsilon","dtype":"fp32","backend":"cpu",` +
		`"device":"avx2","result":{"noise":"` + strings.Repeat("1", 64) + `","latents":"` + strings.Repeat("2", 64) +
		`","pixels":"` + strings.Repeat("3", 64) + `"}}`
	// json.Marshal would escape < and & again: the program calls MarshalJSON itself.
	got, err := sample().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
	unusual := sample()
	unusual.Guidance, unusual.SDENoise = "apg:eta=0", "brownian"
	text, err := unusual.MarshalJSON()
	if err != nil || !strings.Contains(string(text), `"guidance_rescale":0,"guidance":"apg:eta=0","sde_noise":"brownian","model"`) {
		t.Errorf("%v: %s", err, text)
	}
	var back Recipe
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), back); diff != "" {
		t.Errorf("there and back (-want +got):\n%s", diff)
	}
}

func TestUnknownFieldsAreKept(t *testing.T) {
	in := `{"steps":3,"zeta":[1, 2],"alpha":{"b":null}}`
	var r Recipe
	if err := json.Unmarshal([]byte(in), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Unknown) != 2 || r.Steps != 3 {
		t.Fatalf("got %+v", r)
	}
	out, err := r.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(out), `,"alpha":{"b":null},"zeta":[1,2]}`) {
		t.Errorf("unknown fields are not at the end, in order: %s", out)
	}
}

func TestJSONIsStrict(t *testing.T) {
	for _, c := range []struct{ json, err string }{
		{`[]`, "not an object"},
		{`{"steps":1,"steps":2}`, `"steps" appears twice`},
		{`{"Steps":1}`, `must be written "steps"`},
		{`{"steps":"1"}`, "cannot unmarshal string"},
		{`{"seed":-1}`, "cannot unmarshal number -1"},
		{`{"seed":18446744073709551616}`, "cannot unmarshal number"},
		{"{\"prompt\":\"\xff\"}", "UTF-8"},
		{`{"prompt":"` + strings.Repeat("a", MaxJSON) + `"}`, "more than"},
	} {
		var r Recipe
		err := json.Unmarshal([]byte(c.json), &r)
		if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%.40s: error %v, want …%s…", c.json, err, c.err)
		}
	}
}

func TestValidate(t *testing.T) {
	if err := sample().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*Recipe)
		err    string
	}{
		{func(r *Recipe) { r.Steps = 0 }, "steps is 0"},
		{func(r *Recipe) { r.Width = -8 }, "width is -8"},
		{func(r *Recipe) { r.Height = MaxSide + 1 }, "height is 16385"},
		{func(r *Recipe) { r.CFG = math.NaN() }, "cfg is NaN"},
		{func(r *Recipe) { r.Eta = math.Inf(1) }, "eta is +Inf"},
		{func(r *Recipe) { r.SigmaList = []float64{1, -1} }, "sigma_list"},
		{func(r *Recipe) { r.Prompt = "\xff" }, "prompt is not valid UTF-8"},
		{func(r *Recipe) { r.Result.Pixels = "abc" }, `result.pixels is "abc"`},
		{func(r *Recipe) { r.Scheduler = "" }, "scheduler is missing"},
	} {
		r := sample()
		c.change(&r)
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("error %v, want …%s…", err, c.err)
		}
	}
}

// The hash is what sha256sum says of the bytes 1 2 3 4 5 6, whatever the alpha and the stride.
func TestHashPixels(t *testing.T) {
	big := image.NewNRGBA(image.Rect(0, 0, 3, 2))
	copy(big.Pix[4:], []byte{1, 2, 3, 255})
	copy(big.Pix[big.Stride+4:], []byte{4, 5, 6, 0})
	part := big.SubImage(image.Rect(1, 0, 2, 2)).(*image.NRGBA)
	const want = "7192385c3c0605de55bb9476ce1d90748190ecb32a8eed7f5207b30cf6a1fe89"
	if got := HashPixels(part); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzJSON(f *testing.F) {
	seed, _ := sample().MarshalJSON()
	f.Add(seed)
	f.Add([]byte(`{"steps":1,"new":{"a":[1]}}`))
	f.Add([]byte(`{"a":1,"A":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Recipe
		if json.Unmarshal(data, &r) != nil {
			return
		}
		out, err := r.MarshalJSON()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		var again Recipe
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, out)
		}
	})
}
