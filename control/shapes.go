package control

import (
	"fmt"
	"slices"

	"darkroom/checkpoint"
	"darkroom/unet"
)

// shapes are the lengths of arrays' axes.
type shapes struct{ checkpoint.Weights }

func (s shapes) axis(name string, i int) int {
	a, ok := s.Array(name)
	if !ok || i >= len(a.Shape()) {
		return 0
	}
	return a.Shape()[i]
}

func (s shapes) has(name string) bool { return s.axis(name, 0) > 0 }

// count is how many there are of name, whose number is formatted into it, from 0 without a gap.
func (s shapes) count(format string, args ...any) (n int) {
	for n < maxCount && s.has(fmt.Sprintf(format, append(slices.Clone(args), n)...)) {
		n++
	}
	return n
}

// maxCount bounds what a hostile file can ask for.
const maxCount = 256

// ConfigOf is what the config.json of a ControlNet would say, of which there are the weights alone, by the names of diffusers.
// What shapes do not show (heads, groups) is as in the U-Net that it is for.
func ConfigOf(w checkpoint.Weights, u unet.Config) (Config, error) {
	s, c := shapes{w}, Config{Config: u}
	c.InChannels = s.axis("conv_in.weight", 1)
	c.HintChannels = s.axis("controlnet_cond_embedding.conv_in.weight", 1)
	c.HintWidths = []int{s.axis("controlnet_cond_embedding.conv_in.weight", 0)}
	for i := range s.count("controlnet_cond_embedding.blocks.%d.weight") / 2 {
		c.HintWidths = append(c.HintWidths, s.axis(fmt.Sprintf("controlnet_cond_embedding.blocks.%d.weight", 2*i+1), 0))
	}
	if n := len(c.HintWidths); n > 8 {
		return c, fmt.Errorf("this ControlNet has %d sizes of hints: up to 8 are supported", n)
	}
	levels := s.count("down_blocks.%d.resnets.0.conv1.weight")
	if levels == 0 || c.InChannels == 0 || c.HintWidths[0] == 0 {
		return c, fmt.Errorf("this ControlNet lacks its first layers: the file is incomplete")
	}
	c.BlockOutChannels, c.DownBlockTypes, c.LayersPerBlock, c.DownTransformerLayers = nil, nil, nil, nil
	context := 0
	for i := range levels {
		block := fmt.Sprintf("down_blocks.%d", i)
		c.BlockOutChannels = append(c.BlockOutChannels, s.axis(block+".resnets.0.conv1.weight", 0))
		layers := s.count(block + ".resnets.%d.conv1.weight")
		c.LayersPerBlock = append(c.LayersPerBlock, layers)
		kind, depths := "DownBlock2D", make([]int, layers)
		for j := range depths {
			depths[j] = 1
			if at := fmt.Sprintf("%s.attentions.%d", block, j); s.has(at + ".norm.weight") {
				kind, depths[j] = "CrossAttnDownBlock2D", s.count(at+".transformer_blocks.%d.norm1.weight")
				context = max(context, s.axis(at+".transformer_blocks.0.attn2.to_k.weight", 1))
			}
		}
		c.DownBlockTypes, c.DownTransformerLayers = append(c.DownBlockTypes, kind), append(c.DownTransformerLayers, depths)
	}
	switch {
	case !s.has("mid_block.resnets.0.conv1.weight"):
		c.MidBlockType = ""
	case !s.has("mid_block.attentions.0.norm.weight"):
		c.MidBlockType = "UNetMidBlock2D"
	default:
		c.MidBlockType = "UNetMidBlock2DCrossAttn"
		c.MidTransformerLayers = s.count("mid_block.attentions.0.transformer_blocks.%d.norm1.weight")
		context = max(context, s.axis("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", 1))
	}
	if context > 0 && context != u.CrossAttentionDim[0] {
		c.CrossAttentionDim = slices.Repeat([]int{context}, levels)
	}
	if c.AddedDim = s.axis("add_embedding.linear_1.weight", 1); c.AddedDim == 0 {
		c.AddedTimeDim, c.TimeIDs = 0, 0
	}
	c.GuidanceDim = s.axis("time_embedding.cond_proj.weight", 1)
	if c.Types = s.axis("task_embedding", 0); c.Types > 64 {
		return c, fmt.Errorf("this Union has %d types of hints: up to 64 are supported", c.Types)
	}
	if c.Types > 0 {
		c.UnionLayers = s.count("transformer_layes.%d.ln_1.weight")
		c.UnionHeads = 1 // its attention weighs all pixels alike: see union
	}
	return c, nil
}

// AdapterConfigOf is what the config.json of a T2I-Adapter would say, of which there are the weights alone.
func AdapterConfigOf(w checkpoint.Weights) (AdapterConfig, error) {
	s := shapes{w}
	c := AdapterConfig{Kind: "full_adapter", Factor: 8}
	in := s.axis("adapter.conv_in.weight", 1)
	if in == 0 {
		c.Kind, in = "light_adapter", s.axis("adapter.body.0.in_conv.weight", 1)
	}
	if in == 256 || in == 768 {
		c.Kind, c.Factor = "full_adapter_xl", 16
	}
	c.Channels = in / (c.Factor * c.Factor)
	n := s.count("adapter.body.%d.resnets.0.block1.weight")
	if n > 8 {
		return c, fmt.Errorf("a T2I-Adapter of %d features is not known", n)
	}
	if in == 0 || c.Channels == 0 || in%(c.Factor*c.Factor) != 0 || n == 0 {
		return c, fmt.Errorf("a T2I-Adapter whose first layer reads %d values is not known", in)
	}
	c.Layers = s.count("adapter.body.0.resnets.%d.block1.weight")
	for i := range n {
		if c.Kind != "light_adapter" {
			c.Widths = append(c.Widths, s.axis(fmt.Sprintf("adapter.body.%d.resnets.0.block1.weight", i), 0))
		} else if i < n-1 || n == 1 {
			c.Widths = append(c.Widths, s.axis(fmt.Sprintf("adapter.body.%d.out_conv.weight", i), 0))
		}
	}
	for _, w := range c.Widths {
		if w < 4 || w > 1<<16 {
			return c, fmt.Errorf("a T2I-Adapter with features %d wide is not known", w)
		}
	}
	return c, nil
}
