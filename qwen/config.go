// Package qwen is the text encoder of today's diffusion transformers: the language model Qwen3 (Yang et al. 2025,
// https://arxiv.org/abs/2505.09388) with its tokenizer, of which hidden states are read and no text is generated.
package qwen

import (
	"math"

	"darkroom/checkpoint"
)

// Config is what text_encoder/config.json says.
type Config struct {
	VocabSize         int
	HiddenSize        int
	IntermediateSize  int
	NumHiddenLayers   int
	NumAttentionHeads int
	NumKeyValueHeads  int
	HeadDim           int
	RMSNormEps        float32
	RopeTheta         float64

	// Layers are those whose states are read, side by side: 0 is before the first layer, NumHiddenLayers after the last
	// and the norm after it. The file does not say so: the family does.
	Layers []int
}

// harmlessKeys say nothing about the arithmetic.
var harmlessKeys = []string{
	"attention_dropout", "initializer_range", "torch_dtype", "dtype", "transformers_version", "bos_token_id", "eos_token_id", "pad_token_id",
	"use_cache", "output_attentions", "output_hidden_states", "return_dict", "chunk_size_feed_forward", "id2label", "label2id", "problem_type",
	"attn_implementation", "tie_word_embeddings", "architectures", "max_position_embeddings", "max_window_layers", "sliding_window", "is_encoder_decoder",
	"quantization_config", "_name_or_path", "_attn_implementation_autoset",
}

// ReadConfig reads the configuration of Qwen3Model or Qwen3ForCausalLM. A value that this program does not support is an
// error that names file, key and value. Defaults are those of transformers' Qwen3Config.
func ReadConfig(c *checkpoint.Config) (Config, error) {
	const most = 1 << 20
	c.Ignore(harmlessKeys...)
	c.OneOf("model_type", "qwen3")
	m := Config{
		VocabSize: c.IntIn("vocab_size", 1, most, 151936), HiddenSize: c.IntIn("hidden_size", 1, most, 4096),
		IntermediateSize: c.IntIn("intermediate_size", 1, most, 22016), NumHiddenLayers: c.IntIn("num_hidden_layers", 1, 512, 32),
		NumAttentionHeads: c.IntIn("num_attention_heads", 1, most, 32), HeadDim: c.IntIn("head_dim", 2, 512, 128),
		RMSNormEps: float32(c.Float("rms_norm_eps", 1e-6)),
	}
	m.NumKeyValueHeads = c.IntIn("num_key_value_heads", 1, most, m.NumAttentionHeads)
	if m.NumAttentionHeads%m.NumKeyValueHeads != 0 {
		c.Fail("num_key_value_heads", "it must divide num_attention_heads")
	}
	if m.HeadDim%2 != 0 {
		c.Fail("head_dim", "it must be even")
	}
	c.OneOf("hidden_act", "silu")
	c.Fixed("attention_bias", false)
	c.Fixed("use_sliding_window", false)
	for _, kind := range c.Strings("layer_types", 0, "full_attention") {
		if kind != "full_attention" {
			c.Fail("layer_types", "only full_attention is supported")
			break
		}
	}
	m.RopeTheta = c.Float("rope_theta", 1e6)
	if rope := c.Object("rope_parameters"); rope != nil { // since transformers 5
		m.RopeTheta = rope.Float("rope_theta", m.RopeTheta)
		rope.OneOf("rope_type", "default")
		if err := rope.Done(); err != nil {
			return m, err
		}
	}
	if c.Has("rope_scaling") {
		c.Fail("rope_scaling", "not supported, only null")
	}
	return m, c.Done()
}

// Angles are the cosines and sines of so many positions, [tokens, HeadDim], as transformers has them in float32.
func (c Config) Angles(tokens int) []float32 {
	half := c.HeadDim / 2
	out := make([]float32, tokens*c.HeadDim)
	for i := range half {
		ω := 1 / float32(math.Pow(c.RopeTheta, float64(float32(2*i)/float32(c.HeadDim))))
		for t := range tokens {
			sin, cos := math.Sincos(float64(float32(t) * ω))
			out[t*c.HeadDim+i], out[t*c.HeadDim+half+i] = float32(cos), float32(sin)
		}
	}
	return out
}
