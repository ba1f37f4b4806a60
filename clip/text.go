package clip

import (
	"slices"

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

	EOSTokenID int
	// ProjectionDim is the width of the text's embedding, which a CLIPTextModelWithProjection gives; 0 for none.
	ProjectionDim int
	// Pooled asks for the text's embedding where there is no projection, as FLUX.1 reads it: the family does.
	Pooled bool
	// Penultimate asks for the states before the last layer, without the final norm, as SDXL reads them. The file does
	// not say so: the family does.
	Penultimate bool
}

// EOS is the token whose state stands for the whole text, as transformers finds it: the first end token; in files from
// before that was put right, which say 2, the token of the highest number.
func (c TextConfig) EOS(ids []int32) int {
	if c.EOSTokenID == 2 {
		return slices.Index(ids, slices.Max(ids))
	}
	return max(slices.Index(ids, int32(c.EOSTokenID)), 0)
}

// harmlessKeys say nothing about the encoder's arithmetic: they are of training, of the tokenizer, of
// ranking pictures, or of generating text, for which transformers wrote its whole list into older files.
var harmlessKeys = []string{
	"attention_dropout", "dropout", "initializer_factor", "initializer_range",
	"torch_dtype", "dtype", "transformers_version", "bos_token_id", "pad_token_id", "sep_token_id", "use_cache",
	"output_attentions", "output_hidden_states", "return_dict", "chunk_size_feed_forward", "id2label", "label2id", "problem_type",
	"attn_implementation", "tie_word_embeddings", "pruned_heads", "task_specific_params", "tokenizer_class", "prefix",
	"diversity_penalty", "encoder_no_repeat_ngram_size", "length_penalty", "max_length", "min_length", "no_repeat_ngram_size",
	"num_beam_groups", "num_beams", "num_return_sequences", "repetition_penalty", "temperature", "top_k", "top_p", "typical_p",
}

// most bounds what a hostile file can ask for.
const most = 1 << 24

func readAct(c *checkpoint.Config) kernels.Activation {
	if c.OneOf("hidden_act", "quick_gelu", "gelu") == "gelu" {
		return kernels.GELU
	}
	return kernels.QuickGELU
}

// ReadTextConfig reads text_encoder/config.json. A value that this program does not support is an
// error that names file, key and value. Defaults are those of transformers' CLIPTextConfig.
func ReadTextConfig(c *checkpoint.Config) (TextConfig, error) {
	c.Ignore(harmlessKeys...)
	c.OneOf("model_type", "clip_text_model")
	m := TextConfig{
		VocabSize: c.Int("vocab_size", 49408), HiddenSize: c.Int("hidden_size", 512),
		IntermediateSize: c.Int("intermediate_size", 2048), NumHiddenLayers: c.Int("num_hidden_layers", 12),
		NumAttentionHeads: c.Int("num_attention_heads", 8), MaxPositionEmbeddings: c.Int("max_position_embeddings", 77),
		LayerNormEps: float32(c.Float("layer_norm_eps", 1e-5)),
	}
	m.Act = readAct(c)
	m.EOSTokenID = c.Int("eos_token_id", 49407)
	dim := c.Int("projection_dim", 512)
	if slices.Contains(c.Strings("architectures", 0, ""), "CLIPTextModelWithProjection") {
		m.ProjectionDim = dim
		if dim < 1 || dim > most {
			c.Fail("projection_dim", "it is out of range")
		}
	}
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
	if m.NumHiddenLayers > 512 { // each would be asked for
		c.Fail("num_hidden_layers", "it is out of range")
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
	textProjection    *nn.Linear // nil where there is none
}

// NewText puts the encoder together; the error lists every weight that is missing or of another shape.
func NewText(c TextConfig, l nn.Loader) (*TextModel, error) {
	root := l
	var projection *nn.Linear
	if l.Has("text_model.final_layer_norm.weight") { // as transformers wrote it before version 5
		l = l.At("text_model")
	}
	if c.ProjectionDim > 0 {
		p := root.At("text_projection").Linear(c.HiddenSize, c.ProjectionDim)
		projection = &p
	}
	m := &TextModel{
		Config:         c,
		tokens:         l.At("embeddings.token_embedding").Weight("weight", kernels.Table, c.VocabSize, c.HiddenSize),
		positions:      l.At("embeddings.position_embedding").Weight("weight", kernels.Table, c.MaxPositionEmbeddings, c.HiddenSize),
		finalLayerNorm: l.At("final_layer_norm").LayerNorm(c.HiddenSize, c.LayerNormEps),
		textProjection: projection,
	}
	for i := range c.NumHiddenLayers {
		m.layers = append(m.layers, newEncoderLayer(l.At("encoder.layers", i), layerConfig{
			width: c.HiddenSize, inner: c.IntermediateSize, heads: c.NumAttentionHeads, eps: c.LayerNormEps, act: c.Act, causal: true,
		}))
	}
	return m, l.Err()
}

// Layers is how many transformer layers there are to leave off: less than that many may be. Where a single layer's Penultimate
// states are read, which are the tokens' vectors, that is none.
func (m *TextModel) Layers() int { return max(m.read(), 1) }

// read is how many layers the states have gone through that the family reads.
func (m *TextModel) read() int {
	if m.Config.Penultimate {
		return m.Config.NumHiddenLayers - 1
	}
	return m.Config.NumHiddenLayers
}

// Forward writes the encoder into g: ids, [N,T] of type I32, to hidden states [N,T,HiddenSize] after the final layer
// norm, or without it where the family reads Penultimate ones. Skip leaves off so many layers from the end ("clip
// skip"); 0 is all that the family reads. (Stable Diffusion 2.x reads the layer before the last: its files hold one
// layer fewer.) Where it is asked for, pooled is the embedding of the text up to each token, [N,T,ProjectionDim]:
// that of the token EOS is the text's, whatever skip is.
func (m *TextModel) Forward(g *kernels.Graph, ids *kernels.Tensor, skip int) (hidden, pooled *kernels.Tensor) {
	x := g.Add("", &kernels.Embed{IDs: ids, Tokens: m.tokens, Positions: m.positions})
	last := m.read() - skip
	for i, b := range m.layers {
		if i == last {
			hidden = x
			if m.textProjection == nil && !m.Config.Pooled {
				break
			}
		}
		x = b.forward(g, x)
	}
	if hidden == nil {
		hidden = x
	}
	if !m.Config.Penultimate {
		hidden = m.finalLayerNorm.Forward(g, hidden)
	}
	if m.textProjection == nil && !m.Config.Pooled {
		return hidden, nil
	}
	pooled = m.finalLayerNorm.Forward(g, x)
	if m.textProjection != nil {
		pooled = m.textProjection.Forward(g, pooled, kernels.Identity, nil)
	}
	return hidden, pooled
}

// Write writes the encoder into g, for Rows windows of MaxPositionEmbeddings tokens and a clip skip of Skip: "ids" to
// "hidden" and, where there is a projection, "pooled", as Forward has them. It implements nn.Network.
func (m *TextModel) Write(g *kernels.Graph, s nn.Sizes) {
	hidden, pooled := m.Forward(g, g.Input("ids", tensor.I32, s.Rows, m.Config.MaxPositionEmbeddings), s.Skip)
	g.Output("hidden", hidden)
	if pooled != nil {
		g.Output("pooled", pooled)
	}
}
