package control

import (
	"darkroom/kernels"
	"darkroom/nn"
)

// union is what lets one net take hints of several types (xinsir's ControlNet++, diffusers' ControlNetUnionModel): each hint's
// mean, with an embedding of its type, gives a vector that is added to the hint; the types in use join the time embedding.
type union struct {
	task          []*kernels.Weight // a vector a type
	layers        []unionLayer
	spatial       nn.Linear
	typeEmbedding [2]nn.Linear
	identity      nn.Conv2D // adds a vector to every pixel
}

// unionLayer is x += out(value(LN x)); x += MLP(LN x). As published, its attention runs across the batch, where every row
// holds the same hints: each row then reads itself alone, and nothing is left of it but the value.
type unionLayer struct {
	ln1, ln2  nn.LayerNorm
	value     nn.Linear
	out       nn.Linear
	cFC, proj nn.Linear
}

func newUnion(c Config, l nn.Loader) *union {
	width, temb := c.BlockOutChannels[0], c.TimeEmbedDim()
	add := l.At("control_add_embedding")
	task := l.Weight("task_embedding", kernels.Table, c.Types, width)
	u := &union{
		spatial: l.At("spatial_ch_projs").Linear(width, width),
		typeEmbedding: [2]nn.Linear{
			add.At("linear_1").Linear(c.Types*c.AddedTimeDim, temb), add.At("linear_2").Linear(temb, temb),
		},
	}
	for i := range c.Types {
		u.task = append(u.task, nn.Rows(task, i, i+1))
	}
	for i := range c.UnionLayers {
		at := l.At("transformer_layes", i) // sic
		fused := nn.Linear{Weight: at.At("attn").Weight("in_proj_weight", kernels.Matrix, 3*width, width), Bias: at.At("attn").Weight("in_proj_bias", kernels.Vector, 3*width)}
		u.layers = append(u.layers, unionLayer{
			ln1: at.At("ln_1").LayerNorm(width, 1e-5), ln2: at.At("ln_2").LayerNorm(width, 1e-5),
			value: nn.Linear{Weight: nn.Rows(fused.Weight, 2*width, 3*width), Bias: nn.Rows(fused.Bias, 2*width, 3*width)},
			out:   at.At("attn.out_proj").Linear(width, width),
			cFC:   at.At("mlp.c_fc").Linear(width, 4*width), proj: at.At("mlp.c_proj").Linear(4*width, width),
		})
	}
	u.identity = nn.Affine(width, 1, 0)
	return u
}

// types gives what joins the time embedding.
func (u *union) types(g *kernels.Graph, types *kernels.Tensor) *kernels.Tensor {
	return u.typeEmbedding[1].Forward(g, u.typeEmbedding[0].Forward(g, types, kernels.SiLU, nil), kernels.Identity, nil)
}

// fuse adds a hint of a type, after its convolutions, to what is there: added, nil for nothing. A strength that is not nil
// weighs it. zero, [N,width], is zeros.
func (u *union) fuse(g *kernels.Graph, hint *kernels.Tensor, kind, heads int, strength, zero, added *kernels.Tensor) *kernels.Tensor {
	n, h, w, c := hint.Shape[0], hint.Shape[1], hint.Shape[2], hint.Shape[3]
	// Attention of a query of zeros weighs all pixels alike: their mean.
	pixels := g.Reshape(hint, n, h*w, c)
	mean := g.Add("control mean", &kernels.Attention{Q: g.Reshape(zero, n, 1, c), K: pixels, V: pixels, Heads: heads})
	x := g.Add("control task", &kernels.Linear{In: g.Reshape(mean, n, c), W: u.identity.Weight, Bias: u.task[kind]})
	if strength != nil {
		x = g.Add("control strength", &kernels.Pointwise{A: zero, B: x, Scale: strength})
	}
	for _, l := range u.layers {
		x = l.out.Forward(g, l.value.Forward(g, l.ln1.Forward(g, x), kernels.Identity, nil), kernels.Identity, x)
		x = l.proj.Forward(g, l.cFC.Forward(g, l.ln2.Forward(g, x), kernels.QuickGELU, nil), kernels.Identity, x)
	}
	alpha := u.spatial.Forward(g, x, kernels.Identity, nil)
	if strength == nil {
		return u.identity.Forward(g, hint, nn.Conv{PerChannel: alpha, Residual: added})
	}
	both := u.identity.Forward(g, hint, nn.Conv{PerChannel: alpha})
	if added == nil {
		added = g.Add("control zero", &kernels.Pointwise{A: both, B: both, Factor: -1})
	}
	return g.Add("control strength", &kernels.Pointwise{A: added, B: both, Scale: strength})
}
