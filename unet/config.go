package unet

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
