// Package t5 is the encoder of T5 v1.1 (Raffel et al. 2020, https://arxiv.org/abs/1910.10683; Shazeer 2020) with its tokenizer, as
// a text encoder of diffusion transformers.
package t5

import (
	"fmt"
	"math"

	"darkroom/checkpoint"
)

// Config is what text_encoder_2/config.json or text_encoder_3/config.json says.
type Config struct {
	VocabSize int
	Model     int // width of a token's state
	KV        int // width of a head
	FF        int
	Layers    int
	Heads     int
	Buckets   int // of distances
	Furthest  int // distances from it on share a bucket
	Eps       float32
}

// harmlessKeys say nothing about the encoder's arithmetic: they are of training, of the decoder, and of generating text.
var harmlessKeys = []string{
	"dropout_rate", "classifier_dropout", "initializer_factor", "torch_dtype", "dtype", "transformers_version", "bos_token_id", "eos_token_id", "pad_token_id",
	"decoder_start_token_id", "use_cache", "output_attentions", "output_hidden_states", "return_dict", "chunk_size_feed_forward", "id2label", "label2id",
	"problem_type", "attn_implementation", "tie_word_embeddings", "architectures", "num_decoder_layers", "is_encoder_decoder", "output_past", "task_specific_params",
	"n_positions", "_name_or_path", "_attn_implementation_autoset", "quantization_config", "scalable_attention", "is_decoder", "tie_encoder_decoder",
	"scale_decoder_outputs",
}

// ReadConfig reads the configuration of T5EncoderModel. A value that this program does not support is an error that names
// file, key and value. Defaults are those of transformers' T5Config.
func ReadConfig(c *checkpoint.Config) (Config, error) {
	const most = 1 << 20
	c.Ignore(harmlessKeys...)
	c.OneOf("model_type", "t5")
	m := Config{
		VocabSize: c.IntIn("vocab_size", 1, most, 32128), Model: c.IntIn("d_model", 1, most, 512), KV: c.IntIn("d_kv", 1, 4096, 64), FF: c.IntIn("d_ff", 1, most, 2048),
		Layers: c.IntIn("num_layers", 1, 512, 6), Heads: c.IntIn("num_heads", 1, most, 8), Buckets: c.IntIn("relative_attention_num_buckets", 4, most, 32),
		Furthest: c.IntIn("relative_attention_max_distance", 2, most, 128), Eps: float32(c.Float("layer_norm_epsilon", 1e-6)),
	}
	if kind := c.String("feed_forward_proj", "relu"); kind != "gated-gelu" {
		c.Fail("feed_forward_proj", "only gated-gelu, of T5 v1.1, is supported")
	}
	c.OneOf("dense_act_fn", "gelu_new")
	c.Fixed("is_gated_act", true)
	switch exact := m.Buckets / 4; {
	case m.Buckets%4 != 0:
		c.Fail("relative_attention_num_buckets", "it must be a multiple of 4")
	case m.Furthest <= exact:
		c.Fail("relative_attention_max_distance", fmt.Sprintf("it must be more than a quarter of relative_attention_num_buckets, %d", exact))
	}
	return m, c.Done()
}

// bucket is that of a distance, key minus query: half of the buckets are for keys that come later; of each half, half are for one
// distance, and the others for shares of the logarithm.
func (c Config) bucket(distance int) int {
	half, first := c.Buckets/2, 0
	if distance > 0 {
		first = half
	} else {
		distance = -distance
	}
	exact := half / 2
	if distance < exact {
		return first + distance
	}
	share := float32(math.Log(float64(float32(distance)/float32(exact)))) / float32(math.Log(float64(c.Furthest)/float64(exact)))
	return first + min(exact+int(share*float32(half-exact)), half-1)
}

// Bias is what distances add to the scores of so many tokens, as kernels.Attention has it, [Heads, 2·tokens-1]: table,
// [Buckets, Heads], is relative_attention_bias of the first layer, which all layers share.
func (c Config) Bias(table []float32, tokens int) []float32 {
	width := 2*tokens - 1
	out := make([]float32, c.Heads*width)
	for i := range width {
		b := c.bucket(tokens - 1 - i)
		for h := range c.Heads {
			out[h*width+i] = table[b*c.Heads+h]
		}
	}
	return out
}
