package control

import (
	"fmt"
	"slices"

	"darkroom/checkpoint"
	"darkroom/unet"
)

// Config is what the config.json of a ControlNet says.
type Config struct {
	unet.Config // of the half U-Net; what lies beyond the middle means nothing

	HintChannels int
	HintWidths   []int // of the picture's convolutions, each but the first halving it
	Pooled       bool  // what it leaves is averaged over the picture (global_pool_conditions), as for shuffled pictures
	BGR          bool  // the hint's channels are blue, green, red: whoever fills "hint" exchanges them

	// Of a Union, which knows several types of hints; 0 types for the others.
	Types       int
	UnionLayers int
	UnionHeads  int
}

// TypesProj is what "control_type" holds: a sinusoid for each type, of 1 for those in use and 0 for the others.
func (c Config) TypesProj(types []int) []float32 {
	flags := make([]float64, c.Types)
	for _, t := range types {
		flags[t] = 1
	}
	return c.TimeIDsProj(flags)
}

// ReadConfig reads the config.json of a ControlNetModel or a ControlNetUnionModel. A value that this program does not support is an error that names
// file, key and value. Defaults are those of diffusers.
func ReadConfig(c *checkpoint.Config) (Config, error) {
	var m Config
	m.HintChannels = c.IntIn("conditioning_channels", 1, 64, 3)
	m.HintWidths = c.Ints("conditioning_embedding_out_channels", 0, 16, 32, 96, 256)
	if len(m.HintWidths) == 0 || len(m.HintWidths) > 8 || slices.Min(m.HintWidths) < 1 || slices.Max(m.HintWidths) > 1<<16 {
		c.Fail("conditioning_embedding_out_channels", "1 to 8 widths from 1 to 65536 are supported")
	}
	m.BGR = c.OneOf("controlnet_conditioning_channel_order", "rgb", "bgr") == "bgr"
	m.Pooled = c.Bool("global_pool_conditions", false)
	if c.Has("num_control_type") {
		m.Types, m.UnionLayers, m.UnionHeads = c.IntIn("num_control_type", 1, 64), c.IntIn("num_trans_layer", 0, 64, 1), c.IntIn("num_trans_head", 1, 1024, 8)
	}
	trans, proj := c.Int("num_trans_channel", 320), c.Int("num_proj_channel", 320)
	var err error
	if m.Config, err = unet.ReadConfig(c); err != nil || m.Types == 0 {
		return m, err
	}
	width := m.BlockOutChannels[0]
	if trans != width || proj != width {
		c.Fail("num_trans_channel", fmt.Sprintf("num_proj_channel is %d, and the first of block_out_channels %d: they must agree", proj, width))
	}
	if width%m.UnionHeads != 0 {
		c.Fail("num_trans_head", fmt.Sprintf("it does not divide %d channels", width))
	}
	if m.AddedTimeDim == 0 {
		c.Fail("addition_embed_type", `a Union needs "text_time"`)
	}
	return m, c.Done()
}

// Factor is how many pixels of the hint a side make one of the latents.
func (c Config) Factor() int { return 1 << (len(c.HintWidths) - 1) }

// Fits says whether the net belongs to that U-Net. One that reads the latents alone fits an editing model, too.
func (c Config) Fits(u unet.Config) error {
	in := u.InChannels
	if c.InChannels == u.OutChannels {
		in = u.OutChannels
	}
	for _, x := range []struct {
		what      string
		has, want any
	}{
		{"in_channels", c.InChannels, in},
		{"block_out_channels", c.BlockOutChannels, u.BlockOutChannels},
		{"layers_per_block", c.LayersPerBlock, u.LayersPerBlock},
		{"cross_attention_dim", c.CrossAttentionDim, u.CrossAttentionDim},
		{"the pooled text", c.PooledDim(), u.PooledDim()},
		{"class_embed_type", c.Class, u.Class},
	} {
		if has, want := fmt.Sprint(x.has), fmt.Sprint(x.want); has != want {
			return fmt.Errorf("the ControlNet belongs to another kind of model: %s is %s, the U-Net's %s", x.what, has, want)
		}
	}
	return nil
}
