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
	BGR          bool  // the hint's channels are blue, green, red: whoever fills "hint" exchanges them
}

// ReadConfig reads the config.json of a ControlNetModel. A value that this program does not support is an error that names
// file, key and value. Defaults are those of diffusers.
func ReadConfig(c *checkpoint.Config) (Config, error) {
	var m Config
	m.HintChannels = c.IntIn("conditioning_channels", 1, 64, 3)
	m.HintWidths = c.Ints("conditioning_embedding_out_channels", 0, 16, 32, 96, 256)
	if len(m.HintWidths) == 0 || len(m.HintWidths) > 8 || slices.Min(m.HintWidths) < 1 || slices.Max(m.HintWidths) > 1<<16 {
		c.Fail("conditioning_embedding_out_channels", "1 to 8 widths from 1 to 65536 are supported")
	}
	m.BGR = c.OneOf("controlnet_conditioning_channel_order", "rgb", "bgr") == "bgr"
	c.Fixed("global_pool_conditions", false)
	var err error
	m.Config, err = unet.ReadConfig(c)
	return m, err
}

// Factor is how many pixels of the hint a side make one of the latents.
func (c Config) Factor() int { return 1 << (len(c.HintWidths) - 1) }

// fits says whether the net belongs to that U-Net.
func (c Config) fits(u unet.Config) error {
	for _, x := range []struct {
		what      string
		has, want any
	}{
		{"in_channels", c.InChannels, u.InChannels},
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
