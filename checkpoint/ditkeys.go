package checkpoint

import (
	"fmt"
	"strings"

	"darkroom/tensor"
)

// The names that transformers have where they come from, and in files of one part alone, against diffusers'.

// ditName is where an array of the original goes: whole, or a third of its rows, or with its halves changed over.
type ditName struct {
	name    string
	third   int // 1 to 3; 0: the whole
	swapped bool
}

// of is the array that the original's becomes.
func (n ditName) of(a tensor.Array) tensor.Array {
	shape := a.Shape()
	switch {
	case n.third > 0 && len(shape) > 0:
		rows := shape[0] / 3
		return tensor.Rows(a, (n.third-1)*rows, n.third*rows)
	case n.swapped && len(shape) > 0:
		half := shape[0] / 2
		return tensor.Stack(tensor.Rows(a, half, 2*half), tensor.Rows(a, 0, half))
	}
	return a
}

// zImageNames gives Z-Image's original name in diffusers' spelling; a name that is diffusers' own stays.
func zImageNames(name string) []ditName {
	for _, p := range []string{"final_layer.", "x_embedder."} {
		if strings.HasPrefix(name, p) {
			return []ditName{{name: "all_" + p[:len(p)-1] + ".2-1." + strings.TrimPrefix(name, p)}}
		}
	}
	if base, last, ok := strings.Cut(name, ".attention.qkv."); ok {
		var all []ditName
		for i, to := range []string{"to_q", "to_k", "to_v"} {
			all = append(all, ditName{name: base + ".attention." + to + "." + last, third: i + 1})
		}
		return all
	}
	for _, r := range [][2]string{{".attention.out.", ".attention.to_out.0."}, {".attention.k_norm.", ".attention.norm_k."}, {".attention.q_norm.", ".attention.norm_q."}} {
		name = strings.Replace(name, r[0], r[1], 1)
	}
	return []ditName{{name: name}}
}

// flux2Outer, flux2Double and flux2Single are FLUX.2's original names and diffusers'.
var (
	flux2Outer = []rename{
		{"img_in", "x_embedder"}, {"txt_in", "context_embedder"},
		{"time_in.in_layer", "time_guidance_embed.timestep_embedder.linear_1"}, {"time_in.out_layer", "time_guidance_embed.timestep_embedder.linear_2"},
		{"guidance_in.in_layer", "time_guidance_embed.guidance_embedder.linear_1"}, {"guidance_in.out_layer", "time_guidance_embed.guidance_embedder.linear_2"},
		{"double_stream_modulation_img.lin", "double_stream_modulation_img.linear"}, {"double_stream_modulation_txt.lin", "double_stream_modulation_txt.linear"},
		{"single_stream_modulation.lin", "single_stream_modulation.linear"}, {"final_layer.linear", "proj_out"},
	}
	flux2Double = []rename{
		{"img_attn.norm.query_norm", "attn.norm_q"}, {"img_attn.norm.key_norm", "attn.norm_k"}, {"img_attn.proj", "attn.to_out.0"},
		{"txt_attn.norm.query_norm", "attn.norm_added_q"}, {"txt_attn.norm.key_norm", "attn.norm_added_k"}, {"txt_attn.proj", "attn.to_add_out"},
		{"img_mlp.0", "ff.linear_in"}, {"img_mlp.2", "ff.linear_out"}, {"txt_mlp.0", "ff_context.linear_in"}, {"txt_mlp.2", "ff_context.linear_out"},
	}
	flux2Single = []rename{
		{"linear1", "attn.to_qkv_mlp_proj"}, {"linear2", "attn.to_out"}, {"norm.query_norm", "attn.norm_q"}, {"norm.key_norm", "attn.norm_k"},
	}
	flux2Joint = map[string][3]string{"img_attn.qkv": {"attn.to_q", "attn.to_k", "attn.to_v"}, "txt_attn.qkv": {"attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"}}
)

// flux2Names gives FLUX.2's original name in diffusers' spelling; a name that is diffusers' own stays.
func flux2Names(name string) []ditName {
	renamed := func(name string, list []rename) (string, bool) {
		for _, r := range list {
			if rest, ok := strings.CutPrefix(name, r.from); ok && (rest == "" || rest[0] == '.') {
				return r.to + rest, true
			}
		}
		return name, false
	}
	name = strings.TrimSuffix(name, ".scale")
	if rest, ok := strings.CutPrefix(name, "double_blocks."); ok {
		number, inner, _ := strings.Cut(rest, ".")
		to := "transformer_blocks." + number + "."
		for from, names := range flux2Joint {
			if last, ok := strings.CutPrefix(inner, from); ok {
				var all []ditName
				for i, n := range names {
					all = append(all, ditName{name: to + n + last, third: i + 1})
				}
				return all
			}
		}
		inner, _ = renamed(inner, flux2Double)
		return []ditName{{name: normWeight(to + inner)}}
	}
	if rest, ok := strings.CutPrefix(name, "single_blocks."); ok {
		number, inner, _ := strings.Cut(rest, ".")
		inner, _ = renamed(inner, flux2Single)
		return []ditName{{name: normWeight("single_transformer_blocks." + number + "." + inner)}}
	}
	if rest, ok := strings.CutPrefix(name, "final_layer.adaLN_modulation.1"); ok { // shift, then scale there
		return []ditName{{name: "norm_out.linear" + rest, swapped: true}}
	}
	name, _ = renamed(name, flux2Outer)
	return []ditName{{name: name}}
}

// normWeight gives a norm its weight's name, where the original calls it scale, which was cut off.
func normWeight(name string) string {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if strings.HasPrefix(last, "norm_") {
		return name + ".weight"
	}
	return name
}

// ditNames are the spellings of families of transformers.
var ditNames = map[Family]func(string) []ditName{ZImage: zImageNames, Flux2: flux2Names}

// qwenNames gives a language model's arrays the names of transformers' Qwen3 where they have llama.cpp's.
func qwenNames(t table) table {
	if t["token_embd.weight"] == nil {
		return t
	}
	inner := newRenamer([]rename{
		{"attn_norm", "input_layernorm"}, {"ffn_norm", "post_attention_layernorm"}, {"attn_q", "self_attn.q_proj"}, {"attn_k", "self_attn.k_proj"},
		{"attn_v", "self_attn.v_proj"}, {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
		{"ffn_gate", "mlp.gate_proj"}, {"ffn_up", "mlp.up_proj"}, {"ffn_down", "mlp.down_proj"},
	})
	out := table{}
	for name, a := range t {
		switch {
		case name == "token_embd.weight":
			name = "model.embed_tokens.weight"
		case name == "output_norm.weight":
			name = "model.norm.weight"
		case name == "output.weight":
			name = "lm_head.weight"
		case strings.HasPrefix(name, "blk."):
			number, rest, _ := strings.Cut(strings.TrimPrefix(name, "blk."), ".")
			to, _ := inner.apply(rest)
			name = "model.layers." + number + "." + to
		}
		out[name] = a
	}
	return out
}

// originalLayers are the layers of a transformer by the names of the original, with what they are among the names that
// diffusers has; nil for other families.
func originalLayers(names []string) map[string][]ditName {
	family := Family("")
	for _, n := range names {
		switch {
		case strings.HasPrefix(n, "noise_refiner."):
			family = ZImage
		case strings.HasPrefix(n, "double_stream_modulation_img."):
			family = Flux2
		}
	}
	if family == "" {
		return nil
	}
	out := map[string][]ditName{}
	for _, n := range names {
		base, ok := strings.CutSuffix(n, ".weight")
		if !ok {
			continue
		}
		original := originalName(family, base)
		if original == base {
			continue
		}
		var to []ditName
		for _, d := range ditNames[family](original + ".weight") {
			d.name = strings.TrimSuffix(d.name, ".weight")
			to = append(to, d)
		}
		out[original] = to
	}
	return out
}

// originalName is the original's name of a layer: ditNames the other way round.
func originalName(family Family, base string) string {
	if family == ZImage {
		for _, r := range [][2]string{{"all_x_embedder.2-1", "x_embedder"}, {"all_final_layer.2-1.", "final_layer."}, {".attention.to_q", ".attention.qkv"},
			{".attention.to_k", ".attention.qkv"}, {".attention.to_v", ".attention.qkv"}, {".attention.to_out.0", ".attention.out"}} {
			if strings.Contains(base, r[0]) {
				return strings.Replace(base, r[0], r[1], 1)
			}
		}
		return base
	}
	back := func(name string, list []rename) (string, bool) {
		for _, r := range list {
			if name == r.to {
				return r.from, true
			}
		}
		return name, false
	}
	for _, kind := range []struct {
		from, to string
		list     []rename
	}{{"transformer_blocks.", "double_blocks.", flux2Double}, {"single_transformer_blocks.", "single_blocks.", flux2Single}} {
		rest, ok := strings.CutPrefix(base, kind.from)
		if !ok {
			continue
		}
		number, inner, _ := strings.Cut(rest, ".")
		if original, ok := back(inner, kind.list); ok {
			return kind.to + number + "." + original
		}
		for original, names := range flux2Joint {
			for _, n := range names {
				if n == inner {
					return kind.to + number + "." + original
				}
			}
		}
		return base
	}
	if base == "norm_out.linear" {
		return "final_layer.adaLN_modulation.1"
	}
	original, _ := back(base, flux2Outer)
	return original
}

// of is what of an adapter's module is for a layer that has a part of its rows, or has them in another order.
func (m module) of(n ditName) (module, error) {
	if n.third == 0 && !n.swapped {
		return m, nil
	}
	out := module{}
	for part, a := range m {
		switch part {
		case "down", "mid", "alpha":
			out[part] = a
		case "up", "diff", "diff_b", "dora", "magnitude":
			if part == "dora" && a.Shape()[0] == 1 {
				return nil, fmt.Errorf("a %s of this kind does not fit a layer that the model has in three", part)
			}
			out[part] = n.of(a)
		default:
			return nil, fmt.Errorf("a change of the kind %s does not fit a layer that the model has in three", part)
		}
	}
	return out, nil
}
