package checkpoint

import (
	"fmt"
	"path/filepath"
	"strings"

	"darkroom/tensor"
)

// Transformers in files of their own: names and configurations as diffusers' folders have them.

// ditPrefixes are what may stand before a transformer's names.
var ditPrefixes = []string{"model.diffusion_model.", "diffusion_model.", "transformer.", ""}

// findTransformer is the denoiser of a file, by diffusers' names, if it is a transformer of a family that is known.
func findTransformer(all table) (f Family, t table, original bool) {
	for _, prefix := range ditPrefixes {
		has := func(name string) bool { return all[prefix+name] != nil }
		switch {
		case has("noise_refiner.0.attention.qkv.weight"), has("noise_refiner.0.attention.to_q.weight"):
			f = ZImage
		case has("double_stream_modulation_img.lin.weight"), has("double_stream_modulation_img.linear.weight"):
			f = Flux2
		default:
			continue
		}
		t = table{}
		for name, a := range all.below(prefix) {
			if prefix == "" && ofOtherPart(name) || name == "norm_final.weight" {
				continue
			}
			for _, to := range ditNames[f](name) {
				original = original || to.name != name
				t[to.name] = to.of(a)
			}
		}
		for _, pad := range []string{"x_pad_token", "cap_pad_token"} {
			if a := t[pad]; a != nil && len(a.Shape()) == 1 {
				t[pad] = tensor.Reshape(a, 1, a.Shape()[0])
			}
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
	name := strings.ToLower(filepath.Base(s.Name()))
	index := object{"scheduler": [2]string{"diffusers", "FlowMatchEulerDiscreteScheduler"}, "tokenizer": [2]string{"transformers", "Qwen2Tokenizer"}}
	sampling := object{"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
	var config object
	var err error
	if f == ZImage {
		m.FamilyWhy, m.Class = "its text has a refiner", "ZImagePipeline"
		config, err = zImageConfig(t)
		if !strings.Contains(name, "turbo") { // the distilled model's shift is half as large
			sampling["shift"] = 6.0
		}
		index["transformer"], index["vae"], index["text_encoder"] = diffusers("ZImageTransformer2DModel"), diffusers("AutoencoderKL"), transformers("Qwen3Model")
	} else {
		m.FamilyWhy, m.Class = "all its layers share one modulation", "Flux2KleinPipeline"
		config, err = flux2Config(t)
		sampling["use_dynamic_shifting"] = true
		index["is_distilled"] = !strings.Contains(name, "base")
		index["transformer"], index["vae"], index["text_encoder"] = diffusers("Flux2Transformer2DModel"), diffusers("AutoencoderKLFlux2"), transformers("Qwen3ForCausalLM")
	}
	if err != nil {
		return nil, err
	}
	index["_class_name"] = m.Class
	m.Prediction = Prediction{Type: FlowPred, Why: "the family's"}
	m.add("transformer", t, config)
	if p.vae != nil {
		c, err := p.vaeConfig(f)
		if err != nil {
			return nil, err
		}
		m.add("vae", p.vae, c)
	}
	m.files["scheduler/scheduler_config.json"], m.files["model_index.json"] = sampling.text(), index.text()
	if err := m.carried(false); err != nil {
		return nil, err
	}
	for _, part := range f.parts() {
		if m.weights[part] == nil {
			m.Missing = append(m.Missing, part)
		}
	}
	return m, nil
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
