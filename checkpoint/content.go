package checkpoint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"darkroom/tensor"
)

// Kind is what a file of weights is for.
type Kind string

// The kinds that files are told apart as. KindOther ones have a name, and are of no use here.
const (
	KindModel       Kind = "model"       // a denoiser of the U-Net kind, with or without its other parts
	KindTransformer Kind = "transformer" // a denoiser of another kind
	KindVAE         Kind = "vae"
	KindTAESD       Kind = "taesd"
	KindText        Kind = "text encoder"
	KindAdapter     Kind = "adapter"
	KindEmbedding   Kind = "embedding"
	KindControlNet  Kind = "controlnet"
	KindT2IAdapter  Kind = "t2i-adapter"
	KindIPAdapter   Kind = "ip-adapter"
	KindMotion      Kind = "motion module"
	KindVision      Kind = "vision" // CLIP's image encoder
	KindUpscaler    Kind = "upscaler"
	KindOther       Kind = "other"
	KindUnknown     Kind = "unknown"
)

// Description is what a file is, judging by its arrays.
type Description struct {
	Kind   Kind
	Family string // "SDXL", "FLUX.1"; "" where it does not matter or is not known
	What   string // for people, after "this is": "a LoRA for SDXL"
	Hint   string // what to do with it: "give it with --lora"; "" for nothing
}

// Describe finds a file's kind. It checks specific kinds before those that may be part of something else.
func Describe(s *Source) Description {
	t := table(s.arrays)
	for _, test := range []func(*Source, table) (Description, bool){
		describeControl, describeMotion, describeAdapter, describeEmbedding, describeModel, describeTAESD, describeUpscaler, describeTransformer, describeVAE, describeText,
	} {
		if d, ok := test(s, t); ok {
			return d
		}
	}
	if a := s.Metadata()["general.architecture"]; a != "" {
		return Description{Kind: KindOther, Family: a, What: fmt.Sprintf("a GGUF file of the architecture %q, which is not supported", a)}
	}
	return Description{Kind: KindUnknown, What: "a file of weights of a kind that is not known here"}
}

// any of the names is there, under one of the prefixes.
func (t table) any(prefixes []string, names ...string) bool {
	for _, p := range prefixes {
		for _, n := range names {
			if t[p+n] != nil {
				return true
			}
		}
	}
	return false
}

// begins reports whether a name begins with one of the prefixes.
func (t table) begins(prefixes ...string) bool {
	for name := range t {
		for _, p := range prefixes {
			if strings.HasPrefix(name, p) {
				return true
			}
		}
	}
	return false
}

// describeControl finds what steers a U-Net from beside it.
func describeControl(_ *Source, t table) (Description, bool) {
	d := Description{Kind: KindControlNet, Hint: "give it with --control, and a picture"}
	prefixes := []string{"", "control_model."}
	added := t.any(prefixes, "label_emb.0.0.weight", "add_embedding.linear_1.weight")
	switch {
	case t["lora_controlnet"] != nil:
		d.What = "a Control-LoRA"
		for name := range t {
			if strings.HasSuffix(name, ".attn2.to_k.down") {
				d.Family = familyByContext(t.axis(name, 1), false)
			}
		}
	case t.any(prefixes, "zero_convs.0.0.weight", "input_hint_block.0.weight", "controlnet_cond_embedding.conv_in.weight", "controlnet_mid_block.weight"):
		d.What = "a ControlNet"
		if t.any(prefixes, "task_embedding", "control_add_embedding.linear_1.weight") {
			d.What = "a Union ControlNet"
		}
		context := 0
		for name := range t {
			if strings.HasSuffix(name, ".attn2.to_k.weight") {
				context = t.axis(name, 1)
				break
			}
		}
		d.Family = familyByContext(context, added)
	case t.any([]string{"", "adapter."}, "body.0.resnets.0.block1.weight", "body.0.block1.weight", "body.0.in_conv.weight"):
		d.Kind, d.What = KindT2IAdapter, "a T2I-Adapter"
		if n := max(t.axis("adapter.conv_in.weight", 1), t.axis("conv_in.weight", 1)); n == 256 || n == 768 {
			d.Family = SDXL.String() // it puts squares of 16 pixels together, of one colour or three
		}
	case t.begins("ip_adapter.", "image_proj.", "image_proj_model."):
		d.Kind, d.What = KindIPAdapter, "an IP-Adapter"
		d.Family = familyByContext(t.axis("ip_adapter.1.to_k_ip.weight", 1), false)
	default:
		return d, false
	}
	d.What += forFamily(d.Family)
	return d, true
}

func forFamily(family string) string {
	if family == "" {
		return ""
	}
	return " for " + family
}

// FamilyByContext names a family of U-Nets by the width of the text that its cross attention reads; "" if it is none that is known.
func FamilyByContext(width int) string { return familyByContext(width, false) }

// familyByContext names a family of U-Nets by the width of the text that its cross attention reads.
func familyByContext(width int, added bool) string {
	switch {
	case width == 768:
		return SD1.String()
	case width == 1024:
		return SD2.String()
	case width == 2048:
		return SDXL.String()
	case width == 1280:
		return Refiner.String()
	case added:
		return SDXL.String()
	}
	return ""
}

func describeAdapter(s *Source, t table) (Description, bool) {
	if !IsAdapter(s) {
		return Description{}, false
	}
	f := AdapterFactsOf(s)
	d := Description{Kind: KindAdapter, Family: f.Family, Hint: "give it with --lora"}
	article := "a "
	if strings.HasPrefix(f.Algorithm, "IA") || strings.HasPrefix(f.Algorithm, "OFT") {
		article = "an "
	}
	d.What = article + f.Algorithm + forFamily(f.Family)
	return d, true
}

// describeEmbedding finds textual inversions: vectors that stand for a word.
func describeEmbedding(s *Source, _ table) (Description, bool) {
	e, err := ReadEmbedding(s)
	if err != nil {
		return Description{}, false
	}
	d := Description{Kind: KindEmbedding, Family: e.Family(), Hint: "give it with --embedding"}
	d.What = fmt.Sprintf("a textual inversion of %d vectors%s", e.Vectors(), forFamily(d.Family))
	if e.Vectors() == 1 {
		d.What = "a textual inversion of one vector" + forFamily(d.Family)
	}
	return d, true
}

func describeModel(_ *Source, t table) (Description, bool) {
	p, err := splitParts(t, false)
	if err != nil {
		return Description{Kind: KindOther, What: "a model that is not supported: " + err.Error()}, true
	}
	if p.unet == nil {
		return Description{}, false
	}
	f, _, err := p.family()
	if err != nil {
		return Description{Kind: KindOther, What: "a model that is not supported: " + err.Error()}, true
	}
	d := Description{Kind: KindModel, Family: f.String(), Hint: "give it with --model", What: "a model of " + f.String()}
	switch p.unet.axis("conv_in.weight", 1) - p.unet.axis("conv_out.weight", 0) {
	case 5:
		d.What += " for inpainting"
	case 4:
		d.What += " that edits by instruction"
	case 1:
		d.What += " that reads depth"
	}
	if p.vae == nil && p.text == nil && p.text2 == nil {
		d.What = "the U-Net of " + strings.TrimPrefix(d.What, "a model of ") + ", without a text encoder and a VAE"
	}
	return d, true
}

// describeTAESD finds the tiny autoencoder, in the original's names, ComfyUI's, and diffusers'.
func describeTAESD(_ *Source, t table) (Description, bool) {
	first := tensor.Shape(nil)
	side := ""
	for _, p := range []struct{ side, name string }{
		{"decoder", "taesd_decoder.1.weight"}, {"decoder", "decoder.layers.0.weight"}, {"decoder", "1.weight"}, {"encoder", "0.weight"},
		{"encoder", "taesd_encoder.0.weight"}, {"encoder", "encoder.layers.0.weight"},
	} {
		if a := t[p.name]; a != nil && len(a.Shape()) == 4 && t.hasTAESDBlock() {
			first, side = a.Shape(), p.side
			break
		}
	}
	if first == nil {
		return Description{}, false
	}
	d := Description{Kind: KindTAESD, What: "TAESD's " + side, Hint: "give it with --vae"}
	if t.begins("encoder.layers.", "taesd_encoder.") && t.begins("decoder.layers.", "taesd_decoder.") {
		d.What = "TAESD, a tiny VAE"
	}
	if side == "decoder" && first[1] == 16 {
		d.Family, d.What = "FLUX.1", d.What+" for FLUX.1 or Stable Diffusion 3"
	}
	return d, true
}

// hasTAESDBlock: its blocks are three convolutions in a list.
func (t table) hasTAESDBlock() bool {
	for name := range t {
		if strings.HasSuffix(name, ".conv.4.weight") && t[strings.TrimSuffix(name, "4.weight")+"2.weight"] != nil {
			return true
		}
	}
	return false
}

// describeUpscaler finds networks that make pictures larger.
func describeUpscaler(_ *Source, t table) (Description, bool) {
	prefixes := []string{"", "module.", "netG."}
	d := Description{Kind: KindUpscaler, Hint: "give it to darkroom upscale"}
	switch {
	case t.any(prefixes, "model.1.sub.0.RDB1.conv1.0.weight", "body.0.rdb1.conv1.weight", "RRDB_trunk.0.RDB1.conv1.weight", "model.1.sub.0.RDB1.conv1.weight"):
		d.What = "an upscaler of the ESRGAN kind"
	case t.axis("body.0.weight", 2) == 3 && len(t["body.0.weight"].Shape()) == 4 && t["body.1.weight"] != nil && len(t["body.1.weight"].Shape()) == 1:
		d.What = "an upscaler of the SRVGG kind (Real-ESRGAN's compact one)"
	case t.any(prefixes, "layers.0.residual_group.blocks.0.norm1.weight", "layers.0.blocks.0.norm1.weight", "block_1.0.weight", "dat_blocks.0.weight") && t.any(prefixes, "conv_first.weight", "conv_last.weight"):
		return Description{Kind: KindOther, What: "an upscaler of a network that is not supported (ESRGAN and SRVGG are)"}, true
	default:
		return d, false
	}
	return d, true
}

// zShaped reports whether a joint layer of queries, keys and values is Z-Image's, of which there are as many of each; Lumina 2's keys
// are fewer.
func zShaped(rows, columns int) bool { return columns > 0 && rows == 3*columns }

// runs reports whether transformers of a family are supported.
func runs(family string) bool {
	for _, known := range []string{"Z-Image", "FLUX.1", "FLUX.2", "Stable Diffusion 3"} {
		if strings.HasPrefix(family, known) {
			return true
		}
	}
	return false
}

// describeTransformer finds denoisers that are not U-Nets.
func describeTransformer(s *Source, t table) (Description, bool) {
	p := []string{"", "model.diffusion_model.", "diffusion_model.", "transformer."}
	first := func(name string, axis int) int {
		for _, prefix := range p {
			if n := t.axis(prefix+name, axis); n > 0 {
				return n
			}
		}
		return 0
	}
	family := ""
	switch {
	case t.any(p, "distilled_guidance_layer.in_proj.weight", "distilled_guidance_layer.layers.0.in_layer.weight"):
		family = "Chroma"
	case t.any(p, "double_stream_modulation_img.lin.weight", "double_stream_modulation_img.linear.weight"):
		family = "FLUX.2"
	case t.any(p, "double_blocks.0.img_attn.norm.key_norm.scale", "double_blocks.0.img_attn.qkv.weight", "single_transformer_blocks.0.attn.to_q.weight"):
		family = "FLUX.1"
		if !t.any(p, "guidance_in.in_layer.weight", "time_text_embed.guidance_embedder.linear_1.weight", "guidance_in.in_layer.scale_weight") {
			family = "FLUX.1 schnell"
		}
		// What it reads beside latents: a control picture is as wide as they are, Fill's picture and mask are wider.
		switch in, out := cmp.Or(first("img_in.weight", 1), first("x_embedder.weight", 1)), cmp.Or(first("final_layer.linear.weight", 0), first("proj_out.weight", 0)); {
		case out == 0 || in <= out:
		case in == 2*out:
			family = "FLUX.1 Canny or Depth"
		default:
			family = "FLUX.1 Fill"
		}
	case t.any(p, "joint_blocks.0.context_block.attn.qkv.weight", "transformer_blocks.0.attn.add_q_proj.weight") && !t.any(p, "transformer_blocks.0.img_mod.1.weight"):
		family = "Stable Diffusion 3"
	case t.any(p, "transformer_blocks.0.img_mod.1.weight"):
		family = "Qwen-Image"
	case t.any(p, "noise_refiner.0.attention.qkv.weight", "noise_refiner.0.attention.to_q.weight", "noise_refiner.0.attn.to_q.weight"):
		family = "Lumina 2"
		if zShaped(first("noise_refiner.0.attention.qkv.weight", 0), first("noise_refiner.0.attention.qkv.weight", 1)) || t.any(p, "x_pad_token", "noise_refiner.0.attention.to_q.weight") {
			family = "Z-Image"
		}
	case t.any(p, "double_layers.0.attn.w1q.weight"):
		family = "AuraFlow"
	case t.any(p, "adaln_single.linear.weight", "t_block.1.weight") && t.any(p, "pos_embed.proj.weight", "x_embedder.proj.weight"):
		family = "PixArt"
	case t.any(p, "head.modulation") && t.any(p, "patch_embedding.weight"):
		family = "Wan (video)"
	case t.any(p, "llm_adapter.embed.weight", "llm_adapter.blocks.0.self_attn.q_proj.weight"):
		family = "Anima"
	default:
		return Description{}, false
	}
	d := Description{Kind: KindTransformer, Family: family, What: "the denoiser of " + family}
	if s.Format() == "GGUF" {
		d.What += " as GGUF"
	}
	if t.begins("vae.", "first_stage_model.", "text_encoders.") {
		d.What = "a model of " + family
	}
	switch {
	case strings.HasPrefix(d.What, "a model of") && runs(family):
		d.Hint = "give it with --model"
	case family == "Z-Image" || strings.HasPrefix(family, "FLUX.2"):
		d.Hint = "give it with --model, its text encoder with --text-encoder and its autoencoder with --vae"
	case runs(family):
		d.Hint = "give it with --model, its text encoders with --text-encoder and its autoencoder with --vae, or a model that has them with --parts"
	}
	return d, true
}

func describeVAE(_ *Source, t table) (Description, bool) {
	p, err := splitParts(t, false)
	if err != nil || p.vae == nil {
		if t.begins("decoder.middle.0.residual", "decoder.up_blocks.0.res_layers") {
			return Description{Kind: KindOther, What: "a VAE for video, which is not supported"}, true
		}
		return Description{}, false
	}
	d := Description{Kind: KindVAE, Hint: "give it with --vae"}
	latent := p.vae.axis("decoder.conv_in.weight", 1)
	switch {
	case p.vae["decoder.conv_in.weight"] != nil && len(p.vae["decoder.conv_in.weight"].Shape()) == 5:
		return Description{Kind: KindOther, What: "a VAE for video, which is not supported"}, true
	case latent == 4:
		d.What = "a VAE of 4 channels (Stable Diffusion 1, 2 or XL)"
	case latent == 16 && p.vae["post_quant_conv.weight"] == nil:
		d.Family, d.What = "FLUX.1", "a VAE of 16 channels (FLUX.1, Z-Image or Stable Diffusion 3)"
	default:
		d.What = fmt.Sprintf("a VAE of %d channels", latent)
	}
	return d, true
}

func describeText(s *Source, t table) (Description, bool) {
	d := Description{Kind: KindText}
	width := 0
	for _, name := range []string{"text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight", "token_embedding.weight"} {
		width = max(width, t.axis(name, 1))
	}
	switch arch := s.Metadata()["general.architecture"]; {
	case t.begins("vision_model.", "visual.transformer.") && width == 0:
		return Description{Kind: KindVision, What: "CLIP's image encoder", Hint: "put it into the folder clip_vision of the models, for IP-Adapters"}, true
	case width > 0:
		names := map[int]string{768: "CLIP-L", 1024: "OpenCLIP-H", 1280: "OpenCLIP-bigG"}
		d.Family = names[width]
		d.What = fmt.Sprintf("a CLIP text encoder, %d wide", width)
		if d.Family != "" {
			d.What = "the text encoder " + d.Family
		}
	case t["encoder.block.0.layer.0.SelfAttention.q.weight"] != nil || arch == "t5" || arch == "t5encoder":
		d.Family, d.What, d.Hint = "T5", "a T5 text encoder", "give it with --text-encoder"
	case t.any([]string{"model.", "", "model.language_model."}, "layers.0.self_attn.q_norm.weight") || strings.HasPrefix(arch, "qwen3"):
		d.Family, d.What, d.Hint = "Qwen3", "a Qwen3 text encoder", "give it with --text-encoder"
	case t.any([]string{"model.", ""}, "layers.0.self_attn.q_proj.weight") || t["blk.0.attn_q.weight"] != nil:
		d.Family = arch
		d.What = "a language model" + parenthesised(arch)
	default:
		return d, false
	}
	return d, true
}

func parenthesised(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

// TypesOf counts a file's arrays by how they are stored: {"F16": 686, "Q4_K": 264}.
func TypesOf(w Weights) map[string]int {
	types := map[string]int{}
	for _, name := range w.Names() {
		if a, ok := w.Array(name); ok {
			types[a.Type()]++
		}
	}
	return types
}

// sortedByCount are a map's keys, the most frequent first.
func sortedByCount(m map[string]int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if m[a] != m[b] {
			return m[b] - m[a]
		}
		return strings.Compare(a, b)
	})
	return keys
}
