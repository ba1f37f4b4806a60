package dit

import (
	"fmt"

	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// ZImageConfig is what transformer/config.json of a ZImageTransformer2DModel says.
type ZImageConfig struct {
	PatchSize  int // latent pixels a side of a token
	InChannels int
	Dim        int
	Layers     int
	Refiners   int // layers over the picture alone, and as many over the text alone
	Heads      int
	NormEps    float32
	QKNorm     bool
	TextDim    int // of the text encoder's states
	TimeScale  float64

	rotations
	longest []int // of each axis
}

// ReadZImageConfig reads the file. A value that this program does not support is an error that names file, key and value.
// Defaults are those of diffusers' class.
func ReadZImageConfig(c *checkpoint.Config) (ZImageConfig, error) {
	c.Ignore("_class_name", "_diffusers_version", "_name_or_path")
	m := ZImageConfig{
		InChannels: c.IntIn("in_channels", 1, most, 16), Dim: c.IntIn("dim", 1, most, 3840), Layers: c.IntIn("n_layers", 1, 512, 30),
		Refiners: c.IntIn("n_refiner_layers", 0, 64, 2), Heads: c.IntIn("n_heads", 1, most, 30), NormEps: float32(c.Float("norm_eps", 1e-5)),
		QKNorm: c.Bool("qk_norm", true), TextDim: c.IntIn("cap_feat_dim", 1, most, 2560), TimeScale: c.Float("t_scale", 1000),
		rotations: rotations{c.Ints("axes_dims", 3, 32, 48, 48), c.Float("rope_theta", 256), true},
		longest:   c.Ints("axes_lens", 3, 1024, 512, 512),
	}
	c.IntIn("n_kv_heads", 1, most, m.Heads) // diffusers does not read it
	patches, frames := c.Ints("all_patch_size", 1, 2), c.Ints("all_f_patch_size", 1, 1)
	if len(patches) == 1 {
		m.PatchSize = patches[0]
	}
	switch {
	case m.PatchSize < 1 || m.PatchSize > 16:
		c.Fail("all_patch_size", "it is out of range")
	case len(frames) != 1 || frames[0] != 1:
		c.Fail("all_f_patch_size", "only [1], of pictures, is supported")
	case c.Has("siglip_feat_dim"):
		c.Fail("siglip_feat_dim", "models that read pictures are not supported, only null")
	case m.Dim%m.Heads != 0 || m.Dim/m.Heads != m.width():
		c.Fail("axes_dims", fmt.Sprintf("they must add up to a head's width, %d/%d", m.Dim, m.Heads))
	}
	for _, d := range m.axes {
		if d < 2 || d%2 != 0 {
			c.Fail("axes_dims", "they must be even")
			break
		}
	}
	return m, c.Done()
}

// Multiple is what the lengths of both sequences are filled up to.
const Multiple = 32

// Padded is a length filled up.
func Padded(n int) int { return (n + Multiple - 1) / Multiple * Multiple }

// timeDim is the width of the time embedding.
func (c ZImageConfig) timeDim() int { return min(c.Dim, 256) }

// tokens are those of a picture of h×w latent pixels.
func (c ZImageConfig) tokens(h, w int) int { return (h / c.PatchSize) * (w / c.PatchSize) }

// Time is the sinusoid that "time" holds of a noise level's σ in thousandths: the model's time runs from 0, noise, to 1.
func (c ZImageConfig) Time(t float64) []float32 {
	return sinusoid((1000-float32(t))/1000*float32(c.TimeScale), 256)
}

// Conditions are the network's inputs for a picture of h×w latent pixels and a text of so many tokens, in a batch whose
// texts are filled up to most tokens, a multiple of Multiple: see Write. The text's tokens lie along the first axis, and
// the picture at the place after them. The error is of a picture that is larger than its positions.
func (c ZImageConfig) Conditions(h, w, text, most int) (map[string][]float32, error) {
	rows, columns := h/c.PatchSize, w/c.PatchSize
	if rows > c.longest[1] || columns > c.longest[2] {
		return nil, fmt.Errorf("the model has positions for %d×%d tokens, the picture has %d×%d: use a smaller one", c.longest[2], c.longest[1], columns, rows)
	}
	own := Padded(text)
	if own+1 >= c.longest[0] {
		return nil, fmt.Errorf("the model has positions for %d tokens of text, not %d", c.longest[0]-2, own)
	}
	picture, d := Padded(rows*columns), c.width()
	angles := make([]float32, (picture+most)*d)
	for i := range picture {
		at := []int{own + 1, i / columns, i % columns}
		if i >= rows*columns {
			at = []int{0, 0, 0}
		}
		c.put(angles[i*d:][:d], at)
	}
	pads := make([]float32, most)
	for i := range most {
		if i < own {
			c.put(angles[(picture+i)*d:][:d], []int{1 + i, 0, 0})
		}
		if i >= text {
			pads[i] = 1
		}
	}
	return map[string][]float32{
		"angles": angles, "picture_angles": angles[:picture*d], "text_angles": angles[picture*d:], "text_pads": pads,
		"picture_pads": make([]float32, picture-rows*columns), "text_length": {float32(own)}, "length": {float32(picture + own)},
	}, nil
}

// ZImage is the single-stream transformer of Z-Image (Z-Image Team 2025, https://arxiv.org/abs/2511.22699): picture and text
// go through refiners of their own, then side by side through all layers.
type ZImage struct {
	Config ZImageConfig

	time                       [2]nn.Linear
	patches                    nn.Conv2D
	text                       nn.Linear
	textNorm                   nn.RMSNorm
	picturePad, textBiasAndPad *kernels.Weight // Table: the pad; the text embedder's bias and the pad
	noiseRefiner, textRefiner  []zLayer
	layers                     []zLayer
	finalScale, final          nn.Linear
}

// NewZImage puts the transformer together; the error lists every weight that is missing or of another shape.
func NewZImage(c ZImageConfig, l nn.Loader) (*ZImage, error) {
	p, channels := c.PatchSize, c.InChannels
	patch := fmt.Sprintf("%d-1", p)
	m := &ZImage{
		Config:     c,
		time:       [2]nn.Linear{l.At("t_embedder.mlp.0").Linear(256, 1024), l.At("t_embedder.mlp.2").Linear(1024, c.timeDim())},
		patches:    patchEmbedder(l.At("all_x_embedder", patch), channels, c.Dim, p),
		textNorm:   l.At("cap_embedder.0").RMSNorm(c.TextDim, c.NormEps),
		text:       nn.Linear{Weight: l.At("cap_embedder.1").Weight("weight", kernels.Matrix, c.Dim, c.TextDim)},
		picturePad: l.Weight("x_pad_token", kernels.Table, 1, c.Dim),
		textBiasAndPad: l.Made(" and padding", kernels.Table, tensor.Shape{2, c.Dim}, func(a []tensor.Array) tensor.Array {
			return tensor.Stack(tensor.Reshape(a[0], 1, c.Dim), a[1])
		}, nn.Part{Name: "cap_embedder.1.bias", Shape: tensor.Shape{c.Dim}}, nn.Part{Name: "cap_pad_token", Shape: tensor.Shape{1, c.Dim}}),
		finalScale: l.At("all_final_layer", patch, "adaLN_modulation.1").Linear(c.timeDim(), c.Dim),
		final:      patchesToPixels(l.At("all_final_layer", patch, "linear"), c.Dim, channels, p, -1),
	}
	for i := range c.Refiners {
		m.noiseRefiner = append(m.noiseRefiner, newZLayer(c, l.At("noise_refiner", i), true))
		m.textRefiner = append(m.textRefiner, newZLayer(c, l.At("context_refiner", i), false))
	}
	for i := range c.Layers {
		m.layers = append(m.layers, newZLayer(c, l.At("layers", i), true))
	}
	return m, l.Err()
}

// patchEmbedder is a matrix over the values of a patch, (row, column, channel), as a convolution whose steps are as long as
// its sides.
func patchEmbedder(l nn.Loader, channels, out, p int) nn.Conv2D {
	columns := make([]int, channels*p*p)
	for i := range columns {
		c, y, x := i/(p*p), i/p%p, i%p
		columns[i] = (y*p+x)*channels + c
	}
	shape := tensor.Shape{out, channels, p, p}
	return nn.Conv2D{Stride: p, Bias: l.Weight("bias", kernels.Vector, out),
		Weight: l.Made(" as a filter", kernels.Filter, shape, func(a []tensor.Array) tensor.Array {
			return tensor.Gather(a[0], shape, nil, columns, 1)
		}, nn.Part{Name: "weight", Shape: tensor.Shape{out, p * p * channels}})}
}

// patchesToPixels is a layer whose results are the values of a patch, (row, column, channel), in the order of
// kernels.PixelShuffle, times a sign.
func patchesToPixels(l nn.Loader, in, channels, p int, sign float32) nn.Linear {
	rows := make([]int, channels*p*p)
	for i := range rows {
		c, y, x := i/(p*p), i/p%p, i%p
		rows[i] = (y*p+x)*channels + c
	}
	made := func(name string, role kernels.Role, shape ...int) *kernels.Weight {
		return l.Made(" by pixels", role, shape, func(a []tensor.Array) tensor.Array {
			return tensor.Gather(a[0], shape, rows, nil, sign)
		}, nn.Part{Name: name, Shape: shape})
	}
	return nn.Linear{Weight: made("weight", kernels.Matrix, len(rows), in), Bias: made("bias", kernels.Vector, len(rows))}
}

// zLayer is x += g₁·norm(attention((1+s₁)·norm x)); x += g₂·norm(MLP((1+s₂)·norm x)), with scales s and gates g = tanh(…) of the time; without
// modulation they are 0 and 1.
type zLayer struct {
	attention
	attentionNorm1, attentionNorm2 nn.RMSNorm
	ffnNorm1, ffnNorm2             nn.RMSNorm
	w13, w2                        nn.Linear
	modulation                     *nn.Linear // nil: none
}

func newZLayer(c ZImageConfig, l nn.Loader, modulated bool) zLayer {
	a, ff := l.At("attention").Tolerant(true), l.At("feed_forward").Tolerant(true)
	hidden := int(float64(c.Dim) / 3 * 8)
	const qkEps = 1e-5 // whatever norm_eps is
	b := zLayer{
		attention:      newAttention(a, pictureNames, c.Dim, c.Heads, qkEps, c.QKNorm),
		attentionNorm1: l.At("attention_norm1").RMSNorm(c.Dim, c.NormEps), attentionNorm2: l.At("attention_norm2").RMSNorm(c.Dim, c.NormEps),
		ffnNorm1: l.At("ffn_norm1").RMSNorm(c.Dim, c.NormEps), ffnNorm2: l.At("ffn_norm2").RMSNorm(c.Dim, c.NormEps),
		w13: ff.SwiGLU("w3", "w1", c.Dim, hidden), w2: ff.At("w2").Linear(hidden, c.Dim),
	}
	if modulated {
		p := l.At("adaLN_modulation.0").Linear(c.timeDim(), 4*c.Dim)
		b.modulation = &p
	}
	return b
}

// forward runs the layer on x, [N,T,Dim]; time, [N,timeDim], is read where it modulates. lengths may be nil.
func (b zLayer) forward(g *kernels.Graph, x, angles, time, lengths *kernels.Tensor) *kernels.Tensor {
	mod := make([]*kernels.Tensor, 4) // scale, gate of attention; of the MLP
	if b.modulation != nil {
		name := b.modulation.Weight.Name
		mod = nn.Chunks(g, name+" chunk", b.modulation.Forward(g, time, kernels.Identity, nil), 4)
		for _, i := range []int{1, 3} {
			mod[i] = g.Add(name+" gate", &kernels.Pointwise{A: mod[i], Act: kernels.Tanh})
		}
	}
	q, k, v := b.project(g, b.attentionNorm1.Forward(g, x, mod[0]), angles)
	h := b.toOut.Forward(g, b.attend(g, q, k, v, lengths), kernels.Identity, nil)
	x = nn.Gated(g, b.attentionNorm2.Gamma.Name+" sum", x, b.attentionNorm2.Forward(g, h, nil), mod[1])
	h = b.w13.Forward(g, b.ffnNorm1.Forward(g, x, mod[2]), kernels.SwiGLU, nil)
	h = b.w2.Forward(g, h, kernels.Identity, nil)
	return nn.Gated(g, b.ffnNorm2.Gamma.Name+" sum", x, b.ffnNorm2.Forward(g, h, nil), mod[3])
}

// zInputs are what Forward reads: see Write.
type zInputs struct {
	sample, time, text                         *kernels.Tensor
	textPads, picturePads, textLength, length_ *kernels.Tensor
	angles, pictureAngles, textAngles          *kernels.Tensor
}

// Write writes the transformer into g, for Rows pictures of H×W latent pixels and texts of Tokens tokens, filled up: "sample"
// [N,H,W,C], "time" [N,256], "text" [N,T,TextDim] with zeros for padding, and what Conditions gives, to the velocity
// "prediction", as sample. It implements nn.Network.
func (m *ZImage) Write(g *kernels.Graph, s nn.Sizes) {
	c := m.Config
	tokens, n := c.tokens(s.H, s.W), s.Rows
	picture := Padded(tokens)
	in := zInputs{
		sample: g.Input("sample", g.DType, n, s.H, s.W, c.InChannels), time: g.Input("time", g.DType, n, 256), text: g.Input("text", g.DType, n, s.Tokens, c.TextDim),
		textPads: g.Input("text_pads", tensor.I32, n, s.Tokens), textLength: g.Input("text_length", tensor.I32, n), length_: g.Input("length", tensor.I32, n),
		angles:        g.Input("angles", tensor.F32, n, picture+s.Tokens, c.width()),
		pictureAngles: g.Input("picture_angles", tensor.F32, n, picture, c.width()), textAngles: g.Input("text_angles", tensor.F32, n, s.Tokens, c.width()),
	}
	if picture > tokens {
		in.picturePads = g.Input("picture_pads", tensor.I32, n, picture-tokens)
	}
	g.Output("prediction", m.forward(g, in))
}

func (m *ZImage) forward(g *kernels.Graph, in zInputs) *kernels.Tensor {
	c, s := m.Config, in.sample.Shape
	n, h, w := s[0], s[1]/c.PatchSize, s[2]/c.PatchSize
	time := m.time[1].Forward(g, m.time[0].Forward(g, in.time, kernels.SiLU, nil), kernels.Identity, nil)

	x := g.Reshape(m.patches.Forward(g, in.sample, nn.Conv{}), n, h*w, c.Dim)
	if in.picturePads != nil {
		pads := g.Add("padding", &kernels.Embed{IDs: in.picturePads, Tokens: m.picturePad})
		x = g.Add("padding", &kernels.Concat{Parts: []*kernels.Tensor{x, pads}, Axis: 1})
	}
	for _, b := range m.noiseRefiner {
		x = b.forward(g, x, in.pictureAngles, time, nil)
	}
	pads := g.Add("text padding", &kernels.Embed{IDs: in.textPads, Tokens: m.textBiasAndPad})
	text := m.text.Forward(g, m.textNorm.Forward(g, in.text, nil), kernels.Identity, pads)
	for _, b := range m.textRefiner {
		text = b.forward(g, text, in.textAngles, nil, in.textLength)
	}
	x = g.Add("both streams", &kernels.Concat{Parts: []*kernels.Tensor{x, text}, Axis: 1})
	for _, b := range m.layers {
		x = b.forward(g, x, in.angles, time, in.length_)
	}

	x = g.Add("picture", &kernels.Cut{In: x, Axis: 1, To: h * w})
	scale := m.finalScale.Forward(g, g.Add("time silu", &kernels.Pointwise{A: time, Act: kernels.SiLU}), kernels.Identity, nil)
	x = m.final.Forward(g, nn.Adaptive(g, "final norm", x, scale, nil, 1e-6), kernels.Identity, nil)
	return g.Add("pixels", &kernels.PixelShuffle{In: g.Reshape(x, n, h, w, c.InChannels*c.PatchSize*c.PatchSize), Factor: c.PatchSize})
}
