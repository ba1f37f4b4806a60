// Package unet is the denoiser of Stable Diffusion 1.x and 2.x: a U-Net with time embedding and
// cross-attention to the text (Rombach et al. 2022, "High-Resolution Image Synthesis with Latent
// Diffusion Models", sec. 3.3; Ho et al. 2020, app. B), by the names of diffusers'
// UNet2DConditionModel.
package unet

import (
	"math"

	"darkroom/kernels"
	"darkroom/nn"
)

// Model is the network put together from a checkpoint.
type Model struct {
	Config Config

	convIn        nn.Conv2D
	timeEmbedding [2]nn.Linear
	downBlocks    []downBlock
	midBlock      *midBlock // nil where config.json says null
	upBlocks      []upBlock
	convNormOut   nn.GroupNorm
	convOut       nn.Conv2D
}

// New puts the network together; the error lists every weight that is missing or of another shape.
func New(c Config, l nn.Loader) (*Model, error) {
	ch := c.BlockOutChannels
	temb := c.TimeEmbedDim()
	m := &Model{
		Config: c,
		convIn: l.At("conv_in").Conv2D(c.InChannels, ch[0], c.ConvInKernel),
		timeEmbedding: [2]nn.Linear{
			l.At("time_embedding.linear_1").Linear(ch[0], temb), l.At("time_embedding.linear_2").Linear(temb, temb),
		},
		convNormOut: l.At("conv_norm_out").GroupNorm(ch[0], c.NormNumGroups, c.NormEps),
		convOut:     l.At("conv_out").Conv2D(ch[0], c.OutChannels, c.ConvOutKernel),
	}
	last := len(ch) - 1
	for i, kind := range c.DownBlockTypes {
		m.downBlocks = append(m.downBlocks, newDownBlock(l.At("down_blocks", i), c, i, kind, ch[max(i-1, 0)], i < last))
	}
	if c.MidBlockType != "" {
		m.midBlock = newMidBlock(l.At("mid_block"), c)
	}
	for i, kind := range c.UpBlockTypes {
		level := last - i // the level of the down block on the other side of the U
		m.upBlocks = append(m.upBlocks, newUpBlock(l.At("up_blocks", i), c, level, kind, ch[min(level+1, last)], i < last))
	}
	return m, l.Err()
}

// Inputs are the tensors that the network reads.
type Inputs struct {
	Sample *kernels.Tensor // [N,h,w,InChannels]: the scaled latents
	Time   *kernels.Tensor // [N,BlockOutChannels[0]]: TimeProj of the timestep
	Text   *kernels.Tensor // [N,T,CrossAttentionDim]: the text encoder's hidden states
}

// Forward writes the network into g and returns its prediction, [N,h,w,OutChannels].
func (m *Model) Forward(g *kernels.Graph, in Inputs) *kernels.Tensor {
	// Every block applies SiLU to the time embedding first: done here, once.
	temb := m.timeEmbedding[0].Forward(g, in.Time, kernels.SiLU, nil)
	temb = m.timeEmbedding[1].Forward(g, temb, kernels.SiLU, nil)

	x := m.convIn.Forward(g, in.Sample, nn.Conv{})
	skips := []*kernels.Tensor{x}
	for _, b := range m.downBlocks {
		x = b.forward(g, x, temb, in.Text, &skips)
	}
	if m.midBlock != nil {
		x = m.midBlock.forward(g, x, temb, in.Text)
	}
	for _, b := range m.upBlocks {
		x = b.forward(g, x, temb, in.Text, &skips)
	}
	return m.convOut.Forward(g, m.convNormOut.SiLU(g, x, nil), nn.Conv{})
}

// Write writes the network into g, for Rows latents of H×W and a text of Tokens: "sample", "time" and "text", as
// Inputs has them, to "prediction". It implements nn.Network.
func (m *Model) Write(g *kernels.Graph, s nn.Sizes) {
	g.Output("prediction", m.Forward(g, Inputs{
		Sample: g.Input("sample", g.DType, s.Rows, s.H, s.W, m.Config.InChannels),
		Time:   g.Input("time", g.DType, s.Rows, m.Config.BlockOutChannels[0]),
		Text:   g.Input("text", g.DType, s.Rows, s.Tokens, m.Config.CrossAttentionDim[0]),
	}))
}

// TimeProj is the sinusoidal embedding of a timestep (Vaswani et al. 2017, sec. 3.5):
// sin(t·ω_i), cos(t·ω_i) with ω_i = 10000^(-i/(half-freq_shift)), cosines first if FlipSinToCos.
func (c Config) TimeProj(t float64) []float32 {
	width := c.BlockOutChannels[0]
	half := width / 2
	out := make([]float32, width)
	for i := range half {
		// In float32, as torch computes it: the angle reaches 1000, where its rounding is visible.
		exponent := float32(-math.Log(10000)) * float32(i) / (float32(half) - float32(c.FreqShift))
		angle := float64(float32(t) * float32(math.Exp(float64(exponent))))
		sin, cos := float32(math.Sin(angle)), float32(math.Cos(angle))
		if c.FlipSinToCos {
			sin, cos = cos, sin
		}
		out[i], out[half+i] = sin, cos
	}
	return out
}
