package checkpoint

import (
	"fmt"
	"slices"
	"strings"

	"darkroom/tensor"
)

// What transformers are called in single files: the inverse of findTransformer and addTexts.

// joinedTransformer gives a model's parts the names of a single file with all of them.
func joinedTransformer(f Family, parts map[string]table) (table, error) {
	out := table{}
	for part, t := range parts {
		prefix := ""
		switch {
		case part == "transformer":
			own, err := ditToOriginal(f, t)
			if err != nil {
				return nil, err
			}
			prefix, t = "model.diffusion_model.", own
		case part == "vae":
			prefix, t = "vae.", vaeToLDM(vaeAttention(t))
			if f == Flux2 {
				t = quantInside(t)
			}
		default:
			kind := TextKind("")
			for k, p := range textKinds[f] {
				if p == part {
					kind = k
				}
			}
			name := map[TextKind]string{Qwen3: "qwen3", T5: "t5xxl", CLIPL: "clip_l", CLIPG: "clip_g"}[kind]
			if name == "" {
				return nil, fmt.Errorf("a single file of %s has no place for the part %s", f, part)
			}
			if kind == CLIPL || kind == CLIPG {
				t = textHF(t)
			}
			prefix = "text_encoders." + name + ".transformer."
		}
		for name, a := range t {
			out[prefix+name] = a
		}
	}
	return out, nil
}

// quantInside puts the convolutions between the autoencoder's halves into these, as FLUX.2's original has them.
func quantInside(t table) table {
	out := table{}
	for name, a := range t {
		switch {
		case strings.HasPrefix(name, "quant_conv."):
			name = "encoder." + name
		case strings.HasPrefix(name, "post_quant_conv."):
			name = "decoder." + name
		}
		out[name] = a
	}
	return out
}

// ditToOriginal gives a transformer's arrays the original's names, and joins and swaps what that has in one, or the other way
// round.
func ditToOriginal(f Family, t table) (table, error) {
	last := lastBlock(t.Names())
	out := table{}
	for _, name := range t.Names() {
		key := originalKey(f, name)
		if out[key] != nil {
			continue // of one joint with others
		}
		to := ditNames[f](key, last)
		if !slices.ContainsFunc(to, func(n ditName) bool { return n.name == name }) {
			return nil, fmt.Errorf("%s has no name in files of %s", name, f)
		}
		var arrays []tensor.Array
		for _, n := range to {
			a := t[n.name]
			if a == nil {
				return nil, fmt.Errorf("%s is missing, which files of %s have in one with %s", n.name, f, name)
			}
			if n.swapped {
				half := a.Shape()[0] / 2
				a = &stacked{[]tensor.Array{tensor.Rows(a, half, 2*half), tensor.Rows(a, 0, half)}}
			}
			arrays = append(arrays, a)
		}
		if out[key] = arrays[0]; len(arrays) > 1 {
			out[key] = &stacked{arrays}
		}
	}
	return out, nil
}

// originalKey is the original's name of an array.
func originalKey(f Family, name string) string {
	if f == SD3 && name == "pos_embed.pos_embed" {
		return "pos_embed"
	}
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return name
	}
	layer, leaf := originalName(f, name[:i]), name[i+1:]
	if (f == Flux1 || f == Flux2) && strings.HasSuffix(layer, "_norm") {
		leaf = "scale"
	}
	return layer + "." + leaf
}
