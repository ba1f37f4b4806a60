package checkpoint

import (
	"fmt"
	"strings"

	"darkroom/tensor"
)

// textHF gives the text encoder of transformers' names its usual form: text_model. in front, which old files lack, and no
// position_ids, which some merges left with wrong values.
func textHF(t table) table {
	out := table{}
	for name, a := range t {
		if strings.HasSuffix(name, "position_ids") || name == "logit_scale" {
			continue
		}
		for _, part := range []string{"embeddings.", "encoder.", "final_layer_norm."} {
			if strings.HasPrefix(name, part) {
				name = "text_model." + name
			}
		}
		if name == "text_projection" { // [width, projection], used as x·P
			name, a = "text_projection.weight", transposeOf(a)
		}
		out[name] = a
	}
	return out
}

func transposeOf(a tensor.Array) tensor.Array {
	if len(a.Shape()) != 2 {
		return a
	}
	return transposed{a}
}

// openClipLayer are the names within a layer of open_clip's text transformer.
var openClipLayer = newRenamer([]rename{
	{"ln_1", "layer_norm1"}, {"ln_2", "layer_norm2"}, {"mlp.c_fc", "mlp.fc1"}, {"mlp.c_proj", "mlp.fc2"}, {"attn.out_proj", "self_attn.out_proj"},
})

// textOpenCLIP gives transformers' names to an open_clip text encoder. Its query, key and value matrices lie on top of
// each other in one.
func textOpenCLIP(t table) (table, error) {
	out := table{}
	for name, a := range t {
		switch name {
		case "positional_embedding":
			out["text_model.embeddings.position_embedding.weight"] = a
			continue
		case "token_embedding.weight":
			out["text_model.embeddings.token_embedding.weight"] = a
			continue
		case "ln_final.weight", "ln_final.bias":
			out["text_model.final_layer_norm"+strings.TrimPrefix(name, "ln_final")] = a
			continue
		case "text_projection":
			out["text_projection.weight"] = transposeOf(a)
			continue
		case "text_projection.weight":
			out[name] = a
			continue
		case "logit_scale", "attn_mask":
			continue
		}
		rest, ok := strings.CutPrefix(name, "transformer.resblocks.")
		number, rest, ok2 := strings.Cut(rest, ".")
		if !ok || !ok2 {
			out[name] = a
			continue
		}
		layer := "text_model.encoder.layers." + number + "."
		if last, ok := strings.CutPrefix(rest, "attn.in_proj_"); ok {
			s := a.Shape()
			if len(s) == 0 || s[0]%3 != 0 {
				return nil, fmt.Errorf("tensor %q is %v: three matrices on top of each other are needed", name, s)
			}
			for i, part := range []string{"q_proj.", "k_proj.", "v_proj."} {
				out[layer+"self_attn."+part+last] = tensor.Rows(a, i*s[0]/3, (i+1)*s[0]/3)
			}
			continue
		}
		rest, _ = openClipLayer.apply(rest)
		out[layer+rest] = a
	}
	return out, nil
}

// penultimate leaves off layer 23, the last of OpenCLIP-H's, and the projection: Stable Diffusion 2 reads the layer before
// it, and its folders do not have the last. Files that were converted from such a folder do not have it either.
func penultimate(t table) table {
	out := table{}
	for name, a := range t {
		if !strings.HasPrefix(name, "text_model.encoder.layers.23.") && name != "text_projection.weight" {
			out[name] = a
		}
	}
	return out
}
