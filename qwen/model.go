package qwen

import (
	"slices"

	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// Model is Qwen3 up to the last layer that is read, by the names of transformers' Qwen3Model. It begins after the
// embedding of tokens, whose table (EmbeddingNames) is larger than several layers and is read row by row where it lies.
type Model struct {
	Config Config

	layers []layer
	norm   *nn.RMSNorm // nil where the states after it are not read
}

// New puts the encoder together; the error lists every weight that is missing or of another shape. Layers that nothing
// reads are left out.
func New(c Config, l nn.Loader) (*Model, error) {
	root := l
	if l.Has("model.layers.0.input_layernorm.weight") { // Qwen3ForCausalLM
		l = l.At("model")
	}
	m := &Model{Config: c}
	last := slices.Max(c.Layers)
	for i := range min(last, c.NumHiddenLayers) {
		m.layers = append(m.layers, newLayer(c, l.At("layers", i)))
	}
	for i := last; i < c.NumHiddenLayers; i++ {
		l.At("layers", i).Skip()
	}
	if last == c.NumHiddenLayers {
		n := l.At("norm").RMSNorm(c.HiddenSize, c.RMSNormEps)
		m.norm = &n
	} else {
		l.At("norm").Skip()
	}
	root.At("lm_head").Skip()
	l.At("embed_tokens").Skip()
	return m, l.Err()
}

// EmbeddingNames are the names that the table of tokens' vectors, [VocabSize, HiddenSize], may have.
var EmbeddingNames = []string{"model.embed_tokens.weight", "embed_tokens.weight"}

// layer is x += attention(norm x); x += MLP(norm x).
type layer struct {
	inputNorm, postAttentionNorm nn.RMSNorm
	qNorm, kNorm                 nn.RMSNorm
	qProj, kProj, vProj, oProj   nn.Linear
	up, down                     nn.Linear

	heads, shared int
}

func newLayer(c Config, l nn.Loader) layer {
	a, mlp := l.At("self_attn").Tolerant(true), l.At("mlp").Tolerant(true)
	inner, shared := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	return layer{
		inputNorm:         l.At("input_layernorm").RMSNorm(c.HiddenSize, c.RMSNormEps),
		postAttentionNorm: l.At("post_attention_layernorm").RMSNorm(c.HiddenSize, c.RMSNormEps),
		qNorm:             a.At("q_norm").RMSNorm(c.HeadDim, c.RMSNormEps),
		kNorm:             a.At("k_norm").RMSNorm(c.HeadDim, c.RMSNormEps),
		qProj:             a.At("q_proj").Linear(c.HiddenSize, inner),
		kProj:             a.At("k_proj").Linear(c.HiddenSize, shared),
		vProj:             a.At("v_proj").Linear(c.HiddenSize, shared),
		oProj:             a.At("o_proj").Linear(inner, c.HiddenSize),
		up:                mlp.SwiGLU("up_proj", "gate_proj", c.HiddenSize, c.IntermediateSize),
		down:              mlp.At("down_proj").Linear(c.IntermediateSize, c.HiddenSize),
		heads:             c.NumAttentionHeads, shared: c.NumKeyValueHeads,
	}
}

func (b layer) forward(g *kernels.Graph, x, angles, lengths *kernels.Tensor) *kernels.Tensor {
	h := b.inputNorm.Forward(g, x, nil)
	project := func(p nn.Linear) *kernels.Tensor { return p.Forward(g, h, kernels.Identity, nil) }
	q := b.qNorm.Rotary(g, "", project(b.qProj), angles, b.heads, true)
	k := b.kNorm.Rotary(g, "", project(b.kProj), angles, b.shared, true)
	h = g.Add(b.qProj.Weight.Name+" attention", &kernels.Attention{Q: q, K: k, V: project(b.vProj), Heads: b.heads, KVHeads: b.shared, Causal: true, Lengths: lengths})
	x = b.oProj.Forward(g, h, kernels.Identity, x)
	h = b.up.Forward(g, b.postAttentionNorm.Forward(g, x, nil), kernels.SwiGLU, nil)
	return b.down.Forward(g, h, kernels.Identity, x)
}

// Forward writes the encoder into g: the tokens' vectors, [N,T,HiddenSize], to the states that Config.Layers names, side by
// side, [N,T,len(Layers)·HiddenSize]. Tokens see those before them, and none that is padding.
func (m *Model) Forward(g *kernels.Graph, embedded, angles, lengths *kernels.Tensor) *kernels.Tensor {
	states := map[int]*kernels.Tensor{0: embedded}
	x := embedded
	for i, b := range m.layers {
		x = b.forward(g, x, angles, lengths)
		states[i+1] = x
	}
	if m.norm != nil {
		states[m.Config.NumHiddenLayers] = m.norm.Forward(g, x, nil)
	}
	if len(m.Config.Layers) == 1 {
		return states[m.Config.Layers[0]]
	}
	var parts []*kernels.Tensor
	for _, i := range m.Config.Layers {
		parts = append(parts, states[i])
	}
	return g.Add("hidden states", &kernels.Concat{Parts: parts, Axis: 2})
}

// Write writes the encoder into g, for Rows texts of Tokens tokens: "embedded", "angles" and "lengths" to "hidden", as
// Forward has them. It implements nn.Network.
func (m *Model) Write(g *kernels.Graph, s nn.Sizes) {
	embedded := g.Input("embedded", g.DType, s.Rows, s.Tokens, m.Config.HiddenSize)
	angles := g.Input("angles", tensor.F32, s.Rows, s.Tokens, m.Config.HeadDim)
	g.Output("hidden", m.Forward(g, embedded, angles, g.Input("lengths", tensor.I32, s.Rows)))
}
