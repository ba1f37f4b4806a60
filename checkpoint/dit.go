package checkpoint

import (
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"darkroom/tensor"
)

// Transformers in files of their own: names and configurations as diffusers' folders have them.

// ditPrefixes are what may stand before a transformer's names.
var ditPrefixes = []string{"model.diffusion_model.", "diffusion_model.", "transformer.", ""}

// ditMarks are arrays that tell families of transformers, by the original's names and diffusers'.
var ditMarks = []struct {
	family Family
	names  []string
}{
	{ZImage, []string{"noise_refiner.0.attention.qkv.weight", "noise_refiner.0.attention.to_q.weight"}},
	{Flux2, []string{"double_stream_modulation_img.lin.weight", "double_stream_modulation_img.linear.weight"}},
	{Flux1, []string{"double_blocks.0.img_mod.lin.weight", "single_transformer_blocks.0.proj_mlp.weight"}},
	{SD3, []string{"joint_blocks.0.context_block.attn.qkv.weight", "pos_embed.pos_embed"}},
}

// findTransformer is the denoiser of a file, by diffusers' names, if it is a transformer of a family that is known.
func findTransformer(all table) (f Family, t table, original bool) {
	for _, prefix := range ditPrefixes {
		f := Family("")
		for _, m := range ditMarks {
			if all.any([]string{prefix}, m.names...) {
				f = m.family
				break
			}
		}
		if f == "" {
			continue
		}
		t := table{}
		own := all.below(prefix)
		last := lastBlock(own.Names())
		for name, a := range own {
			if prefix == "" && ofOtherPart(name) || name == "norm_final.weight" {
				continue
			}
			for _, to := range ditNames[f](name, last) {
				original = original || to.name != name
				t[to.name] = to.array(a)
			}
		}
		for _, pad := range []string{"x_pad_token", "cap_pad_token"} {
			if a := t[pad]; a != nil && len(a.Shape()) == 1 {
				t[pad] = tensor.Reshape(a, 1, a.Shape()[0])
			}
		}
		if a := t["pos_embed.pos_embed"]; a != nil && len(a.Shape()) == 2 { // GGUF has no axis of length 1 there
			t["pos_embed.pos_embed"] = tensor.Reshape(a, 1, a.Shape()[0], a.Shape()[1])
		}
		return f, t, original
	}
	return "", nil, false
}

// ofOtherPart reports whether a name is of another part than the denoiser.
func ofOtherPart(name string) bool {
	for _, p := range []string{"vae.", "first_stage_model.", "text_encoders.", "text_encoder.", "cond_stage_model.", "conditioner."} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// newTransformerFile is a Single of a file with a transformer.
func newTransformerFile(s *Source, p *modelParts, f Family, t table, original bool) (*Single, error) {
	m := &Single{Family: f, Layout: "diffusers", Format: s.Format(), Metadata: s.Metadata(), source: s, files: Embedded{}, weights: map[string]table{}}
	if original {
		m.Layout = "original"
	}
	d, err := describeDiT(f, t, strings.ToLower(filepath.Base(s.Name())))
	if err != nil && !strings.Contains(m.Metadata[ConfigKey], `"transformer/config.json"`) {
		return nil, err
	}
	m.FamilyWhy, m.Class = d.why, d.pipeline
	d.sampling["_class_name"], d.sampling["num_train_timesteps"] = "FlowMatchEulerDiscreteScheduler", 1000
	index := d.index
	index["_class_name"], index["scheduler"] = m.Class, diffusers("FlowMatchEulerDiscreteScheduler")
	m.Prediction = Prediction{Type: FlowPred, Why: "the family's"}
	if err := m.addTexts(f, index); err != nil {
		return nil, err
	}
	m.add("transformer", t, d.config)
	if p.vae != nil {
		c, err := p.vaeConfig(f)
		if err != nil {
			return nil, err
		}
		m.add("vae", p.vae, c)
	}
	m.files["scheduler/scheduler_config.json"], m.files["model_index.json"] = d.sampling.text(), index.text()
	if err := m.carried(false); err != nil {
		return nil, err
	}
	for _, part := range f.parts() {
		if m.weights[part] == nil && !(f == SD3 && part == "text_encoder_3") { // may be missing
			m.Missing = append(m.Missing, part)
		}
	}
	return m, nil
}

// dit is what a transformer's file says about a model.
type dit struct {
	why, pipeline           string
	config, sampling, index object
}

// describeDiT finds it. name is the file's, in small letters: which models are distilled, nothing else tells.
func describeDiT(f Family, t table, name string) (d dit, err error) {
	class, vae := "", "AutoencoderKL"
	texts := object{}
	switch f {
	case ZImage:
		d = dit{why: "its text has a refiner", pipeline: "ZImagePipeline", sampling: object{"shift": 3.0}}
		d.config, err = zImageConfig(t)
		if !strings.Contains(name, "turbo") { // the distilled model's shift is half as large
			d.sampling["shift"] = 6.0
		}
		class, texts = "ZImageTransformer2DModel", object{"text_encoder": transformers("Qwen3Model"), "tokenizer": transformers("Qwen2Tokenizer")}
	case Flux2:
		d = dit{why: "all its layers share one modulation", pipeline: "Flux2KleinPipeline", sampling: object{"shift": 3.0, "use_dynamic_shifting": true}}
		d.config, err = flux2Config(t)
		class, vae = "Flux2Transformer2DModel", "AutoencoderKLFlux2"
		texts = object{"text_encoder": transformers("Qwen3ForCausalLM"), "tokenizer": transformers("Qwen2Tokenizer"), "is_distilled": !strings.Contains(name, "base")}
	case Flux1:
		d = dit{why: "its layers of two streams have a modulation each", pipeline: "FluxPipeline", sampling: object{"shift": 1.0}}
		d.config, err = flux1Config(t)
		if d.config["guidance_embeds"] == true { // dev
			d.sampling = object{"shift": 3.0, "use_dynamic_shifting": true, "base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}
		}
		class, texts = "FluxTransformer2DModel", object{"text_encoder": transformers("CLIPTextModel"), "tokenizer": transformers("CLIPTokenizer"),
			"text_encoder_2": transformers("T5EncoderModel"), "tokenizer_2": transformers("T5TokenizerFast")}
	case SD3:
		d = dit{why: "its layers have two streams and its positions are a table", pipeline: "StableDiffusion3Pipeline", sampling: object{"shift": 3.0}}
		d.config, err = sd3Config(t)
		class, texts = "SD3Transformer2DModel", object{"text_encoder": transformers("CLIPTextModelWithProjection"), "tokenizer": transformers("CLIPTokenizer"),
			"text_encoder_2": transformers("CLIPTextModelWithProjection"), "tokenizer_2": transformers("CLIPTokenizer"),
			"text_encoder_3": transformers("T5EncoderModel"), "tokenizer_3": transformers("T5TokenizerFast")}
	}
	d.index = texts
	d.index["transformer"], d.index["vae"] = diffusers(class), diffusers(vae)
	return d, err
}

// textKinds are the text encoders of families, by the names of their parts.
var textKinds = map[Family]map[TextKind]string{
	ZImage: {Qwen3: "text_encoder"}, Flux2: {Qwen3: "text_encoder"}, Flux1: {CLIPL: "text_encoder", T5: "text_encoder_2"},
	SD3: {CLIPL: "text_encoder", CLIPG: "text_encoder_2", T5: "text_encoder_3"},
}

// addTexts finds text encoders that lie in the file, as text_encoders.NAME, or by the names of folders. The tokenizer of one
// that the program has no vocabulary of lies beside the file.
func (m *Single) addTexts(f Family, index object) error {
	groups := map[string]bool{}
	for name := range m.source.arrays {
		for _, p := range []string{"text_encoders.", "conditioner.embedders."} {
			if rest, ok := strings.CutPrefix(name, p); ok {
				group, _, _ := strings.Cut(rest, ".")
				groups[p+group+"."] = true
			}
		}
		for _, p := range []string{"text_encoder.", "text_encoder_2.", "text_encoder_3."} {
			if strings.HasPrefix(name, p) {
				groups[p] = true
			}
		}
	}
	all := table(m.source.arrays)
	for _, prefix := range slices.Sorted(maps.Keys(groups)) {
		t := table{}
		for name, a := range all.below(prefix) {
			t[strings.TrimPrefix(name, "transformer.")] = a
		}
		hint := prefix
		if prefix == "text_encoder_2." && f == SD3 {
			hint = "clip_g"
		}
		kind, own, c, err := textIn(t, hint, m.source)
		if err != nil {
			return fmt.Errorf("%s: %w", strings.TrimSuffix(prefix, "."), err)
		}
		part := textKinds[f][kind]
		if part == "" || m.weights[part] != nil {
			continue // another program's, or twice
		}
		if f == Flux1 && kind == CLIPL {
			delete(own, "text_projection.weight")
			c["architectures"] = []string{"CLIPTextModel"}
		}
		m.add(part, own, c)
		if err := m.addTokenizer(part, kind, c); err != nil {
			return err
		}
	}
	if f == SD3 && m.weights["text_encoder_3"] == nil { // optional; the user may give it
		delete(index, "tokenizer_3")
		delete(index, "text_encoder_3")
	}
	return nil
}

// addTokenizer puts the files of a part's tokenizer among the model's.
func (m *Single) addTokenizer(part string, kind TextKind, c object) error {
	folder := "tokenizer" + strings.TrimPrefix(part, "text_encoder")
	found := tokenizerBeside(m.source.path, kind)
	if found == nil {
		own, err := tokenizerIn(m.source, kind, c)
		if err != nil || own == nil {
			return err // without one, opening it says what to do
		}
		found = own
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "spiece.model", "special_tokens_map.json", "added_tokens.json"} {
		text, err := fs.ReadFile(found, name)
		if err == nil {
			m.files[folder+"/"+name] = string(text)
		}
	}
	return nil
}

func diffusers(class string) [2]string    { return [2]string{"diffusers", class} }
func transformers(class string) [2]string { return [2]string{"transformers", class} }

// heads is a width and the width of one head.
func heads(t table, array, norm string) (width, head int, err error) {
	width, head = t.axis(array, 0), t.axis(norm, 0)
	if width == 0 || head == 0 || width%head != 0 {
		return 0, 0, fmt.Errorf("%s and %s do not say how many heads there are", array, norm)
	}
	return width, head, nil
}

func zImageConfig(t table) (object, error) {
	names := t.Names()
	width, head, err := heads(t, "layers.0.attention.to_q.weight", "layers.0.attention.norm_q.weight")
	if err != nil {
		return nil, err
	}
	return object{
		"_class_name": "ZImageTransformer2DModel", "all_patch_size": []int{2}, "all_f_patch_size": []int{1}, "in_channels": t.axis("all_x_embedder.2-1.weight", 1) / 4,
		"dim": width, "n_layers": len(indices(names, "layers.")), "n_refiner_layers": len(indices(names, "noise_refiner.")), "n_heads": width / head, "n_kv_heads": width / head,
		"norm_eps": 1e-5, "qk_norm": true, "cap_feat_dim": t.axis("cap_embedder.0.weight", 0), "rope_theta": 256.0, "t_scale": 1000.0,
		"axes_dims": []int{head / 4, head / 8 * 3, head / 8 * 3}, "axes_lens": []int{1536, 512, 512},
	}, nil
}

func flux2Config(t table) (object, error) {
	names := t.Names()
	width, head, err := heads(t, "x_embedder.weight", "transformer_blocks.0.attn.norm_q.weight")
	if err != nil {
		return nil, err
	}
	return object{
		"_class_name": "Flux2Transformer2DModel", "patch_size": 1, "in_channels": t.axis("x_embedder.weight", 1), "num_layers": len(indices(names, "transformer_blocks.")),
		"num_single_layers": len(indices(names, "single_transformer_blocks.")), "attention_head_dim": head, "num_attention_heads": width / head,
		"joint_attention_dim": t.axis("context_embedder.weight", 1), "timestep_guidance_channels": t.axis("time_guidance_embed.timestep_embedder.linear_1.weight", 1),
		"mlp_ratio": float64(t.axis("transformer_blocks.0.ff.linear_out.weight", 1)) / float64(width), "axes_dims_rope": []int{head / 4, head / 4, head / 4, head / 4},
		"rope_theta": 2000, "eps": 1e-6, "guidance_embeds": t["time_guidance_embed.guidance_embedder.linear_1.weight"] != nil,
	}, nil
}

// flux1Axes are an eighth of a head for the first axis and the rest for the others, all even.
func flux1Axes(head int) []int {
	first := head / 8
	for first%2 != 0 || (head-first)/2%2 != 0 && first < head {
		first++
	}
	return []int{first, (head - first) / 2, (head - first) / 2}
}

func flux1Config(t table) (object, error) {
	names := t.Names()
	width, head, err := heads(t, "x_embedder.weight", "transformer_blocks.0.attn.norm_q.weight")
	if err != nil {
		return nil, err
	}
	return object{
		"_class_name": "FluxTransformer2DModel", "patch_size": 1, "in_channels": t.axis("x_embedder.weight", 1), "out_channels": t.axis("proj_out.weight", 0),
		"num_layers": len(indices(names, "transformer_blocks.")), "num_single_layers": len(indices(names, "single_transformer_blocks.")),
		"attention_head_dim": head, "num_attention_heads": width / head, "joint_attention_dim": t.axis("context_embedder.weight", 1),
		"pooled_projection_dim": t.axis("time_text_embed.text_embedder.linear_1.weight", 1), "axes_dims_rope": flux1Axes(head),
		"guidance_embeds": t["time_text_embed.guidance_embedder.linear_1.weight"] != nil,
	}, nil
}

func sd3Config(t table) (object, error) {
	names := t.Names()
	const block = "transformer_blocks.0."
	width, head := t.axis("pos_embed.proj.weight", 0), 64
	norm := any(nil)
	if n := t.axis(block+"attn.norm_q.weight", 0); n > 0 {
		head, norm = n, "rms_norm"
	}
	if width == 0 || width%head != 0 {
		return nil, fmt.Errorf("pos_embed.proj.weight does not say how many heads there are")
	}
	side := 0
	if s := t["pos_embed.pos_embed"]; s != nil && len(s.Shape()) == 3 {
		side = int(math.Sqrt(float64(s.Shape()[1])))
	}
	dual := []int{}
	for i := range indices(names, "transformer_blocks.") {
		if t[fmt.Sprintf("transformer_blocks.%d.attn2.to_q.weight", i)] != nil {
			dual = append(dual, i)
		}
	}
	patch := t.axis("pos_embed.proj.weight", 2)
	return object{
		"_class_name": "SD3Transformer2DModel", "sample_size": 128, "patch_size": patch, "in_channels": t.axis("pos_embed.proj.weight", 1),
		"out_channels": t.axis("proj_out.weight", 0) / max(patch*patch, 1), "num_layers": len(indices(names, "transformer_blocks.")), "attention_head_dim": head,
		"num_attention_heads": width / head, "joint_attention_dim": t.axis("context_embedder.weight", 1), "caption_projection_dim": width,
		"pooled_projection_dim": t.axis("time_text_embed.text_embedder.linear_1.weight", 1), "pos_embed_max_size": side, "dual_attention_layers": dual, "qk_norm": norm,
	}, nil
}
