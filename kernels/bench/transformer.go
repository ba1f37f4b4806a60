package bench

import (
	"fmt"

	"darkroom/kernels"
	"darkroom/tensor"
)

// Transformer is the shape of a diffusion transformer as the published configurations give it: enough to list the operations of a
// step whose time counts.
type Transformer struct {
	Name                  string
	Heads, Head           int // of attention; their product is the width
	Hidden                int // of the gated MLPs
	Picture, Text         int // tokens
	Double, Single        int // layers over two streams that see each other, and over one, whose attention and MLP lie side by side
	Plain                 int // layers over one stream, attention before the MLP
	PictureOnly, TextOnly int // of Plain's kind, over a part of the tokens
}

// ZImage is Z-Image at 1024×1024 with a text of 128 tokens, Klein FLUX.2 klein 4B at 1024×1024.
var (
	ZImage = Transformer{Name: "Z-Image", Heads: 30, Head: 128, Hidden: 10240, Picture: 4096, Text: 128, Plain: 30, PictureOnly: 2, TextOnly: 2}
	Klein  = Transformer{Name: "FLUX.2 klein 4B", Heads: 24, Head: 128, Hidden: 9216, Picture: 4096, Text: 512, Double: 5, Single: 20}
)

// Step lists the operations of one step for a batch of n, alike ones together. Left out is what is made of the time alone.
func (t Transformer) Step(n int) []Layer {
	var all []Layer
	at := map[string]int{}
	c := t.Heads * t.Head
	add := func(count int, cases ...Case) {
		for _, one := range cases {
			key := one.Kind + one.Shape + fmt.Sprint(len(one.Build(kernels.NewGraph(tensor.F16)).Inputs()))
			if i, ok := at[key]; ok {
				all[i].Count += count
				continue
			}
			at[key] = len(all)
			all = append(all, Layer{Case: one, Count: count})
		}
	}
	rows := func(tokens, in, out int, act kernels.Activation) Case {
		return linearOf(n, tokens, in, out, act, false)
	}
	around := func(count, tokens, keys int) { // attention of some tokens to others
		same := rows(tokens, c, c, kernels.Identity)
		add(count, adaptive(n, tokens, c), same, same, same, rotary(n, tokens, t.Heads, t.Head), rotary(n, tokens, t.Heads, t.Head), attention(n, tokens, keys, t.Heads, t.Head))
	}
	layer := func(count, tokens, keys int) {
		around(count, tokens, keys)
		add(count, rows(tokens, c, c, kernels.Identity), gated(n, tokens, c), adaptive(n, tokens, c), rows(tokens, c, t.Hidden, kernels.SwiGLU), rows(tokens, t.Hidden, c, kernels.Identity), gated(n, tokens, c))
	}
	both := t.Picture + t.Text
	if t.Double > 0 {
		layer(t.Double, t.Picture, both)
		layer(t.Double, t.Text, both)
		add(t.Double, concat(n, t.Text, t.Picture, c, 1), concat(n, t.Text, t.Picture, c, 1))
	}
	if t.Single > 0 {
		around(t.Single, both, both)
		add(t.Single, rows(both, c, t.Hidden, kernels.SwiGLU), concat(n, both, both, c, 2), rows(both, c+t.Hidden, c, kernels.Identity), gated(n, both, c))
	}
	if t.Plain > 0 {
		layer(t.PictureOnly, t.Picture, t.Picture)
		layer(t.TextOnly, t.Text, t.Text)
		layer(t.Plain, both, both)
		// The norms after attention and after the MLP.
		add(t.Plain, adaptive(n, both, c), adaptive(n, both, c))
	}
	return all
}

// adaptive is a layer norm whose scale the network computes.
func adaptive(n, tokens, c int) Case {
	return newCase(func(g *kernels.Graph) kernels.Op {
		return &kernels.LayerNorm{In: g.Input("in", g.DType, n, tokens, c), Scale: g.Input("scale", g.DType, n, c), Eps: 1e-6}
	})
}

func rotary(n, tokens, heads, d int) Case {
	return newCase(func(g *kernels.Graph) kernels.Op {
		return &kernels.Rotary{In: g.Input("in", g.DType, n, tokens, heads*d), Angles: g.Input("angles", tensor.F32, n, tokens, d), Gamma: sized(kernels.Vector, d), Heads: heads, Eps: 1e-6}
	})
}

// gated is a sum with a gate for each channel.
func gated(n, tokens, c int) Case {
	return newCase(func(g *kernels.Graph) kernels.Op {
		return &kernels.Pointwise{A: g.Input("a", g.DType, n, tokens, c), B: g.Input("b", g.DType, n, tokens, c), Scale: g.Input("gate", g.DType, n, c)}
	})
}

// concat lays two sequences after one another (axis 1), or their channels side by side (axis 2).
func concat(n, a, b, c, axis int) Case {
	return newCase(func(g *kernels.Graph) kernels.Op {
		return &kernels.Concat{Parts: []*kernels.Tensor{g.Input("a", g.DType, n, a, c), g.Input("b", g.DType, n, b, c)}, Axis: axis}
	})
}
