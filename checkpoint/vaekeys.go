package checkpoint

import (
	"fmt"
	"strings"
)

// vaeLDM gives the diffusers names of an autoencoder with LDM names. LDM counts the decoder's levels from the finest,
// diffusers in the order in which they run; its attention is made of 1×1 convolutions, there of matrices.
func vaeLDM(t table) table {
	names := t.Names()
	var list []rename
	add := func(from, format string, args ...any) {
		list = append(list, rename{from, fmt.Sprintf(format, args...)})
	}
	for _, side := range []string{"encoder", "decoder"} {
		add(side+".norm_out", "%s.conv_norm_out", side)
		add(side+".mid.block_1", "%s.mid_block.resnets.0", side)
		add(side+".mid.block_2", "%s.mid_block.resnets.1", side)
		add(side+".mid.attn_1", "%s.mid_block.attentions.0", side)
	}
	for _, i := range indices(names, "encoder.down.") {
		from := fmt.Sprintf("encoder.down.%d.", i)
		for _, j := range indices(names, from+"block.") {
			add(fmt.Sprintf("%sblock.%d", from, j), "encoder.down_blocks.%d.resnets.%d", i, j)
		}
		add(from+"downsample", "encoder.down_blocks.%d.downsamplers.0", i)
	}
	ups := indices(names, "decoder.up.")
	for _, i := range ups {
		from, to := fmt.Sprintf("decoder.up.%d.", i), len(ups)-1-i
		for _, j := range indices(names, from+"block.") {
			add(fmt.Sprintf("%sblock.%d", from, j), "decoder.up_blocks.%d.resnets.%d", to, j)
		}
		add(from+"upsample", "decoder.up_blocks.%d.upsamplers.0", to)
	}
	m, out := newRenamer(list), table{}
	for _, name := range names {
		to, _ := m.apply(name)
		to = strings.Replace(to, ".nin_shortcut.", ".conv_shortcut.", 1)
		for _, conv := range []string{"encoder.quant_conv.", "decoder.post_quant_conv."} { // FLUX.2's
			if rest, ok := strings.CutPrefix(to, conv); ok {
				to = conv[len("encoder."):] + rest
			}
		}
		out[to] = t[name]
	}
	return vaeAttention(out)
}

// vaeAttention gives the attention in the middle the names and shapes that diffusers has now: it was called query, key,
// value and proj_attn before, and q, k, v and proj_out in LDM.
func vaeAttention(t table) table {
	out := table{}
	for name, a := range t {
		at := strings.Index(name, ".mid_block.attentions.0.")
		if at < 0 {
			out[name] = a
			continue
		}
		at += len(".mid_block.attentions.0.")
		part, last, _ := strings.Cut(name[at:], ".")
		switch part {
		case "norm":
			part = "group_norm"
		case "q", "query":
			part = "to_q"
		case "k", "key":
			part = "to_k"
		case "v", "value":
			part = "to_v"
		case "proj_out", "proj_attn":
			part = "to_out.0"
		}
		if last == "weight" && strings.HasPrefix(part, "to_") {
			a = squeezed(a, 2)
		}
		out[name[:at]+part+"."+last] = a
	}
	return out
}
