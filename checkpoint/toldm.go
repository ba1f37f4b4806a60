package checkpoint

import (
	"fmt"
	"strings"

	"darkroom/tensor"
)

// Joined gives a model's parts the names of a single file as the original code has them, which nearly all programs read.
// marks are keys without values, such as v_pred.
func Joined(f Family, parts map[string]Weights, marks ...string) (Weights, error) {
	out := table{}
	put := func(prefix string, t table) {
		for name, a := range t {
			out[prefix+name] = a
		}
	}
	tables := map[string]table{}
	for part, w := range parts {
		t := table{}
		for _, name := range w.Names() {
			if a, ok := w.Array(name); ok && !strings.HasSuffix(name, "position_ids") {
				t[name] = a
			}
		}
		tables[part] = t
	}
	if tables["transformer"] != nil {
		return joinedTransformer(f, tables)
	}
	for part, t := range tables {
		switch {
		case part == "unet":
			put("model.diffusion_model.", unetToLDM(t))
		case part == "vae":
			put("first_stage_model.", vaeToLDM(vaeAttention(t)))
		case part == "text_encoder" && f == SD1:
			put("cond_stage_model.transformer.", textHF(t))
		case part == "text_encoder" && f == SD2:
			put("cond_stage_model.model.", textToOpenCLIP(textHF(t)))
		case part == "text_encoder":
			put("conditioner.embedders.0.transformer.", textHF(t))
		case part == "text_encoder_2" && f == Refiner:
			put("conditioner.embedders.0.model.", textToOpenCLIP(textHF(t)))
		case part == "text_encoder_2":
			put("conditioner.embedders.1.model.", textToOpenCLIP(textHF(t)))
		default:
			return nil, fmt.Errorf("a single file has no place for the part %s", part)
		}
	}
	for _, m := range marks {
		out[m] = placed{tensor.Tensor{DType: tensor.F32, Shape: tensor.Shape{0}}, false}
	}
	return out, nil
}

// unetToLDM numbers blocks as if each level had two, which is what programs go by where one has fewer.
func unetToLDM(t table) table {
	names, has := t.Names(), map[string]bool{}
	most := 0
	for _, n := range names {
		has[n] = true
	}
	for _, level := range indices(names, "down_blocks.") {
		most = max(most, len(indices(names, fmt.Sprintf("down_blocks.%d.resnets.", level))))
	}
	spelling, out := ldmSpelling(names, has, max(most, 2)+1), table{}
	for name, a := range t {
		to, _ := ldmName(name, spelling)
		out[to] = a
	}
	return out
}

// vaeToLDM is the inverse of vaeLDM.
func vaeToLDM(t table) table {
	names := t.Names()
	ups := len(indices(names, "decoder.up_blocks."))
	r := renamer{}
	for _, side := range []string{"encoder", "decoder"} {
		r[side+".conv_norm_out"] = side + ".norm_out"
		r[side+".mid_block.resnets.0"], r[side+".mid_block.resnets.1"] = side+".mid.block_1", side+".mid.block_2"
		at, to := side+".mid_block.attentions.0.", side+".mid.attn_1."
		r[at+"group_norm"], r[at+"to_q"], r[at+"to_k"], r[at+"to_v"], r[at+"to_out.0"] = to+"norm", to+"q", to+"k", to+"v", to+"proj_out"
	}
	for _, i := range indices(names, "encoder.down_blocks.") {
		from, to := fmt.Sprintf("encoder.down_blocks.%d.", i), fmt.Sprintf("encoder.down.%d.", i)
		for _, j := range indices(names, from+"resnets.") {
			r[fmt.Sprintf("%sresnets.%d", from, j)] = fmt.Sprintf("%sblock.%d", to, j)
		}
		r[from+"downsamplers.0"] = to + "downsample"
	}
	for _, i := range indices(names, "decoder.up_blocks.") {
		from, to := fmt.Sprintf("decoder.up_blocks.%d.", i), fmt.Sprintf("decoder.up.%d.", ups-1-i)
		for _, j := range indices(names, from+"resnets.") {
			r[fmt.Sprintf("%sresnets.%d", from, j)] = fmt.Sprintf("%sblock.%d", to, j)
		}
		r[from+"upsamplers.0"] = to + "upsample"
	}
	out := table{}
	for name, a := range t {
		to, _ := r.apply(name)
		to = strings.Replace(to, ".conv_shortcut.", ".nin_shortcut.", 1)
		if s := a.Shape(); len(s) == 2 && strings.Contains(to, ".mid.attn_1.") {
			a = reshaped{a, append(append(tensor.Shape{}, s...), 1, 1)}
		}
		out[to] = a
	}
	return out
}

// textToOpenCLIP is the inverse of textOpenCLIP.
func textToOpenCLIP(t table) table {
	inside := renamer{"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}
	out := table{}
	for name, a := range t {
		name = strings.TrimPrefix(name, "text_model.")
		rest, isLayer := strings.CutPrefix(name, "encoder.layers.")
		switch {
		case name == "text_projection.weight":
			out["text_projection"] = transposeOf(a)
		case name == "embeddings.token_embedding.weight":
			out["token_embedding.weight"] = a
		case name == "embeddings.position_embedding.weight":
			out["positional_embedding"] = a
		case strings.HasPrefix(name, "final_layer_norm."):
			out["ln_final."+strings.TrimPrefix(name, "final_layer_norm.")] = a
		case isLayer:
			number, rest, _ := strings.Cut(rest, ".")
			to := "transformer.resblocks." + number + "."
			if last, ok := strings.CutPrefix(rest, "self_attn.q_proj."); ok {
				at := "text_model.encoder.layers." + number + ".self_attn."
				if k, v := t[at+"k_proj."+last], t[at+"v_proj."+last]; k != nil && v != nil {
					out[to+"attn.in_proj_"+last] = &stacked{[]tensor.Array{a, k, v}}
				}
			} else if !strings.HasPrefix(rest, "self_attn.k_proj.") && !strings.HasPrefix(rest, "self_attn.v_proj.") {
				rest, _ = inside.apply(rest)
				out[to+rest] = a
			}
		default:
			out[name] = a
		}
	}
	return out
}
