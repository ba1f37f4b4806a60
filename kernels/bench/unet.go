package bench

import (
	"fmt"

	"darkroom/kernels"
	"darkroom/tensor"
)

// UNet is the shape of a denoising U-Net as the published configurations give it (unet/config.json of the
// checkpoints): enough to list every operation of a step.
type UNet struct {
	Name     string
	Channels []int // block_out_channels
	Depth    []int // transformer blocks in each of a level's attentions; 0: the level has none
	MidDepth int
	Heads    []int // of each level
	Context  int   // channels of the text's embedding
	Added    int   // channels of SDXL's second time embedding, 0: there is none
	Latent   int   // height and width of the latents
}

// SD15 is Stable Diffusion 1.5 at 512×512, SDXL the base model of Stable Diffusion XL at 1024×1024.
var (
	SD15 = UNet{"Stable Diffusion 1.5", []int{320, 640, 1280, 1280}, []int{1, 1, 1, 0}, 1, []int{8, 8, 8, 8}, 768, 0, 64}
	SDXL = UNet{"Stable Diffusion XL", []int{320, 640, 1280}, []int{0, 2, 10}, 10, []int{5, 10, 20}, 2048, 2816, 128}
)

// Layer is an operation and how often a step runs it with these sizes.
type Layer struct {
	Case
	Count  int
	Steady bool // depends on the text alone, and so runs once a prompt
}

// Step lists the operations of one step for a batch of n (2 with guidance), alike ones together, as our network has them:
// queries, keys and values of self-attention are one product, the blocks' layers for the time embedding two, and norms of
// rows are part of the product that follows. The text has 77 tokens; cross-attention's keys and values are among them,
// and marked.
func (u UNet) Step(n int) []Layer { return u.list(n, true) }

// Layers lists them as the checkpoint has them, each layer on its own.
func (u UNet) Layers(n int) []Layer { return u.list(n, false) }

func (u UNet) list(n int, fused bool) []Layer {
	const layers, tokens = 2, 77
	var all []Layer
	at := map[string]int{}
	steady := false
	add := func(c Case) {
		weights := len(c.Build(kernels.NewGraph(tensor.F16)).Weights()) // with a bias or without
		key := fmt.Sprint(c.Kind, c.Shape, weights, steady)
		if i, ok := at[key]; ok {
			all[i].Count++
			return
		}
		at[key] = len(all)
		all = append(all, Layer{c, 1, steady})
	}
	ch := u.Channels
	time := 4 * ch[0]
	rows := func(count, c, o int, act kernels.Activation, bias bool) { add(linearOf(n, count, c, o, act, bias)) }

	timed := 0 // outputs of the layers for the time embedding
	together := func() {
		if fused {
			rows(1, time, timed, kernels.Identity, true)
			timed = 0
		}
	}
	normed := func(count, c, o int, act kernels.Activation, bias bool) {
		if fused {
			add(normedOf(n, count, c, o, act, bias))
			return
		}
		add(layerNorm(n*count, c))
		rows(count, c, o, act, bias)
	}
	resnet := func(size, c, skip, o int) {
		add(groupNorm(n, size, size, c, skip))
		add(conv(n, size, size, c, skip, o, 3, 1))
		if timed += o; !fused {
			rows(1, time, o, kernels.Identity, true)
		}
		add(groupNorm(n, size, size, o, 0))
		add(conv(n, size, size, o, 0, o, 3, 1))
		if c+skip != o {
			add(conv(n, size, size, c, skip, o, 1, 1))
		}
	}
	transformer := func(size, c, depth, heads int) {
		if depth == 0 {
			return
		}
		t := size * size
		add(groupNorm(n, size, size, c, 0))
		rows(t, c, c, kernels.Identity, true)
		for range depth {
			for _, keys := range []int{t, tokens} {
				from := c
				if keys == tokens {
					from = u.Context
				}
				if fused && keys == t {
					normed(t, c, 3*c, kernels.Identity, false)
				} else {
					normed(t, c, c, kernels.Identity, false)
					steady = keys == tokens
					rows(keys, from, c, kernels.Identity, false)
					rows(keys, from, c, kernels.Identity, false)
					steady = false
				}
				add(attention(n, t, keys, heads, c/heads))
				rows(t, c, c, kernels.Identity, true)
			}
			normed(t, c, 4*c, kernels.GEGLU, true)
			rows(t, 4*c, c, kernels.Identity, true)
		}
		rows(t, c, c, kernels.Identity, true)
	}

	rows(1, ch[0], time, kernels.SiLU, true)
	rows(1, time, time, kernels.Identity, true)
	if u.Added > 0 {
		rows(1, u.Added, time, kernels.SiLU, true)
		rows(1, time, time, kernels.Identity, true)
	}
	size := u.Latent
	add(conv(n, size, size, 4, 0, ch[0], 3, 1))
	skips := []int{ch[0]}
	c := ch[0]
	for i, o := range ch {
		for range layers {
			resnet(size, c, 0, o)
			transformer(size, o, u.Depth[i], u.Heads[i])
			c = o
			skips = append(skips, c)
		}
		if i < len(ch)-1 {
			add(conv(n, size, size, c, 0, c, 3, 2))
			size /= 2
			skips = append(skips, c)
		}
	}
	last := len(ch) - 1
	resnet(size, c, 0, c)
	transformer(size, c, u.MidDepth, u.Heads[last])
	resnet(size, c, 0, c)
	together()
	for i := last; i >= 0; i-- {
		for range layers + 1 {
			skip := skips[len(skips)-1]
			skips = skips[:len(skips)-1]
			resnet(size, c, skip, ch[i])
			c = ch[i]
			transformer(size, c, u.Depth[i], u.Heads[i])
		}
		if i > 0 {
			add(upsampled(n, size, c))
			size *= 2
		}
	}
	together()
	add(groupNorm(n, size, size, c, 0))
	add(conv(n, size, size, c, 0, 4, 3, 1))
	return all
}
