package vae

// Config is what vae/config.json says.
type Config struct {
	InChannels, OutChannels        int
	LatentChannels                 int
	BlockOutChannels               []int
	LayersPerBlock                 int
	NormNumGroups                  int
	MidBlockAddAttention           bool
	UseQuantConv, UsePostQuantConv bool
	ScalingFactor, ShiftFactor     float64 // the denoiser sees (z - ShiftFactor)·ScalingFactor
	SampleSize                     int     // pixels a side that it was trained at
}

// Factor is how many pixels a side make one latent pixel.
func (c Config) Factor() int { return 1 << (len(c.BlockOutChannels) - 1) }
