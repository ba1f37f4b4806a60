package clients

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"darkroom/imagefile"
	"darkroom/recipe"
)

// visitor sends requests as clients of AUTOMATIC1111's interface do: their bodies and headers were recorded.
type visitor struct {
	t   *testing.T
	url string
}

// ask sends a request and reads the answer into v, which may be nil.
func (u visitor) ask(method, path, body string, v any, headers ...string) *http.Response {
	u.t.Helper()
	r, err := http.NewRequest(method, u.url+path, strings.NewReader(body))
	if err != nil {
		u.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("ada:lovelace")))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		u.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		u.t.Fatal(err)
	}
	if response.StatusCode != 200 && v != nil {
		u.t.Fatalf("%s %s: status %d: %.300s", method, path, response.StatusCode, data)
	}
	if v != nil {
		if err := json.Unmarshal(data, v); err != nil {
			u.t.Fatalf("%s %s: %v: %.300s", method, path, err, data)
		}
	}
	return response
}

type generated struct {
	Images     []string
	Parameters map[string]any
	Info       string
}

// Open WebUI: options as its health check, the model chosen by sending all options back, then txt2img.
func TestOpenWebUI(t *testing.T) {
	u := visitor{t, serve(t)}
	var options map[string]any
	u.ask("GET", "/sdapi/v1/options", "", &options)
	var models []struct {
		Title     string
		ModelName string `json:"model_name"`
	}
	u.ask("GET", "/sdapi/v1/sd-models", "", &models)
	if len(models) != 1 || models[0].ModelName != "default" || options["sd_model_checkpoint"] != models[0].Title {
		t.Fatalf("models %+v, options %v", models, options)
	}
	options["sd_model_checkpoint"] = models[0].Title
	options["something_new"] = []int{1, 2}
	all, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	u.ask("POST", "/sdapi/v1/options", string(all), &struct{}{})
	var again map[string]any
	u.ask("GET", "/sdapi/v1/options", "", &again)
	if now, err := json.Marshal(again); err != nil || !bytes.Equal(now, all) {
		t.Errorf("the options went round and are\n%s, were\n%s", now, all)
	}
	var out generated
	u.ask("POST", "/sdapi/v1/txt2img", `{"prompt":"a red apple","batch_size":1,"width":128,"height":128,"steps":4,"negative_prompt":"","cfg_scale":3.0,"sampler_name":"Euler a","scheduler":"Automatic"}`, &out)
	var info struct {
		Seed        uint64
		SamplerName string `json:"sampler_name"`
		Infotexts   []string
	}
	if err := json.Unmarshal([]byte(out.Info), &info); err != nil {
		t.Fatal(err)
	}
	if r := recipeIn(t, out.Images[0]); r.Scheduler != "euler-a" || r.Seed != info.Seed || info.SamplerName != "Euler a" || out.Parameters["steps"] != 4.0 {
		t.Errorf("%+v of %s", r, out.Info)
	}
	// Its OpenAI side.
	var images struct {
		Data []struct {
			B64JSON string `json:"b64_json"`
		}
	}
	u.ask("POST", "/v1/images/generations", `{"model":"default","prompt":"a pear","n":1,"size":"128x128","response_format":"b64_json"}`, &images, "Authorization", "Bearer "+key, "X-OpenWebUI-User-Id", "1")
	recipeIn(t, images.Data[0].B64JSON)
}

// SillyTavern: it asks for all lists, sets the model and waits until nothing is at work, then sends all it knows.
func TestSillyTavern(t *testing.T) {
	u := visitor{t, serve(t)}
	var named []struct{ Name string }
	for _, path := range []string{"upscalers", "latent-upscale-modes", "samplers", "schedulers"} {
		if u.ask("GET", "/sdapi/v1/"+path, "", &named); len(named) < 2 || named[0].Name == "" {
			t.Errorf("%s: %+v", path, named)
		}
	}
	var vae []struct {
		ModelName string `json:"model_name"`
	}
	u.ask("GET", "/sdapi/v1/sd-vae", "", &vae)
	u.ask("GET", "/sdapi/v1/sd-modules", "", &vae)
	u.ask("POST", "/sdapi/v1/options", `{"sd_model_checkpoint":"default"}`, nil)
	type progress struct {
		Progress float64
		State    struct {
			JobCount int `json:"job_count"`
			Step     int `json:"sampling_step"`
		}
		CurrentImage *string `json:"current_image"`
	}
	var p progress
	if u.ask("GET", "/sdapi/v1/progress", "", &p); p.Progress != 0 || p.State.JobCount != 0 {
		t.Errorf("nothing is at work: %+v", p)
	}
	if r := u.ask("OPTIONS", "/v1/images/generations", "", nil); r.StatusCode != 204 {
		t.Errorf("its ping: %d", r.StatusCode)
	}
	const body = `{"prompt":"a red apple","negative_prompt":"blurry","sampler_name":"DPM++ 2M","scheduler":"karras","steps":STEPS,"cfg_scale":3,"width":128,"height":128,
		"restore_faces":false,"enable_hr":false,"hr_upscaler":"Latent","hr_scale":2,"hr_additional_modules":[],"denoising_strength":0.7,"hr_second_pass_steps":0,"seed":SEED,
		"override_settings":{"CLIP_stop_at_last_layers":1,"sd_vae":"Automatic","forge_additional_modules":[]},"override_settings_restore_afterwards":true,"clip_skip":1,"save_images":true,"send_images":true,"do_not_save_grid":false,"do_not_save_samples":false}`
	done := make(chan generated)
	go func() {
		var out generated
		u.ask("POST", "/sdapi/v1/txt2img", strings.NewReplacer("STEPS", "60", "SEED", "4").Replace(body), &out)
		done <- out
	}()
	seen, preview := 0.0, false
	for {
		select {
		case out := <-done:
			r := recipeIn(t, out.Images[0])
			if r.Seed != 4 || r.Scheduler != "dpm++2m" || r.Sigmas != "karras" || r.Negative != "blurry" || r.Init != "" {
				t.Errorf("%+v", r)
			}
			if seen == 0 || !preview {
				t.Errorf("progress was %v at most, a preview was seen: %v", seen, preview)
			}
			if u.ask("GET", "/sdapi/v1/progress", "", &p); p.Progress != 0 || p.State.JobCount != 0 {
				t.Errorf("at the end: %+v", p)
			}
			testInterrupt(t, u, strings.NewReplacer("STEPS", "250", "SEED", "5").Replace(body))
			return
		case <-time.After(5 * time.Millisecond):
			var p progress
			u.ask("GET", "/sdapi/v1/progress", "", &p)
			seen = max(seen, p.Progress)
			if p.CurrentImage != nil && *p.CurrentImage != "" {
				data, err := base64.StdEncoding.DecodeString(*p.CurrentImage)
				if _, loadErr := imagefile.LoadData(data); err != nil || loadErr != nil {
					t.Fatalf("preview: %v, %v", err, loadErr)
				}
				preview = true
			}
		}
	}
}

// testInterrupt interrupts a job, of which nothing is there then.
func testInterrupt(t *testing.T, u visitor, body string) {
	done := make(chan generated)
	begun := time.Now()
	go func() {
		var out generated
		u.ask("POST", "/sdapi/v1/txt2img", body, &out)
		done <- out
	}()
	for {
		var p struct {
			State struct {
				Step int `json:"sampling_step"`
			}
		}
		if u.ask("GET", "/sdapi/v1/progress?skip_current_image=true", "", &p); p.State.Step > 0 {
			break
		}
		if time.Since(begun) > 60*time.Second {
			t.Fatal("the job does not begin")
		}
	}
	at := time.Now()
	u.ask("POST", "/sdapi/v1/interrupt", "", &struct{}{})
	out := <-done
	if d := time.Since(at); len(out.Images) != 0 || d > 10*time.Second {
		t.Errorf("%d pictures, %v after the interruption", len(out.Images), d)
	}
}

// LibreChat: it takes infotexts[0] out of info.
func TestLibreChat(t *testing.T) {
	u := visitor{t, serve(t)}
	var out generated
	u.ask("POST", "/sdapi/v1/txt2img", `{"prompt":"a red apple","negative_prompt":"blurry","cfg_scale":4.5,"steps":5,"width":256,"height":128}`, &out)
	var info struct {
		Infotexts     []string
		Seed          uint64
		Width, Height int
	}
	if err := json.Unmarshal([]byte(out.Info), &info); err != nil {
		t.Fatal(err)
	}
	f, err := recipe.ParseParameters(info.Infotexts[0])
	if err != nil || f.Recipe.Seed != info.Seed || info.Width != 256 || info.Height != 128 || f.Recipe.CFG != 4.5 || f.Recipe.Steps != 5 {
		t.Errorf("%v: %s", err, out.Info)
	}
	u.ask("POST", "/v1/images/generations", `{"model":"gpt-image-1","prompt":"a pear","n":1,"background":"auto","output_format":"png","output_compression":100,"quality":"auto","size":"auto"}`, &map[string]any{}, "Authorization", "Bearer "+key)
	// png-info reads the picture back, also with a data URI's beginning.
	var png struct {
		Info       string
		Items      map[string]string
		Parameters map[string]string
	}
	u.ask("POST", "/sdapi/v1/png-info", `{"image":"data:image/png;base64,`+out.Images[0]+`"}`, &png)
	if png.Info != info.Infotexts[0] || png.Items["parameters"] != png.Info || png.Parameters["Seed"] == "" || png.Parameters["Prompt"] != "a red apple" {
		t.Errorf("%+v", png)
	}
}

func TestImg2img(t *testing.T) {
	u := visitor{t, serve(t)}
	b64 := base64.StdEncoding.EncodeToString(square(t, 128, false))
	mask := base64.StdEncoding.EncodeToString(square(t, 128, true))
	var out generated
	u.ask("POST", "/sdapi/v1/img2img", `{"prompt":"a pear","init_images":["data:image/png;base64,`+b64+`"],"denoising_strength":0.5,"steps":10,"seed":3,"width":128,"height":128,"n_iter":2}`, &out)
	if r := recipeIn(t, out.Images[1]); len(out.Images) != 2 || r.Strength == nil || *r.Strength != 0.5 || r.Seed != 4 || out.Parameters["init_images"] != nil {
		t.Errorf("%d pictures, %+v, %v", len(out.Images), r, out.Parameters)
	}
	u.ask("POST", "/sdapi/v1/img2img", `{"prompt":"a pear","init_images":["`+b64+`"],"mask":"`+mask+`","mask_blur":0,"inpaint_full_res":false,"inpainting_mask_invert":1,"steps":4,"include_init_images":true}`, &out)
	if r := recipeIn(t, out.Images[0]); !r.InvertMask || r.Mask == "" || r.Inpaint == recipe.InpaintMasked || out.Parameters["init_images"] == nil {
		t.Errorf("%+v", r)
	}
	u.ask("POST", "/sdapi/v1/img2img", `{"prompt":"a pear","init_images":["`+b64+`"],"mask":"`+mask+`","inpaint_full_res_padding":16,"steps":4}`, &out)
	if r := recipeIn(t, out.Images[0]); r.Inpaint != recipe.InpaintMasked || r.MaskBlur != 4 {
		t.Errorf("%+v", r)
	}
	u.ask("POST", "/sdapi/v1/txt2img", `{"prompt":"a pear","steps":4,"enable_hr":true,"hr_scale":2,"hr_upscaler":"Latent","denoising_strength":0.6,"hr_second_pass_steps":3,"width":64,"height":64}`, &out)
	if r := recipeIn(t, out.Images[0]); !strings.Contains(r.Hires, "strength=0.6") || !strings.Contains(r.Hires, "steps=3") {
		t.Errorf("%+v", r)
	}
	var extra struct{ Image string }
	u.ask("POST", "/sdapi/v1/extra-single-image", `{"image":"`+b64+`","upscaling_resize":1.5,"upscaler_1":"Lanczos"}`, &extra)
	data, err := base64.StdEncoding.DecodeString(extra.Image)
	if err != nil {
		t.Fatal(err)
	}
	if img, err := imagefile.LoadData(data); err != nil || img.Bounds().Dx() != 192 {
		t.Errorf("%v, %v", img.Bounds(), err)
	}
}

func TestWebuiErrors(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString(square(t, 64, false))
	u := visitor{t, serve(t)}
	for _, c := range []struct {
		path, body string
		status     int
		detail     string
	}{
		{"txt2img", `{"prompt":"x","sampler_name":"nothing"}`, 404, "Sampler not found"},
		{"txt2img", `{"prompt":"x","override_settings":{"sd_model_checkpoint":"nothing"}}`, 404, "Checkpoint not found"},
		{"txt2img", `{"prompt":"x","steps":"many"}`, 422, "steps"},
		{"txt2img", `{"prompt":`, 422, "JSON"},
		{"img2img", `{"prompt":"x"}`, 404, "Init image not found"},
		{"img2img", `{"prompt":"x","init_images":["!"]}`, 422, "base64"},
		{"png-info", `{}`, 404, "Image not found"},
		{"txt2img", `{"prompt":"x","script_name":"X/Y/Z plot"}`, 422, "not found"},
		{"txt2img", `{"prompt":"x","alwayson_scripts":{"ControlNet":{"args":[{"model":"canny [0123]"}]}}}`, 422, "no picture"},
		{"txt2img", `{"prompt":"x","alwayson_scripts":{"controlnet":{"args":[{"model":"canny [0123]","image":"` + b64 + `","module":"openpose"}]}}}`, 422, "openpose"},
		{"txt2img", `{"prompt":"x","alwayson_scripts":{"controlnet":{"args":[{"model":"canny [0123]","image":{"image":"` + b64 + `"},"module":"canny"}]}}}`, 422, "no control of that name"},
		{"options", `{"sd_model_checkpoint":"nothing"}`, 404, "Checkpoint not found"},
		{"nothing", `{}`, 404, "no such place"},
	} {
		r, err := http.NewRequest("POST", u.url+"/sdapi/v1/"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("ada", "lovelace")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		var out struct{ Error, Detail string }
		err = json.NewDecoder(response.Body).Decode(&out)
		response.Body.Close()
		if err != nil || response.StatusCode != c.status || !strings.Contains(out.Detail, c.detail) || out.Error == "" {
			t.Errorf("%s %s: %d %+v, %v", c.path, c.body, response.StatusCode, out, err)
		}
		if c.path == "txt2img" && response.Header.Get("X-Process-Time") == "" {
			t.Errorf("%s: no X-Process-Time", c.path)
		}
	}
}
