package checkpoint

import (
	"encoding/json"
	"fmt"
	"strings"
)

// AdapterFacts are what a file of adapters is, for people and for refusals.
type AdapterFacts struct {
	Algorithm     string // "LoRA", "LoHa", "LoKr", "LoRA with weight decomposition (DoRA)", "full difference"
	Family        string // what it was trained for; "" if nothing tells
	FamilyWhy     string
	Layers        int // layers of the denoiser that it changes
	TextLayers    int // layers of text encoders
	Convolutions  int // of the denoiser's layers, those that are not 1×1
	MinRank       int // 0 where nothing has a rank
	MaxRank       int
	Triggers      []string // words that it was trained with, from its metadata, the most frequent first
	Name          string   // what its trainer called it
	BundledTokens []string // textual inversions within it
}

// AdapterFactsOf looks at a file's names, shapes and metadata.
func AdapterFactsOf(s *Source) AdapterFacts {
	f := AdapterFacts{}
	kinds := map[string]int{}
	for _, name := range s.Names() {
		if token, ok := strings.CutPrefix(name, "bundle_emb."); ok {
			if token, _, ok = strings.Cut(token, "."); ok && !contains(f.BundledTokens, token) {
				f.BundledTokens = append(f.BundledTokens, token)
			}
			continue
		}
		base, part := adapterPart(name)
		a := s.arrays[name]
		switch part {
		case "":
			continue
		case "down":
			kinds["LoRA"]++
			f.rank(a.Shape())
			if len(a.Shape()) == 4 && a.Shape()[2] > 1 {
				f.Convolutions++
			}
		case "hada_w1_b":
			kinds["LoHa"]++
			f.rank(a.Shape())
		case "lokr_w1", "lokr_w1_a":
			kinds["LoKr"]++
		case "lokr_w2_b":
			f.rank(a.Shape())
			continue
		case "diff", "set":
			kinds["full difference"]++
		case "dora", "magnitude":
			kinds["DoRA"]++
			continue
		case "on_input":
			kinds["IA³"]++
		case "oft":
			kinds["OFT"]++
		case "glora":
			kinds["GLoRA"]++
		default:
			continue
		}
		if isTextModule(base) {
			f.TextLayers++
		} else {
			f.Layers++
		}
	}
	dora := kinds["DoRA"]
	delete(kinds, "DoRA")
	if all := sortedByCount(kinds); len(all) > 0 {
		f.Algorithm = all[0]
	}
	if dora > 0 {
		f.Algorithm += " with weight decomposition (DoRA)"
	}
	f.family(s)
	meta := s.Metadata()
	f.Triggers = triggers(meta)
	for _, key := range []string{"modelspec.title", "ss_output_name"} {
		if f.Name == "" {
			f.Name = meta[key]
		}
	}
	return f
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func (f *AdapterFacts) rank(shape []int) {
	if len(shape) == 0 || shape[0] == 0 {
		return
	}
	if f.MinRank == 0 || shape[0] < f.MinRank {
		f.MinRank = shape[0]
	}
	f.MaxRank = max(f.MaxRank, shape[0])
}

func isTextModule(base string) bool {
	for _, p := range []string{"lora_te", "text_encoder", "te1_", "te2_", "clip_l.", "clip_g.", "lycoris_te", "cond_stage_model.", "conditioner."} {
		if strings.HasPrefix(base, p) {
			return true
		}
	}
	return isText(strings.TrimPrefix(strings.TrimPrefix(base, "base_model.model."), "lycoris_"))
}

// family tells what the adapter is for: by the width of the text that cross attentions read, by names that only one family
// has, by what its trainer noted.
func (f *AdapterFacts) family(s *Source) {
	byName := []struct{ part, family string }{
		{"noise_refiner", "Z-Image"}, {"single_transformer_blocks", "FLUX.1"}, {"double_blocks", "FLUX.1"}, {"single_blocks", "FLUX.1"}, {"joint_blocks", "Stable Diffusion 3"},
		{"img_mod", "Qwen-Image"},
	}
	for _, name := range s.Names() {
		base, part := adapterPart(name)
		flat := flatten(base)
		if part == "down" && strings.HasSuffix(flat, "attn2_to_k") || part == "down" && strings.HasSuffix(flat, "attn2_to_v") {
			shape := s.arrays[name].Shape()
			if len(shape) >= 2 {
				if f.Family = familyByContext(shape[1], false); f.Family != "" {
					f.FamilyWhy = "the text that its cross attention reads is as wide"
					return
				}
			}
		}
	}
	named := func(n struct{ part, family string }) bool {
		for _, name := range s.Names() {
			if strings.Contains(name, n.part) {
				f.Family, f.FamilyWhy = n.family, "it has layers "+strings.Trim(n.part, "._")
				return true
			}
		}
		return false
	}
	for _, n := range byName {
		if named(n) {
			if n.family == "FLUX.1" {
				f.fluxVersion(s)
			}
			return
		}
	}
	if f.Family = twoStreams(s); f.Family != "" {
		f.FamilyWhy = "its layers have a stream for the text"
		return
	}
	for _, second := range []string{"lora_te2_", "text_encoder_2.", "clip_g."} { // other families have a second one, too, but not such a denoiser
		if named(struct{ part, family string }{second, SDXL.String()}) {
			return
		}
	}
	meta := s.Metadata()
	for _, key := range []string{"ss_base_model_version", "modelspec.architecture"} {
		v := strings.ToLower(meta[key])
		for _, m := range []struct{ part, family string }{
			{"sdxl", SDXL.String()}, {"stable-diffusion-xl", SDXL.String()}, {"sd_v1", SD1.String()}, {"sd1", SD1.String()}, {"stable-diffusion-v1", SD1.String()},
			{"sd_v2", SD2.String()}, {"sd2", SD2.String()}, {"stable-diffusion-v2", SD2.String()}, {"flux", "FLUX.1"}, {"sd3", "Stable Diffusion 3"}, {"zimage", "Z-Image"}, {"z-image", "Z-Image"},
		} {
			if strings.Contains(v, m.part) {
				f.Family, f.FamilyWhy = m.family, "its metadata says so ("+key+")"
				return
			}
		}
	}
}

// twoStreams tells adapters of layers with a stream for the text by their width: FLUX.1's, or those of Stable Diffusion 3.
func twoStreams(s *Source) string {
	const flux = 3072
	for _, name := range s.Names() {
		base, part := adapterPart(name)
		flat := flatten(base)
		if shape := s.arrays[name].Shape(); part == "down" && len(shape) == 2 && strings.Contains(flat, "transformer_blocks_") && strings.HasSuffix(flat, "attn_add_q_proj") {
			if shape[1] == flux {
				return Flux1.String()
			}
			return SD3.String()
		}
	}
	return ""
}

// fluxVersion tells FLUX.2 from FLUX.1, whose layers have names in common: FLUX.2's layers share their modulation, and the MLPs, which
// have gates, are wider or narrower.
func (f *AdapterFacts) fluxVersion(s *Source) {
	widths := map[string][2]int{} // what layers read and make
	for _, name := range s.Names() {
		base, part := adapterPart(name)
		flat := flatten(base)
		for _, own := range []string{"to_qkv_mlp_proj", "modulation_img", "modulation_txt", "single_stream_modulation", "ff_linear_in", "ff_context_linear_in"} {
			if strings.Contains(flat, own) {
				f.Family, f.FamilyWhy = Flux2.String(), "it has layers "+own
				return
			}
		}
		shape, w := s.arrays[name].Shape(), widths[flat]
		switch {
		case len(shape) < 2:
		case part == "down":
			w[0] = shape[1]
		case part == "up":
			w[1] = shape[0]
		}
		widths[flat] = w
	}
	for flat, w := range widths {
		in, out, differs := w[0], w[1], false
		switch {
		case in == 0 || out == 0:
			continue
		case strings.HasSuffix(flat, "img_mlp_0") || strings.HasSuffix(flat, "txt_mlp_0"):
			differs = out != 4*in
		case strings.Contains(flat, "single_blocks") && strings.HasSuffix(flat, "linear1"):
			differs = out != 7*in
		case strings.Contains(flat, "single_blocks") && strings.HasSuffix(flat, "linear2"):
			differs = in != 5*out
		default:
			continue
		}
		if differs {
			f.Family, f.FamilyWhy = Flux2.String(), fmt.Sprintf("its layer %s makes %d values of %d", flat, out, in)
		}
		return
	}
}

// maxTriggers is how many words are worth showing.
const maxTriggers = 12

// triggers are the words that a trainer noted: a phrase, or the tags of its pictures by how many have them.
func triggers(meta map[string]string) []string {
	var words []string
	for _, key := range []string{"modelspec.trigger_phrase", "modelspec.trigger_word", "ss_trigger_words", "trigger_words", "activation text"} {
		for _, w := range strings.Split(meta[key], ",") {
			if w = strings.TrimSpace(w); w != "" && !contains(words, w) {
				words = append(words, w)
			}
		}
	}
	if len(words) > 0 {
		return words[:min(len(words), maxTriggers)]
	}
	var frequency map[string]map[string]int // folder → tag → pictures
	if json.Unmarshal([]byte(meta["ss_tag_frequency"]), &frequency) != nil {
		return nil
	}
	total := map[string]int{}
	for _, tags := range frequency {
		for tag, n := range tags {
			if tag = strings.TrimSpace(tag); tag != "" {
				total[tag] += n
			}
		}
	}
	words = sortedByCount(total)
	return words[:min(len(words), maxTriggers)]
}
