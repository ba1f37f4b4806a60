package checkpoint

import (
	"fmt"
	"strings"
)

// layer is a layer of an open model, or what an adapter's layer is there: its rows may be those of several.
type layer struct {
	part string
	ditName
}

// nameMap finds the layers of an open model by the names that trainers write, with _ for each dot: lora_unet_ and a
// path of diffusers or of LDM. Such names are ambiguous by themselves; the model's own layers are not.
type nameMap struct {
	byPart map[string]map[string][]layer // part → flattened name → layers
}

// layerNames flattens every layer's name, of the U-Net in both spellings.
func layerNames(parts map[string]Weights) nameMap {
	m := nameMap{byPart: map[string]map[string][]layer{}}
	for part, w := range parts {
		flat := map[string][]layer{}
		m.byPart[part] = flat
		names := w.Names()
		has := map[string]bool{}
		for _, n := range names {
			has[n] = true
		}
		var spellings []renamer
		if part == "unet" {
			spellings = []renamer{ldmSpelling(names, has, 0), ldmSpelling(names, has, 3)}
		}
		for _, n := range names {
			base, ok := strings.CutSuffix(n, ".weight")
			if !ok {
				continue
			}
			l := []layer{{part, ditName{name: base}}}
			flat[flatten(base)] = l
			if strings.HasPrefix(part, "text_encoder") { // transformers' names, of either age
				bare := strings.TrimPrefix(base, "text_model.")
				flat[flatten(bare)], flat[flatten("text_model."+bare)] = l, l
			}
			for _, s := range spellings {
				if ldm, ok := ldmName(base, s); ok {
					flat[flatten(ldm)] = l
				}
			}
		}
		if part == "transformer" {
			for original, to := range originalLayers(names) {
				var all []layer
				for _, n := range to {
					all = append(all, layer{part, n})
				}
				flat[flatten(original)] = all
			}
		}
	}
	return m
}

func flatten(name string) string { return strings.ReplaceAll(name, ".", "_") }

type adapterPrefix struct{ prefix, part string }

// adapterPrefixes name the part that a module belongs to. Those without one may stand before others.
var adapterPrefixes = []adapterPrefix{
	{"lora_unet_", "unet"}, {"lora_te1_", "text_encoder"}, {"lora_te2_", "text_encoder_2"}, {"lora_te3_", "text_encoder_3"}, {"lora_te_", "text_encoder"},
	{"lora_transformer_", "transformer"}, {"lycoris_", ""}, {"base_model.model.", ""}, {"text_encoder_2.", "text_encoder_2"}, {"text_encoder_3.", "text_encoder_3"},
	{"text_encoder.", "text_encoder"}, {"unet.", "unet"}, {"unet_", "unet"}, {"diffusion_model.", "unet"}, {"model.diffusion_model.", "unet"},
	{"transformer.", "transformer"}, {"clip_l.", "text_encoder"}, {"clip_g.", "text_encoder_2"}, {"te1_", "text_encoder"}, {"te2_", "text_encoder_2"}, {"te_", "text_encoder"},
	{"lora_unet.", "unet"}, {"lora_te1.", "text_encoder"}, {"lora_te2.", "text_encoder_2"}, {"lora_te3.", "text_encoder_3"}, {"lora_te.", "text_encoder"},
	{"lora_transformer.", "transformer"}, {"text_encoders.", ""}, {"cond_stage_model.", "text_encoder"}, {"conditioner.embedders.0.", "text_encoder"},
}

// isText reports whether a module is a text encoder's by its own name, which CLIP's encoders share.
func isText(name string) bool { return strings.HasPrefix(flatten(name), "text_model_") }

// find are the layers for a module's name; without one, the part is what the name says.
func (m nameMap) find(name string) (layers []layer, part string, ok bool) {
	denoiser := "unet"
	if m.byPart["unet"] == nil {
		denoiser = "transformer"
	}
	part = denoiser
	for {
		if l, ok := m.byPart[part][flatten(name)]; ok {
			return l, part, true
		}
		cut := false
		for _, p := range adapterPrefixes {
			rest, ok := strings.CutPrefix(name, p.prefix)
			if !ok {
				continue
			}
			name, cut = rest, true
			if p.part != "" && !(p.part == "transformer" && strings.HasPrefix(part, "text_encoder")) { // clip_l.transformer.text_model…
				part = p.part
			}
			if part == "unet" { // some trainers call every denoiser so
				part = denoiser
			}
			if part == "text_encoder" && m.byPart[part] == nil { // the refiner's only one is SDXL's second
				part = "text_encoder_2"
			}
			break
		}
		if !cut {
			if part != denoiser || !isText(name) {
				return nil, part, false
			}
			part = "text_encoder" // of an adapter that is for one network alone
		}
	}
}

// ldmSpelling gives the LDM names of a U-Net's blocks, numbered without gaps, or with so many places a level as if each had
// layers-1 blocks.
func ldmSpelling(names []string, has map[string]bool, layers int) renamer {
	r := renamer{
		"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "time_embedding.cond_proj": "time_embed.cond_proj",
		"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
		"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
	}
	n := 1
	for _, level := range indices(names, "down_blocks.") {
		block, start := fmt.Sprintf("down_blocks.%d.", level), n
		for _, j := range indices(names, block+"resnets.") {
			r[fmt.Sprintf("%sresnets.%d", block, j)] = fmt.Sprintf("input_blocks.%d.0", n)
			r[fmt.Sprintf("%sattentions.%d", block, j)] = fmt.Sprintf("input_blocks.%d.1", n)
			n++
		}
		if layers > 0 {
			n = start + layers - 1
		}
		r[block+"downsamplers.0.conv"] = fmt.Sprintf("input_blocks.%d.0.op", n)
		n++
	}
	middle := 0
	for _, j := range indices(names, "mid_block.resnets.") {
		r[fmt.Sprintf("mid_block.resnets.%d", j)] = fmt.Sprintf("middle_block.%d", middle)
		middle++
		if has[fmt.Sprintf("mid_block.attentions.%d.norm.weight", j)] {
			r[fmt.Sprintf("mid_block.attentions.%d", j)] = fmt.Sprintf("middle_block.%d", middle)
			middle++
		}
	}
	n = 0
	for _, level := range indices(names, "up_blocks.") {
		block, start := fmt.Sprintf("up_blocks.%d.", level), n
		for _, j := range indices(names, block+"resnets.") {
			r[fmt.Sprintf("%sresnets.%d", block, j)] = fmt.Sprintf("output_blocks.%d.0", n)
			r[fmt.Sprintf("%sattentions.%d", block, j)] = fmt.Sprintf("output_blocks.%d.1", n)
			n++
		}
		if layers > 0 {
			n = start + layers
		}
		slot := 1
		if has[block+"attentions.0.norm.weight"] {
			slot = 2
		}
		r[block+"upsamplers.0.conv"] = fmt.Sprintf("output_blocks.%d.%d.conv", n-1, slot)
	}
	return r
}

// resnetLDM are the names within a residual block, from diffusers to LDM.
var resnetLDM = func() renamer {
	r := renamer{}
	for _, p := range resnetKeys {
		r[p[1]] = p[0]
	}
	return r
}()

// ldmName is a layer's LDM name.
func ldmName(name string, blocks renamer) (string, bool) {
	block, rest, isResnet := cutResnet(name)
	if !isResnet {
		return blocks.apply(name)
	}
	to, ok := blocks.apply(strings.TrimSuffix(block, "."))
	rest, ok2 := resnetLDM.apply(rest)
	return to + "." + rest, ok && ok2
}
