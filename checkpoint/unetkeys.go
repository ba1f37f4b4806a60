package checkpoint

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A U-Net of the original code (CompVis's latent-diffusion, and Stability's after it) lists its blocks in one row,
// input_blocks.0, 1, …; diffusers has levels with resnets and attentions. The structure is read from the keys, so that
// distilled models with fewer blocks, and gaps in the row, come out right.

// resnetKeys are the names within a residual block.
var resnetKeys = [][2]string{
	{"in_layers.0", "norm1"}, {"in_layers.2", "conv1"}, {"emb_layers.1", "time_emb_proj"},
	{"out_layers.0", "norm2"}, {"out_layers.3", "conv2"}, {"skip_connection", "conv_shortcut"},
}

// rename is a prefix of names that becomes another.
type rename struct{ from, to string }

// unetRenames are the prefixes of blocks, without the names within them, from LDM to diffusers.
func unetRenames(has func(string) bool, names []string) ([]rename, error) {
	r := []rename{
		{"time_embed.0", "time_embedding.linear_1"}, {"time_embed.2", "time_embedding.linear_2"},
		{"time_embed.cond_proj", "time_embedding.cond_proj"},
		{"label_emb.0.0", "add_embedding.linear_1"}, {"label_emb.0.2", "add_embedding.linear_2"},
		{"input_blocks.0.0", "conv_in"}, {"out.0", "conv_norm_out"}, {"out.2", "conv_out"},
	}
	add := func(from, format string, args ...any) { r = append(r, rename{from, fmt.Sprintf(format, args...)}) }
	resnet := func(block string) bool { return has(block + ".in_layers.0.weight") }
	attention := func(block string) bool { return has(block+".norm.weight") && has(block+".proj_in.weight") }

	level, j := 0, 0
	for _, n := range indices(names, "input_blocks.") {
		b := fmt.Sprintf("input_blocks.%d", n)
		switch {
		case n == 0:
		case has(b + ".0.op.weight"):
			add(b+".0.op", "down_blocks.%d.downsamplers.0.conv", level)
			level, j = level+1, 0
		case resnet(b + ".0"):
			add(b+".0", "down_blocks.%d.resnets.%d", level, j)
			if attention(b + ".1") {
				add(b+".1", "down_blocks.%d.attentions.%d", level, j)
			}
			j++
		default:
			return nil, fmt.Errorf("%s is neither a residual block nor a downsampler: this is not a U-Net of the Stable Diffusion kind", b)
		}
	}

	j, attentions := 0, 0
	for _, n := range indices(names, "middle_block.") {
		b := fmt.Sprintf("middle_block.%d", n)
		if resnet(b) {
			add(b, "mid_block.resnets.%d", j)
			j++
		} else if attention(b) {
			add(b, "mid_block.attentions.%d", attentions)
			attentions++
		}
	}

	level, j = 0, 0
	for _, n := range indices(names, "output_blocks.") {
		b := fmt.Sprintf("output_blocks.%d", n)
		if resnet(b + ".0") {
			add(b+".0", "up_blocks.%d.resnets.%d", level, j)
			if attention(b + ".1") {
				add(b+".1", "up_blocks.%d.attentions.%d", level, j)
			}
			j++
		}
		for k := range 3 {
			if up := fmt.Sprintf("%s.%d.conv", b, k); has(up + ".weight") {
				add(up, "up_blocks.%d.upsamplers.0.conv", level)
				level, j = level+1, 0
			}
		}
	}
	return r, nil
}

// indices are the numbers after a prefix, in order: "input_blocks.11.0.weight" gives 11.
func indices(names []string, prefix string) []int {
	var all []int
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		digits, _, _ := strings.Cut(rest, ".")
		if n, err := strconv.Atoi(digits); err == nil && n >= 0 && n < 1000 {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// renamer applies renames to names: the longest prefix of whole components wins.
type renamer map[string]string

func newRenamer(list []rename) renamer {
	m := renamer{}
	for _, r := range list {
		m[r.from] = r.to
	}
	return m
}

func (m renamer) apply(name string) (string, bool) {
	for end := len(name); end > 0; end = strings.LastIndexByte(name[:end], '.') {
		if to, ok := m[name[:end]]; ok {
			return to + name[end:], true
		}
	}
	return name, false
}

// unetLDM gives the diffusers names of a U-Net with LDM names.
func unetLDM(t table) (table, error) {
	names := t.Names()
	has := func(n string) bool { return t[n] != nil }
	list, err := unetRenames(has, names)
	if err != nil {
		return nil, err
	}
	blocks, inside := newRenamer(list), newRenamer(pairs(resnetKeys))
	out := table{}
	for _, name := range names {
		to, ok := blocks.apply(name)
		if !ok {
			to = name
		} else if block, rest, isResnet := cutResnet(to); isResnet {
			rest, _ = inside.apply(rest)
			to = block + rest
		}
		out[to] = t[name]
	}
	return out, nil
}

func pairs(list [][2]string) []rename {
	r := make([]rename, len(list))
	for i, p := range list {
		r[i] = rename{p[0], p[1]}
	}
	return r
}

// cutResnet splits "down_blocks.0.resnets.1.in_layers.0.weight" after the block's number.
func cutResnet(name string) (block, rest string, ok bool) {
	i := strings.Index(name, ".resnets.")
	if i < 0 {
		return "", name, false
	}
	i += len(".resnets.")
	n := strings.IndexByte(name[i:], '.')
	if n < 0 {
		return "", name, false
	}
	return name[:i+n+1], name[i+n+1:], true
}
