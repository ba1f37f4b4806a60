package sdapi

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"darkroom/batch/jobs"
	"darkroom/recipe"
	"darkroom/server/ask"
	"darkroom/server/dispatch"
	"darkroom/server/openai"
	"darkroom/server/trace"
	"darkroom/server/web"
	"darkroom/server/wire"
)

// Generation are the fields of txt2img that are read; the others are taken and ignored, as they ask for what this program does
// not have. Settings of the table may stand beside them.
type Generation struct {
	Prompt            string          `json:"prompt"`
	NegativePrompt    string          `json:"negative_prompt,omitempty"`
	Seed              int64           `json:"seed,omitempty" doc:"-1: random"`
	SamplerName       string          `json:"sampler_name,omitempty"`
	SamplerIndex      string          `json:"sampler_index,omitempty" doc:"the old name of sampler_name"`
	Scheduler         string          `json:"scheduler,omitempty" doc:"the spacing of noise levels: Karras, …"`
	BatchSize         int             `json:"batch_size,omitempty"`
	NIter             int             `json:"n_iter,omitempty" doc:"how many times to make batch_size pictures"`
	Steps             int             `json:"steps,omitempty"`
	CFGScale          float64         `json:"cfg_scale,omitempty"`
	DistilledCFGScale float64         `json:"distilled_cfg_scale,omitempty" doc:"Forge's: what a model that reads the guidance scale itself reads; cfg_scale is then of a second call, with the negative prompt"`
	Width             int             `json:"width,omitempty"`
	Height            int             `json:"height,omitempty"`
	Eta               float64         `json:"eta,omitempty"`
	ClipSkip          int             `json:"clip_skip,omitempty"`
	Styles            []string        `json:"styles,omitempty" doc:"ignored"`
	OverrideSettings  map[string]any  `json:"override_settings,omitempty" doc:"sd_model_checkpoint, sd_vae, CLIP_stop_at_last_layers, samples_format, …"`
	EnableHR          bool            `json:"enable_hr,omitempty"`
	HRScale           float64         `json:"hr_scale,omitempty"`
	HRUpscaler        string          `json:"hr_upscaler,omitempty"`
	HRSecondPassSteps int             `json:"hr_second_pass_steps,omitempty"`
	DenoisingStrength float64         `json:"denoising_strength,omitempty"`
	Tiling            bool            `json:"tiling,omitempty"`
	SendImages        *bool           `json:"send_images,omitempty"`
	ForceTaskID       string          `json:"force_task_id,omitempty"`
	AlwaysOnScripts   json.RawMessage `json:"alwayson_scripts,omitempty"`
}

// ImageGeneration are those of img2img.
type ImageGeneration struct {
	Generation
	InitImages            []string `json:"init_images"`
	ResizeMode            int      `json:"resize_mode,omitempty"`
	Mask                  string   `json:"mask,omitempty"`
	MaskBlur              int      `json:"mask_blur,omitempty"`
	InpaintingFill        int      `json:"inpainting_fill,omitempty"`
	InpaintFullRes        bool     `json:"inpaint_full_res,omitempty"`
	InpaintFullResPadding int      `json:"inpaint_full_res_padding,omitempty"`
	InpaintingMaskInvert  int      `json:"inpainting_mask_invert,omitempty"`
	IncludeInitImages     bool     `json:"include_init_images,omitempty"`
}

// Answer is what both answer.
type Answer struct {
	Images     []string                   `json:"images"`
	Parameters map[string]json.RawMessage `json:"parameters"`
	Info       string                     `json:"info" doc:"JSON: see Info"`
}

func (a *API) txt2img(w http.ResponseWriter, r *http.Request) error {
	fields, err := a.fields(w, r)
	if err != nil {
		return err
	}
	asked, err := a.read(fields)
	if err != nil {
		return err
	}
	asked.Drop("strength") // it is of the second pass there
	if truth(fields, "enable_hr") {
		usual := a.facts(&asked)
		if err := hires(&asked, fields, cmp.Or(asked.Width, usual.Width), cmp.Or(asked.Height, usual.Height)); err != nil {
			return err
		}
	}
	return a.run(w, r, fields, asked)
}

// handled are the fields of this API that are read by hand, or that clients send whether they mean anything or not.
var handled = func() map[string]bool {
	all := map[string]bool{}
	for _, name := range strings.Fields(`styles subseed subseed_strength seed_resize_from_h seed_resize_from_w sampler_name scheduler sampler_index batch_size n_iter
		width height restore_faces tiling do_not_save_samples do_not_save_grid eta s_min_uncond s_churn s_tmax s_tmin s_noise override_settings
		override_settings_restore_afterwards refiner_checkpoint refiner_switch_at disable_extra_networks firstpass_image comments enable_hr firstphase_width
		firstphase_height hr_scale hr_upscaler hr_second_pass_steps hr_resize_x hr_resize_y hr_checkpoint_name hr_sampler_name hr_scheduler hr_prompt
		hr_negative_prompt force_task_id script_name script_args send_images save_images alwayson_scripts infotext init_images resize_mode image_cfg_scale distilled_cfg_scale mask
		mask_blur mask_blur_x mask_blur_y mask_round inpainting_fill inpaint_full_res inpaint_full_res_padding inpainting_mask_invert
		initial_noise_multiplier latent_mask include_init_images clip_skip init_image`) {
		all[name] = true
	}
	return all
}()

// settingFields are the other fields: prompts, seed, steps and the like, and settings of the table.
func settingFields(fields map[string]json.RawMessage) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for name, raw := range fields {
		if !handled[name] && name != "count" {
			out[name] = raw
		}
	}
	return out
}

// read reads what both kinds of requests share.
func (a *API) read(fields map[string]json.RawMessage) (ask.Asked, error) {
	asked, err := ask.Settings(settingFields(fields))
	if err != nil {
		return asked, err
	}
	if !asked.Has("prompt") {
		asked.Set("prompt", "")
	}
	if !asked.Has("embedding") {
		asked.Set("embedding", recipe.EmbeddingsByWord) // there a word in the prompt is enough
	}
	if f, ok := optional(fields, "eta"); ok && f >= 0 && f <= 1 {
		asked.Set("eta", f)
	}
	if err := sampler(&asked, fields); err != nil {
		return asked, err
	}
	if err := a.override(&asked, fields); err != nil {
		return asked, err
	}
	if err := a.fit(&asked, fields); err != nil {
		return asked, err
	}
	if err := a.distilled(&asked, fields); err != nil {
		return asked, err
	}
	if truth(fields, "tiling") {
		asked.Set("tile", "both")
	}
	if err := a.others(&asked, fields); err != nil {
		return asked, err
	}
	batch, n := number(fields, "batch_size", 1), number(fields, "n_iter", 1)
	if batch < 1 || n < 1 || batch*n > 1000 || batch != math.Trunc(batch) || n != math.Trunc(n) {
		return asked, ask.Invalid("n_iter", "%v times %v pictures: they must be whole numbers from 1", n, batch)
	}
	asked.Count = int(batch * n)
	a.suit(&asked)
	return asked, nil
}

// suit drops what clients send with every model and this one refuses: eta, the spacing, or the sampler with it. Flow models have few
// samplers. The model's own are used then, which the answer's info names.
func (a *API) suit(asked *ask.Asked) {
	if !asked.Has("eta") && !asked.Has("sigmas") && !asked.Has("scheduler") {
		return
	}
	drop := func(names ...string) func(*recipe.Given) {
		return func(g *recipe.Given) {
			for _, name := range names {
				g.Drop(name)
			}
		}
	}
	asked.Given = recipe.Mend(asked.Given, func(g recipe.Given) error { return a.Read.Check(&jobs.Request{Given: g}) },
		[]func(*recipe.Given){drop("eta"), drop("sigmas"), drop("scheduler", "sigmas")}, func(int, error) {})
}

// others reads the refiner and the variation.
func (a *API) others(asked *ask.Asked, fields map[string]json.RawMessage) error {
	if title := text(fields, "refiner_checkpoint"); title != "" && title != "None" {
		name, ok := a.findModel(title)
		if !ok {
			return &wire.Error{Status: http.StatusNotFound, Type: "invalid_request_error", Param: "refiner_checkpoint", Message: "Checkpoint not found: " + title}
		}
		start := number(fields, "refiner_switch_at", 0)
		if start <= 0 || start >= 1 {
			start = recipe.RefinerStart
		}
		asked.Set("refiner", recipe.FormatRefiner(name, start))
	}
	if strength := number(fields, "subseed_strength", 0); strength > 0 && strength <= 1 {
		subseed := uint64(rand.Uint32())
		if f := number(fields, "subseed", -1); f >= 0 && f < 1<<53 {
			subseed = uint64(f)
		}
		asked.Set("variation", recipe.FormatVariation([]recipe.Variation{{Seed: subseed, Strength: strength}}))
	}
	return nil
}

func optional(fields map[string]json.RawMessage, name string) (float64, bool) {
	raw, ok := fields[name]
	if !ok || string(raw) == "null" {
		return 0, false
	}
	f := number(fields, name, math.NaN())
	return f, f == f
}

// sampler reads the sampler and the spacing, by the names of that program or of this one.
func sampler(asked *ask.Asked, fields map[string]json.RawMessage) error {
	name := text(fields, "sampler_name")
	if name == "" {
		name = text(fields, "sampler_index")
	}
	spacing := text(fields, "scheduler")
	switch strings.ToLower(spacing) {
	case "automatic", "none":
		spacing = ""
	}
	if name == "" || strings.EqualFold(name, "automatic") {
		if spacing != "" {
			if _, sigmas, ok := recipe.FromForeign("Euler", spacing); ok && sigmas != "" {
				asked.Set("sigmas", sigmas)
			}
		}
		return nil
	}
	scheduler, sigmas, _, ok := recipe.Available(name, spacing)
	if !ok {
		what := "Sampler not found"
		if _, _, known := recipe.FromForeign(name, ""); known {
			what = "Scheduler not found"
		}
		return &wire.Error{Status: http.StatusNotFound, Type: "invalid_request_error", Message: what}
	}
	asked.Set("scheduler", scheduler)
	if sigmas != "" {
		asked.Set("sigmas", sigmas)
	}
	return nil
}

// override reads override_settings, over the options that clients have set.
func (a *API) override(asked *ask.Asked, fields map[string]json.RawMessage) error {
	over := map[string]json.RawMessage{}
	a.mu.Lock()
	a.loadOptions()
	for name, raw := range a.options {
		over[name] = raw
	}
	a.mu.Unlock()
	if raw, ok := fields["override_settings"]; ok && string(raw) != "null" {
		var mine map[string]json.RawMessage
		if err := json.Unmarshal(raw, &mine); err != nil {
			return ask.Invalid("override_settings", "it must be an object")
		}
		for name, v := range mine {
			over[name] = v
		}
	}
	if raw, ok := fields["clip_skip"]; ok { // SillyTavern's
		over["CLIP_stop_at_last_layers"] = raw
	}
	if title := text(over, "sd_model_checkpoint"); title != "" {
		name, ok := a.findModel(title)
		if !ok {
			return &wire.Error{Status: http.StatusNotFound, Type: "invalid_request_error", Param: "sd_model_checkpoint", Message: "Checkpoint not found: " + title}
		}
		if name != a.Catalogue.Default() {
			asked.Set("model", name)
		}
	}
	if vae := text(over, "sd_vae"); vae != "" && vae != "Automatic" && vae != "None" {
		asked.Set("vae", vaeName(vae))
	}
	if n := number(over, "CLIP_stop_at_last_layers", 1); n > 1 && n <= 12 {
		asked.Set("clip-skip", int(n)-1) // there, 1 is the last layer
	}
	switch format := text(over, "samples_format"); strings.ToLower(format) {
	case "jpg", "jpeg":
		asked.Set("format", "jpg")
	case "webp":
		asked.Set("format", "webp")
	}
	if q := number(over, "jpeg_quality", 0); q >= 1 && q <= 100 && asked.Format != "" {
		asked.Set("quality", int(q))
	}
	switch text(over, "randn_source") {
	case "GPU", "NV":
		asked.Set("noise", "torch-cuda")
	}
	return nil
}

// facts are those of the model that is asked for.
func (a *API) facts(asked *ask.Asked) ask.Facts {
	return a.Catalogue.Facts(cmp.Or(asked.Model, a.Catalogue.Default()))
}

// distilledScale is Forge's scale of a model that reads it itself. Forge's clients send it for every model; to others it means nothing.
func distilledScale(model ask.Facts, fields map[string]json.RawMessage) (float64, bool) {
	scale, ok := optional(fields, "distilled_cfg_scale")
	return scale, ok && scale > 0 && model.ReadsGuidance
}

// distilled reads that scale, which is --cfg here: cfg_scale is then of a second call.
func (a *API) distilled(asked *ask.Asked, fields map[string]json.RawMessage) error {
	scale, ok := distilledScale(a.facts(asked), fields)
	if !ok {
		return nil
	}
	if scale > 1000 {
		return ask.Invalid("distilled_cfg_scale", "%v: it must be at most 1000", scale)
	}
	if g := recipe.SecondCall(asked.CFG); g != "" && asked.Has("cfg") && !asked.Has("guidance") {
		asked.Set("guidance", g)
	}
	asked.Set("cfg", scale)
	return nil
}

// fit reads the size, and rounds it to what the model makes, as that program does.
func (a *API) fit(asked *ask.Asked, fields map[string]json.RawMessage) error {
	factor := max(a.facts(asked).Factor, 8)
	for _, side := range []string{"width", "height"} {
		f, ok := optional(fields, side)
		if !ok || f == 0 {
			continue // the model's own: 512 there is what most models draw
		}
		if f < 1 || f > recipe.MaxSide || f != math.Trunc(f) {
			return ask.Invalid(side, "%v: it must be from 1 to %d", f, recipe.MaxSide)
		}
		asked.Set(side, max((int(f)+factor/2)/factor, 1)*factor)
	}
	return nil
}

// run has pictures made and answers with them. A client that goes away takes its job with it.
func (a *API) run(w http.ResponseWriter, r *http.Request, fields map[string]json.RawMessage, asked ask.Asked) error {
	if err := a.scripts(&asked, fields); err != nil {
		return err
	}
	requests, err := a.Read.Requests(asked)
	if err != nil {
		return err
	}
	client := web.Client(r)
	id := dispatch.NewID()
	defer a.begin(client, id, text(fields, "force_task_id"))()
	id, _, err = a.Jobs.Submit(dispatch.Submission{Trace: trace.From(r.Context()).String(), ID: id, Requests: requests, Origin: "sdapi", Client: client})
	if err != nil {
		return err
	}
	w.Header().Set("X-Job", id)
	job, err := a.Jobs.Wait(r.Context(), id)
	if err != nil {
		if r.Context().Err() != nil {
			a.Jobs.Cancel(id)
		}
		return err
	}
	out := Answer{Images: []string{}, Parameters: fields}
	var made []dispatch.Result
	for _, result := range a.Jobs.Results(id) {
		switch {
		case dispatch.IsCancelled(result.Err):
		case result.Err != nil && dispatch.IsUsage(result.Err):
			return ask.Invalid("", "%v", result.Err)
		case result.Err != nil:
			return &wire.Error{Status: http.StatusInternalServerError, Type: "server_error", Message: result.Err.Error()}
		default:
			made = append(made, result)
		}
	}
	send := fields["send_images"] == nil || truth(fields, "send_images")
	for _, m := range made {
		if !send {
			break
		}
		data, err := a.Jobs.File(m.Record)
		if err != nil {
			return err
		}
		out.Images = append(out.Images, base64.StdEncoding.EncodeToString(data))
	}
	if !truth(fields, "include_init_images") {
		shown := map[string]json.RawMessage{}
		for name, raw := range fields {
			if shown[name] = raw; name == "init_images" || name == "mask" {
				shown[name] = json.RawMessage("null")
			}
		}
		out.Parameters = shown
	}
	out.Info, err = info(a, fields, job, requests, made)
	if err != nil {
		return err
	}
	web.JSON(w, http.StatusOK, out)
	return nil
}

// img2img starts from the first of init_images.
func (a *API) img2img(w http.ResponseWriter, r *http.Request) error {
	fields, err := a.fields(w, r)
	if err != nil {
		return err
	}
	var images []string
	if raw := fields["init_images"]; raw != nil {
		if err := json.Unmarshal(raw, &images); err != nil {
			return ask.Invalid("init_images", "it must be a list of pictures in base64")
		}
	}
	if len(images) == 0 {
		return &wire.Error{Status: http.StatusNotFound, Type: "invalid_request_error", Message: "Init image not found"}
	}
	asked, err := a.read(fields)
	if err != nil {
		return err
	}
	if !asked.Has("strength") {
		asked.Set("strength", 0.75)
	}
	if s := asked.Strength; s != nil && *s == 0 {
		asked.Set("strength", 0.01) // nothing is painted there, either
	}
	if err := a.takePicture(&asked, "init", "init_images", images[0]); err != nil {
		return err
	}
	if mask := text(fields, "mask"); mask != "" {
		if err := a.takePicture(&asked, "mask", "mask", mask); err != nil {
			return err
		}
		if err := inpainting(&asked, fields); err != nil {
			return err
		}
	}
	switch int(number(fields, "resize_mode", 0)) {
	case 0, 3:
		asked.Set("resize", "stretch")
	case 1:
		asked.Set("resize", "fill")
	case 2:
		asked.Set("resize", "fit")
	}
	if f, ok := optional(fields, "image_cfg_scale"); ok { // clients send it for every model
		with := asked
		with.Set("image-cfg", f)
		if q := (jobs.Request{Given: with.Given}); a.Read.Check(&q) == nil {
			asked = with
		}
	}
	return a.run(w, r, fields, asked)
}

// takePicture keeps a picture in base64, and has a setting name it.
func (a *API) takePicture(asked *ask.Asked, setting, field, text string) error {
	data, err := openai.FromBase64(text)
	if err != nil {
		return ask.Invalid(field, "%v", err)
	}
	u, err := a.Uploads.Put(data)
	if err != nil {
		return ask.Invalid(field, "%v", err)
	}
	asked.Set(setting, "upload:"+u.ID)
	return nil
}

// inpainting reads what is said of a mask.
func inpainting(asked *ask.Asked, fields map[string]json.RawMessage) error {
	blur := number(fields, "mask_blur", 4)
	for _, side := range []string{"mask_blur_x", "mask_blur_y"} {
		blur = max(blur, number(fields, side, 0))
	}
	if blur > 0 && blur <= 512 {
		asked.Set("mask-blur", int(blur))
	}
	if number(fields, "inpainting_mask_invert", 0) == 1 || truth(fields, "inpainting_mask_invert") {
		asked.Set("invert-mask", true)
	}
	if fields["inpaint_full_res"] == nil || truth(fields, "inpaint_full_res") { // which is the usual thing there
		asked.Set("inpaint", recipe.InpaintMasked)
		asked.Set("padding", int(min(max(number(fields, "inpaint_full_res_padding", 0), 0), recipe.MaxSide)))
	}
	return nil
}

// started is how job_timestamp is written.
func started(job wire.Job) string {
	at := job.Created
	if job.Started != nil {
		at = *job.Started
	}
	return at.In(time.Local).Format("20060102150405")
}
