package vae

import (
	"math"

	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/nn"
)

// ReadPackedConfig reads vae/config.json of an AutoencoderKLFlux2, whose latents are normalised in squares and not as a
// whole. A value that this program does not support is an error that names file, key and value.
func ReadPackedConfig(c *checkpoint.Config) (Config, error) {
	packed := &PackedConfig{Eps: c.Float("batch_norm_eps", 1e-4)}
	c.Float("batch_norm_momentum", 0.1) // of training
	c.String("act_fn", "silu")
	side := c.Ints("patch_size", 2, 2, 2)
	if side[0] != side[1] || side[0] < 1 || side[0] > 16 {
		c.Fail("patch_size", "two equal numbers are needed")
	}
	packed.Side = side[0]
	if c.Has("decoder_block_out_channels") {
		packed.DecoderChannels = c.Ints("decoder_block_out_channels", 0)
	}
	defaults := map[string]func(m *Config){
		"latent_channels":    func(m *Config) { m.LatentChannels = 32 },
		"block_out_channels": func(m *Config) { m.BlockOutChannels = []int{128, 256, 512, 512} },
		"layers_per_block":   func(m *Config) { m.LayersPerBlock = 2 },
	}
	missing := map[string]bool{}
	for key := range defaults {
		missing[key] = !c.Has(key)
	}
	m, err := ReadConfig(c)
	for key, set := range defaults {
		if missing[key] {
			set(&m)
		}
	}
	m.ScalingFactor, m.ShiftFactor, m.Packed = 1, 0, packed
	if n := len(packed.DecoderChannels); err == nil && n > 0 && n != len(m.BlockOutChannels) {
		c.Fail("decoder_block_out_channels", "it must have as many levels as block_out_channels")
		return m, c.Done()
	}
	return m, err
}

// PackedConfig is what else the file says of an autoencoder with packed latents.
type PackedConfig struct {
	Side            int     // latent pixels a side of a square
	Eps             float64 // of the variance
	DecoderChannels []int   // where the decoder is another size than the encoder; nil: the same
}

// decoder is the configuration of the decoder.
func (c Config) decoder() Config {
	if c.Packed != nil && len(c.Packed.DecoderChannels) > 0 {
		c.BlockOutChannels = c.Packed.DecoderChannels
	}
	return c
}

// Packing puts squares of latents together, channel by channel, and normalises each channel by the statistics of a batch norm
// (Ioffe & Szegedy 2015): the denoiser sees (z − mean)/√(variance + eps).
type Packing struct {
	Side      int
	mean, std []float32 // by packed channel
}

// NewPacking reads the statistics.
func NewPacking(c Config, l nn.Loader) (*Packing, error) {
	n := c.LatentChannels * c.Packed.Side * c.Packed.Side
	mean, variance := l.At("bn").Weight("running_mean", kernels.Vector, n), l.At("bn").Weight("running_var", kernels.Vector, n)
	if err := l.Err(); err != nil {
		return nil, err
	}
	p := &Packing{Side: c.Packed.Side, mean: make([]float32, n), std: make([]float32, n)}
	if err := mean.Decode(p.mean, 0); err != nil {
		return nil, err
	}
	if err := variance.Decode(p.std, 0); err != nil {
		return nil, err
	}
	for i, v := range p.std {
		p.std[i] = float32(math.Sqrt(float64(v + float32(c.Packed.Eps))))
	}
	return p, nil
}

// Channels is how many the packed latents have.
func (p *Packing) Channels() int { return len(p.mean) }

// each calls f with the packed and the unpacked index of every value of [Channels,h,w].
func (p *Packing) each(h, w int, f func(channel, packed, plain int)) {
	s := p.Side
	for channel := range p.mean {
		c, i, j := channel/(s*s), channel/s%s, channel%s
		for y := range h {
			for x := range w {
				f(channel, (channel*h+y)*w+x, (c*h*s+y*s+i)*w*s+x*s+j)
			}
		}
	}
}

// Unpack turns latents [Channels,h,w], as the denoiser has them, into the autoencoder's own, [C,Side·h,Side·w].
func (p *Packing) Unpack(latents []float32, h, w int) []float32 {
	out := make([]float32, len(latents))
	p.each(h, w, func(channel, packed, plain int) { out[plain] = latents[packed]*p.std[channel] + p.mean[channel] })
	return out
}

// Pack is the inverse, of a mean and a standard deviation; h×w is the packed size.
func (p *Packing) Pack(mean, std []float32, h, w int) (packedMean, packedStd []float32) {
	packedMean, packedStd = make([]float32, len(mean)), make([]float32, len(std))
	p.each(h, w, func(channel, packed, plain int) {
		packedMean[packed] = (mean[plain] - p.mean[channel]) / p.std[channel]
		packedStd[packed] = std[plain] / p.std[channel]
	})
	return packedMean, packedStd
}
