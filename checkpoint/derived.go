package checkpoint

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// The configurations that diffusers' folders have beside the weights, derived from names and shapes. What these do not
// show (heads, activations, the noise schedule) is the family's.

type object map[string]any

func (o object) text() string {
	b, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		panic(err) // numbers and texts alone
	}
	return string(b)
}

// unetConfig is unet/config.json.
func (p *modelParts) unetConfig(f Family, prediction Prediction) (object, error) {
	t := p.unet
	names := t.Names()
	levels := indices(names, "down_blocks.")
	n := len(levels)
	ups := indices(names, "up_blocks.")
	if n == 0 || len(ups) != n {
		return nil, fmt.Errorf("the U-Net has %d levels down and %d up", n, len(ups))
	}
	widths, layers, down, up := make([]int, n), make([]int, n), make([]string, n), make([]string, n)
	for i := range n {
		block := fmt.Sprintf("down_blocks.%d.", i)
		widths[i] = t.axis(block+"resnets.0.conv1.weight", 0)
		layers[i] = len(indices(names, block+"resnets."))
		if widths[i] == 0 || layers[i] == 0 {
			return nil, fmt.Errorf("the U-Net's %sresnets.0.conv1.weight is missing", block)
		}
		down[i], up[i] = "DownBlock2D", "UpBlock2D"
		if len(indices(names, block+"attentions.")) > 0 {
			down[i] = "CrossAttnDownBlock2D"
		}
		if len(indices(names, fmt.Sprintf("up_blocks.%d.attentions.", i))) > 0 {
			up[i] = "CrossAttnUpBlock2D"
		}
	}
	c := object{
		"_class_name": "UNet2DConditionModel", "in_channels": t.axis("conv_in.weight", 1), "out_channels": t.axis("conv_out.weight", 0),
		"block_out_channels": widths, "down_block_types": down, "up_block_types": up, "layers_per_block": sameOr(layers),
		"cross_attention_dim": p.context(), "attention_head_dim": p.heads(f, widths), "use_linear_projection": p.linear(),
		"norm_num_groups": groups(widths), "sample_size": sampleSize(f, prediction), "flip_sin_to_cos": true, "freq_shift": 0,
	}
	switch {
	case len(indices(names, "mid_block.resnets.")) == 0:
		c["mid_block_type"] = nil
	case len(indices(names, "mid_block.attentions.")) == 0:
		c["mid_block_type"] = "UNetMidBlock2D"
	default:
		c["mid_block_type"] = "UNetMidBlock2DCrossAttn"
	}
	if d := t.axis("time_embedding.linear_1.weight", 0); d != 4*widths[0] {
		c["time_embedding_dim"] = d
	}
	if d := t.axis("time_embedding.cond_proj.weight", 1); d > 0 {
		c["time_cond_proj_dim"] = d
	}
	if d := t.axis("add_embedding.linear_1.weight", 1); d > 0 {
		ids, pooled := 6, 1280
		if f == Refiner {
			ids = 5
		}
		if w := p.text2.axis("text_projection.weight", 0); w > 0 {
			pooled = w
		}
		if d <= pooled || (d-pooled)%ids != 0 {
			return nil, fmt.Errorf("add_embedding.linear_1.weight reads %d values, which are not %d of pooled text and %d sizes", d, pooled, ids)
		}
		c["addition_embed_type"], c["projection_class_embeddings_input_dim"], c["addition_time_embed_dim"] = "text_time", d, (d-pooled)/ids
	}
	p.depths(c, layers)
	return c, nil
}

// depths counts the blocks within each transformer.
func (p *modelParts) depths(c object, layers []int) {
	names, n := p.unet.Names(), len(layers)
	count := func(block string, attentions int) []int {
		all := make([]int, attentions)
		for j := range all {
			all[j] = 1
			if prefix := fmt.Sprintf("%s.attentions.%d.", block, j); p.unet[prefix+"norm.weight"] != nil {
				all[j] = len(indices(names, prefix+"transformer_blocks."))
			}
		}
		return all
	}
	var down, up [][]int
	same := true
	for i, l := range layers {
		down = append(down, count(fmt.Sprintf("down_blocks.%d", i), l))
		up = append(up, count(fmt.Sprintf("up_blocks.%d", i), layers[n-1-i]+1))
	}
	for i, d := range down {
		if slices.Max(append(d, up[n-1-i]...)) != slices.Min(append(d, up[n-1-i]...)) {
			same = false
		}
	}
	if !same {
		c["transformer_layers_per_block"], c["reverse_transformer_layers_per_block"] = down, up
		return
	}
	depths := make([]int, n)
	for i, d := range down {
		depths[i] = d[0]
	}
	if p.unet[fmt.Sprintf("down_blocks.%d.attentions.0.norm.weight", n-1)] == nil { // then the last one says what the middle has
		depths[n-1] = count("mid_block", 1)[0]
	}
	c["transformer_layers_per_block"] = depths
}

// heads are 8 everywhere in Stable Diffusion 1, and 64 wide since. Models for tests, narrower than any real one, have heads
// 16 wide in diffusers.
func (p *modelParts) heads(f Family, widths []int) []int {
	heads, width := make([]int, len(widths)), 64
	if widths[0]%64 != 0 {
		width = 16
	}
	for i, w := range widths {
		heads[i] = max(1, w/width)
		if f == SD1 {
			heads[i] = 8
		}
	}
	return heads
}

// groups is 32, or what divides narrower levels.
func groups(widths []int) int {
	g := 32
	for _, w := range widths {
		for g > 1 && w%g != 0 {
			g /= 2
		}
	}
	return g
}

// sampleSize is the latent side that the family was trained at.
func sampleSize(f Family, p Prediction) int {
	switch {
	case f == SDXL || f == Refiner:
		return 128
	case f == SD2 && p.Type == VPrediction:
		return 96
	}
	return 64
}

// sameOr is one number where all are the same.
func sameOr(values []int) any {
	if slices.Max(values) == slices.Min(values) {
		return values[0]
	}
	return values
}

// vaeConfig is vae/config.json.
func (p *modelParts) vaeConfig(f Family) (object, error) {
	t := p.vae
	names := t.Names()
	side, block := "encoder", "encoder.down_blocks."
	if t["encoder.conv_in.weight"] == nil {
		side, block = "decoder", "decoder.up_blocks."
	}
	levels := indices(names, block)
	if len(levels) == 0 {
		return nil, fmt.Errorf("the VAE's %s has no levels", side)
	}
	widths := make([]int, len(levels))
	for i := range widths {
		widths[i] = t.axis(fmt.Sprintf("%s%d.resnets.0.conv1.weight", block, i), 0)
		if widths[i] == 0 {
			return nil, fmt.Errorf("the VAE's %s%d.resnets.0.conv1.weight is missing", block, i)
		}
	}
	layers := len(indices(names, block+"0.resnets."))
	if side == "decoder" {
		slices.Reverse(widths)
		layers-- // one more on the way up
	}
	latent := t.axis("decoder.conv_in.weight", 1)
	if latent == 0 {
		latent = t.axis("encoder.conv_out.weight", 0) / 2
	}
	c := object{
		"_class_name": "AutoencoderKL", "in_channels": max(t.axis("encoder.conv_in.weight", 1), 3), "out_channels": 3, "latent_channels": latent,
		"block_out_channels": widths, "layers_per_block": layers, "norm_num_groups": groups(widths),
		"down_block_types": slices.Repeat([]string{"DownEncoderBlock2D"}, len(widths)),
		"up_block_types":   slices.Repeat([]string{"UpDecoderBlock2D"}, len(widths)),
		"sample_size":      512, "scaling_factor": 0.18215,
		"use_quant_conv": t["quant_conv.weight"] != nil, "use_post_quant_conv": t["post_quant_conv.weight"] != nil,
		"mid_block_add_attention": t[side+".mid_block.attentions.0.to_q.weight"] != nil,
	}
	switch {
	case f == SDXL || f == Refiner:
		c["scaling_factor"], c["sample_size"], c["force_upcast"] = 0.13025, 1024, true
	case f == Flux2 || t["bn.running_mean"] != nil:
		packedConfig(c, t, widths)
	case f == SD3:
		c["scaling_factor"], c["shift_factor"] = 1.5305, 0.0609
	case latent == 16 || f == ZImage || f == Flux1: // FLUX.1's
		c["scaling_factor"], c["shift_factor"] = 0.3611, 0.1159
	}
	return c, nil
}

// packedConfig is vae/config.json of an autoencoder whose latents are packed: what else it has.
func packedConfig(c object, t table, widths []int) {
	delete(c, "scaling_factor")
	c["_class_name"], c["sample_size"], c["batch_norm_eps"] = "AutoencoderKLFlux2", 1024, 1e-4
	side := 1
	for latent := c["latent_channels"].(int); latent > 0 && side < 8 && side*side*latent < t.axis("bn.running_mean", 0); {
		side++
	}
	c["patch_size"] = []int{side, side}
	decoder := make([]int, len(widths))
	for i := range decoder {
		decoder[len(widths)-1-i] = t.axis(fmt.Sprintf("decoder.up_blocks.%d.resnets.0.conv1.weight", i), 0)
	}
	if !slices.Equal(decoder, widths) && !slices.Contains(decoder, 0) {
		c["decoder_block_out_channels"] = decoder
	}
}

// textConfig is text_encoder/config.json. OpenAI's CLIP has the quick GELU, open_clip's models the exact one.
func textConfig(t table, openCLIP bool) (object, error) {
	names := t.Names()
	const embeddings = "text_model.embeddings."
	hidden := t.axis(embeddings+"token_embedding.weight", 1)
	layers := len(indices(names, "text_model.encoder.layers."))
	wide := t.axis("text_model.encoder.layers.0.mlp.fc1.weight", 0)
	positions := t.axis(embeddings+"position_embedding.weight", 0)
	if hidden == 0 || layers == 0 || wide == 0 || positions == 0 {
		return nil, fmt.Errorf("the text encoder lacks its embeddings or layers")
	}
	heads := hidden / 64
	if hidden%64 != 0 { // narrower than any real one: as the models for tests in diffusers
		heads = 4
	}
	end := min(t.axis(embeddings+"token_embedding.weight", 0), 49408) - 1 // what is added to the vocabulary lies after it
	c := object{
		"architectures": []string{"CLIPTextModel"}, "model_type": "clip_text_model", "hidden_act": "quick_gelu",
		"vocab_size": t.axis(embeddings+"token_embedding.weight", 0), "hidden_size": hidden, "intermediate_size": wide,
		"num_hidden_layers": layers, "num_attention_heads": heads, "max_position_embeddings": positions, "layer_norm_eps": 1e-5,
		"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": 1,
	}
	if openCLIP {
		c["hidden_act"] = "gelu"
	}
	if d := t.axis("text_projection.weight", 0); d > 0 {
		c["architectures"], c["projection_dim"] = []string{"CLIPTextModelWithProjection"}, d
	}
	return c, nil
}

// tokenizerConfig is tokenizer/tokenizer_config.json. The vocabulary is CLIP's, which the program has: see package clip.
// OpenAI's encoder fills up with the end token, open_clip's with "!", which is token 0.
func tokenizerConfig(length int, pad string) object {
	special := func(text string) object {
		return object{"content": text, "lstrip": false, "normalized": true, "rstrip": false, "single_word": false}
	}
	return object{
		"tokenizer_class": "CLIPTokenizer", "vocabulary": "clip", "model_max_length": length,
		"bos_token": special("<|startoftext|>"), "eos_token": special("<|endoftext|>"), "unk_token": special("<|endoftext|>"), "pad_token": pad,
	}
}

// pipelineClass is the pipeline that model_index.json names: by the family, and by what the U-Net reads besides the noise.
func (p *modelParts) pipelineClass(f Family) (string, error) {
	in, out := p.unet.axis("conv_in.weight", 1), p.unet.axis("conv_out.weight", 0)
	base := "StableDiffusion"
	if f == SDXL || f == Refiner {
		base = "StableDiffusionXL"
	}
	switch {
	case in == out && f == Refiner:
		return base + "Img2ImgPipeline", nil
	case in == out:
		return base + "Pipeline", nil
	case in == 2*out+1: // noise, mask, masked picture
		return base + "InpaintPipeline", nil
	case in == 2*out:
		return base + "InstructPix2PixPipeline", nil
	case in == out+1:
		return base + "Depth2ImgPipeline", nil
	}
	return "", fmt.Errorf("the U-Net reads %d channels and gives %d: no supported model does", in, out)
}

// indexConfig is model_index.json, which names the scheduler's class too.
func (p *modelParts) indexConfig(f Family, class string, sampling object) object {
	c := object{"_class_name": class, "scheduler": [2]any{"diffusers", sampling["_class_name"]}, "unet": [2]string{"diffusers", "UNet2DConditionModel"}}
	encoder := func(t table) [2]string {
		if t["text_projection.weight"] != nil {
			return [2]string{"transformers", "CLIPTextModelWithProjection"}
		}
		return [2]string{"transformers", "CLIPTextModel"}
	}
	if p.vae != nil {
		c["vae"] = [2]string{"diffusers", "AutoencoderKL"}
	}
	if p.text != nil {
		c["text_encoder"], c["tokenizer"] = encoder(p.text), [2]string{"transformers", "CLIPTokenizer"}
	}
	if p.text2 != nil {
		c["text_encoder_2"], c["tokenizer_2"] = encoder(p.text2), [2]string{"transformers", "CLIPTokenizer"}
	}
	if strings.HasPrefix(class, "StableDiffusionXL") {
		c["force_zeros_for_empty_prompt"] = f == SDXL
	}
	if f == Refiner {
		c["requires_aesthetics_score"] = true
	}
	return c
}
