package recipe

import (
	"slices"
)

// comfyNode is a node of a ComfyUI graph in the form of its API: inputs are values, or links [node, output].
type comfyNode struct {
	class  string
	inputs object
}

// comfyGraph is walked backwards, from a picture to what it was made from. Each node is visited a bounded number of times, so
// that a circle ends.
type comfyGraph struct {
	nodes map[string]comfyNode
	steps int
	out   *Foreign
	told  map[string]bool // what is unused, said once

	uses      []Use   // adapters
	distilled float64 // the scale that FLUX.1 reads; 0: none is given
}

const maxComfySteps = 20_000

// readComfyAPI reads the chunk prompt: {"3": {"class_type": "KSampler", "inputs": {…}}, …}; the graph may lie under "prompt" in turn.
func readComfyAPI(o object) (Foreign, bool) {
	if inner := o.object("prompt"); inner != nil {
		if f, ok := readComfyAPI(inner); ok {
			return f, true
		}
	}
	g := comfyGraph{nodes: map[string]comfyNode{}}
	for id, v := range o {
		node, _ := v.(map[string]any)
		if class := text(node["class_type"]); class != "" {
			inputs, _ := node["inputs"].(map[string]any)
			g.nodes[id] = comfyNode{class, inputs}
		}
	}
	return g.read()
}

// comfyWidgets are the names of the values that the workflow format lists without a name, of the nodes that are followed. The
// value after a seed says how the next one is chosen; it has no name.
var comfyWidgets = map[string][]string{
	"KSampler":                 {"seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"},
	"KSamplerAdvanced":         {"add_noise", "noise_seed", "steps", "cfg", "sampler_name", "scheduler", "start_at_step", "end_at_step", "return_with_leftover_noise"},
	"SamplerCustom":            {"add_noise", "noise_seed", "cfg"},
	"RandomNoise":              {"noise_seed"},
	"KSamplerSelect":           {"sampler_name"},
	"BasicScheduler":           {"scheduler", "steps", "denoise"},
	"KarrasScheduler":          {"steps", "sigma_max", "sigma_min", "rho"},
	"ExponentialScheduler":     {"steps", "sigma_max", "sigma_min"},
	"PolyexponentialScheduler": {"steps", "sigma_max", "sigma_min", "rho"},
	"SDTurboScheduler":         {"steps", "denoise"},
	"AlignYourStepsScheduler":  {"model_type", "steps", "denoise"},
	"CFGGuider":                {"cfg"},
	"CLIPTextEncode":           {"text"},
	"CLIPSetLastLayer":         {"stop_at_clip_layer"},
	"CheckpointLoaderSimple":   {"ckpt_name"},
	"CheckpointLoader":         {"config_name", "ckpt_name"},
	"UNETLoader":               {"unet_name", "weight_dtype"},
	"EmptyLatentImage":         {"width", "height", "batch_size"},
	"EmptySD3LatentImage":      {"width", "height", "batch_size"},
	"LoraLoader":               {"lora_name", "strength_model", "strength_clip"},
	"LoraLoaderModelOnly":      {"lora_name", "strength_model"},
	"ControlNetLoader":         {"control_net_name"},
	"ControlNetApply":          {"strength"},
	"ControlNetApplyAdvanced":  {"strength", "start_percent", "end_percent"},
	"RescaleCFG":               {"multiplier"},
	"LatentUpscale":            {"upscale_method", "width", "height", "crop"},
	"LatentUpscaleBy":          {"upscale_method", "scale_by"},
	"LoadImage":                {"image", "upload"},
	"PrimitiveNode":            {"value"},
	"PrimitiveInt":             {"value"},
	"PrimitiveFloat":           {"value"},
	"PrimitiveString":          {"value"},
	"PrimitiveStringMultiline": {"value"},
	"StringConcatenate":        {"string_a", "string_b", "delimiter"},
}

// readComfyWorkflow reads the chunk workflow, which the interface draws its graph from, as the API's form.
func readComfyWorkflow(o object) (Foreign, bool) {
	if inner := o.object("workflow"); inner != nil {
		o = inner
	}
	nodes, links := o.list("nodes"), o.list("links")
	if nodes == nil || links == nil {
		return Foreign{}, false
	}
	from := map[string][]any{} // link → [node, output]
	for _, l := range links {
		switch l := l.(type) {
		case []any:
			if len(l) >= 5 {
				from[text(l[0])] = []any{text(l[1]), l[2]}
			}
		case map[string]any:
			from[text(l["id"])] = []any{text(l["origin_id"]), l["origin_slot"]}
		}
	}
	g := comfyGraph{nodes: map[string]comfyNode{}}
	for _, v := range nodes {
		n, _ := v.(map[string]any)
		node := object(n)
		class, id := node.text("type"), node.text("id")
		if class == "" || id == "" {
			continue
		}
		inputs := object{}
		var widgets []string
		for _, in := range node.list("inputs") {
			input, _ := in.(map[string]any)
			name := text(input["name"])
			if widget, ok := input["widget"].(map[string]any); ok {
				widgets = append(widgets, or(text(widget["name"]), name))
			}
			if link, ok := from[text(input["link"])]; ok {
				inputs[name] = link
			}
		}
		if known, ok := comfyWidgets[class]; ok {
			widgets = known
		}
		nameWidgets(inputs, widgets, n["widgets_values"])
		switch mode := node.text("mode"); {
		case mode == "2": // muted
			continue
		case mode == "4": // bypassed
			class = "Reroute"
		}
		g.nodes[id] = comfyNode{class, inputs}
	}
	return g.read()
}

// nameWidgets gives the values of a node their names; what is linked stays so.
func nameWidgets(inputs object, names []string, values any) {
	put := func(name string, v any) {
		if _, linked := inputs[name].([]any); !linked {
			inputs[name] = v
		}
	}
	switch values := values.(type) {
	case map[string]any:
		for name, v := range values {
			put(name, v)
		}
	case []any:
		at := 0
		for _, name := range names {
			if at >= len(values) {
				return
			}
			put(name, values[at])
			if at++; (name == "seed" || name == "noise_seed") && at < len(values) && slices.Contains([]string{"fixed", "increment", "decrement", "randomize"}, text(values[at])) {
				at++
			}
		}
		if len(names) == 0 && len(values) > 0 {
			put("value", values[0])
		}
	}
}
