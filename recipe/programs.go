package recipe

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// readSwarm reads SwarmUI's: {"sui_image_params": {…}, "sui_extra_data": {…}}.
func readSwarm(o object) (Foreign, bool) {
	p := o.object("sui_image_params")
	if p == nil {
		return Foreign{}, false
	}
	f := Foreign{Program: strings.TrimSpace("SwarmUI " + p.text("swarm_version"))}
	f.fields(p)
	f.learn("prompt", "negative")
	names := map[string]string{
		"prompt": "prompt", "negativeprompt": "negative", "seed": "seed", "steps": "steps", "cfgscale": "cfg", "width": "width", "height": "height",
		"model": "model", "clipstopatlayer": "clip_skip",
	}
	f.take(p, names)
	f.sampling(comfySampler(&f, p.text("sampler")), p.text("scheduler"), comfy)
	weights, texts := p.list("loraweights"), p.list("loratencweights")
	for i, name := range p.list("loras") {
		u := Use{text(name), 1, 1}
		if i < len(weights) {
			u.Weight, u.TextWeight = strength(text(weights[i])), strength(text(weights[i]))
		}
		if i < len(texts) {
			u.TextWeight = strength(text(texts[i]))
		}
		f.ask(u)
	}
	f.leave(p, names, "loras", "loraweights", "loratencweights", "sampler", "scheduler", "swarm_version", "images", "date", "generation_time", "aspectratio", "automaticvae", "sidelength")
	return f, true
}

// readInvoke reads InvokeAI's since 3.0: the chunk invokeai_metadata.
func readInvoke(o object) (Foreign, bool) {
	if !o.has("positive_prompt") || !o.has("scheduler") && !o.has("generation_mode") {
		return Foreign{}, false
	}
	f := Foreign{Program: strings.TrimSpace("InvokeAI " + o.text("app_version"))}
	f.fields(o)
	f.learn("prompt", "negative")
	names := map[string]string{
		"positive_prompt": "prompt", "negative_prompt": "negative", "seed": "seed", "steps": "steps", "cfg_scale": "cfg", "width": "width", "height": "height",
		"cfg_rescale_multiplier": "guidance_rescale", "rand_device": "noise",
	}
	f.take(o, names)
	f.invokeSkip(o.text("clip_skip"))
	if model := o.object("model"); model != nil {
		f.takeModel(model, "name", "model_name")
	} else if name := o.text("model"); name != "" {
		f.setting("model", name)
	}
	f.sampling(o.text("scheduler"), "", invoke)
	for _, item := range o.list("loras") { // each with its model, which was called lora once
		one, _ := item.(map[string]any)
		inner := object(one).object("model")
		if inner == nil {
			inner = object(one).object("lora")
		}
		weight := strength(text(one["weight"]))
		f.ask(Use{or(inner.text("name"), inner.text("model_name")), weight, weight})
	}
	for _, x := range []struct{ key, inner string }{{"controlnets", "control_model"}, {"ipAdapters", "ip_adapter_model"}, {"t2iAdapters", "t2i_adapter_model"}} {
		for _, item := range o.list(x.key) {
			f.unused(x.key, describe(item, x.inner))
		}
	}
	f.leave(o, names, "app_version", "generation_mode", "scheduler", "model", "clip_skip", "positive_style_prompt", "negative_style_prompt", "loras", "controlnets", "ipAdapters", "t2iAdapters",
		"canvas_v2_metadata")
	return f, true
}

// invokeSkip: there, 1 leaves one layer out.
func (f *Foreign) invokeSkip(value string) {
	n, ok := parseWhole(value)
	if !ok || n < 0 {
		return
	}
	f.setting("clip_skip", fmt.Sprint(n+1))
}

func (f *Foreign) takeModel(o object, keys ...string) {
	for _, key := range keys {
		if name := o.text(key); name != "" {
			f.setting("model", name)
			return
		}
	}
}

// describe names an adapter and its weight.
func describe(item any, inner string) string {
	o, _ := item.(map[string]any)
	named := object(o)
	if m := named.object(inner); m != nil {
		named = m
	}
	name := ""
	for _, key := range []string{"name", "model_name", "lora_name", "key"} {
		if name = named.text(key); name != "" {
			break
		}
	}
	if name == "" {
		return shown(item)
	}
	for _, key := range []string{"weight", "control_weight", "strength"} {
		if w := text(o[key]); w != "" {
			return name + " (" + w + ")"
		}
	}
	return name
}

// readOldInvoke reads InvokeAI's before 3.0: the chunk sd-metadata, with the settings under image; and the one of InvokeAI 3.0's
// first versions, whose metadata lies under a node's name.
func readOldInvoke(o object) (Foreign, bool) {
	image := o.object("image")
	if image == nil || !image.has("prompt") {
		return Foreign{}, false
	}
	f := Foreign{Program: strings.TrimSpace("InvokeAI " + o.text("app_version"))}
	f.fields(image)
	prompt := image.text("prompt")
	if list := image.list("prompt"); len(list) > 0 { // [{"prompt": …, "weight": 1}]
		var parts []string
		for _, item := range list {
			if part, ok := item.(map[string]any); ok {
				parts = append(parts, text(part["prompt"]))
			}
		}
		prompt = strings.Join(parts, " ")
	}
	f.splitInvokePrompt(prompt)
	names := map[string]string{"seed": "seed", "steps": "steps", "cfg_scale": "cfg", "width": "width", "height": "height"}
	f.take(image, names)
	f.setting("model", o.text("model_weights"))
	f.sampling(image.text("sampler"), "", family{noise: "torch-cuda"})
	f.leave(image, names, "prompt", "sampler", "type", "postprocessing", "orig_hash")
	return f, true
}

// bracketed finds the negative prompt of InvokeAI before 3.0, which stands in square brackets in the prompt.
var bracketed = regexp.MustCompile(`\[([^\[\]]*)\]`)

func (f *Foreign) splitInvokePrompt(prompt string) {
	var negative []string
	for _, m := range bracketed.FindAllStringSubmatch(prompt, -1) {
		negative = append(negative, strings.TrimSpace(m[1]))
	}
	f.Recipe.Prompt = strings.TrimSpace(bracketed.ReplaceAllString(prompt, ""))
	f.Recipe.Negative = strings.Join(negative, " ")
	f.learn("prompt", "negative")
}

// dream matches InvokeAI's and its forerunners' command lines: "a cat" -s50 -S 123 -W512 -H512 -C7.5 -A k_lms.
var (
	dream       = regexp.MustCompile(`^\s*"((?:[^"\\]|\\.)*)"\s+(-.*)$`)
	dreamOption = regexp.MustCompile(`(?:^|\s)(?:-([sSWHCAtUGfIMnN])\s*|--([a-z_]+)[ =])([^\s-]\S*|-?[\d.]+)`)
	dreamNames  = map[string]string{"s": "steps", "S": "seed", "W": "width", "H": "height", "C": "cfg", "A": "sampler",
		"steps": "steps", "seed": "seed", "width": "width", "height": "height", "cfg_scale": "cfg", "sampler": "sampler", "sampler_name": "sampler"}
)

// parseDream reads such a line.
func parseDream(text string) (Foreign, error) {
	m := dream.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return Foreign{}, ErrNoParameters
	}
	f := Foreign{Program: "InvokeAI"}
	f.splitInvokePrompt(strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(m[1]))
	sampler := ""
	for _, o := range dreamOption.FindAllStringSubmatch(m[2], maxFields) {
		key, value := o[1]+o[2], o[3]
		f.Fields = append(f.Fields, Field{"-" + key, value})
		switch setting := dreamNames[key]; {
		case setting == "sampler":
			sampler = value
		case setting == "" || !f.setting(setting, value):
			f.unused("-"+key, value)
		}
	}
	if !f.Knows("steps") && !f.Knows("seed") {
		return Foreign{}, ErrNoParameters
	}
	f.sampling(sampler, "", webUI)
	return f, nil
}

// readNovelAI reads NovelAI's: the chunk Comment, or the whole of what it hides in the pixels, where Comment is one of the keys.
func readNovelAI(o object) (Foreign, bool) {
	p := o
	if inner := o.object("Comment"); inner != nil && inner.has("steps") {
		p = inner
		if !p.has("prompt") {
			p["prompt"] = o["Description"]
		}
	}
	if !p.has("uc", "steps", "sampler") {
		return Foreign{}, false
	}
	f := Foreign{Program: "NovelAI"}
	f.fields(p)
	f.learn("prompt", "negative")
	names := map[string]string{"prompt": "prompt", "uc": "negative", "seed": "seed", "steps": "steps", "scale": "cfg", "width": "width", "height": "height",
		"cfg_rescale": "guidance_rescale"}
	f.take(p, names)
	if source := o.text("Source"); source != "" {
		f.setting("model", source)
	}
	schedule := p.text("noise_schedule")
	f.sampling(p.text("sampler"), schedule, family{noise: "torch-cuda"})
	f.leave(p, names, "sampler", "noise_schedule", "request_type", "signed_hash", "n_samples", "version", "strength", "noise", "extra_noise_seed", "dynamic_thresholding_percentile",
		"dynamic_thresholding_mimic_scale", "lora_unet_weights", "lora_clip_weights")
	return f, true
}

// withNovelAI puts the prompt, which NovelAI keeps in Description, beside the settings in Comment.
func withNovelAI(texts map[string]string) (Foreign, bool) {
	if texts["Comment"] == "" {
		return Foreign{}, false
	}
	o := object{}
	for _, key := range []string{"Comment", "Description", "Source", "Software"} {
		if v := texts[key]; v != "" {
			o[key] = v
		}
	}
	return readNovelAI(o)
}

// easyNames are Easy Diffusion's keys: of its JSON, of its text files, and of its chunks, one a setting.
var easyNames = map[string]string{
	"prompt": "prompt", "negative_prompt": "negative", "seed": "seed", "num_inference_steps": "steps", "guidance_scale": "cfg", "width": "width", "height": "height",
	"use_stable_diffusion_model": "model",
	"Prompt":                     "prompt", "Negative Prompt": "negative", "Seed": "seed", "Steps": "steps", "Guidance Scale": "cfg", "Width": "width", "Height": "height",
	"Stable Diffusion model": "model",
}

var easySilent = []string{"sampler_name", "Sampler", "scheduler_name", "Scheduler", "output_format", "output_quality", "metadata_output_format", "stream_image_progress", "show_only_filtered_image",
	"num_outputs", "vram_usage_level", "session_id", "block_nsfw", "original_prompt", "active_tags", "inactive_tags", "save_to_disk_path", "used_random_seed", "created_at"}

// readEasyDiffusion reads Easy Diffusion's JSON: the settings alone, or with the task around them.
func readEasyDiffusion(o object) (Foreign, bool) {
	if inner := o.object("reqBody"); inner != nil {
		o = inner
	}
	if !o.has("prompt") || !o.has("num_inference_steps") || !o.has("guidance_scale") {
		return Foreign{}, false
	}
	f := Foreign{Program: "Easy Diffusion"}
	f.easy(o)
	return f, true
}

func (f *Foreign) easy(o object) {
	f.fields(o)
	f.learn("prompt", "negative")
	f.take(o, easyNames)
	sampler, schedule := o.text("sampler_name"), o.text("scheduler_name")
	if sampler == "" {
		sampler, schedule = o.text("Sampler"), o.text("Scheduler")
	}
	f.sampling(sampler, schedule, diffuser)
	if strength, ok := parseFinite(o.text("clip_skip")); ok && strength > 0 || strings.EqualFold(o.text("clip_skip"), "true") || strings.EqualFold(o.text("Clip Skip"), "true") {
		f.setting("clip_skip", "2")
	}
	used := f.easyLoRAs(o)
	f.leave(o, easyNames, append(append([]string{"clip_skip", "Clip Skip"}, used...), easySilent...)...)
}

// easyLoRAs reads Easy Diffusion's adapters, one or several with their weights, in JSON. The keys that it read are returned.
func (f *Foreign) easyLoRAs(o object) []string {
	const names, weights = "use_lora_model", "lora_alpha"
	list, alphas := o.list(names), o.list(weights)
	for i, name := range list {
		u := Use{text(name), 1, 1}
		if i < len(alphas) {
			u.Weight, u.TextWeight = strength(text(alphas[i])), strength(text(alphas[i]))
		}
		f.ask(u)
	}
	if list == nil {
		return nil
	}
	return []string{names, weights}
}

// parseEasyText reads Easy Diffusion's text files: "Prompt: …", "Steps: 25", a setting a line.
func parseEasyText(text string) (Foreign, error) {
	o := object{}
	for _, line := range strings.Split(cleanText(text), "\n") {
		key, value, ok := strings.Cut(line, ":")
		if !ok || len(o) > maxFields {
			continue
		}
		o[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	if !o.has("Prompt", "Steps", "Guidance Scale") {
		return Foreign{}, ErrNoParameters
	}
	f := Foreign{Program: "Easy Diffusion"}
	f.easy(o)
	return f, nil
}

// withEasyDiffusion reads its chunks of a PNG, one a setting.
func withEasyDiffusion(texts map[string]string) (Foreign, bool) {
	o := object{}
	for key, value := range texts {
		if _, ok := easyNames[key]; ok || slices.Contains(easySilent, key) || strings.HasPrefix(key, "use_") || strings.HasPrefix(key, "lora") || key == "clip_skip" {
			o[key] = value
		}
	}
	if !o.has("num_inference_steps", "guidance_scale") && !o.has("Steps", "Guidance Scale") {
		return Foreign{}, false
	}
	f := Foreign{Program: "Easy Diffusion"}
	f.easy(o)
	return f, true
}

// readDrawThings reads Draw Things': short keys, in an XMP packet's user comment.
func readDrawThings(o object) (Foreign, bool) {
	if !o.has("c", "steps", "sampler") {
		return Foreign{}, false
	}
	f := Foreign{Program: "Draw Things"}
	f.fields(o)
	f.learn("prompt", "negative")
	names := map[string]string{"c": "prompt", "uc": "negative", "seed": "seed", "steps": "steps", "scale": "cfg", "size": "size", "model": "model"}
	f.take(o, names)
	f.sampling(o.text("sampler"), "", family{noise: "torch-cpu"})
	for _, item := range o.list("lora") {
		inner, _ := item.(map[string]any)
		f.unused("lora", strings.TrimSpace(text(inner["model"])+" "+text(inner["weight"])))
	}
	f.leave(o, names, "sampler", "lora", "v2", "profile", "seed_mode", "strength")
	return f, true
}

// readFooocus reads Fooocus's and Fooocus-MRE's JSON.
func readFooocus(o object) (Foreign, bool) {
	if !o.has("prompt") || !o.has("sampler") && !o.has("sampler_name") && !o.has("steps") || !o.has("seed") {
		return Foreign{}, false
	}
	var f Foreign
	f.learn("prompt", "negative")
	f.Recipe.Prompt = o.text("prompt")
	f.Recipe.Negative = o.text("negative_prompt")
	mre := o.has("real_prompt") || o.has("cfg") && o.has("width")
	if mre { // what styles made of the prompts
		f.setting("prompt", or(first(o["real_prompt"]), f.Recipe.Prompt))
		f.setting("negative", or(first(o["real_negative_prompt"]), f.Recipe.Negative))
	}
	for _, key := range o.keys() {
		value := shown(o[key])
		if key == "loras" {
			for _, item := range o.list(key) { // [file, weight, hash]
				if one, _ := item.([]any); len(one) > 1 {
					f.ask(Use{text(one[0]), strength(text(one[1])), strength(text(one[1]))})
				}
			}
			continue
		}
		if value == "" || value == "None" || slices.Contains([]string{"prompt", "negative_prompt", "real_prompt", "real_negative_prompt", "full_prompt", "full_negative_prompt"}, key) {
			continue
		}
		if name := fooocusKeys[key]; name != "" {
			key = name
		}
		f.Fields = append(f.Fields, Field{key, value})
	}
	slices.SortFunc(f.Fields, func(a, b Field) int { return strings.Compare(a.Key, b.Key) })
	if !f.Has("Seed") {
		return Foreign{}, false
	}
	f.translate()
	if !strings.HasPrefix(f.Program, "Fooocus") && (mre || o.has("software")) {
		f.Program = strings.TrimSpace(o.text("software"))
		f.Recipe.Noise = comfy.noise
	}
	return f, true
}

// first is a text, or the first of a list of them.
func first(v any) string {
	if list, ok := v.([]any); ok && len(list) > 0 {
		return text(list[0])
	}
	return text(v)
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// fooocusKeys are the keys of Fooocus's own JSON form of the parameters, and the keys that they have in the text.
var fooocusKeys = map[string]string{
	"steps": "Steps", "sampler": "Sampler", "sampler_name": "Sampler", "scheduler": "Schedule type", "guidance_scale": "CFG scale", "cfg": "CFG scale",
	"seed": "Seed", "resolution": "Size", "base_model": "Model", "base_model_name": "Model", "base_model_hash": "Model hash",
	"clip_skip": "Clip skip", "version": "Version", "software": "Version", "width": "Width", "height": "Height",
}
