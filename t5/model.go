package t5

import (
	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// Model is T5's encoder, by the names of transformers' T5EncoderModel. It begins after the embedding of tokens, whose table
// (EmbeddingNames) is read row by row where it lies.
type Model struct {
	Config Config

	layers []layer
	norm   nn.RMSNorm
}

// Residual is what states are multiplied by between layers. Those of the largest T5 are out of float16's range otherwise. Norms take
// it out again, and as it is a power of two, results in float32 are the same to the bit.
const Residual = 1.0 / 64

// New puts the encoder together; the error lists every weight that is missing or of another shape.
func New(c Config, l nn.Loader) (*Model, error) {
	m := &Model{Config: c, norm: norm(c, l.At("encoder.final_layer_norm"))}
	for i := range c.Layers {
		m.layers = append(m.layers, newLayer(c, l.At("encoder.block", i)))
	}
	l.At("shared").Skip()
	l.At("encoder.embed_tokens").Skip()
	l.At("encoder.block.0.layer.0.SelfAttention.relative_attention_bias").Skip()
	return m, l.Err()
}

// EmbeddingNames are the names that the table of tokens' vectors, [VocabSize, Model], may have. BiasName is the array of what
// distances add to scores: see Config.Bias.
var EmbeddingNames = []string{"shared.weight", "encoder.embed_tokens.weight"}

const BiasName = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"

func norm(c Config, l nn.Loader) nn.RMSNorm { return l.RMSNorm(c.Model, c.Eps*Residual*Residual) }

// layer is x += attention(norm x); x += MLP(norm x).
type layer struct {
	attentionNorm, mlpNorm nn.RMSNorm
	q, k, v, o             nn.Linear
	wi, wo                 nn.Linear
	heads                  int
}

func newLayer(c Config, l nn.Loader) layer {
	a, mlp := l.At("layer.0.SelfAttention").Tolerant(true), l.At("layer.1.DenseReluDense").Tolerant(true)
	inner := c.Heads * c.KV
	return layer{
		attentionNorm: norm(c, l.At("layer.0.layer_norm")), mlpNorm: norm(c, l.At("layer.1.layer_norm")),
		q: a.At("q").Linear(c.Model, inner), k: a.At("k").Linear(c.Model, inner), v: a.At("v").Linear(c.Model, inner), o: scaled(a.At("o"), inner, c.Model),
		wi: mlp.SwiGLU("wi_1", "wi_0", c.Model, c.FF), wo: scaled(mlp.At("wo"), c.FF, c.Model), heads: c.Heads,
	}
}

// scaled is a layer whose results are multiplied by Residual.
func scaled(l nn.Loader, in, out int) nn.Linear {
	shape := tensor.Shape{out, in}
	return nn.Linear{Weight: l.Made(" scaled", kernels.Matrix, shape, func(a []tensor.Array) tensor.Array {
		return tensor.Gather(a[0], shape, nil, nil, Residual)
	}, nn.Part{Name: "weight", Shape: shape})}
}

func (b layer) forward(g *kernels.Graph, x, bias, lengths *kernels.Tensor) *kernels.Tensor {
	h := b.attentionNorm.Forward(g, x, nil)
	project := func(p nn.Linear) *kernels.Tensor { return p.Forward(g, h, kernels.Identity, nil) }
	h = g.Add(b.q.Weight.Name+" attention", &kernels.Attention{Q: project(b.q), K: project(b.k), V: project(b.v), Heads: b.heads, Scale: 1, Bias: bias, Lengths: lengths})
	x = b.o.Forward(g, h, kernels.Identity, x)
	h = b.wi.Forward(g, b.mlpNorm.Forward(g, x, nil), kernels.TanhGEGLU, nil)
	return b.wo.Forward(g, h, kernels.Identity, x)
}

// Forward writes the encoder into g: the tokens' vectors times Residual, [N,T,Model], to their states, [N,T,Model]. bias is
// Config.Bias; lengths, [N], are the tokens that are no padding, nil for all.
func (m *Model) Forward(g *kernels.Graph, embedded, bias, lengths *kernels.Tensor) *kernels.Tensor {
	x := embedded
	for _, b := range m.layers {
		x = b.forward(g, x, bias, lengths)
	}
	return m.norm.Forward(g, x, nil)
}

// Write writes the encoder into g, for Rows texts of Tokens tokens, all of which count: "embedded" and "bias" to "hidden", as
// Forward has them. It implements nn.Network.
func (m *Model) Write(g *kernels.Graph, s nn.Sizes) {
	embedded := g.Input("embedded", g.DType, s.Rows, s.Tokens, m.Config.Model)
	g.Output("hidden", m.Forward(g, embedded, g.Input("bias", tensor.F32, m.Config.Heads, 2*s.Tokens-1), nil))
}
