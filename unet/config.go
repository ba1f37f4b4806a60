package unet

import (
	"fmt"
	"slices"

	"darkroom/checkpoint"
)

// Config is what unet/config.json says, with lists where the file may give one number for all levels.
type Config struct {
	SampleSize              int    // latent pixels a side that it was trained at, the larger one; 0 if the file does not say
	SampleShape             [2]int // height and width, where the file has both; else 0
	InChannels, OutChannels int
	BlockOutChannels        []int
	DownBlockTypes          []string
	UpBlockTypes            []string
	MidBlockType            string // "" for none
	LayersPerBlock          []int  // by level, down the U
	// AttentionHeads is the number of heads by level. The file calls it attention_head_dim: a name
	// given by mistake that could not be changed any more.
	AttentionHeads []int
	// Transformer blocks by level and layer, down the U and up it; both lists begin at the top. 0 is a transformer of
	// projections alone.
	DownTransformerLayers, UpTransformerLayers [][]int
	MidTransformerLayers                       int

	CrossAttentionDim  []int
	OnlyCrossAttention []bool
	NormNumGroups      int
	NormEps            float32
	DownsamplePadding  int
	FlipSinToCos       bool
	FreqShift          float64
	TimeEmbeddingDim   int // 0: four times the first width
	ConvInKernel       int
	ConvOutKernel      int

	// What is added to the time embedding.
	Class        string // class_embed_type, or "table" for num_class_embeds; "" for none
	ClassDim     int    // the width of "class", or the rows of the table
	AddedTimeDim int    // SDXL's text_time: the width of one id's sinusoid; 0 for none
	AddedDim     int    // the width of the pooled text and all ids' sinusoids
	// TimeIDs is how many ids that is, which the file does not say: 6, or 5 for a model that was trained with an
	// aesthetic score (requires_aesthetics_score in model_index.json), as the refiner.
	TimeIDs     int
	GuidanceDim int // time_cond_proj_dim: the width of the guidance's sinusoid; 0 for none
}

// PooledDim is the width of the pooled text that SDXL's U-Nets read, 0 for the others.
func (c Config) PooledDim() int { return c.AddedDim - c.TimeIDs*c.AddedTimeDim }

// firstAttention is the first level, from the top, that has attention: that of the largest.
func (c Config) firstAttention() int {
	last := len(c.DownBlockTypes) - 1
	for level, kind := range c.DownBlockTypes {
		if kind == "CrossAttnDownBlock2D" || c.UpBlockTypes[last-level] == "CrossAttnUpBlock2D" {
			return level
		}
	}
	return last // of the middle
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
		"num_attention_heads", "encoder_hid_dim", "encoder_hid_dim_type", "time_embedding_act_fn", "timestep_post_act", "cross_attention_norm",
	} {
		if c.Has(key) {
			c.Fail(key, "not supported, only null: this is not a Stable Diffusion 1.x, 2.x or XL U-Net")
		}
		c.Ignore(key)
	}

	// use_linear_projection chooses between a matrix and a 1×1 filter in the file: the same numbers.
	c.Bool("use_linear_projection", false)

	var m Config
	m.SampleSize, m.SampleShape = readSampleSize(c)
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
	readTransformerLayers(c, &m)
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
	readAdded(c, &m)
	m.check(c)
	return m, c.Done()
}

// readTransformerLayers reads the depths of the transformers. What is asked for by layer on the way down does not say what
// holds on the way up, where there is a layer more: that has a key of its own.
func readTransformerLayers(c *checkpoint.Config, m *Config) {
	const down, up = "transformer_layers_per_block", "reverse_transformer_layers_per_block"
	n := len(m.LayersPerBlock)
	above := make([]int, n) // layers on the way up, from the bottom, as the key has them
	for i, layers := range m.LayersPerBlock {
		if layers < 0 || layers > maxLayers {
			return // check reports it
		}
		above[n-1-i] = layers + 1
	}
	m.DownTransformerLayers = c.IntTable(down, m.LayersPerBlock, 1)
	m.UpTransformerLayers = c.IntTable(up, above, 1)
	slices.Reverse(m.UpTransformerLayers)
	for i, row := range m.DownTransformerLayers {
		if c.Has(up) || len(row) == 0 {
			continue
		}
		if slices.Max(row) != slices.Min(row) {
			c.Fail(down, "depths by layer also need "+up)
			return
		}
		m.UpTransformerLayers[i] = slices.Repeat(row[:1], len(row)+1)
	}
	if last := m.DownTransformerLayers[n-1]; len(last) > 0 {
		m.MidTransformerLayers = last[0]
	}
}

// readAdded reads what is added to the time embedding: class or image embeddings, SDXL's pooled text with sizes, LCM's guidance.
func readAdded(c *checkpoint.Config, m *Config) {
	m.Class = c.OneOf("class_embed_type", "", "timestep", "identity", "projection", "simple_projection")
	if m.Class == "" && c.Has("num_class_embeds") {
		m.Class = "table"
	}
	classes := c.Int("num_class_embeds", 0)
	projected := c.Int("projection_class_embeddings_input_dim", 0)
	switch m.Class {
	case "timestep":
		m.ClassDim = m.BlockOutChannels[0]
	case "identity":
		m.ClassDim = m.TimeEmbedDim()
	case "table":
		m.ClassDim = classes
	case "projection", "simple_projection":
		m.ClassDim = projected
	}
	m.GuidanceDim = c.Int("time_cond_proj_dim", 0)
	width := c.Int("addition_time_embed_dim", 0)
	if c.OneOf("addition_embed_type", "", "text_time") == "" {
		return
	}
	m.AddedTimeDim, m.AddedDim, m.TimeIDs = width, projected, 6
	if width < 2 || width%2 != 0 || width > maxWidth {
		c.Fail("addition_embed_type", "it needs addition_time_embed_dim, the even width of a sinusoid")
	}
	if projected <= 6*width || projected > maxWidth {
		c.Fail("addition_embed_type", "it needs projection_class_embeddings_input_dim, the width of the pooled text and of 6 sinusoids")
	}
}

// What a hostile file can ask for is bounded; real U-Nets have 2 to 4 levels of 1 to 3 layers.
const (
	maxLevels = 16
	maxLayers = 64
	maxWidth  = 1 << 16
)

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
	between("in_channels", 1, maxWidth, m.InChannels)
	between("out_channels", 1, maxWidth, m.OutChannels)
	between("block_out_channels", 1, maxWidth, m.BlockOutChannels...)
	between("layers_per_block", 1, maxLayers, m.LayersPerBlock...)
	between("attention_head_dim", 1, maxWidth, m.AttentionHeads...)
	between("transformer_layers_per_block", 0, 256, slices.Concat(m.DownTransformerLayers...)...)
	between("reverse_transformer_layers_per_block", 0, 256, slices.Concat(m.UpTransformerLayers...)...)
	between("cross_attention_dim", 1, maxWidth, m.CrossAttentionDim...)
	between("norm_num_groups", 1, maxWidth, m.NormNumGroups)
	between("downsample_padding", 0, 1, m.DownsamplePadding)
	between("time_embedding_dim", 0, maxWidth, m.TimeEmbeddingDim)
	between("time_cond_proj_dim", 0, maxWidth, m.GuidanceDim)
	switch m.Class {
	case "table":
		between("num_class_embeds", 1, 1<<24, m.ClassDim)
	case "projection", "simple_projection":
		between("projection_class_embeddings_input_dim", 1, maxWidth, m.ClassDim)
	}
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

// readSampleSize takes a side, or a height and a width.
func readSampleSize(c *checkpoint.Config) (side int, shape [2]int) {
	if !c.Has("sample_size") {
		c.Ignore("sample_size")
		return 0, shape
	}
	sides := c.Ints("sample_size", 0, 0)
	if len(sides) == 2 {
		shape = [2]int(sides)
	}
	return slices.Max(append(sides, 0)), shape
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
