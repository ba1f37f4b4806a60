package clip

import (
	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// TextConfig is what text_encoder/config.json says.
type TextConfig struct {
	VocabSize             int
	HiddenSize            int
	IntermediateSize      int
	NumHiddenLayers       int
	NumAttentionHeads     int
	MaxPositionEmbeddings int // the window, start and end tokens included
	Act                   kernels.Activation
	LayerNormEps          float32
}

// harmlessTextKeys say nothing about the encoder's arithmetic: they are of training, of the tokenizer, of
// ranking pictures, or of generating text, for which transformers wrote its whole list into older files.
var harmlessTextKeys = []string{
	"architectures", "attention_dropout", "dropout", "initializer_factor", "initializer_range", "projection_dim",
	"torch_dtype", "dtype", "transformers_version", "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "use_cache",
	"output_attentions", "output_hidden_states", "return_dict", "chunk_size_feed_forward", "id2label", "label2id", "problem_type",
	"attn_implementation", "tie_word_embeddings", "pruned_heads", "task_specific_params", "tokenizer_class", "prefix",
	"diversity_penalty", "encoder_no_repeat_ngram_size", "length_penalty", "max_length", "min_length", "no_repeat_ngram_size",
	"num_beam_groups", "num_beams", "num_return_sequences", "repetition_penalty", "temperature", "top_k", "top_p", "typical_p",
}

// ReadTextConfig reads text_encoder/config.json. A value that this program does not support is an
// error that names file, key and value. Defaults are those of transformers' CLIPTextConfig.
func ReadTextConfig(c *checkpoint.Config) (TextConfig, error) {
	c.Ignore(harmlessTextKeys...)
	c.OneOf("model_type", "clip_text_model")
	m := TextConfig{
		VocabSize: c.Int("vocab_size", 49408), HiddenSize: c.Int("hidden_size", 512),
		IntermediateSize: c.Int("intermediate_size", 2048), NumHiddenLayers: c.Int("num_hidden_layers", 12),
		NumAttentionHeads: c.Int("num_attention_heads", 8), MaxPositionEmbeddings: c.Int("max_position_embeddings", 77),
		LayerNormEps: float32(c.Float("layer_norm_eps", 1e-5)),
	}
	m.Act = kernels.QuickGELU
	if c.OneOf("hidden_act", "quick_gelu", "gelu") == "gelu" {
		m.Act = kernels.GELU
	}
	const most = 1 << 24
	for _, v := range []struct {
		key        string
		value, low int
	}{
		{"vocab_size", m.VocabSize, 1}, {"hidden_size", m.HiddenSize, 1}, {"intermediate_size", m.IntermediateSize, 1},
		{"num_hidden_layers", m.NumHiddenLayers, 1}, {"num_attention_heads", m.NumAttentionHeads, 1},
		{"max_position_embeddings", m.MaxPositionEmbeddings, 3},
	} {
		if v.value < v.low || v.value > most {
			c.Fail(v.key, "it is out of range")
		}
	}
	return m, c.Done()
}

// TextModel is CLIP's text encoder (Radford et al. 2021): a causal transformer with the layer norms in
// front, by the names of transformers' CLIPTextModel.
type TextModel struct {
	Config TextConfig

	tokens, positions *kernels.Weight
	layers            []encoderLayer
	finalLayerNorm    nn.LayerNorm
}

// encoderLayer is x += attention(LN x); x += MLP(LN x).
type encoderLayer struct {
	layerNorm1, layerNorm2 nn.LayerNorm
	selfAttn               nn.Attention
	fc1, fc2               nn.Linear
}

// NewText puts the encoder together; the error lists every weight that is missing or of another shape.
func NewText(c TextConfig, l nn.Loader) (*TextModel, error) {
	if l.Has("text_model.final_layer_norm.weight") { // as transformers wrote it before version 5
		l = l.At("text_model")
	}
	m := &TextModel{
		Config:         c,
		tokens:         l.At("embeddings.token_embedding").Weight("weight", kernels.Table, c.VocabSize, c.HiddenSize),
		positions:      l.At("embeddings.position_embedding").Weight("weight", kernels.Table, c.MaxPositionEmbeddings, c.HiddenSize),
		finalLayerNorm: l.At("final_layer_norm").LayerNorm(c.HiddenSize, c.LayerNormEps),
	}
	for i := range c.NumHiddenLayers {
		m.layers = append(m.layers, newEncoderLayer(l.At("encoder.layers", i), c))
	}
	return m, l.Err()
}

func newEncoderLayer(l nn.Loader, c TextConfig) encoderLayer {
	names := nn.AttentionNames{Q: "q_proj", K: "k_proj", V: "v_proj", Out: "out_proj"}
	b := encoderLayer{
		layerNorm1: l.At("layer_norm1").LayerNorm(c.HiddenSize, c.LayerNormEps),
		layerNorm2: l.At("layer_norm2").LayerNorm(c.HiddenSize, c.LayerNormEps),
		selfAttn:   l.At("self_attn").Attention(names, c.HiddenSize, c.HiddenSize, c.NumAttentionHeads),
		fc1:        l.At("mlp.fc1").Linear(c.HiddenSize, c.IntermediateSize),
		fc2:        l.At("mlp.fc2").Linear(c.IntermediateSize, c.HiddenSize),
	}
	b.selfAttn.Causal = true
	return b
}

func (b encoderLayer) forward(g *kernels.Graph, x *kernels.Tensor, act kernels.Activation) *kernels.Tensor {
	x = b.selfAttn.Forward(g, b.layerNorm1.Forward(g, x), nil, x)
	h := b.fc1.Forward(g, b.layerNorm2.Forward(g, x), act, nil)
	return b.fc2.Forward(g, h, kernels.Identity, x)
}

// Layers is the number of transformer layers.
func (m *TextModel) Layers() int { return m.Config.NumHiddenLayers }

// Forward writes the encoder into g: ids, [N,T] of type I32, to hidden states [N,T,HiddenSize] after
// the final layer norm. Skip leaves off so many layers from the end ("clip skip"); 0 is the whole
// encoder. (Stable Diffusion 2.x reads the layer before the last: its files hold one layer fewer.)
func (m *TextModel) Forward(g *kernels.Graph, ids *kernels.Tensor, skip int) *kernels.Tensor {
	x := g.Add("", &kernels.Embed{IDs: ids, Tokens: m.tokens, Positions: m.positions})
	for _, b := range m.layers[:len(m.layers)-skip] {
		x = b.forward(g, x, m.Config.Act)
	}
	return m.finalLayerNorm.Forward(g, x)
}

// Write writes the encoder into g, for Rows windows of MaxPositionEmbeddings tokens and a clip skip of Skip: "ids" to
// "hidden". It implements nn.Network.
func (m *TextModel) Write(g *kernels.Graph, s nn.Sizes) {
	g.Output("hidden", m.Forward(g, g.Input("ids", tensor.I32, s.Rows, m.Config.MaxPositionEmbeddings), s.Skip))
}
