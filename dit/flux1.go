package dit

import (
	"fmt"

	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// Flux1Config is what transformer/config.json of a FluxTransformer2DModel says.
type Flux1Config struct {
	InChannels           int // of a token: squares of latents, and with Fill of what it reads beside them
	OutChannels          int // of a token
	Layers, SingleLayers int // with two streams; with one
	HeadDim, Heads       int
	TextDim, PooledDim   int // of T5's states; of CLIP's embedding of the whole text
	Guidance             bool

	rotations
}

const (
	flux1Square = 2   // latent pixels a side of a token
	timeWidth   = 256 // of the sinusoid of FLUX.1 and Stable Diffusion 3
	layerEps    = 1e-6
)

// ReadFlux1Config reads the file. A value that this program does not support is an error that names file, key and value.
// Defaults are those of diffusers' class.
func ReadFlux1Config(c *checkpoint.Config) (Flux1Config, error) {
	c.Ignore("_class_name", "_diffusers_version", "_name_or_path")
	c.Fixed("patch_size", 1)
	m := Flux1Config{
		InChannels: c.IntIn("in_channels", 1, most, 64), Layers: c.IntIn("num_layers", 0, 512, 19), SingleLayers: c.IntIn("num_single_layers", 0, 512, 38),
		HeadDim: c.IntIn("attention_head_dim", 2, 512, 128), Heads: c.IntIn("num_attention_heads", 1, most, 24), TextDim: c.IntIn("joint_attention_dim", 1, most, 4096),
		PooledDim: c.IntIn("pooled_projection_dim", 1, most, 768), Guidance: c.Bool("guidance_embeds", false),
		rotations: rotations{c.Ints("axes_dims_rope", 3, 16, 56, 56), 10000, false},
	}
	m.OutChannels = c.IntIn("out_channels", 1, most, m.InChannels)
	switch {
	case m.InChannels%(flux1Square*flux1Square) != 0:
		c.Fail("in_channels", "it must be a multiple of 4: tokens are squares of latents")
	case m.OutChannels%(flux1Square*flux1Square) != 0:
		c.Fail("out_channels", "it must be a multiple of 4: tokens are squares of latents")
	case m.OutChannels > m.InChannels:
		c.Fail("out_channels", fmt.Sprintf("it must be at most in_channels, %d", m.InChannels))
	}
	m.checkAxes(c, "axes_dims_rope", m.HeadDim)
	return m, c.Done()
}

func (c Flux1Config) inner() int { return c.Heads * c.HeadDim }

// Channels are those of latents, Extra those that the network reads after them, and Square is how many of them a side of a token has.
func (c Flux1Config) Channels() int { return c.OutChannels / (flux1Square * flux1Square) }
func (c Flux1Config) Extra() int    { return c.InChannels/(flux1Square*flux1Square) - c.Channels() }
func (Flux1Config) Square() int     { return flux1Square }

// Time is the sinusoid that "time" holds of a noise level's σ in thousandths, and that "guidance" holds of a thousand
// times the guidance scale.
func (c Flux1Config) Time(t float64) []float32 { return sinusoid(float32(t)/1000*1000, timeWidth) }

// Conditions are the angles of a text of so many tokens, all at the origin, of a picture, and of pictures that the model sees
// beside it: "angles", "text_angles" and "picture_angles". The first coordinate tells the pictures apart.
func (c Flux1Config) Conditions(text int, picture Grid, references []Grid) map[string][]float32 {
	return c.conditions(text, append([]Grid{picture}, references...),
		func(int) []int { return []int{0, 0, 0} }, func(i, y, x int) []int { return []int{i, y, x} })
}

// Flux1 is FLUX.1's transformer (Black Forest Labs 2024): layers with a stream for the picture and one for the text, which see
// each other in attention, then layers with one stream. Each has a modulation of its own.
type Flux1 struct {
	Config Flux1Config

	time, guidance, pooled embedder
	patches                nn.Conv2D
	text, outMod, out      nn.Linear
	layers                 []doubleLayer
	singles                []singleLayer
}

// NewFlux1 puts the transformer together; the error lists every weight that is missing or of another shape.
func NewFlux1(c Flux1Config, l nn.Loader) (*Flux1, error) {
	d, embed := c.inner(), l.At("time_text_embed")
	filter := tensor.Shape{d, c.Channels() + c.Extra(), flux1Square, flux1Square}
	in := l.At("x_embedder")
	m := &Flux1{
		Config: c, time: newEmbedder(embed.At("timestep_embedder"), timeWidth, d), pooled: newEmbedder(embed.At("text_embedder"), c.PooledDim, d),
		patches: nn.Conv2D{Stride: flux1Square, Bias: in.Weight("bias", kernels.Vector, d), Weight: in.Made(" as a filter", kernels.Filter, filter,
			func(a []tensor.Array) tensor.Array { return tensor.Reshape(a[0], filter...) }, nn.Part{Name: "weight", Shape: tensor.Shape{d, c.InChannels}})},
		text: l.At("context_embedder").Linear(c.TextDim, d), outMod: l.At("norm_out.linear").Linear(d, 2*d), out: l.At("proj_out").Linear(d, c.OutChannels),
	}
	if c.Guidance {
		m.guidance = newEmbedder(embed.At("guidance_embedder"), timeWidth, d)
	}
	for i := range c.Layers {
		l := l.At("transformer_blocks", i)
		picture, text := bothAttentions(l.At("attn").Tolerant(true), d, c.Heads, layerEps, true)
		m.layers = append(m.layers, doubleLayer{
			picture: picture, text: text, pictureMLP: newMLP(l.At("ff").Tolerant(true), d, 4*d), textMLP: newMLP(l.At("ff_context").Tolerant(true), d, 4*d),
			pictureMod: l.At("norm1.linear").Linear(d, 6*d), textMod: l.At("norm1_context.linear").Linear(d, 6*d), eps: layerEps,
		})
	}
	for i := range c.SingleLayers {
		l := l.At("single_transformer_blocks", i)
		names := pictureNames
		names.out = ""
		a := newAttention(l.At("attn").Tolerant(true), names, d, c.Heads, layerEps, true)
		a.toOut = l.At("proj_out").Tolerant(true).Linear(5*d, d)
		m.singles = append(m.singles, singleLayer{attention: a, mlp: l.At("proj_mlp").Tolerant(true).Linear(d, 4*d), act: kernels.TanhGELU,
			modulation: l.At("norm.linear").Linear(d, 3*d), eps: layerEps})
	}
	return m, l.Err()
}

// Write writes the transformer into g, for Rows pictures of H×W latent pixels and texts of Tokens tokens: "sample" [N,H,W,C+Extra],
// "time" [N,256], "guidance" alike if the model reads it, "pooled" [N,PooledDim], "text" [N,T,TextDim], where there are
// References tokens of other pictures "references" [N,2,2R,C], whose squares are the tokens, and what Conditions gives, to the
// velocity "prediction" [N,H,W,C]. It implements nn.Network.
func (m *Flux1) Write(g *kernels.Graph, s nn.Sizes) {
	c, n := m.Config, s.Rows
	picture := s.H/flux1Square*(s.W/flux1Square) + s.References
	angles := func(name string, tokens int) *kernels.Tensor { return g.Input(name, tensor.F32, n, tokens, c.HeadDim) }
	in := flux1Inputs{
		sample: g.Input("sample", g.DType, n, s.H, s.W, c.Channels()+c.Extra()), time: g.Input("time", g.DType, n, timeWidth), pooled: g.Input("pooled", g.DType, n, c.PooledDim),
		text: g.Input("text", g.DType, n, s.Tokens, c.TextDim), angles: angles("angles", s.Tokens+picture), textAngles: angles("text_angles", s.Tokens),
		pictureAngles: angles("picture_angles", picture),
	}
	if c.Guidance {
		in.guidance = g.Input("guidance", g.DType, n, timeWidth)
	}
	if s.References > 0 {
		in.references = g.Input("references", g.DType, n, flux1Square, flux1Square*s.References, c.Channels())
	}
	g.Output("prediction", m.forward(g, in))
}

type flux1Inputs struct {
	sample, time, guidance, pooled, text, references *kernels.Tensor // guidance and references may be nil
	angles, textAngles, pictureAngles                *kernels.Tensor
}

func (m *Flux1) forward(g *kernels.Graph, in flux1Inputs) *kernels.Tensor {
	c, s := m.Config, in.sample.Shape
	n, h, w := s[0], s[1]/flux1Square, s[2]/flux1Square
	time := embedAll(g, embedding{m.time, in.time}, embedding{m.guidance, in.guidance}, embedding{m.pooled, in.pooled})
	x := g.Reshape(m.patches.Forward(g, in.sample, nn.Conv{}), n, h*w, c.inner())
	if r := in.references; r != nil {
		others := g.Reshape(m.patches.Forward(g, r, nn.Conv{}), n, r.Shape[2]/flux1Square, c.inner())
		x = g.Add("references", &kernels.Concat{Parts: []*kernels.Tensor{x, others}, Axis: 1})
	}
	text := m.text.Forward(g, in.text, kernels.Identity, nil)
	for _, b := range m.layers {
		picture, words := b.mods(g, time)
		x, text = b.forward(g, x, text, picture, words, in.pictureAngles, in.textAngles)
	}
	x = g.Add("both streams", &kernels.Concat{Parts: []*kernels.Tensor{text, x}, Axis: 1})
	for _, b := range m.singles {
		x = b.forward(g, x, modulate(g, b.modulation, time, 3), in.angles)
	}
	first := text.Shape[1]
	x = g.Add("picture", &kernels.Cut{In: x, Axis: 1, From: first, To: first + h*w})
	out := modulate(g, m.outMod, time, 2) // scale, shift
	x = m.out.Forward(g, nn.Adaptive(g, "norm_out", x, out[0], out[1], layerEps), kernels.Identity, nil)
	return g.Add("pixels", &kernels.PixelShuffle{In: g.Reshape(x, n, h, w, c.OutChannels), Factor: flux1Square})
}
