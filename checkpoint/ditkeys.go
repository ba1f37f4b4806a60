package checkpoint

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"darkroom/tensor"
)

// The names that transformers have where they come from, and in files of one part alone, against diffusers'.

// ditName is where an array of the original goes: whole, or rows [from, to) of each `of`, or with its halves changed over.
type ditName struct {
	name         string
	from, to, of int // of 0: the whole
	swapped      bool
}

// rows are those of an array with so many that the name gets.
func (n ditName) rows(all int) (from, to int) { return all * n.from / n.of, all * n.to / n.of }

// array is what the original's becomes.
func (n ditName) array(a tensor.Array) tensor.Array {
	shape := a.Shape()
	switch {
	case len(shape) == 0:
	case n.of > 0:
		from, to := n.rows(shape[0])
		return tensor.Rows(a, from, to)
	case n.swapped:
		half := shape[0] / 2
		return tensor.Stack(tensor.Rows(a, half, 2*half), tensor.Rows(a, 0, half))
	}
	return a
}

// shared are the names of layers that the original has in one, each with so many shares of the rows; no shares: one each.
func shared(names []string, shares []int) []ditName {
	var all []ditName
	sum := 0
	for i, name := range names {
		share := 1
		if shares != nil {
			share = shares[i]
		}
		all = append(all, ditName{name: name, from: sum, to: sum + share})
		sum += share
	}
	for i := range all {
		all[i].of = sum
	}
	return all
}

// joint is a layer of the original that diffusers has in several.
type joint struct {
	from   string
	to     []string
	shares []int
}

// blockNames are the names of one kind of layers.
type blockNames struct {
	from, to string // what stands before the layer's number
	renames  []rename
	joint    []joint
}

// spelling is how a family's original names are written by diffusers.
type spelling struct {
	outer   []rename
	blocks  []blockNames
	swapped map[string]string // layers whose halves change places
	last    string            // one of those in the last block alone, after its number
}

// ditNames gives an original name in diffusers' spelling; a name that is diffusers' own stays. last is the number of the last block.
func (p *spelling) ditNames(name string, last int) []ditName {
	renamed := func(name string, list []rename) string {
		for _, r := range list {
			if rest, ok := strings.CutPrefix(name, r.from); ok && (rest == "" || rest[0] == '.') {
				return r.to + rest
			}
		}
		return name
	}
	name = strings.TrimSuffix(name, ".scale")
	for _, b := range p.blocks {
		rest, ok := strings.CutPrefix(name, b.from)
		if !ok {
			continue
		}
		number, inner, _ := strings.Cut(rest, ".")
		to := b.to + number + "."
		for _, j := range b.joint {
			if end, ok := strings.CutPrefix(inner, j.from); ok && (end == "" || end[0] == '.') {
				all := shared(j.to, j.shares)
				for i := range all {
					all[i].name = to + all[i].name + end
				}
				return all
			}
		}
		swapped := p.last != "" && strings.HasPrefix(inner, p.last) && number == strconv.Itoa(last)
		return []ditName{{name: normWeight(to + renamed(inner, b.renames)), swapped: swapped}}
	}
	for from, to := range p.swapped {
		if rest, ok := strings.CutPrefix(name, from); ok {
			return []ditName{{name: to + rest, swapped: true}}
		}
	}
	return []ditName{{name: renamed(name, p.outer)}}
}

// original is the original's name of a layer: ditNames the other way round.
func (p *spelling) original(base string) string {
	back := func(name string, list []rename) string {
		for _, r := range list {
			if name == r.to {
				return r.from
			}
		}
		return name
	}
	for _, b := range p.blocks {
		rest, ok := strings.CutPrefix(base, b.to)
		if !ok {
			continue
		}
		number, inner, _ := strings.Cut(rest, ".")
		for _, j := range b.joint {
			if slices.Contains(j.to, inner) {
				return b.from + number + "." + j.from
			}
		}
		if original := back(inner, b.renames); original != inner {
			return b.from + number + "." + original
		}
		return base
	}
	for from, to := range p.swapped {
		if base == to {
			return from
		}
	}
	return back(base, p.outer)
}

// zImageNames gives Z-Image's original name in diffusers' spelling; a name that is diffusers' own stays.
func zImageNames(name string, _ int) []ditName {
	for _, p := range []string{"final_layer.", "x_embedder."} {
		if strings.HasPrefix(name, p) {
			return []ditName{{name: "all_" + p[:len(p)-1] + ".2-1." + strings.TrimPrefix(name, p)}}
		}
	}
	if base, end, ok := strings.Cut(name, ".attention.qkv."); ok {
		all := shared([]string{"to_q", "to_k", "to_v"}, nil)
		for i := range all {
			all[i].name = base + ".attention." + all[i].name + "." + end
		}
		return all
	}
	for _, r := range [][2]string{{".attention.out.", ".attention.to_out.0."}, {".attention.k_norm.", ".attention.norm_k."}, {".attention.q_norm.", ".attention.norm_q."}} {
		name = strings.Replace(name, r[0], r[1], 1)
	}
	return []ditName{{name: name}}
}

// finalModulation are the halves that diffusers has the other way round: shift, then scale in the original.
var finalModulation = map[string]string{"final_layer.adaLN_modulation.1": "norm_out.linear"}

var attentionJoints = []joint{
	{"img_attn.qkv", []string{"attn.to_q", "attn.to_k", "attn.to_v"}, nil}, {"txt_attn.qkv", []string{"attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"}, nil},
}

var fluxDouble = []rename{
	{"img_attn.norm.query_norm", "attn.norm_q"}, {"img_attn.norm.key_norm", "attn.norm_k"}, {"img_attn.proj", "attn.to_out.0"},
	{"txt_attn.norm.query_norm", "attn.norm_added_q"}, {"txt_attn.norm.key_norm", "attn.norm_added_k"}, {"txt_attn.proj", "attn.to_add_out"},
}

var flux2Spelling = &spelling{
	outer: []rename{
		{"img_in", "x_embedder"}, {"txt_in", "context_embedder"},
		{"time_in.in_layer", "time_guidance_embed.timestep_embedder.linear_1"}, {"time_in.out_layer", "time_guidance_embed.timestep_embedder.linear_2"},
		{"guidance_in.in_layer", "time_guidance_embed.guidance_embedder.linear_1"}, {"guidance_in.out_layer", "time_guidance_embed.guidance_embedder.linear_2"},
		{"double_stream_modulation_img.lin", "double_stream_modulation_img.linear"}, {"double_stream_modulation_txt.lin", "double_stream_modulation_txt.linear"},
		{"single_stream_modulation.lin", "single_stream_modulation.linear"}, {"final_layer.linear", "proj_out"},
	},
	blocks: []blockNames{
		{"double_blocks.", "transformer_blocks.", append(slices.Clone(fluxDouble), []rename{
			{"img_mlp.0", "ff.linear_in"}, {"img_mlp.2", "ff.linear_out"}, {"txt_mlp.0", "ff_context.linear_in"}, {"txt_mlp.2", "ff_context.linear_out"},
		}...), attentionJoints},
		{"single_blocks.", "single_transformer_blocks.", []rename{
			{"linear1", "attn.to_qkv_mlp_proj"}, {"linear2", "attn.to_out"}, {"norm.query_norm", "attn.norm_q"}, {"norm.key_norm", "attn.norm_k"},
		}, nil},
	},
	swapped: finalModulation,
}

var flux1Spelling = &spelling{
	outer: []rename{
		{"img_in", "x_embedder"}, {"txt_in", "context_embedder"},
		{"time_in.in_layer", "time_text_embed.timestep_embedder.linear_1"}, {"time_in.out_layer", "time_text_embed.timestep_embedder.linear_2"},
		{"guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_1"}, {"guidance_in.out_layer", "time_text_embed.guidance_embedder.linear_2"},
		{"vector_in.in_layer", "time_text_embed.text_embedder.linear_1"}, {"vector_in.out_layer", "time_text_embed.text_embedder.linear_2"}, {"final_layer.linear", "proj_out"},
	},
	blocks: []blockNames{
		{"double_blocks.", "transformer_blocks.", append(slices.Clone(fluxDouble), []rename{
			{"img_mod.lin", "norm1.linear"}, {"txt_mod.lin", "norm1_context.linear"},
			{"img_mlp.0", "ff.net.0.proj"}, {"img_mlp.2", "ff.net.2"}, {"txt_mlp.0", "ff_context.net.0.proj"}, {"txt_mlp.2", "ff_context.net.2"},
		}...), attentionJoints},
		{"single_blocks.", "single_transformer_blocks.", []rename{
			{"modulation.lin", "norm.linear"}, {"linear2", "proj_out"}, {"norm.query_norm", "attn.norm_q"}, {"norm.key_norm", "attn.norm_k"},
		}, []joint{{"linear1", []string{"attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"}, []int{1, 1, 1, 4}}}},
	},
	swapped: finalModulation,
}

func sd3Names(name string, last int) []ditName {
	if name == "pos_embed" {
		return []ditName{{name: "pos_embed.pos_embed"}}
	}
	return sd3Spelling.ditNames(name, last)
}

var sd3Spelling = &spelling{
	outer: []rename{
		{"x_embedder.proj", "pos_embed.proj"}, {"t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_1"},
		{"t_embedder.mlp.2", "time_text_embed.timestep_embedder.linear_2"}, {"y_embedder.mlp.0", "time_text_embed.text_embedder.linear_1"},
		{"y_embedder.mlp.2", "time_text_embed.text_embedder.linear_2"}, {"final_layer.linear", "proj_out"},
	},
	blocks: []blockNames{{"joint_blocks.", "transformer_blocks.", []rename{
		{"x_block.adaLN_modulation.1", "norm1.linear"}, {"context_block.adaLN_modulation.1", "norm1_context.linear"}, {"x_block.attn.ln_q", "attn.norm_q"},
		{"x_block.attn.ln_k", "attn.norm_k"}, {"context_block.attn.ln_q", "attn.norm_added_q"}, {"context_block.attn.ln_k", "attn.norm_added_k"},
		{"x_block.attn.proj", "attn.to_out.0"}, {"context_block.attn.proj", "attn.to_add_out"}, {"x_block.attn2.ln_q", "attn2.norm_q"}, {"x_block.attn2.ln_k", "attn2.norm_k"},
		{"x_block.attn2.proj", "attn2.to_out.0"}, {"x_block.mlp.fc1", "ff.net.0.proj"}, {"x_block.mlp.fc2", "ff.net.2"}, {"context_block.mlp.fc1", "ff_context.net.0.proj"},
		{"context_block.mlp.fc2", "ff_context.net.2"},
	}, []joint{
		{"x_block.attn.qkv", []string{"attn.to_q", "attn.to_k", "attn.to_v"}, nil}, {"x_block.attn2.qkv", []string{"attn2.to_q", "attn2.to_k", "attn2.to_v"}, nil},
		{"context_block.attn.qkv", []string{"attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"}, nil},
	}}},
	swapped: finalModulation, last: "context_block.adaLN_modulation.1",
}

// normWeight gives a norm its weight's name, where the original calls it scale, which was cut off.
func normWeight(name string) string {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if strings.HasPrefix(last, "norm_") {
		return name + ".weight"
	}
	return name
}

// ditNames are the spellings of families of transformers: diffusers' names of an original one, given the number of the last block.
var ditNames = map[Family]func(name string, last int) []ditName{
	ZImage: zImageNames, Flux2: flux2Spelling.ditNames, Flux1: flux1Spelling.ditNames, SD3: sd3Names,
}

// lastBlock is the number of the last of the layers with two streams.
func lastBlock(names []string) int {
	return max(len(indices(names, "joint_blocks.")), len(indices(names, "transformer_blocks."))) - 1
}

// t5Names gives T5's encoder the names of transformers where it has llama.cpp's.
func t5Names(t table) table {
	if t["enc.blk.0.attn_q.weight"] == nil {
		return t
	}
	return llamaNames(t, map[string]string{
		"token_embd.weight": "shared.weight", "enc.output_norm.weight": "encoder.final_layer_norm.weight",
	}, "enc.blk.", "encoder.block.", newRenamer([]rename{
		{"attn_q", "layer.0.SelfAttention.q"}, {"attn_k", "layer.0.SelfAttention.k"}, {"attn_v", "layer.0.SelfAttention.v"}, {"attn_o", "layer.0.SelfAttention.o"},
		{"attn_rel_b", "layer.0.SelfAttention.relative_attention_bias"}, {"attn_norm", "layer.0.layer_norm"}, {"ffn_norm", "layer.1.layer_norm"},
		{"ffn_gate", "layer.1.DenseReluDense.wi_0"}, {"ffn_up", "layer.1.DenseReluDense.wi_1"}, {"ffn_down", "layer.1.DenseReluDense.wo"},
	}))
}

// qwenNames gives a language model's arrays the names of transformers' Qwen3 where they have llama.cpp's.
func qwenNames(t table) table {
	if t["token_embd.weight"] == nil {
		return t
	}
	return llamaNames(t, map[string]string{
		"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight",
	}, "blk.", "model.layers.", newRenamer([]rename{
		{"attn_norm", "input_layernorm"}, {"ffn_norm", "post_attention_layernorm"}, {"attn_q", "self_attn.q_proj"}, {"attn_k", "self_attn.k_proj"},
		{"attn_v", "self_attn.v_proj"}, {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
		{"ffn_gate", "mlp.gate_proj"}, {"ffn_up", "mlp.up_proj"}, {"ffn_down", "mlp.down_proj"},
	}))
}

// llamaNames renames arrays from llama.cpp's names: those in outside, and those of layers, which begin with block and a
// number, to layer, the number and what inner says.
func llamaNames(t table, outside map[string]string, block, layer string, inner renamer) table {
	out := table{}
	for name, a := range t {
		if to, ok := outside[name]; ok {
			name = to
		} else if in, ok := strings.CutPrefix(name, block); ok {
			number, rest, _ := strings.Cut(in, ".")
			to, _ := inner.apply(rest)
			name = layer + number + "." + to
		}
		out[name] = a
	}
	return out
}

// ditFamily tells a family of transformers by diffusers' names of its layers; "" for other networks.
func ditFamily(names []string) Family {
	single, double := false, false
	for _, n := range names {
		switch {
		case strings.HasPrefix(n, "noise_refiner."):
			return ZImage
		case strings.HasPrefix(n, "double_stream_modulation_img."):
			return Flux2
		}
		single = single || strings.HasPrefix(n, "single_transformer_blocks.0.proj_mlp.")
		double = double || strings.HasPrefix(n, "transformer_blocks.0.norm1_context.linear.")
	}
	switch {
	case single:
		return Flux1
	case double:
		return SD3
	}
	return ""
}

// originalLayers are the layers of a transformer by the names of the original, with what they are among the names that
// diffusers has; nil for other families.
func originalLayers(names []string) map[string][]ditName {
	family := ditFamily(names)
	if family == "" {
		return nil
	}
	last := lastBlock(names)
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
		for _, d := range ditNames[family](original+".weight", last) {
			d.name = strings.TrimSuffix(d.name, ".weight")
			to = append(to, d)
		}
		out[original] = to
	}
	return out
}

// originalName is the original's name of a layer: ditNames the other way round.
func originalName(family Family, base string) string {
	switch family {
	case Flux2:
		return flux2Spelling.original(base)
	case Flux1:
		return flux1Spelling.original(base)
	case SD3:
		return sd3Spelling.original(base)
	}
	for _, r := range [][2]string{{"all_x_embedder.2-1", "x_embedder"}, {"all_final_layer.2-1.", "final_layer."}, {".attention.to_q", ".attention.qkv"},
		{".attention.to_k", ".attention.qkv"}, {".attention.to_v", ".attention.qkv"}, {".attention.to_out.0", ".attention.out"},
		{".attention.norm_q", ".attention.q_norm"}, {".attention.norm_k", ".attention.k_norm"}} {
		if strings.Contains(base, r[0]) {
			return strings.Replace(base, r[0], r[1], 1)
		}
	}
	return base
}

// of is what of an adapter's module is for a layer that has a part of its rows, or has them in another order.
func (m module) of(n ditName) (module, error) {
	if n.of == 0 && !n.swapped {
		return m, nil
	}
	out := module{}
	for part, a := range m {
		switch part {
		case "down", "mid", "alpha":
			out[part] = a
		case "up", "diff", "diff_b", "dora", "magnitude":
			if part == "dora" && a.Shape()[0] == 1 {
				return nil, fmt.Errorf("a %s of this kind does not fit a layer that the model has in several", part)
			}
			out[part] = n.array(a)
		default:
			return nil, fmt.Errorf("a change of the kind %s does not fit a layer that the model has in several", part)
		}
	}
	return out, nil
}
