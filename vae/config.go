package vae

import (
	"fmt"
	"slices"

	"darkroom/checkpoint"
)

// Config is what vae/config.json says.
type Config struct {
	InChannels, OutChannels        int
	LatentChannels                 int
	BlockOutChannels               []int
	LayersPerBlock                 int
	NormNumGroups                  int
	MidBlockAddAttention           bool
	UseQuantConv, UsePostQuantConv bool
	ScalingFactor, ShiftFactor     float64       // the denoiser sees (z - ShiftFactor)·ScalingFactor
	Packed                         *PackedConfig // nil: latents are as they are
	LatentsMean, LatentsStd        []float64     // of each channel of z, in place of ShiftFactor: (z - mean)/std·ScalingFactor; nil: none
	SampleSize                     int           // pixels a side that it was trained at, 0 if the file does not say
}

// Factor is how many pixels a side make one latent pixel.
func (c Config) Factor() int { return 1 << (len(c.BlockOutChannels) - 1) }

// maxLevels bounds what a hostile file can ask for; real autoencoders have 4 levels.
const maxLevels = 10

// ReadConfig reads vae/config.json. A value that this program does not support is an error that names
// file, key and value. Defaults are those of diffusers' AutoencoderKL.
func ReadConfig(c *checkpoint.Config) (Config, error) {
	c.Ignore("force_upcast") // float16 overflow is found by looking at the result
	c.OneOf("act_fn", "silu", "swish")
	var m Config
	m.InChannels = c.Int("in_channels", 3)
	m.OutChannels = c.Int("out_channels", 3)
	m.LatentChannels = c.Int("latent_channels", 4)
	m.BlockOutChannels = c.Ints("block_out_channels", 0, 64)
	n := len(m.BlockOutChannels)
	if n == 0 || n > maxLevels {
		c.Fail("block_out_channels", fmt.Sprintf("1 to %d levels are supported", maxLevels))
		return m, c.Done()
	}
	for key, want := range map[string]string{"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"} {
		for _, kind := range c.Strings(key, n, want) {
			if kind != want {
				c.Fail(key, fmt.Sprintf("%q is not supported, only %q", kind, want))
				break
			}
		}
	}
	m.LayersPerBlock = c.Int("layers_per_block", 1)
	m.NormNumGroups = c.Int("norm_num_groups", 32)
	m.MidBlockAddAttention = c.Bool("mid_block_add_attention", true)
	m.UseQuantConv = c.Bool("use_quant_conv", true)
	m.UsePostQuantConv = c.Bool("use_post_quant_conv", true)
	m.ScalingFactor = c.Float("scaling_factor", 0.18215)
	m.ShiftFactor = c.Float("shift_factor", 0)
	m.SampleSize = slices.Max(append(c.Ints("sample_size", 0, 0), 0))

	const wide = 1 << 16
	for key, v := range map[string]int{"in_channels": m.InChannels, "latent_channels": m.LatentChannels, "norm_num_groups": m.NormNumGroups, "layers_per_block": m.LayersPerBlock} {
		if v < 1 || v > wide {
			c.Fail(key, fmt.Sprintf("it must be from 1 to %d", wide))
		}
	}
	if lo, hi := slices.Min(m.BlockOutChannels), slices.Max(m.BlockOutChannels); lo < 1 || hi > wide {
		c.Fail("block_out_channels", fmt.Sprintf("widths must be from 1 to %d", wide))
	}
	m.LatentsMean, m.LatentsStd = readStatistics(c, m.LatentChannels)
	if m.OutChannels != 3 {
		c.Fail("out_channels", "pictures have 3")
	}
	if !(m.ScalingFactor > 0) {
		c.Fail("scaling_factor", "it must be positive")
	}
	return m, c.Done()
}

// readStatistics reads latents_mean and latents_std, a number for each channel; nil where they are null.
func readStatistics(c *checkpoint.Config, channels int) (mean, std []float64) {
	if !c.Has("latents_mean") && !c.Has("latents_std") {
		c.Ignore("latents_mean", "latents_std")
		return nil, nil
	}
	mean, std = c.Floats("latents_mean", 0), c.Floats("latents_std", 0)
	if len(mean) != channels || len(std) != channels {
		c.Fail("latents_mean", fmt.Sprintf("it and latents_std must have %d numbers, as there are latent_channels", channels))
		return nil, nil
	}
	if slices.Min(std) <= 0 {
		c.Fail("latents_std", "its numbers must be positive")
	}
	return mean, std
}

// Scale is how the denoiser sees channel i of z: (z - mean)·scale.
func (c Config) Scale(i int) (mean, scale float64) {
	if c.LatentsMean == nil {
		return c.ShiftFactor, c.ScalingFactor
	}
	return c.LatentsMean[i], c.ScalingFactor / c.LatentsStd[i]
}
