package clients

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withFlux is a server that has small models of FLUX.1 dev and of FLUX.1 Canny.
func withFlux(t *testing.T) visitor {
	t.Helper()
	u := visitor{t, serve(t)}
	const mmdit = "../../pipeline/testdata/mmdit/models/"
	for name, parts := range map[string][]string{"flux1-dev": {"flux-dev"}, "flux1-canny-dev": {"flux-dev", "flux-canny"}} {
		folder := filepath.Join(os.Getenv("DARKROOM_MODELS"), name)
		for _, from := range parts { // of Canny, only the transformer is its own
			if err := os.RemoveAll(filepath.Join(folder, "transformer")); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(folder, os.DirFS(mmdit+from)); err != nil {
				t.Fatal(err)
			}
		}
	}
	u.ask("POST", "/sdapi/v1/refresh-checkpoints", "", nil)
	return u
}

// Forge's clients send the scale that FLUX.1 reads as distilled_cfg_scale, with every model; cfg_scale is that of a second call.
func TestForge(t *testing.T) {
	u := withFlux(t)
	b64 := base64.StdEncoding.EncodeToString(square(t, 64, false))
	for _, c := range []struct {
		model, fields string
		cfg           float64 // of the recipe
		guidance      string
		told          float64 // the cfg_scale of the answer's info
		distilled     bool    // it has the other scale, too
	}{
		{"flux1-dev", `"cfg_scale":1,"distilled_cfg_scale":2.5`, 2.5, "", 1, true},
		{"flux1-dev", `"cfg_scale":3,"distilled_cfg_scale":3.5,"negative_prompt":"blurry"`, 3.5, "cfg:scale=3", 3, true},
		{"flux1-dev", `"cfg_scale":3,"distilled_cfg_scale":"1.5","guidance":"apg:eta=0,scale=2"`, 1.5, "apg:eta=0,scale=2", 3, true},
		{"flux1-dev", `"distilled_cfg_scale":2.5`, 2.5, "", 1, true},
		{"flux1-dev", `"cfg_scale":4`, 4, "", 4, false},
		{"flux1-dev", `"cfg_scale":4,"distilled_cfg_scale":0`, 4, "", 4, false},
		{"flux1-dev", `"cfg_scale":4,"distilled_cfg_scale":null`, 4, "", 4, false},
		{"default", `"cfg_scale":3,"distilled_cfg_scale":3.5`, 3, "", 3, false},
	} {
		for path, more := range map[string]string{"txt2img": "", "img2img": `"init_images":["` + b64 + `"],"denoising_strength":0.9,`} {
			var out generated
			u.ask("POST", "/sdapi/v1/"+path, `{"prompt":"an apple","sampler_name":"Euler","scheduler":"Simple","seed":1,"steps":2,"width":64,"height":64,`+more+c.fields+`,"override_settings":{"sd_model_checkpoint":"`+c.model+`"}}`, &out)
			if r := recipeIn(t, out.Images[0]); r.CFG != c.cfg || r.Guidance != c.guidance || r.Model != c.model {
				t.Errorf("%s of %s with %s: cfg %v, guidance %q, model %s", path, c.model, c.fields, r.CFG, r.Guidance, r.Model)
			}
			var info struct {
				CFGScale float64            `json:"cfg_scale"`
				Extra    map[string]float64 `json:"extra_generation_params"`
			}
			if err := json.Unmarshal([]byte(out.Info), &info); err != nil {
				t.Fatal(err)
			}
			if info.CFGScale != c.told || (info.Extra["Distilled CFG Scale"] == c.cfg) != c.distilled {
				t.Errorf("%s of %s with %s: info has the scale %v and %v", path, c.model, c.fields, info.CFGScale, info.Extra)
			}
		}
	}
	r := u.ask("POST", "/sdapi/v1/txt2img", `{"prompt":"x","distilled_cfg_scale":5000,"override_settings":{"sd_model_checkpoint":"flux1-dev"}}`, nil)
	if r.StatusCode != 422 {
		t.Errorf("a scale of 5000: status %d", r.StatusCode)
	}
}

// A model that reads a control picture itself takes it from a ControlNet unit without a network; other models pass such units over.
func TestOwnControl(t *testing.T) {
	u := withFlux(t)
	b64 := base64.StdEncoding.EncodeToString(square(t, 64, true))
	unit := func(model string) string {
		return `"alwayson_scripts":{"ControlNet":{"args":[{"enabled":true,"module":"canny","model":"` + model + `","image":"` + b64 + `","threshold_a":50,"threshold_b":200,"weight":1}]}}`
	}
	for _, none := range []string{"None", ""} {
		for model, want := range map[string]string{"flux1-canny-dev": ":pre=canny,low=50,high=200", "default": ""} {
			var out generated
			u.ask("POST", "/sdapi/v1/txt2img", `{"prompt":"an apple","seed":1,"steps":2,"width":64,"height":64,`+unit(none)+`,"override_settings":{"sd_model_checkpoint":"`+model+`"}}`, &out)
			r := recipeIn(t, out.Images[0])
			if !strings.HasSuffix(r.Control, want) || (r.Control == "") != (want == "") || strings.Contains(strings.TrimSuffix(r.Control, want), "=") {
				t.Errorf("%s: the control is %q, want a picture with %s", model, r.Control, want)
			}
		}
	}
	r := u.ask("POST", "/sdapi/v1/txt2img", `{"prompt":"x","steps":2,"width":64,"height":64,"override_settings":{"sd_model_checkpoint":"flux1-canny-dev"}}`, nil)
	if r.StatusCode != 422 {
		t.Errorf("without a picture: status %d", r.StatusCode)
	}
}

// Clients send their usual sampler and spacing with every model. What a flow model refuses gives way to its own, and the answer says so.
func TestForgeSamplers(t *testing.T) {
	u := withFlux(t)
	for _, c := range []struct{ sampler, spacing, scheduler, sigmas, told string }{
		{"Euler", "Simple", "flow-euler", "simple", "flow-euler Simple"},
		{"DPM++ 2M", "Karras", "dpm++2m", "", "DPM++ 2M"},
		{"Euler a", "Automatic", "flow-euler", "", "flow-euler"},
		{"DPM++ SDE", "Karras", "flow-euler", "", "flow-euler"},
		{"Euler", "SGM Uniform", "flow-euler", "", "flow-euler"},
	} {
		var out generated
		u.ask("POST", "/sdapi/v1/txt2img", `{"prompt":"an apple","sampler_name":"`+c.sampler+`","scheduler":"`+c.spacing+`","eta":1,"steps":2,"width":64,"height":64,"override_settings":{"sd_model_checkpoint":"flux1-dev"}}`, &out)
		r := recipeIn(t, out.Images[0])
		var info struct {
			Sampler string `json:"sampler_name"`
		}
		if err := json.Unmarshal([]byte(out.Info), &info); err != nil {
			t.Fatal(err)
		}
		if r.Scheduler != c.scheduler || r.Sigmas != c.sigmas || info.Sampler != c.told {
			t.Errorf("%s %s: made with %s %q, told %q", c.sampler, c.spacing, r.Scheduler, r.Sigmas, info.Sampler)
		}
	}
}
