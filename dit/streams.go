package dit

import (
	"darkroom/kernels"
	"darkroom/nn"
)

// What transformers of one and of two streams have in common.

// attention is self-attention over one sequence, or a part of that over two, with QK-norm and rotary positions where there are
// any.
type attention struct {
	toQ, toK, toV, toOut nn.Linear  // toOut is nothing where nobody reads the result
	normQ, normK         nn.RMSNorm // Gamma nil: none
	heads                int
}

// project gives queries, keys and values of x, [N,T,C]. angles may be nil.
func (a attention) project(g *kernels.Graph, x, angles *kernels.Tensor) (q, k, v *kernels.Tensor) {
	placed := func(l nn.Linear, norm nn.RMSNorm) *kernels.Tensor {
		y := l.Forward(g, x, kernels.Identity, nil)
		if angles != nil {
			return norm.Rotary(g, l.Weight.Name+" rotary", y, angles, a.heads, false)
		}
		if norm.Gamma == nil {
			return y
		}
		n, t, c := y.Shape[0], y.Shape[1], y.Shape[2]
		return g.Reshape(norm.Forward(g, g.Reshape(y, n, t*a.heads, c/a.heads), nil), n, t, c)
	}
	return placed(a.toQ, a.normQ), placed(a.toK, a.normK), a.toV.Forward(g, x, kernels.Identity, nil)
}

// attend is what lies between the projections; lengths, [N], count the keys that are not padding; nil means all.
func (a attention) attend(g *kernels.Graph, q, k, v, lengths *kernels.Tensor) *kernels.Tensor {
	return g.Add(a.toQ.Weight.Name+" attention", &kernels.Attention{Q: q, K: k, V: v, Heads: a.heads, Lengths: lengths})
}

// attentionNames are diffusers' names of the layers of one stream; those of the text have others than those of the picture.
type attentionNames struct{ q, k, v, out, normQ, normK string }

var (
	pictureNames = attentionNames{"to_q", "to_k", "to_v", "to_out.0", "norm_q", "norm_k"}
	textNames    = attentionNames{"add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "norm_added_q", "norm_added_k"}
)

// newAttention loads the attention of one stream of width d.
func newAttention(l nn.Loader, names attentionNames, d, heads int, eps float32, normed bool) attention {
	a := attention{toQ: l.At(names.q).Linear(d, d), toK: l.At(names.k).Linear(d, d), toV: l.At(names.v).Linear(d, d), heads: heads}
	if names.out != "" {
		a.toOut = l.At(names.out).Linear(d, d)
	}
	if normed {
		a.normQ, a.normK = l.At(names.normQ).RMSNorm(d/heads, eps), l.At(names.normK).RMSNorm(d/heads, eps)
	}
	return a
}

// bothAttentions loads those of the picture and of the text.
func bothAttentions(l nn.Loader, d, heads int, eps float32, normed bool) (picture, text attention) {
	return newAttention(l, pictureNames, d, heads, eps, normed), newAttention(l, textNames, d, heads, eps, normed)
}

// mlp is out(act(in x)).
type mlp struct {
	in, out nn.Linear
	act     kernels.Activation
}

// newMLP loads diffusers' FeedForward with an approximate GELU.
func newMLP(l nn.Loader, d, hidden int) mlp {
	return mlp{l.At("net.0.proj").Linear(d, hidden), l.At("net.2").Linear(hidden, d), kernels.TanhGELU}
}

func (p mlp) forward(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	return p.out.Forward(g, p.in.Forward(g, x, p.act, nil), kernels.Identity, nil)
}

// embedder is linear_2(SiLU(linear_1 x)), of the time and of what is added to it.
type embedder [2]nn.Linear

func newEmbedder(l nn.Loader, in, d int) embedder {
	return embedder{l.At("linear_1").Linear(in, d), l.At("linear_2").Linear(d, d)}
}

// embedding is an input with its embedder.
type embedding struct {
	by embedder
	of *kernels.Tensor // nil: left out
}

// embedAll is SiLU of the sum of embeddings: nothing reads it otherwise.
func embedAll(g *kernels.Graph, all ...embedding) *kernels.Tensor {
	var sum *kernels.Tensor
	count := 0
	for _, e := range all {
		if e.of != nil {
			count++
		}
	}
	for _, e := range all {
		if e.of == nil {
			continue
		}
		h := e.by[0].Forward(g, e.of, kernels.SiLU, nil)
		if count == 1 {
			return e.by[1].Forward(g, h, kernels.SiLU, nil)
		}
		sum = e.by[1].Forward(g, h, kernels.Identity, sum)
	}
	return g.Add("time silu", &kernels.Pointwise{A: sum, Act: kernels.SiLU})
}

// modulation are shift, scale and gate of attention, then of the MLP, then of the second attention: [N,C] each.
type modulation []*kernels.Tensor

// modulate makes so many of them of the time's embedding.
func modulate(g *kernels.Graph, l nn.Linear, time *kernels.Tensor, parts int) modulation {
	return nn.Chunks(g, l.Weight.Name+" chunk", l.Forward(g, time, kernels.Identity, nil), parts)
}

// doubleLayer is, for each of both streams, x += g₁·attention((1+s₁)·LN x + b₁); x += g₂·MLP((1+s₂)·LN x + b₂), where attention
// sees both (Esser et al. 2024, https://arxiv.org/abs/2403.03206).
type doubleLayer struct {
	picture, text       attention
	pictureMLP, textMLP mlp
	second              *attention // of the picture alone, beside the first one; nil: none
	pictureMod, textMod nn.Linear  // nothing where layers share them
	eps                 float32
}

// mods are the layer's own modulations of both streams.
func (b doubleLayer) mods(g *kernels.Graph, time *kernels.Tensor) (picture, text modulation) {
	parts := func(l nn.Linear) int { return l.Weight.Shape[0] / l.Weight.Shape[1] }
	picture, text = modulate(g, b.pictureMod, time, parts(b.pictureMod)), modulate(g, b.textMod, time, parts(b.textMod))
	if len(text) == 2 { // scale, shift
		text[0], text[1] = text[1], text[0]
	}
	return picture, text
}

// forward runs the layer on both streams. Where the text's attention has no way out, nobody reads that stream any more, and it is
// nil.
func (b doubleLayer) forward(g *kernels.Graph, x, text *kernels.Tensor, pictureMod, textMod modulation, pictureAngles, textAngles *kernels.Tensor) (*kernels.Tensor, *kernels.Tensor) {
	name := b.picture.toQ.Weight.Name
	q, k, v := b.picture.project(g, nn.Adaptive(g, name+" norm", x, pictureMod[1], pictureMod[0], b.eps), pictureAngles)
	qText, kText, vText := b.text.project(g, nn.Adaptive(g, name+" text norm", text, textMod[1], textMod[0], b.eps), textAngles)
	k = g.Add(name+" keys", &kernels.Concat{Parts: []*kernels.Tensor{kText, k}, Axis: 1})
	v = g.Add(name+" values", &kernels.Concat{Parts: []*kernels.Tensor{vText, v}, Axis: 1})
	alone := x
	x = b.attended(g, b.picture, x, b.picture.attend(g, q, k, v, nil), pictureMod[2])
	if b.second != nil {
		q, k, v := b.second.project(g, nn.Adaptive(g, name+" second norm", alone, pictureMod[7], pictureMod[6], b.eps), pictureAngles)
		x = b.attended(g, *b.second, x, b.second.attend(g, q, k, v, nil), pictureMod[8])
	}
	x = b.fed(g, b.picture, b.pictureMLP, x, pictureMod)
	if b.text.toOut.Weight == nil {
		return x, nil
	}
	text = b.attended(g, b.text, text, b.text.attend(g, qText, k, v, nil), textMod[2])
	return x, b.fed(g, b.text, b.textMLP, text, textMod)
}

func (b doubleLayer) attended(g *kernels.Graph, a attention, x, attended, gate *kernels.Tensor) *kernels.Tensor {
	return nn.Gated(g, a.toOut.Weight.Name+" sum", x, a.toOut.Forward(g, attended, kernels.Identity, nil), gate)
}

func (b doubleLayer) fed(g *kernels.Graph, a attention, p mlp, x *kernels.Tensor, mod modulation) *kernels.Tensor {
	name := a.toOut.Weight.Name
	return nn.Gated(g, name+" MLP sum", x, p.forward(g, nn.Adaptive(g, name+" MLP norm", x, mod[4], mod[3], b.eps)), mod[5])
}

// singleLayer is x += g·out(attention(h), MLP(h)) with h = (1+s)·LN x + b (Dehghani et al. 2023).
type singleLayer struct {
	attention
	mlp        nn.Linear
	act        kernels.Activation
	modulation nn.Linear // nothing where layers share it
	eps        float32
}

func (b singleLayer) forward(g *kernels.Graph, x *kernels.Tensor, mod modulation, angles *kernels.Tensor) *kernels.Tensor {
	name := b.toOut.Weight.Name
	h := nn.Adaptive(g, name+" norm", x, mod[1], mod[0], b.eps)
	q, k, v := b.project(g, h, angles)
	both := []*kernels.Tensor{b.attend(g, q, k, v, nil), b.mlp.Forward(g, h, b.act, nil)}
	h = b.toOut.Forward(g, g.Add(name+" input", &kernels.Concat{Parts: both, Axis: 2}), kernels.Identity, nil)
	return nn.Gated(g, name+" sum", x, h, mod[2])
}
