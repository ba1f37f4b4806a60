package unet

import (
	"fmt"
	"strings"

	"darkroom/kernels"
	"darkroom/nn"
)

// transformer is GN → projection → blocks → projection, around a skip (Rombach et al. 2022, sec. 3.3,
// app. E.2.1): each pixel is a token.
type transformer struct {
	norm            nn.GroupNorm
	projIn, projOut nn.Linear // 1×1 convolutions in older checkpoints: the same matrices
	blocks          []transformerBlock
	largest         bool // at the first level that has attention
}

// Epsilons that diffusers fixes, whatever norm_eps says.
const (
	transformerNormEps = 1e-6
	layerNormEps       = 1e-5
)

func newTransformer(l nn.Loader, c Config, level, depth int, onlyCross bool) transformer {
	width, heads := c.BlockOutChannels[level], c.AttentionHeads[level]
	t := transformer{
		norm:   l.At("norm").GroupNorm(width, c.NormNumGroups, transformerNormEps),
		projIn: l.At("proj_in").Linear(width, width), projOut: l.At("proj_out").Linear(width, width),
		largest: level == c.firstAttention(),
	}
	for i := range depth {
		t.blocks = append(t.blocks, newTransformerBlock(l.At("transformer_blocks", i), width, c.CrossAttentionDim[level], heads, onlyCross))
	}
	return t
}

// context is what attention reads besides the picture.
type context struct {
	text   *kernels.Tensor
	images []imagePrompt
	gate   *gate
	merge  float64 // share of the tokens that are merged in the largest self-attention
}

type imagePrompt struct{ tokens, strength *kernels.Tensor }

// gate is what becomes of cross-attention's results in a network that is written as nn.KeepCross or nn.NoCross.
type gate struct {
	form nn.Form
	next int // number of the next one
}

// cross adds what cross-attention gives to x. attend writes it, with a residual.
func (c context) cross(g *kernels.Graph, x *kernels.Tensor, attend func(residual *kernels.Tensor) *kernels.Tensor) *kernels.Tensor {
	if c.gate == nil {
		return attend(x)
	}
	name := nn.Cross(c.gate.next)
	c.gate.next++
	var y *kernels.Tensor
	if c.gate.form == nn.NoCross {
		y = g.SteadyInput(name, g.DType, x.Shape...)
	} else {
		y = attend(nil)
		g.Output(name, y)
	}
	return g.Add(name, &kernels.Pointwise{A: x, B: y})
}

func (t transformer) forward(g *kernels.Graph, x *kernels.Tensor, read context) *kernels.Tensor {
	n, h, w, c := x.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]
	tokens := g.Reshape(t.norm.Forward(g, x, nil), n, h*w, c)
	y := t.projIn.Forward(g, tokens, kernels.Identity, nil)
	var merge *kernels.Match
	if sources := h*w - h/2*(w/2); t.largest && sources < h*w {
		merge = &kernels.Match{H: h, W: w, Count: min(sources, int(float64(h*w)*read.merge))}
	}
	for _, b := range t.blocks {
		y = b.forward(g, y, read, merge)
	}
	y = t.projOut.Forward(g, y, kernels.Identity, g.Reshape(x, n, h*w, c))
	return g.Reshape(y, n, h, w, c)
}

// transformerBlock is x += self-attention(LN x); x += cross-attention(LN x, text); x += GEGLU MLP(LN x).
//
// The norms are part of the products that read them, but for self-attention to merged tokens, which are merged in between.
type transformerBlock struct {
	norm1        nn.LayerNorm
	attn1, attn2 nn.Attention
	merged       nn.Attention // attn1 without its norm
	ff           [2]nn.Linear
	onlyCross    bool        // attn1, too, attends to the text
	images       []imageKeys // attn2's of image prompts
}

func newTransformerBlock(l nn.Loader, width, textWidth, heads int, onlyCross bool) transformerBlock {
	names := nn.AttentionNames{Q: "to_q", K: "to_k", V: "to_v", Out: "to_out.0"}
	norm := func(i int) nn.LayerNorm { return l.At(fmt.Sprint("norm", i)).LayerNorm(width, layerNormEps) }
	b := transformerBlock{
		norm1:     norm(1),
		attn2:     l.At("attn2").Attention(names, width, textWidth, heads).After(norm(2)),
		ff:        [2]nn.Linear{l.At("ff.net.0.proj").LinearGEGLU(width, 4*width).After(norm(3)), l.At("ff.net.2").Linear(4*width, width)},
		onlyCross: onlyCross,
	}
	if onlyCross {
		b.attn1 = l.At("attn1").Attention(names, width, textWidth, heads).After(b.norm1)
		return b
	}
	b.merged = l.At("attn1").SelfAttention(names, width, heads)
	if b.attn1 = b.merged; b.merged.ToQKV != nil { // else it has no weights of its own
		b.attn1 = l.At("attn1").SelfAttention(names, width, heads).After(b.norm1)
	}
	return b
}

// merge says how many tokens self-attention is to merge, and of what picture; nil for none.
func (b transformerBlock) forward(g *kernels.Graph, x *kernels.Tensor, read context, merge *kernels.Match) *kernels.Tensor {
	shape, rows := x.Shape, read.text.Shape[0]
	joined := func(x *kernels.Tensor) *kernels.Tensor { // a row's frames read the same text: as one image
		if shape[0] == rows {
			return x
		}
		return g.Reshape(x, rows, shape[0]/rows*shape[1], shape[2])
	}
	apart := func(x *kernels.Tensor) *kernels.Tensor {
		if shape[0] == rows {
			return x
		}
		return g.Reshape(x, shape...)
	}
	if b.onlyCross {
		x = apart(read.cross(g, joined(x), func(residual *kernels.Tensor) *kernels.Tensor {
			return b.attn1.Forward(g, joined(x), read.text, residual)
		}))
	} else {
		x = b.selfAttention(g, x, merge)
	}
	x = apart(read.cross(g, joined(x), func(residual *kernels.Tensor) *kernels.Tensor {
		h := joined(x)
		if len(b.images) > 0 {
			return withImages(b.images, g, b.attn2, h, read, residual)
		}
		return b.attn2.Forward(g, h, read.text, residual)
	}))
	h := b.ff[0].Forward(g, x, kernels.GEGLU, nil)
	return b.ff[1].Forward(g, h, kernels.Identity, x)
}

// selfAttention is x + attention(LN x), of fewer tokens where some are merged: which of them is found by x itself, each time
// anew.
func (b transformerBlock) selfAttention(g *kernels.Graph, x *kernels.Tensor, merge *kernels.Match) *kernels.Tensor {
	unmerged := merge == nil || merge.Count == 0
	if unmerged && b.attn1.ToQKV != nil {
		return b.attn1.Forward(g, x, nil, x)
	}
	h := b.norm1.Forward(g, x)
	if unmerged {
		return b.attn1.Forward(g, h, nil, x)
	}
	name := strings.TrimSuffix(b.norm1.Gamma.Name, ".norm1.weight") + ".attn1"
	match := *merge
	match.In = x
	numbers := g.AddNumbers(name+" match", &match)
	few := g.Add(name+" merge", &kernels.Merge{In: h, Numbers: numbers, To: x.Shape[1] - match.Count})
	return g.Add(name+" spread", &kernels.Spread{In: b.merged.Forward(g, few, nil, nil), Numbers: numbers, Residual: x})
}
