package dit

import (
	"fmt"
	"slices"

	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// SD3Config is what transformer/config.json of an SD3Transformer2DModel says.
type SD3Config struct {
	PatchSize          int // latent pixels a side of a token
	InChannels         int
	Layers             int
	HeadDim, Heads     int
	TextDim, PooledDim int   // of the text encoders' states and embeddings
	Positions          int   // a side of the square of positions, of which a picture has those in the middle
	Dual               []int // layers with a second attention of the picture alone
	QKNorm             bool
	SampleSize         int // latent pixels a side that it was trained at
}

// ReadSD3Config reads the file. A value that this program does not support is an error that names file, key and value.
// Defaults are those of diffusers' class.
func ReadSD3Config(c *checkpoint.Config) (SD3Config, error) {
	c.Ignore("_class_name", "_diffusers_version", "_name_or_path")
	m := SD3Config{
		PatchSize: c.IntIn("patch_size", 1, 16, 2), InChannels: c.IntIn("in_channels", 1, most, 16), Layers: c.IntIn("num_layers", 1, 512, 18),
		HeadDim: c.IntIn("attention_head_dim", 1, 512, 64), Heads: c.IntIn("num_attention_heads", 1, most, 18), TextDim: c.IntIn("joint_attention_dim", 1, most, 4096),
		PooledDim: c.IntIn("pooled_projection_dim", 1, most, 2048), Positions: c.IntIn("pos_embed_max_size", 1, 4096, 96), SampleSize: c.IntIn("sample_size", 1, most, 128),
	}
	if c.Has("dual_attention_layers") { // of 3.5
		m.Dual = c.Ints("dual_attention_layers", 0)
	}
	switch norm := c.String("qk_norm", ""); norm {
	case "":
	case "rms_norm":
		m.QKNorm = true
	default:
		c.Fail("qk_norm", "only rms_norm and null are supported")
	}
	if out := c.IntIn("out_channels", 1, most, 16); out != m.InChannels {
		c.Fail("out_channels", fmt.Sprintf("it must be in_channels, %d", m.InChannels))
	}
	if width := c.IntIn("caption_projection_dim", 1, most, 1152); width != m.inner() {
		c.Fail("caption_projection_dim", fmt.Sprintf("it must be the width of all heads, %d", m.inner()))
	}
	return m, c.Done()
}

func (c SD3Config) inner() int { return c.Heads * c.HeadDim }

// Time is the sinusoid that "time" holds of a noise level's σ in thousandths.
func (c SD3Config) Time(t float64) []float32 { return sinusoid(float32(t), timeWidth) }

// Conditions are the numbers of the positions of a picture of h×w latent pixels: "positions". The error is of a picture that is
// larger than they are.
func (c SD3Config) Conditions(h, w int) (map[string][]float32, error) {
	rows, columns := h/c.PatchSize, w/c.PatchSize
	if rows > c.Positions || columns > c.Positions {
		return nil, fmt.Errorf("the model has positions for %d×%d tokens, the picture has %d×%d: use a smaller one", c.Positions, c.Positions, columns, rows)
	}
	top, left := (c.Positions-rows)/2, (c.Positions-columns)/2
	out := make([]float32, rows*columns)
	for i := range out {
		out[i] = float32((top+i/columns)*c.Positions + left + i%columns)
	}
	return map[string][]float32{"positions": out}, nil
}

// SD3 is the transformer of Stable Diffusion 3 and 3.5 (Esser et al. 2024, https://arxiv.org/abs/2403.03206): layers with a stream
// for the picture and one for the text, which see each other in attention.
type SD3 struct {
	Config SD3Config

	time, pooled      embedder
	patches           nn.Conv2D
	positions         *kernels.Weight
	text, outMod, out nn.Linear
	layers            []doubleLayer
}

// NewSD3 puts the transformer together; the error lists every weight that is missing or of another shape.
func NewSD3(c SD3Config, l nn.Loader) (*SD3, error) {
	d, p, embed, patches := c.inner(), c.PatchSize, l.At("time_text_embed"), l.At("pos_embed.proj")
	table := tensor.Shape{c.Positions * c.Positions, d}
	m := &SD3{
		Config: c, time: newEmbedder(embed.At("timestep_embedder"), timeWidth, d), pooled: newEmbedder(embed.At("text_embedder"), c.PooledDim, d),
		patches: nn.Conv2D{Stride: p, Weight: patches.Weight("weight", kernels.Filter, d, c.InChannels, p, p), Bias: patches.Weight("bias", kernels.Vector, d)},
		positions: l.At("pos_embed").Made(" as a table", kernels.Table, table, func(a []tensor.Array) tensor.Array { return tensor.Reshape(a[0], table...) },
			nn.Part{Name: "pos_embed", Shape: tensor.Shape{1, table[0], d}}),
		text: l.At("context_embedder").Linear(c.TextDim, d), outMod: l.At("norm_out.linear").Linear(d, 2*d), out: patchesToPixels(l.At("proj_out"), d, c.InChannels, p, 1),
	}
	for i := range c.Layers {
		m.layers = append(m.layers, newSD3Layer(c, l.At("transformer_blocks", i), i))
	}
	return m, l.Err()
}

func newSD3Layer(c SD3Config, l nn.Loader, i int) doubleLayer {
	d, a := c.inner(), l.At("attn").Tolerant(true)
	texts := textNames
	b := doubleLayer{eps: layerEps, picture: newAttention(a, pictureNames, d, c.Heads, layerEps, c.QKNorm), pictureMLP: newMLP(l.At("ff").Tolerant(true), d, 4*d)}
	if i == c.Layers-1 { // what becomes of the text is not read
		texts.out = ""
		b.textMod = l.At("norm1_context.linear").Linear(d, 2*d)
	} else {
		b.textMod, b.textMLP = l.At("norm1_context.linear").Linear(d, 6*d), newMLP(l.At("ff_context").Tolerant(true), d, 4*d)
	}
	b.text = newAttention(a, texts, d, c.Heads, layerEps, c.QKNorm)
	parts := 6
	if slices.Contains(c.Dual, i) {
		second := newAttention(l.At("attn2").Tolerant(true), pictureNames, d, c.Heads, layerEps, c.QKNorm)
		b.second, parts = &second, 9
	}
	b.pictureMod = l.At("norm1.linear").Linear(d, parts*d)
	return b
}

// Write writes the transformer into g, for Rows pictures of H×W latent pixels and texts of Tokens tokens: "sample" [N,H,W,C],
// "time" [N,256], "pooled" [N,PooledDim], "text" [N,T,TextDim], and what Conditions gives, to the velocity "prediction", as
// sample. It implements nn.Network.
func (m *SD3) Write(g *kernels.Graph, s nn.Sizes) {
	c, n := m.Config, s.Rows
	g.Output("prediction", m.forward(g, sd3Inputs{
		sample: g.Input("sample", g.DType, n, s.H, s.W, c.InChannels), time: g.Input("time", g.DType, n, timeWidth), pooled: g.Input("pooled", g.DType, n, c.PooledDim),
		text: g.Input("text", g.DType, n, s.Tokens, c.TextDim), positions: g.Input("positions", tensor.I32, n, s.H/c.PatchSize*(s.W/c.PatchSize)),
	}))
}

type sd3Inputs struct{ sample, time, pooled, text, positions *kernels.Tensor }

func (m *SD3) forward(g *kernels.Graph, in sd3Inputs) *kernels.Tensor {
	c, s := m.Config, in.sample.Shape
	n, h, w := s[0], s[1]/c.PatchSize, s[2]/c.PatchSize
	time := embedAll(g, embedding{m.time, in.time}, embedding{m.pooled, in.pooled})
	places := g.Reshape(g.Add("positions", &kernels.Embed{IDs: in.positions, Tokens: m.positions}), n, h, w, c.inner())
	x := g.Reshape(m.patches.Forward(g, in.sample, nn.Conv{Residual: places}), n, h*w, c.inner())
	text := m.text.Forward(g, in.text, kernels.Identity, nil)
	for _, b := range m.layers {
		picture, words := b.mods(g, time)
		x, text = b.forward(g, x, text, picture, words, nil, nil)
	}
	out := modulate(g, m.outMod, time, 2) // scale, shift
	x = m.out.Forward(g, nn.Adaptive(g, "norm_out", x, out[0], out[1], layerEps), kernels.Identity, nil)
	return g.Add("pixels", &kernels.PixelShuffle{In: g.Reshape(x, n, h, w, c.InChannels*c.PatchSize*c.PatchSize), Factor: c.PatchSize})
}
