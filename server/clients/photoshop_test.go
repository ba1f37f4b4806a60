package clients

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"darkroom/imagefile"
)

// Auto-Photoshop-StableDiffusion-Plugin: it asks for the lists of the ControlNet extension, shows what a preprocessor makes, and
// sends units that are switched off with every request, numbers as texts among them.
func TestPhotoshopPlugin(t *testing.T) {
	u := visitor{t, serve(t)}
	var models struct {
		List []string `json:"model_list"`
	}
	if u.ask("GET", "/controlnet/model_list", "", &models); models.List == nil || len(models.List) != 0 {
		t.Errorf("models %+v: none is installed", models)
	}
	var modules struct {
		List   []string `json:"module_list"`
		Detail map[string]struct {
			ModelFree *bool `json:"model_free"`
			Sliders   []struct {
				Name            string
				Value, Min, Max float64
			}
		} `json:"module_detail"`
	}
	u.ask("GET", "/controlnet/module_list?alias_names=true", "", &modules)
	if modules.List[0] != "none" || !slices.Contains(modules.List, "canny") || len(modules.Detail) != len(modules.List) || modules.Detail["none"].ModelFree == nil || len(modules.Detail["canny"].Sliders) != 3 {
		t.Errorf("%+v", modules)
	}
	var version struct{ Version int }
	var settings struct {
		Units int `json:"control_net_unit_count"`
	}
	u.ask("GET", "/controlnet/version", "", &version)
	u.ask("GET", "/controlnet/settings", "", &settings)
	if version.Version < 2 || settings.Units < 1 {
		t.Errorf("version %+v, settings %+v", version, settings)
	}
	var types struct {
		Types map[string]struct {
			Modules []string `json:"module_list"`
			Models  []string `json:"model_list"`
			Default string   `json:"default_option"`
		} `json:"control_types"`
	}
	u.ask("GET", "/controlnet/control_types", "", &types)
	if all := types.Types["All"]; len(all.Modules) != len(modules.List) || all.Models[0] != "None" || types.Types["Canny"].Default != "canny" || len(types.Types["Canny"].Modules) != 2 {
		t.Errorf("%+v", types)
	}
	b64 := base64.StdEncoding.EncodeToString(square(t, 64, false))
	for module, changes := range map[string]bool{"canny": true, "none": false} {
		var out struct {
			Images []string
			Info   string
		}
		u.ask("POST", "/controlnet/detect", `{"controlnet_module":"`+module+`","controlnet_input_images":["data:image/png;base64,`+b64+`"],"controlnet_processor_res":512,"controlnet_threshold_a":100,"controlnet_threshold_b":"200"}`, &out)
		data, err := base64.StdEncoding.DecodeString(out.Images[0])
		if err != nil {
			t.Fatal(err)
		}
		was, err := imagefile.LoadData(square(t, 64, false))
		if err != nil {
			t.Fatal(err)
		}
		is, err := imagefile.LoadData(data)
		if err != nil || is.Bounds() != was.Bounds() || slices.Equal(is.Pix, was.Pix) == changes {
			t.Errorf("%s: %v, %v", module, err, is.Bounds())
		}
	}
	var ping, scripts map[string]any
	var info []struct {
		Name string `json:"name"`
		Args []any  `json:"args"`
	}
	u.ask("GET", "/internal/ping", "", &ping)
	u.ask("GET", "/sdapi/v1/scripts", "", &scripts)
	u.ask("GET", "/sdapi/v1/script-info", "", &info)
	if len(info) != 2 || info[0].Name != "controlnet" || info[0].Args == nil || scripts["txt2img"] == nil {
		t.Errorf("%+v, %v", info, scripts)
	}
	var out generated
	u.ask("POST", "/sdapi/v1/txt2img", `{"prompt":"a red apple","negative_prompt":"","steps":"4","width":"64","height":64,"cfg_scale":"3","seed":"5","subseed":-1,"batch_size":1,"sampler_index":"Euler a","hr_scale":null,
		"denoising_strength":0.6,"inpaint_full_res":null,"use_prompt_shortcut":true,"prompt_shortcut":{},"mask_blur":4,"override_settings":{},"override_settings_restore_afterwards":true,
		"controlnet_units":[],"alwayson_scripts":{"controlnet":{"args":[{"enabled":false,"input_image":"","mask":"","module":"none","model":"None","weight":"1","resize_mode":"Crop and Resize","lowvram":false,"processor_res":512,
		"threshold_a":-1,"threshold_b":null,"guidance_start":0,"guidance_end":1,"control_mode":["Balanced"],"pixel_perfect":true}]},"ADetailer":{"args":[false]}}}`, &out)
	if r := recipeIn(t, out.Images[0]); r.Seed != 5 || r.Steps != 4 || r.Width != 64 {
		t.Errorf("%+v", r)
	}
	// What is not done is said.
	for _, path := range []string{"interrogate", "server-stop", "server-kill", "server-restart"} {
		r, err := http.NewRequest("POST", u.url+"/sdapi/v1/"+path, strings.NewReader(`{"image":"","model":"clip"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("ada", "lovelace")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 403 {
			t.Errorf("%s: %s", path, response.Status)
		}
	}
}

// Clients of DALL·E such as LangChain's wrapper and LibreChat's tool ask for no form of the answer, and read url. Open WebUI asks
// for none from GPT Image; it would follow url, but not to a local network.
func TestFormsOfAnswers(t *testing.T) {
	u := visitor{t, serve(t)}
	for _, model := range []string{"dall-e-3", "gpt-image-1", "default"} {
		var out struct {
			Data []struct {
				URL     string
				B64JSON string `json:"b64_json"`
			}
		}
		u.ask("POST", "/v1/images/generations", `{"model":"`+model+`","prompt":"a pear","n":1,"size":"64x64","quality":"standard","style":"vivid","user":"x"}`, &out, "Authorization", "Bearer "+key)
		recipeIn(t, out.Data[0].B64JSON)
		if model != "dall-e-3" {
			if out.Data[0].URL != "" {
				t.Errorf("%s: url is %s", model, out.Data[0].URL)
			}
			continue
		}
		response, err := http.Get(out.Data[0].URL) // without the key
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 200 {
			t.Errorf("%s: %s", out.Data[0].URL, response.Status)
		}
	}
}
