package unet

import (
	"fmt"
	"slices"

	"darkroom/kernels"
	"darkroom/nn"
)

// imageKeys are the keys and values that cross-attention also makes of an image's tokens (Ye et al. 2023, "IP-Adapter"):
// with the same queries, its result is added to the text's.
type imageKeys struct{ toK, toV nn.Linear }

// withImages is cross-attention to the text and to each image prompt.
func withImages(all []imageKeys, g *kernels.Graph, a nn.Attention, x *kernels.Tensor, read context, residual *kernels.Tensor) *kernels.Tensor {
	linear := func(l nn.Linear, x *kernels.Tensor) *kernels.Tensor { return l.Forward(g, x, kernels.Identity, nil) }
	q := linear(a.ToQ, x)
	y := a.Attend(g, q, linear(a.ToK, read.text), linear(a.ToV, read.text))
	for i, k := range all {
		p := read.images[i]
		image := a.Attend(g, q, linear(k.toK, p.tokens), linear(k.toV, p.tokens))
		y = g.Add(k.toK.Weight.Name+" sum", &kernels.Pointwise{A: y, B: image, Scale: p.strength})
	}
	return a.ToOut.Forward(g, y, kernels.Identity, residual)
}

// ImageNames are the inputs of image prompt i: "image" and "image_strength", "image2" and "image_strength2", …
func ImageNames(i int) (tokens, strength string) {
	if i == 0 {
		return "image", "image_strength"
	}
	return fmt.Sprint("image", i+1), fmt.Sprint("image_strength", i+1)
}

// WithImage is the network with an IP-Adapter in it, or with one more, which also reads the tokens of an image, and their
// strength, as ImageNames has them. The loader stands at the adapter's layers: they are numbered as diffusers counts attention
// layers, down the U, up it, then its middle; every second one reads the text.
func (m *Model) WithImage(l nn.Loader, tokens int) (*Model, error) {
	if tokens < 1 {
		return nil, fmt.Errorf("an image prompt of %d tokens", tokens)
	}
	w := *m
	w.imageTokens = append(slices.Clone(m.imageTokens), tokens)
	number := 1
	attach := func(all []transformer, width, textWidth int) []transformer {
		all = slices.Clone(all)
		for i := range all {
			all[i].blocks = slices.Clone(all[i].blocks)
			for k := range all[i].blocks {
				at := l.At(number)
				b := &all[i].blocks[k]
				b.images = append(slices.Clone(b.images), imageKeys{at.At("to_k_ip").Linear(textWidth, width), at.At("to_v_ip").Linear(textWidth, width)})
				number += 2
			}
		}
		return all
	}
	c, last := m.Config, len(m.Config.BlockOutChannels)-1
	w.downBlocks, w.upBlocks = slices.Clone(m.downBlocks), slices.Clone(m.upBlocks)
	for i := range w.downBlocks {
		w.downBlocks[i].attentions = attach(w.downBlocks[i].attentions, c.BlockOutChannels[i], c.CrossAttentionDim[i])
	}
	for i := range w.upBlocks {
		w.upBlocks[i].attentions = attach(w.upBlocks[i].attentions, c.BlockOutChannels[last-i], c.CrossAttentionDim[last-i])
	}
	if m.midBlock != nil && m.midBlock.attention != nil {
		t := attach([]transformer{*m.midBlock.attention}, c.BlockOutChannels[last], c.CrossAttentionDim[last])[0]
		w.midBlock = &midBlock{m.midBlock.resnets, &t, m.midBlock.motions}
	}
	return &w, l.Err()
}
