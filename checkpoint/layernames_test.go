package checkpoint

import (
	"testing"

	"darkroom/tensor"
)

// TestSpellings: a layer of a text encoder is found, and counted as one, in each program's spelling: ComfyUI's own files, kohya's with
// dots, LyCORIS's, PEFT's of one network alone, the original code's.
func TestSpellings(t *testing.T) {
	const layer, flat = "encoder.layers.0.self_attn.q_proj", "encoder_layers_0_self_attn_q_proj"
	names := layerNames(openParts(t, "sdxl"))
	for name, part := range map[string]string{
		"text_encoders.clip_l.transformer.text_model." + layer:    "text_encoder",
		"text_encoders.clip_g.transformer.text_model." + layer:    "text_encoder_2",
		"clip_g.transformer.text_model." + layer:                  "text_encoder_2",
		"lora_te1.text_model." + layer:                            "text_encoder",
		"lora_te2.text_model." + layer:                            "text_encoder_2",
		"lora_te.text_model." + layer:                             "text_encoder",
		"lycoris_te_text_model_" + flat:                           "text_encoder",
		"lycoris_te2_text_model_" + flat:                          "text_encoder_2",
		"lycoris_text_model_" + flat:                              "text_encoder",
		"base_model.model.text_model." + layer:                    "text_encoder",
		"cond_stage_model.transformer.text_model." + layer:        "text_encoder",
		"conditioner.embedders.0.transformer.text_model." + layer: "text_encoder",
	} {
		found, got, ok := names.find(name)
		if !ok || got != part || found[0].part != part || found[0].name != "text_model."+layer {
			t.Errorf("%s: %v, %s, %v; want %s", name, found, got, ok, part)
		}
		if !isTextModule(name) {
			t.Errorf("%s is taken for a layer of the denoiser", name)
		}
	}
	if _, part, ok := names.find("lora_unet.down_blocks.1.attentions.0.proj_in"); !ok || part != "unet" {
		t.Errorf("a layer of the denoiser: %s, %v", part, ok)
	}
	if found, part, ok := names.find("text_encoders.clip_l.transformer.nothing"); ok || part != "text_encoder" {
		t.Errorf("a layer that is nowhere: %v, %s", found, part)
	}
}

// TestFamilyByTextEncoders: Stable Diffusion 3 has SDXL's two encoders, and FLUX.1's second one goes by the same name.
func TestFamilyByTextEncoders(t *testing.T) {
	for layer, want := range map[string]string{
		"lora_unet_joint_blocks_0_context_block_attn_qkv": "Stable Diffusion 3", "lora_unet_double_blocks_0_img_attn_proj": "FLUX.1",
		"lora_unet_single_transformer_blocks_0_attn_to_q": "FLUX.1", "lora_unet_down_blocks_1_resnets_0_conv1": "SDXL",
		"transformer.transformer_blocks.0.attn.add_q_proj": "Stable Diffusion 3",
	} {
		shapes := map[string]tensor.Shape{}
		for _, name := range []string{layer, "lora_te2_text_model_encoder_layers_0_mlp_fc1"} {
			shapes[name+".lora_down.weight"], shapes[name+".lora_up.weight"] = tensor.Shape{4, 1536}, tensor.Shape{1536, 4}
		}
		if f := AdapterFactsOf(shaped("lora", shapes)); f.Family != want || f.Layers != 1 || f.TextLayers != 1 {
			t.Errorf("%s: %s (%s), %d layers and %d of text encoders; want %s", layer, f.Family, f.FamilyWhy, f.Layers, f.TextLayers, want)
		}
	}
}

// TestKindsOfAdapters: each kind of adapter is known as one by its content, also where a file has nothing else.
func TestKindsOfAdapters(t *testing.T) {
	const layer = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
	for what, names := range map[string][]string{
		"an IA³":            {layer + ".weight", layer + ".on_input"},
		"a full difference": {layer + ".diff", "lora_unet_conv_in.diff_b"},
	} {
		shapes := map[string]tensor.Shape{}
		for _, name := range names {
			shapes[name] = tensor.Shape{8, 8}
		}
		if d := Describe(shaped("adapter", shapes)); d.Kind != KindAdapter || d.What != what {
			t.Errorf("%v: %+v", names, d)
		}
	}
	if d := Describe(shaped("other", map[string]tensor.Shape{"block.0.diff": {8, 8, 8}, "block.1.diff": {8, 8, 8}})); d.Kind == KindAdapter {
		t.Errorf("a network with a layer of that name: %+v", d)
	}
}
