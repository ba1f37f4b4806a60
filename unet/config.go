package unet

import (
	"fmt"
	"slices"

	"darkroom/checkpoint"
)

// Config is what unet/config.json says, with lists where the file may give one number for all levels.
type Config struct {
	SampleSize              int // latent pixels a side that it was trained at, 0 if the file does not say
	InChannels, OutChannels int
	BlockOutChannels        []int
	DownBlockTypes          []string
	UpBlockTypes            []string
	MidBlockType            string // "" for none
	LayersPerBlock          []int  // by level, down the U
	// AttentionHeads is the number of heads by level. The file calls it attention_head_dim: a name
	// given by mistake that could not be changed any more.
	AttentionHeads            []int
	TransformerLayersPerBlock []int
	CrossAttentionDim         []int
	OnlyCrossAttention        []bool
	NormNumGroups             int
	NormEps                   float32
	DownsamplePadding         int
	FlipSinToCos              bool
	FreqShift                 float64
	TimeEmbeddingDim          int // 0: four times the first width
	ConvInKernel              int
	ConvOutKernel             int
}

// TimeEmbedDim is the width of the time embedding.
func (c Config) TimeEmbedDim() int {
	if c.TimeEmbeddingDim > 0 {
		return c.TimeEmbeddingDim
	}
	return 4 * c.BlockOutChannels[0]
}

// ReadConfig reads unet/config.json. A value that this program does not support is an error that
// names file, key and value. Defaults are those of diffusers' UNet2DConditionModel.
func ReadConfig(c *checkpoint.Config) (Config, error) {
	c.Ignore("dropout", "addition_embed_type_num_heads",
		"decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup") // of training
	c.Fixed("center_input_sample", false)
	c.Fixed("mid_block_scale_factor", 1)
	c.Fixed("dual_cross_attention", false)
	c.Fixed("resnet_time_scale_shift", "default")
	c.Fixed("resnet_skip_time_act", false)
	c.Fixed("resnet_out_scale_factor", 1)
	c.Fixed("time_embedding_type", "positional")
	c.Fixed("attention_type", "default")
	c.Fixed("class_embeddings_concat", false)
	c.OneOf("act_fn", "silu", "swish")
	// Scores are float32 in every backend, which is what upcast_attention asks for.
	c.Bool("upcast_attention", false)
	for _, key := range []string{
		"num_attention_heads", "encoder_hid_dim", "encoder_hid_dim_type", "class_embed_type", "num_class_embeds",
		"addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim", "time_embedding_act_fn",
		"timestep_post_act", "time_cond_proj_dim", "cross_attention_norm", "reverse_transformer_layers_per_block",
	} {
		if c.Has(key) {
			c.Fail(key, "not supported, only null: this is no Stable Diffusion 1.x or 2.x U-Net")
		}
		c.Ignore(key)
	}

	// use_linear_projection chooses between a matrix and a 1×1 filter in the file: the same numbers.
	c.Bool("use_linear_projection", false)

	var m Config
	m.SampleSize = readSampleSize(c)
	m.InChannels = c.Int("in_channels", 4)
	m.OutChannels = c.Int("out_channels", 4)
	m.BlockOutChannels = c.Ints("block_out_channels", 0, 320, 640, 1280, 1280)
	n := len(m.BlockOutChannels)
	if n == 0 || n > maxLevels {
		c.Fail("block_out_channels", fmt.Sprintf("1 to %d levels are supported", maxLevels))
		return m, c.Done()
	}
	m.DownBlockTypes = c.Strings("down_block_types", n, append(repeat("CrossAttnDownBlock2D", n-1), "DownBlock2D")...)
	m.UpBlockTypes = c.Strings("up_block_types", n, append([]string{"UpBlock2D"}, repeat("CrossAttnUpBlock2D", n-1)...)...)
	oneOfEach(c, "down_block_types", m.DownBlockTypes, "DownBlock2D", "CrossAttnDownBlock2D")
	oneOfEach(c, "up_block_types", m.UpBlockTypes, "UpBlock2D", "CrossAttnUpBlock2D")
	m.MidBlockType = readMidBlock(c)
	m.LayersPerBlock = c.Ints("layers_per_block", n, 2)
	m.AttentionHeads = c.Ints("attention_head_dim", n, 8)
	m.TransformerLayersPerBlock = c.Ints("transformer_layers_per_block", n, 1)
	m.CrossAttentionDim = c.Ints("cross_attention_dim", n, 1280)
	m.OnlyCrossAttention = c.Bools("only_cross_attention", n, false)
	if c.Bool("mid_block_only_cross_attention", false) {
		c.Fail("mid_block_only_cross_attention", "not supported, only false or null")
	}
	m.NormNumGroups = c.Int("norm_num_groups", 32)
	m.NormEps = float32(c.Float("norm_eps", 1e-5))
	m.DownsamplePadding = c.Int("downsample_padding", 1)
	m.FlipSinToCos = c.Bool("flip_sin_to_cos", true)
	m.FreqShift = c.Float("freq_shift", 0)
	m.TimeEmbeddingDim = c.Int("time_embedding_dim", 0)
	m.ConvInKernel = c.Int("conv_in_kernel", 3)
	m.ConvOutKernel = c.Int("conv_out_kernel", 3)
	m.check(c)
	return m, c.Done()
}

// maxLevels bounds what a hostile file can ask for; real U-Nets have 3 or 4 levels.
const maxLevels = 16

// check notes numbers that make no network, so that building one cannot panic or allocate without bound.
func (m Config) check(c *checkpoint.Config) {
	between := func(key string, lo, hi int, values ...int) {
		for _, v := range values {
			if v < lo || v > hi {
				c.Fail(key, fmt.Sprintf("%d is not from %d to %d", v, lo, hi))
				return
			}
		}
	}
	const wide = 1 << 16
	between("in_channels", 1, wide, m.InChannels)
	between("out_channels", 1, wide, m.OutChannels)
	between("block_out_channels", 1, wide, m.BlockOutChannels...)
	between("layers_per_block", 1, 64, m.LayersPerBlock...)
	between("attention_head_dim", 1, wide, m.AttentionHeads...)
	between("transformer_layers_per_block", 1, 256, m.TransformerLayersPerBlock...)
	between("cross_attention_dim", 1, wide, m.CrossAttentionDim...)
	between("norm_num_groups", 1, wide, m.NormNumGroups)
	between("downsample_padding", 0, 1, m.DownsamplePadding)
	between("time_embedding_dim", 0, wide, m.TimeEmbeddingDim)
	between("conv_in_kernel", 1, 15, m.ConvInKernel)
	between("conv_out_kernel", 1, 15, m.ConvOutKernel)
	for key, k := range map[string]int{"conv_in_kernel": m.ConvInKernel, "conv_out_kernel": m.ConvOutKernel} {
		if k%2 == 0 {
			c.Fail(key, "an even kernel would change the size: only odd ones are supported")
		}
	}
	for _, d := range m.CrossAttentionDim {
		if d != m.CrossAttentionDim[0] {
			c.Fail("cross_attention_dim", "all levels read the same text: only equal widths are supported")
			break
		}
	}
	if m.InChannels != m.OutChannels {
		c.Fail("in_channels", fmt.Sprintf("out_channels is %d: inpainting and other models with more inputs are not supported", m.OutChannels))
	}
	if w := m.BlockOutChannels[0]; w%2 != 0 || w/2 <= int(m.FreqShift) {
		c.Fail("block_out_channels", "the first must be even and more than twice freq_shift, for the time embedding")
	}
}

func readMidBlock(c *checkpoint.Config) string {
	c.Ignore("mid_block_type")
	if slices.Contains(c.Keys(), "mid_block_type") && !c.Has("mid_block_type") {
		return "" // null: no middle, as opposed to the key's absence
	}
	return c.OneOf("mid_block_type", "UNetMidBlock2DCrossAttn", "UNetMidBlock2D")
}

// readSampleSize takes a side, or a height and a width of which it takes the larger one.
func readSampleSize(c *checkpoint.Config) int {
	if !c.Has("sample_size") {
		c.Ignore("sample_size")
		return 0
	}
	return slices.Max(append(c.Ints("sample_size", 0, 0), 0))
}

func oneOfEach(c *checkpoint.Config, key string, values []string, supported ...string) {
	for _, v := range values {
		if !slices.Contains(supported, v) {
			c.Fail(key, fmt.Sprintf("%q is not supported, only %q", v, supported))
			return
		}
	}
}

func repeat(s string, n int) []string {
	return slices.Repeat([]string{s}, n)
}
