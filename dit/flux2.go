package dit

import (
	"fmt"

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
		rotations: rotations{c.Ints("axes_dims_rope", 0, 32, 32, 32, 32), c.Float("rope_theta", 2000), false},
	}
	m.OutChannels = c.IntIn("out_channels", 1, most, m.InChannels)
	if m.OutChannels != m.InChannels {
		c.Fail("out_channels", "it must be in_channels")
	}
	if len(m.axes) != 4 || m.width() != m.HeadDim {
		c.Fail("axes_dims_rope", fmt.Sprintf("four numbers are needed that add up to attention_head_dim, %d", m.HeadDim))
		m.axes = []int{2, 2, 2, 2}
	}
	for _, d := range m.axes {
		if d < 2 || d%2 != 0 {
			c.Fail("axes_dims_rope", "they must be even")
			break
		}
	}
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
	d := c.width()
	var out []float32
	put := func(position ...int) {
		out = append(out, make([]float32, d)...)
		c.put(out[len(out)-d:], position)
	}
	for i := range text {
		put(0, 0, 0, i)
	}
	for i, p := range append([]Grid{picture}, references...) {
		for y := range p.H {
			for x := range p.W {
				put(10*i, y, x, 0)
			}
		}
	}
	return map[string][]float32{"angles": out, "text_angles": out[:text*d], "picture_angles": out[text*d:]}
}

// Flux2 is FLUX.2's transformer (Black Forest Labs 2025): layers with a stream for the picture and one for the text, which
// see each other in attention, then layers with one stream. All layers of a kind share their modulation.
type Flux2 struct {
	Config Flux2Config

	time, guidance                         [2]nn.Linear
	pictureMod, textMod, singleMod, outMod nn.Linear
	picture, text, out                     nn.Linear
	layers                                 []flux2Layer
	singles                                []flux2Single
}

// NewFlux2 puts the transformer together; the error lists every weight that is missing or of another shape.
func NewFlux2(c Flux2Config, l nn.Loader) (*Flux2, error) {
	d := c.inner()
	embedder := func(l nn.Loader) [2]nn.Linear {
		return [2]nn.Linear{l.At("linear_1").Linear(c.TimeChannels, d), l.At("linear_2").Linear(d, d)}
	}
	m := &Flux2{
		Config:     c,
		time:       embedder(l.At("time_guidance_embed.timestep_embedder")),
		pictureMod: l.At("double_stream_modulation_img.linear").Linear(d, 6*d), textMod: l.At("double_stream_modulation_txt.linear").Linear(d, 6*d),
		singleMod: l.At("single_stream_modulation.linear").Linear(d, 3*d), outMod: l.At("norm_out.linear").Linear(d, 2*d),
		picture: l.At("x_embedder").Linear(c.InChannels, d), text: l.At("context_embedder").Linear(c.TextDim, d), out: l.At("proj_out").Linear(d, c.OutChannels),
	}
	if c.Guidance {
		m.guidance = embedder(l.At("time_guidance_embed.guidance_embedder"))
	}
	for i := range c.Layers {
		m.layers = append(m.layers, newFlux2Layer(c, l.At("transformer_blocks", i).Tolerant(true)))
	}
	for i := range c.SingleLayers {
		m.singles = append(m.singles, newFlux2Single(c, l.At("single_transformer_blocks", i).Tolerant(true)))
	}
	return m, l.Err()
}

// flux2MLP is out(value·SiLU(gate)), gates first in the file.
type flux2MLP struct{ in, out nn.Linear }

func newFlux2MLP(c Flux2Config, l nn.Loader) flux2MLP {
	d := c.inner()
	hidden := int(float64(d) * c.MLPRatio)
	return flux2MLP{l.At("linear_in").SwiGLURows(d, 2*hidden, 0, hidden), l.At("linear_out").Linear(hidden, d)}
}

func (p flux2MLP) forward(g *kernels.Graph, x *kernels.Tensor) *kernels.Tensor {
	return p.out.Forward(g, p.in.Forward(g, x, kernels.SwiGLU, nil), kernels.Identity, nil)
}

// flux2Layer is, for each of both streams, x += g₁·attention((1+s₁)·LN x + b₁); x += g₂·MLP((1+s₂)·LN x + b₂), where attention
// sees both.
type flux2Layer struct {
	picture, text       attention
	pictureMLP, textMLP flux2MLP
	name                string
	eps                 float32
}

func newFlux2Layer(c Flux2Config, l nn.Loader) flux2Layer {
	d, a := c.inner(), l.At("attn")
	stream := func(q, k, v, out, normQ, normK string) attention {
		return attention{
			toQ: a.At(q).Linear(d, d), toK: a.At(k).Linear(d, d), toV: a.At(v).Linear(d, d), toOut: a.At(out).Linear(d, d), heads: c.Heads,
			normQ: a.At(normQ).RMSNorm(c.HeadDim, c.Eps), normK: a.At(normK).RMSNorm(c.HeadDim, c.Eps),
		}
	}
	b := flux2Layer{
		picture: stream("to_q", "to_k", "to_v", "to_out.0", "norm_q", "norm_k"), text: stream("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "norm_added_q", "norm_added_k"),
		pictureMLP: newFlux2MLP(c, l.At("ff")), textMLP: newFlux2MLP(c, l.At("ff_context")), eps: c.Eps,
	}
	b.name = b.picture.toQ.Weight.Name
	return b
}

// modulation are shift, scale and gate of attention, then of the MLP, [N,C] each.
type modulation []*kernels.Tensor

func (b flux2Layer) forward(g *kernels.Graph, x, text *kernels.Tensor, pictureMod, textMod modulation, pictureAngles, textAngles *kernels.Tensor) (*kernels.Tensor, *kernels.Tensor) {
	q, k, v := b.picture.project(g, nn.Adaptive(g, b.name+" norm", x, pictureMod[1], pictureMod[0], b.eps), pictureAngles)
	qText, kText, vText := b.text.project(g, nn.Adaptive(g, b.name+" text norm", text, textMod[1], textMod[0], b.eps), textAngles)
	k = g.Add(b.name+" keys", &kernels.Concat{Parts: []*kernels.Tensor{kText, k}, Axis: 1})
	v = g.Add(b.name+" values", &kernels.Concat{Parts: []*kernels.Tensor{vText, v}, Axis: 1})
	x = b.rest(g, b.picture, b.pictureMLP, x, b.picture.attend(g, q, k, v, nil), pictureMod)
	return x, b.rest(g, b.text, b.textMLP, text, b.text.attend(g, qText, k, v, nil), textMod)
}

// rest is what follows the attention, in one stream.
func (b flux2Layer) rest(g *kernels.Graph, a attention, mlp flux2MLP, x, attended *kernels.Tensor, mod modulation) *kernels.Tensor {
	name := a.toOut.Weight.Name
	x = nn.Gated(g, name+" sum", x, a.toOut.Forward(g, attended, kernels.Identity, nil), mod[2])
	return nn.Gated(g, name+" MLP sum", x, mlp.forward(g, nn.Adaptive(g, name+" MLP norm", x, mod[4], mod[3], b.eps)), mod[5])
}

// flux2Single is x += g·out(attention(h), MLP(h)) with h = (1+s)·LN x + b (Dehghani et al. 2023).
type flux2Single struct {
	attention
	mlp nn.Linear
	eps float32
}

func newFlux2Single(c Flux2Config, l nn.Loader) flux2Single {
	d, a := c.inner(), l.At("attn")
	hidden := int(float64(d) * c.MLPRatio)
	in, rows := a.At("to_qkv_mlp_proj"), 3*d+2*hidden
	return flux2Single{
		attention: attention{
			toQ: in.LinearRows(d, rows, 0, d), toK: in.LinearRows(d, rows, d, 2*d), toV: in.LinearRows(d, rows, 2*d, 3*d), toOut: a.At("to_out").Linear(d+hidden, d),
			normQ: a.At("norm_q").RMSNorm(c.HeadDim, c.Eps), normK: a.At("norm_k").RMSNorm(c.HeadDim, c.Eps), heads: c.Heads,
		},
		mlp: in.SwiGLURows(d, rows, 3*d, hidden), eps: c.Eps,
	}
}

func (b flux2Single) forward(g *kernels.Graph, x *kernels.Tensor, mod modulation, angles *kernels.Tensor) *kernels.Tensor {
	name := b.toOut.Weight.Name
	h := nn.Adaptive(g, name+" norm", x, mod[1], mod[0], b.eps)
	q, k, v := b.project(g, h, angles)
	both := []*kernels.Tensor{b.attend(g, q, k, v, nil), b.mlp.Forward(g, h, kernels.SwiGLU, nil)}
	h = b.toOut.Forward(g, g.Add(name+" input", &kernels.Concat{Parts: both, Axis: 2}), kernels.Identity, nil)
	return nn.Gated(g, name+" sum", x, h, mod[2])
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
	time := m.embedTime(g, in)
	mod := func(l nn.Linear, parts int) modulation {
		return nn.Chunks(g, l.Weight.Name+" chunk", l.Forward(g, time, kernels.Identity, nil), parts)
	}
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

// embedTime is SiLU of the time's embedding, and of the guidance's with it: nothing reads it otherwise.
func (m *Flux2) embedTime(g *kernels.Graph, in flux2Inputs) *kernels.Tensor {
	h := m.time[0].Forward(g, in.time, kernels.SiLU, nil)
	if in.guidance == nil {
		return m.time[1].Forward(g, h, kernels.SiLU, nil)
	}
	t := m.time[1].Forward(g, h, kernels.Identity, nil)
	t = m.guidance[1].Forward(g, m.guidance[0].Forward(g, in.guidance, kernels.SiLU, nil), kernels.Identity, t)
	return g.Add("time silu", &kernels.Pointwise{A: t, Act: kernels.SiLU})
}
