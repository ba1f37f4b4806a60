package scheduler

import (
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestConfigs reads what each class of diffusers writes by default: those with a sampler here are accepted and run, all
// others refused by name.
func TestConfigs(t *testing.T) {
	f, err := os.Open("testdata/configs.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var configs map[string]string
	if err := json.NewDecoder(z).Decode(&configs); err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for class, data := range configs {
		c, err := ParseConfig("scheduler_config.json", []byte(data))
		if s, known := ofClass(class); known {
			name := s.Name
			accepted++
			if err != nil || c.DefaultName() != name {
				t.Errorf("%s: %q, %v, want %s", class, c.DefaultName(), err, name)
				continue
			}
			if _, err := New(c, Options{Steps: 5}); err != nil {
				t.Errorf("%s: %v", class, err)
			}
		} else if err == nil || !strings.HasPrefix(err.Error(), `scheduler_config.json: _class_name is "`+class) {
			t.Errorf("%s: %v", class, err)
		}
	}
	if accepted < 19 {
		t.Errorf("only %d of diffusers' classes are known", accepted)
	}
}

// stableDiffusion is the scheduler_config.json of Stable Diffusion 1.5.
const stableDiffusion = `{"_class_name":"PNDMScheduler","_diffusers_version":"0.6.0","beta_end":0.012,"beta_schedule":"scaled_linear",
	"beta_start":0.00085,"num_train_timesteps":1000,"set_alpha_to_one":false,"skip_prk_steps":true,"steps_offset":1,"trained_betas":null,"clip_sample":false}`

// TestFromConfig: the file's values carry over to another sampler, with that sampler's defaults for the rest. The
// timesteps are diffusers' from_config's.
func TestFromConfig(t *testing.T) {
	for name, want := range map[string][]float64{
		"":        {751, 501, 251, 1}, // pndm, leading with offset 1
		"ddim":    {751, 501, 251, 1},
		"ddpm":    {751, 501, 251, 1},
		"euler":   {999, 666, 333, 0},   // linspace
		"euler-a": {999, 666, 333, 0},   // linspace
		"dpm++2m": {999, 749, 500, 250}, // linspace, the first 4 of 5
		"unipc":   {999, 749, 500, 250},
	} {
		c, err := ParseConfig("scheduler_config.json", []byte(stableDiffusion))
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(c, Options{Name: name, Steps: 4})
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range want {
			if got := s.Levels()[i].T; got != w {
				t.Errorf("%q: timestep %d is %v, want %v", name, i, got, w)
			}
		}
	}
}

// TestTable: every row that lies beside a sampler is in the table, and the names that rows refer to are in it.
func TestTable(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		rows += len(regexp.MustCompile(`(?m)^var row\w+ = sampler\{`).FindAll(text, -1))
	}
	if rows != len(samplers()) {
		t.Errorf("%d rows and %d samplers in the table", rows, len(samplers()))
	}
	for _, s := range samplers() {
		for _, name := range []string{s.onFlow, s.variant} {
			if _, ok := lookup(name); name != "" && !ok {
				t.Errorf("%s refers to %s", s.Name, name)
			}
		}
	}
}

// TestOldConfig reads the keys that diffusers had in 2022.
func TestOldConfig(t *testing.T) {
	for text, want := range map[string]PredictionType{
		`{"tensor_format":"pt","predict_epsilon":true}`:  Epsilon,
		`{"tensor_format":"pt","predict_epsilon":false}`: Sample,
		`{"prediction_type":"original_sample"}`:          Sample,
		`{"prediction_type":"v_prediction"}`:             VPrediction,
		`{}`:                                             Epsilon,
	} {
		if c, err := ParseConfig("scheduler_config.json", []byte(text)); err != nil || c.PredictionType != want {
			t.Errorf("%s: %v, %v", text, c.PredictionType, err)
		}
	}
}

// TestNonFinite: Python's infinities are read wherever they stand, bare or quoted.
func TestNonFinite(t *testing.T) {
	for _, text := range []string{`{"lambda_min_clipped":-Infinity}`, `{"lambda_min_clipped" :
		-Infinity}`, `{"lambda_min_clipped":"-Infinity"}`, `{}`} {
		if c, err := ParseConfig("scheduler_config.json", []byte(text)); err != nil || !math.IsInf(c.LambdaMinClipped, -1) {
			t.Errorf("%s: %v, %v", text, c.LambdaMinClipped, err)
		}
	}
}

// A shift below 1 may round the first level, 1, up by an ulp: the levels start at 1 all the same.
func TestShiftedFlowStartsAtOne(t *testing.T) {
	c := Config{PredictionType: Flow, EvenFlow: true, DynamicShift: true, LinearShift: true, BaseShift: 0.389, MaxShift: 0.66, BaseTokens: 64, MaxTokens: 8192}
	above := 0
	for tokens := 1; tokens <= 100; tokens++ {
		o := Options{Name: "flow-euler", Steps: 4, Tokens: tokens}
		if shifted(1, c.dynamicShift(o)) > 1 {
			above++
		}
		s, err := New(c, o)
		if err != nil {
			t.Fatalf("%d tokens: %v", tokens, err)
		}
		if σ := s.Levels()[0].Sigma; σ != 1 {
			t.Errorf("%d tokens: the first level is %v", tokens, σ)
		}
	}
	if above == 0 {
		t.Error("no shift rounds up: the test has lost its case")
	}
}

// TestNames: aliases and suffixes lead to the same schedule as names and options.
func TestNames(t *testing.T) {
	for alias, want := range map[string]Options{
		"DPM++ 2M Karras": {Name: "dpm++2m", Sigmas: "karras"}, "dpmpp_2m_sde-exponential": {Name: "dpm++2m-sde", Sigmas: "exponential"},
		"euler_ancestral": {Name: "euler-a"}, "k-lms": {Name: "lms"}, "DPMSolverMultistepScheduler": {Name: "dpm++2m"}, "dpmpp_2m_sde_k": {Name: "dpm++2m-sde", Sigmas: "karras"}, "DPM2 a Karras": {Name: "dpm2-a", Sigmas: "karras"}, "uni-pc": {Name: "unipc"}, "euler-ays": {Name: "euler", Sigmas: "align-your-steps"},
		"dpm++2m-karras:5": {Name: "dpm++2m", Sigmas: "karras:5"}, "dpm++ sde karras": {Name: "dpm++sde", Sigmas: "karras"},
	} {
		spec, o, err := resolve(Config{}, Options{Name: alias, Steps: 3})
		if err != nil || spec.Name != want.Name || o.Sigmas != want.Sigmas {
			t.Errorf("%q: %s with %q, %v; want %+v", alias, spec.Name, o.Sigmas, err, want)
		}
	}
	seen := map[string]string{}
	for _, i := range Names() {
		for _, n := range append([]string{i.Name}, i.Aliases...) {
			if other, twice := seen[n]; twice || normal(n) != n {
				t.Errorf("%s is a name of %s and of %s, or not in normal form", n, i.Name, other)
			}
			seen[n] = i.Name
		}
		if i.About == "" || i.Paper == "" {
			t.Errorf("%s has no line or no paper", i.Name)
		}
	}
}
