package clip

import (
	"darkroom/kernels"
	"darkroom/nn"
)

// encoderLayer is x += attention(LN x); x += MLP(LN x), of both towers.
type encoderLayer struct {
	layerNorm1, layerNorm2 nn.LayerNorm
	selfAttn               nn.Attention
	fc1, fc2               nn.Linear
	act                    kernels.Activation
}

type layerConfig struct {
	width, inner, heads int
	eps                 float32
	act                 kernels.Activation
	causal              bool
}

func newEncoderLayer(l nn.Loader, c layerConfig) encoderLayer {
	names := nn.AttentionNames{Q: "q_proj", K: "k_proj", V: "v_proj", Out: "out_proj"}
	b := encoderLayer{
		layerNorm1: l.At("layer_norm1").LayerNorm(c.width, c.eps),
		layerNorm2: l.At("layer_norm2").LayerNorm(c.width, c.eps),
		selfAttn:   l.At("self_attn").Attention(names, c.width, c.width, c.heads),
		fc1:        l.At("mlp.fc1").Linear(c.width, c.inner),
		fc2:        l.At("mlp.fc2").Linear(c.inner, c.width),
		act:        c.act,
	}
	b.selfAttn.Causal = c.causal
	return b
}

func (b encoderLayer) forward(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	x = b.selfAttn.Forward(g, b.layerNorm1.Forward(g, x), nil, x)
	h := b.fc1.Forward(g, b.layerNorm2.Forward(g, x), b.act, nil)
	return b.fc2.Forward(g, h, kernels.Identity, x)
}
