package recipe

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// link is the node that an input comes from and the number of its output.
func (g *comfyGraph) link(v any) (id string, output int, ok bool) {
	pair, isList := v.([]any)
	if !isList || len(pair) != 2 {
		return "", 0, false
	}
	id = text(pair[0])
	output, _ = strconv.Atoi(text(pair[1]))
	_, ok = g.nodes[id]
	g.steps++
	return id, output, ok && g.steps < maxComfySteps
}

func (n comfyNode) isSampler() bool {
	if strings.HasSuffix(n.class, "Select") {
		return false
	}
	return n.inputs.has("latent_image") && (strings.Contains(n.class, "Sampler") || n.inputs.has("seed", "steps"))
}

func (n comfyNode) isOutput() bool {
	return strings.HasPrefix(n.class, "Save") || strings.HasPrefix(n.class, "Preview") || strings.Contains(n.class, "Save")
}

// ids are the nodes in the order of their numbers.
func (g *comfyGraph) ids() []string {
	ids := object{}
	for id := range g.nodes {
		ids[id] = nil
	}
	keys := ids.keys()
	slices.SortStableFunc(keys, func(a, b string) int {
		x, errX := strconv.Atoi(a)
		y, errY := strconv.Atoi(b)
		if errX != nil || errY != nil {
			return 0
		}
		return cmp.Compare(x, y)
	})
	return keys
}

func (g *comfyGraph) read() (Foreign, bool) {
	f := Foreign{Program: "ComfyUI"}
	g.out, g.told = &f, map[string]bool{}
	id := g.lastSampler()
	if id == "" {
		return Foreign{}, false
	}
	id = g.firstSampler(id)
	n := g.nodes[id]
	g.show(n)
	f.learn("prompt", "negative")
	g.seed(n)
	model := n.inputs["model"]
	positive, negative := n.inputs["positive"], n.inputs["negative"]
	cfg := n.inputs["cfg"]
	if guider, _, ok := g.follow(n.inputs["guider"]); ok {
		g.show(guider)
		model, cfg = guider.inputs["model"], guider.inputs["cfg"]
		positive, negative = guider.inputs["positive"], guider.inputs["negative"]
		if positive == nil {
			positive = guider.inputs["conditioning"]
			if cfg == nil {
				f.Recipe.CFG = 1 // a BasicGuider asks for the prompt alone
				f.learn("cfg")
			}
		}
		if guider.inputs.has("cond1") {
			positive, cfg = guider.inputs["cond1"], guider.inputs["cfg_conds"]
			g.unused("guider", guider.class)
		}
	}
	g.set("cfg", cfg)
	f.Recipe.Prompt = g.prompt(positive, "positive")
	f.Recipe.Negative = g.prompt(negative, "negative")
	sampler, schedule := g.value(n.inputs["sampler_name"]), g.value(n.inputs["scheduler"])
	g.set("steps", n.inputs["steps"])
	if chosen, _, ok := g.follow(n.inputs["sampler"]); ok {
		g.show(chosen)
		if sampler = g.value(chosen.inputs["sampler_name"]); sampler == "" {
			sampler = strings.TrimPrefix(strings.ToLower(chosen.class), "sampler")
		}
		g.set("eta", chosen.inputs["eta"])
	}
	if levels := g.sigmas(n.inputs["sigmas"]); levels != "" {
		schedule = levels
	}
	if v := g.value(n.inputs["denoise"]); v != "" && v != "1" && v != "1.0" {
		g.unused("denoise", v)
	}
	if end, ok := parseWhole(g.value(n.inputs["end_at_step"])); ok && f.Knows("steps") && end < f.Recipe.Steps {
		g.unused("end_at_step", fmt.Sprint(end))
	}
	g.latent(n.inputs["latent_image"])
	g.model(model)
	slices.Reverse(g.uses) // the way led from the sampler back to the file
	f.ask(g.uses...)
	if g.distilled > 0 {
		f.readScale(g.distilled)
	}
	f.sampling(comfySampler(&f, sampler), schedule, comfy)
	return f, true
}

// comfySampler: ComfyUI's ddim is euler.
func comfySampler(f *Foreign, sampler string) string {
	if strings.EqualFold(sampler, "ddim") {
		f.note("ComfyUI's ddim is euler")
		return "euler"
	}
	return sampler
}

func (g *comfyGraph) unused(key, value string) {
	if !g.told[key+value] {
		g.told[key+value] = true
		g.out.unused(key, value)
	}
}

// show lists a node's own values.
func (g *comfyGraph) show(n comfyNode) {
	for _, key := range n.inputs.keys() {
		if value := text(n.inputs[key]); value != "" && len(g.out.Fields) < maxFields {
			g.out.Fields = append(g.out.Fields, Field{n.class + "." + key, value})
		}
	}
}

// set takes an input as a setting, where there is one.
func (g *comfyGraph) set(setting string, input any) {
	if v := g.value(input); v != "" && !g.out.setting(setting, v) {
		g.out.unused(setting, v)
	}
}

// follow goes back over a link, and over nodes that only hand on.
func (g *comfyGraph) follow(v any) (n comfyNode, output int, ok bool) {
	id, output, ok := g.link(v)
	for ok && isHandOver(g.nodes[id].class) {
		before := id
		for _, key := range g.nodes[id].inputs.keys() {
			if next, out, linked := g.link(g.nodes[id].inputs[key]); linked {
				id, output = next, out
				break
			}
		}
		if id == before {
			return comfyNode{}, 0, false
		}
	}
	return g.nodes[id], output, ok
}

func isHandOver(class string) bool { return strings.HasPrefix(class, "Reroute") }

// value is what an input says, in itself or over links: of a primitive, a text node, a chain of texts.
func (g *comfyGraph) value(v any) string {
	if s := text(v); s != "" {
		return s
	}
	n, _, ok := g.follow(v)
	if !ok {
		return ""
	}
	class := strings.ToLower(n.class)
	if strings.Contains(class, "concat") || strings.Contains(class, "join") {
		return g.joined(n)
	}
	for _, key := range []string{"value", "noise_seed", "seed", "text", "string", "String", "prompt", "int", "float", "number", "INT", "FLOAT", "STRING", "Number", "Text", "input", "positive", "wildcard_text", "populated_text", "text_0"} {
		if in, there := n.inputs[key]; there {
			if s := g.value(in); s != "" {
				return s
			}
		}
	}
	return ""
}

// joined puts together the texts of a node that joins them, in the order of their names.
func (g *comfyGraph) joined(n comfyNode) string {
	delimiter, size := "", 0
	var parts []string
	for _, key := range n.inputs.keys() {
		switch {
		case strings.HasPrefix(key, "delim"), strings.HasPrefix(key, "separator"):
			delimiter = strings.ReplaceAll(g.value(n.inputs[key]), `\n`, "\n")
		case strings.Contains(key, "clean"), strings.Contains(key, "linebreak"):
		default:
			if s := g.value(n.inputs[key]); s != "" && size+len(s) < maxPrompt {
				parts = append(parts, s)
				size += len(s)
			}
		}
	}
	return strings.Join(parts, delimiter)
}

// lastSampler is the sampler that made the picture: the one that an output leads back to, or else the last of all.
func (g *comfyGraph) lastSampler() string {
	ids := g.ids()
	last := ""
	for _, id := range ids {
		if g.nodes[id].isOutput() {
			if found := g.samplerBefore(id, map[string]bool{}); found != "" {
				return found
			}
		}
		if g.nodes[id].isSampler() {
			last = id
		}
	}
	return last
}

// samplerBefore is the nearest sampler that a node depends on, by its picture or its latents.
func (g *comfyGraph) samplerBefore(id string, seen map[string]bool) string {
	if seen[id] {
		return ""
	}
	seen[id] = true
	n := g.nodes[id]
	for _, key := range n.inputs.keys() {
		next, _, ok := g.link(n.inputs[key])
		if !ok {
			continue
		}
		if g.nodes[next].isSampler() {
			return next
		}
		if found := g.samplerBefore(next, seen); found != "" {
			return found
		}
	}
	return ""
}

// firstSampler goes from a sampler back to the one that began with noise alone: those after it are second passes.
func (g *comfyGraph) firstSampler(id string) string {
	seen := map[string]bool{}
	for !seen[id] {
		seen[id] = true
		before := g.latentSampler(g.nodes[id].inputs["latent_image"], map[string]bool{})
		if before == "" || seen[before] {
			return id
		}
		n := g.nodes[id]
		g.unused("second pass", strings.TrimSpace(fmt.Sprintf("%s, steps %s, denoise %s", n.class, g.value(n.inputs["steps"]), g.value(n.inputs["denoise"]))))
		id = before
	}
	return id
}

// latentSampler is the sampler that latents come from, perhaps enlarged or by way of a picture; "" where there is none.
func (g *comfyGraph) latentSampler(v any, seen map[string]bool) string {
	id, _, ok := g.link(v)
	if !ok || seen[id] {
		return ""
	}
	seen[id] = true
	n := g.nodes[id]
	if n.isSampler() {
		return id
	}
	for _, key := range n.inputs.keys() {
		if slices.Contains([]string{"vae", "model", "clip", "upscale_model", "mask"}, key) {
			continue
		}
		if found := g.latentSampler(n.inputs[key], seen); found != "" {
			if strings.Contains(n.class, "pscale") {
				g.show(n)
			}
			return found
		}
	}
	return ""
}

// seed takes the noise of a sampler.
func (g *comfyGraph) seed(n comfyNode) {
	for _, key := range []string{"seed", "noise_seed"} {
		g.set("seed", n.inputs[key])
	}
	if noise, _, ok := g.follow(n.inputs["noise"]); ok {
		g.show(noise)
		g.set("seed", noise.inputs["noise_seed"])
	}
}

// sigmas is the schedule's name, and takes the number of steps.
func (g *comfyGraph) sigmas(v any) string {
	for range 20 {
		n, _, ok := g.follow(v)
		if !ok {
			return ""
		}
		g.show(n)
		g.set("steps", n.inputs["steps"])
		if d := g.value(n.inputs["denoise"]); d != "" && d != "1" && d != "1.0" {
			g.unused("denoise", d)
		}
		if name := g.value(n.inputs["scheduler"]); name != "" {
			return name
		}
		for class, name := range map[string]string{"KarrasScheduler": "karras", "ExponentialScheduler": "exponential", "PolyexponentialScheduler": "polyexponential",
			"SDTurboScheduler": "turbo", "AlignYourStepsScheduler": "ays", "BetaSamplingScheduler": "beta", "GITSScheduler": "gits"} {
			if n.class == class {
				return name
			}
		}
		if !n.inputs.has("sigmas") {
			g.unused("sigmas", n.class)
			return ""
		}
		g.unused("sigmas", n.class) // a part of them, or the other way round
		v = n.inputs["sigmas"]
	}
	return ""
}

// model goes back over what changes the model to the file that it was read from.
func (g *comfyGraph) model(v any) {
	for range 200 {
		n, _, ok := g.follow(v)
		if !ok {
			return
		}
		for _, key := range []string{"ckpt_name", "unet_name", "model_name", "gguf_name"} {
			if name := g.value(n.inputs[key]); name != "" && !g.out.Knows("model") {
				g.out.Fields = append(g.out.Fields, Field{n.class + "." + key, name})
				g.out.setting("model", name)
				return
			}
		}
		switch {
		case strings.Contains(n.class, "Lora") || strings.Contains(n.class, "LoRA"):
			g.lora(n)
		case n.class == "RescaleCFG":
			g.set("guidance_rescale", n.inputs["multiplier"])
		default:
			g.unused("model", n.class)
		}
		if v = n.inputs["model"]; v == nil {
			return
		}
	}
}

// lora notes the adapters of a node, which is met on the way to the model and on the way to the text encoder.
func (g *comfyGraph) lora(n comfyNode) {
	if name := g.value(n.inputs["lora_name"]); name != "" {
		u := Use{Name: name, Weight: strength(g.value(n.inputs["strength_model"]))}
		switch clip := g.value(n.inputs["strength_clip"]); {
		case clip != "":
			u.TextWeight = strength(clip)
		case !strings.Contains(n.class, "ModelOnly"):
			u.TextWeight = u.Weight
		}
		g.use(u)
		return
	}
	for _, key := range n.inputs.keys() { // nodes for several
		if o := n.inputs.object(key); o.has("lora", "strength") { // rgthree's
			u := Use{o.text("lora"), strength(o.text("strength")), strength(o.text("strength"))}
			if two := o.text("strengthTwo"); two != "" {
				u.TextWeight = strength(two)
			}
			if on := o.text("on"); on == "" || on == "true" {
				g.use(u)
			}
			continue
		}
		if s := shown(n.inputs[key]); strings.Contains(s, "safetensors") {
			g.unused("LoRA", s)
		}
	}
}

func (g *comfyGraph) use(u Use) {
	if !slices.Contains(g.uses, u) {
		g.uses = append(g.uses, u)
	}
}

// scale notes the guidance scale that distilled models read beside the prompt, and reports whether the node has one.
func (g *comfyGraph) scale(n comfyNode, role string) bool {
	v, ok := parseFinite(g.value(n.inputs["guidance"]))
	if ok && v > 0 && role == "positive" {
		g.distilled = v
	}
	return ok
}

// latent takes the size of the first latents.
func (g *comfyGraph) latent(v any) {
	for range 200 {
		n, _, ok := g.follow(v)
		if !ok {
			return
		}
		g.show(n)
		w, h := g.value(n.inputs["width"]), g.value(n.inputs["height"])
		if w == "" && h == "" {
			w, h = g.value(n.inputs["empty_latent_width"]), g.value(n.inputs["empty_latent_height"])
		}
		if w != "" && h != "" {
			if !g.out.setting("size", w+"x"+h) {
				g.unused("size", w+"x"+h)
			}
			return
		}
		if n.inputs.has("pixels") || n.inputs.has("image") {
			g.unused("begins with a picture", n.class)
			return
		}
		next := n.inputs["samples"]
		if next == nil {
			next = n.inputs["latent"]
		}
		v = next
	}
}

// prompt is the text of a conditioning; role says of which, where a node has both.
func (g *comfyGraph) prompt(v any, role string) string {
	return g.conditioning(v, role, 0)
}

func (g *comfyGraph) conditioning(v any, role string, depth int) string {
	n, output, ok := g.follow(v)
	if !ok || depth > 100 {
		return ""
	}
	if s := text(n.inputs[role]); s != "" { // a loader that takes the texts itself
		g.clip(n.inputs["clip"])
		g.set("clip_skip", n.inputs["clip_skip"])
		return s
	}
	if n.inputs.has("positive", "negative") { // a ControlNet and its like have two outputs
		g.control(n)
		role = []string{"positive", "negative"}[min(max(output, 0), 1)]
		return g.conditioning(n.inputs[role], role, depth+1)
	}
	for _, keys := range [][2]string{{"conditioning_to", "conditioning_from"}, {"conditioning_1", "conditioning_2"}} {
		if n.inputs.has(keys[0], keys[1]) {
			a, b := g.conditioning(n.inputs[keys[0]], role, depth+1), g.conditioning(n.inputs[keys[1]], role, depth+1)
			if len(a)+len(b) > maxPrompt {
				return a
			}
			if n.class == "ConditioningConcat" && a != "" && b != "" {
				return a + " BREAK " + b
			}
			g.unused("conditioning", n.class)
			return strings.Trim(a+", "+b, ", ")
		}
	}
	scaled := g.scale(n, role)
	if in, there := n.inputs["conditioning"]; there {
		switch {
		case scaled:
		case n.class == "ConditioningZeroOut":
			g.unused("conditioning", n.class)
			return ""
		case n.inputs.has("control_net"):
			g.control(n)
		default:
			g.unused("conditioning", n.class)
		}
		return g.conditioning(in, role, depth+1)
	}
	g.clip(n.inputs["clip"])
	for _, key := range []string{"text", "text_g", "text_l", "prompt", "t5xxl", "clip_l", role, "text_" + role, "string"} {
		if in, there := n.inputs[key]; there {
			if s := g.value(in); s != "" {
				if key == "text_g" && g.value(n.inputs["text_l"]) != s && g.value(n.inputs["text_l"]) != "" {
					g.unused("text_l", g.value(n.inputs["text_l"]))
				}
				return s
			}
		}
	}
	return ""
}

// control lists a ControlNet, or whatever else stands between the prompts and the sampler.
func (g *comfyGraph) control(n comfyNode) {
	name := n.class
	if loader, _, ok := g.follow(n.inputs["control_net"]); ok {
		name = or(g.value(loader.inputs["control_net_name"]), n.class)
	}
	g.unused("ControlNet", strings.TrimSpace(name+" "+g.value(n.inputs["strength"])))
}

// clip looks for layers that are left out, and for what else changes the text encoder.
func (g *comfyGraph) clip(v any) {
	for range 200 {
		n, _, ok := g.follow(v)
		if !ok {
			return
		}
		if layer := n.inputs["stop_at_clip_layer"]; layer != nil {
			g.show(n)
			g.set("clip_skip", layer)
		}
		if strings.Contains(n.class, "Lora") {
			g.lora(n)
		}
		if v = n.inputs["clip"]; v == nil {
			return
		}
	}
}
