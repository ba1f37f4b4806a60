package dit

import (
	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// Flux2Config is what transformer/config.json of a Flux2Transformer2DModel says.
type Flux2Config struct {
	InChannels, OutChannels int
	Layers, SingleLayers    int // with two streams; with one
	HeadDim, Heads          int
	TextDim                 int // of the text encoder's states
	TimeChannels            int
	MLPRatio                float64
	Eps                     float32
	Guidance                bool // it reads the guidance scale

	rotations
}

// ReadFlux2Config reads the file. A value that this program does not support is an error that names file, key and value.
// Defaults are those of diffusers' class.
func ReadFlux2Config(c *checkpoint.Config) (Flux2Config, error) {
	c.Ignore("_class_name", "_diffusers_version", "_name_or_path")
	c.Fixed("patch_size", 1)
	m := Flux2Config{
		InChannels: c.IntIn("in_channels", 1, most, 128), Layers: c.IntIn("num_layers", 0, 512, 8), SingleLayers: c.IntIn("num_single_layers", 0, 512, 48),
		HeadDim: c.IntIn("attention_head_dim", 2, 512, 128), Heads: c.IntIn("num_attention_heads", 1, most, 48), TextDim: c.IntIn("joint_attention_dim", 1, most, 15360),
		TimeChannels: c.IntIn("timestep_guidance_channels", 2, most, 256), MLPRatio: c.FloatIn("mlp_ratio", 0.01, 100, 3), Eps: float32(c.Float("eps", 1e-6)),
		Guidance:  c.Bool("guidance_embeds", true),
		rotations: rotations{c.Ints("axes_dims_rope", 4, 32, 32, 32, 32), c.Float("rope_theta", 2000), false},
	}
	m.OutChannels = c.IntIn("out_channels", 1, most, m.InChannels)
	if m.OutChannels != m.InChannels {
		c.Fail("out_channels", "it must be in_channels")
	}
	m.checkAxes(c, "axes_dims_rope", m.HeadDim)
	return m, c.Done()
}

func (c Flux2Config) inner() int { return c.Heads * c.HeadDim }

// Time is the sinusoid that "time" holds of a noise level's σ in thousandths, and that "guidance" holds of a thousand
// times the guidance scale.
func (c Flux2Config) Time(t float64) []float32 {
	return sinusoid(float32(t)/1000*1000, c.TimeChannels)
}

// Grid is a picture of latents, as large as its tokens are.
type Grid struct{ H, W int }

// Conditions are the angles of a text of so many tokens, of a picture, and of reference pictures after it: "angles",
// "text_angles" and "picture_angles", the references' with them. Text lies along the fourth axis; references are 10, 20, …
// along the first.
func (c Flux2Config) Conditions(text int, picture Grid, references []Grid) map[string][]float32 {
	return c.conditions(text, append([]Grid{picture}, references...),
		func(i int) []int { return []int{0, 0, 0, i} }, func(i, y, x int) []int { return []int{10 * i, y, x, 0} })
}

// Flux2 is FLUX.2's transformer (Black Forest Labs 2025): layers with a stream for the picture and one for the text, which
// see each other in attention, then layers with one stream. All layers of a kind share their modulation.
type Flux2 struct {
	Config Flux2Config

	time, guidance                         embedder
	pictureMod, textMod, singleMod, outMod nn.Linear
	picture, text, out                     nn.Linear
	layers                                 []doubleLayer
	singles                                []singleLayer
}

// NewFlux2 puts the transformer together; the error lists every weight that is missing or of another shape.
func NewFlux2(c Flux2Config, l nn.Loader) (*Flux2, error) {
	d := c.inner()
	m := &Flux2{
		Config:     c,
		time:       newEmbedder(l.At("time_guidance_embed.timestep_embedder"), c.TimeChannels, d),
		pictureMod: l.At("double_stream_modulation_img.linear").Linear(d, 6*d), textMod: l.At("double_stream_modulation_txt.linear").Linear(d, 6*d),
		singleMod: l.At("single_stream_modulation.linear").Linear(d, 3*d), outMod: l.At("norm_out.linear").Linear(d, 2*d),
		picture: l.At("x_embedder").Linear(c.InChannels, d), text: l.At("context_embedder").Linear(c.TextDim, d), out: l.At("proj_out").Linear(d, c.OutChannels),
	}
	if c.Guidance {
		m.guidance = newEmbedder(l.At("time_guidance_embed.guidance_embedder"), c.TimeChannels, d)
	}
	for i := range c.Layers {
		m.layers = append(m.layers, newFlux2Layer(c, l.At("transformer_blocks", i).Tolerant(true)))
	}
	for i := range c.SingleLayers {
		m.singles = append(m.singles, newFlux2Single(c, l.At("single_transformer_blocks", i).Tolerant(true)))
	}
	return m, l.Err()
}

func newFlux2MLP(c Flux2Config, l nn.Loader) mlp {
	d := c.inner()
	hidden := int(float64(d) * c.MLPRatio)
	return mlp{l.At("linear_in").SwiGLURows(d, 2*hidden, 0, hidden), l.At("linear_out").Linear(hidden, d), kernels.SwiGLU} // gates first in the file
}

func newFlux2Layer(c Flux2Config, l nn.Loader) doubleLayer {
	picture, text := bothAttentions(l.At("attn"), c.inner(), c.Heads, c.Eps, true)
	return doubleLayer{picture: picture, text: text, pictureMLP: newFlux2MLP(c, l.At("ff")), textMLP: newFlux2MLP(c, l.At("ff_context")), eps: c.Eps}
}

func newFlux2Single(c Flux2Config, l nn.Loader) singleLayer {
	d, a := c.inner(), l.At("attn")
	hidden := int(float64(d) * c.MLPRatio)
	in, rows := a.At("to_qkv_mlp_proj"), 3*d+2*hidden
	return singleLayer{
		attention: attention{
			toQ: in.LinearRows(d, rows, 0, d), toK: in.LinearRows(d, rows, d, 2*d), toV: in.LinearRows(d, rows, 2*d, 3*d), toOut: a.At("to_out").Linear(d+hidden, d),
			normQ: a.At("norm_q").RMSNorm(c.HeadDim, c.Eps), normK: a.At("norm_k").RMSNorm(c.HeadDim, c.Eps), heads: c.Heads,
		},
		mlp: in.SwiGLURows(d, rows, 3*d, hidden), act: kernels.SwiGLU, eps: c.Eps,
	}
}

// Write writes the transformer into g, for Rows pictures of H×W latents and texts of Tokens tokens: "sample" [N,H,W,C], "time"
// [N,TimeChannels], "guidance" alike if the model reads it, "text" [N,T,TextDim], where there are References tokens of
// other pictures "references" [N,R,C], and what Conditions gives, to the velocity "prediction", as sample. It implements
// nn.Network.
func (m *Flux2) Write(g *kernels.Graph, s nn.Sizes) {
	c, n := m.Config, s.Rows
	sample, time, text := g.Input("sample", g.DType, n, s.H, s.W, c.InChannels), g.Input("time", g.DType, n, c.TimeChannels), g.Input("text", g.DType, n, s.Tokens, c.TextDim)
	angles := func(name string, tokens int) *kernels.Tensor { return g.Input(name, tensor.F32, n, tokens, c.HeadDim) }
	picture := s.H*s.W + s.References
	in := flux2Inputs{sample: sample, time: time, text: text,
		angles: angles("angles", s.Tokens+picture), textAngles: angles("text_angles", s.Tokens), pictureAngles: angles("picture_angles", picture)}
	if c.Guidance {
		in.guidance = g.Input("guidance", g.DType, n, c.TimeChannels)
	}
	if s.References > 0 {
		in.references = g.Input("references", g.DType, n, s.References, c.InChannels)
	}
	g.Output("prediction", m.forward(g, in))
}

type flux2Inputs struct {
	sample, time, guidance, text, references *kernels.Tensor // guidance and references may be nil
	angles, textAngles, pictureAngles        *kernels.Tensor
}

func (m *Flux2) forward(g *kernels.Graph, in flux2Inputs) *kernels.Tensor {
	c, s := m.Config, in.sample.Shape
	n, tokens := s[0], s[1]*s[2]
	time := embedAll(g, embedding{m.time, in.time}, embedding{m.guidance, in.guidance})
	mod := func(l nn.Linear, parts int) modulation { return modulate(g, l, time, parts) }
	pictureMod, textMod, singleMod := mod(m.pictureMod, 6), mod(m.textMod, 6), mod(m.singleMod, 3)

	x := g.Reshape(in.sample, n, tokens, c.InChannels)
	if in.references != nil {
		x = g.Add("references", &kernels.Concat{Parts: []*kernels.Tensor{x, in.references}, Axis: 1})
	}
	x = m.picture.Forward(g, x, kernels.Identity, nil)
	text := m.text.Forward(g, in.text, kernels.Identity, nil)
	for _, b := range m.layers {
		x, text = b.forward(g, x, text, pictureMod, textMod, in.pictureAngles, in.textAngles)
	}
	x = g.Add("both streams", &kernels.Concat{Parts: []*kernels.Tensor{text, x}, Axis: 1})
	for _, b := range m.singles {
		x = b.forward(g, x, singleMod, in.angles)
	}
	first := text.Shape[1]
	x = g.Add("picture", &kernels.Cut{In: x, Axis: 1, From: first, To: first + tokens})
	out := mod(m.outMod, 2) // scale, shift
	x = m.out.Forward(g, nn.Adaptive(g, "norm_out", x, out[0], out[1], c.Eps), kernels.Identity, nil)
	return g.Reshape(x, s...)
}
