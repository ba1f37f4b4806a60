package judge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"math"

	"darkroom/checkpoint"
	"darkroom/clip"
	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"

	"github.com/disintegration/imaging"
)

// CLIP is a CLIP model (Radford et al. 2021) with both towers, or with that for images alone. Features are the image embeddings,
// not normalised.
type CLIP struct {
	label   string
	id      string
	config  clipConfig
	backend kernels.Backend
	set     *checkpoint.Set
	vision  *visionProgram
	text    *textTower // nil where the folder has none
	head    []linear   // nil where there is none

	texts map[string][]float64 // embeddings of length 1, by prompt
}

// clipConfig is config.json, with the defaults of transformers' CLIPConfig.
type clipConfig struct {
	ProjectionDim int `json:"projection_dim"`
	Vision        struct {
		HiddenSize       int     `json:"hidden_size"`
		IntermediateSize int     `json:"intermediate_size"`
		Layers           int     `json:"num_hidden_layers"`
		Heads            int     `json:"num_attention_heads"`
		ImageSize        int     `json:"image_size"`
		PatchSize        int     `json:"patch_size"`
		Channels         int     `json:"num_channels"`
		Act              string  `json:"hidden_act"`
		Eps              float32 `json:"layer_norm_eps"`
	} `json:"vision_config"`
	Text *clipTextConfig `json:"text_config"`
}

type clipTextConfig struct {
	VocabSize        int     `json:"vocab_size"`
	HiddenSize       int     `json:"hidden_size"`
	IntermediateSize int     `json:"intermediate_size"`
	Layers           int     `json:"num_hidden_layers"`
	Heads            int     `json:"num_attention_heads"`
	Positions        int     `json:"max_position_embeddings"`
	Act              string  `json:"hidden_act"`
	Eps              float32 `json:"layer_norm_eps"`
	EOS              int32   `json:"eos_token_id"`
}

// preprocessing is preprocessor_config.json: how a picture becomes the tower's input.
type preprocessing struct {
	Mean []float64 `json:"image_mean"`
	Std  []float64 `json:"image_std"`
}

func readCLIPConfig(text []byte) (c clipConfig, err error) {
	c.ProjectionDim = 512
	v := &c.Vision
	v.HiddenSize, v.IntermediateSize, v.Layers, v.Heads = 768, 3072, 12, 12
	v.ImageSize, v.PatchSize, v.Channels, v.Act, v.Eps = 224, 32, 3, "quick_gelu", 1e-5
	c.Text = &clipTextConfig{49408, 512, 2048, 12, 8, 77, "quick_gelu", 1e-5, 49407}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, err
	}
	t := c.Text
	if t == nil {
		t = &clipTextConfig{1, 1, 1, 1, 1, 77, "gelu", 1, 0}
	}
	const most = 1 << 20
	for _, n := range []int{c.ProjectionDim, v.HiddenSize, v.IntermediateSize, v.Layers, v.Heads, v.ImageSize, v.PatchSize,
		t.VocabSize, t.HiddenSize, t.IntermediateSize, t.Layers, t.Heads, t.Positions - 2} {
		if n < 1 || n > most {
			return c, fmt.Errorf("a size is %d: out of range", n)
		}
	}
	switch {
	case max(v.Layers, t.Layers) > 512:
		return c, fmt.Errorf("num_hidden_layers is %d: out of range", max(v.Layers, t.Layers))
	case v.Channels != 3:
		return c, fmt.Errorf("num_channels is %d: 3 is supported", v.Channels)
	case v.ImageSize%v.PatchSize != 0 || v.ImageSize > 4096:
		return c, fmt.Errorf("image_size %d with patch_size %d: it must be a multiple of up to 4096", v.ImageSize, v.PatchSize)
	case v.HiddenSize%v.Heads != 0:
		return c, fmt.Errorf("hidden_size %d does not make %d attention heads", v.HiddenSize, v.Heads)
	}
	return c, nil
}

func activation(name string) (kernels.Activation, error) {
	switch name {
	case "quick_gelu":
		return kernels.QuickGELU, nil
	case "gelu":
		return kernels.GELU, nil
	}
	return 0, fmt.Errorf("hidden_act %q: quick_gelu and gelu are supported", name)
}

func openCLIP(s Source, text []byte, o Options) (*CLIP, error) {
	c := &CLIP{label: s.Label, texts: map[string][]float64{}}
	if err := c.open(s, text, o); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *CLIP) open(s Source, text []byte, o Options) (err error) {
	if c.config, err = readCLIPConfig(text); err != nil {
		return fmt.Errorf("config.json: %w", err)
	}
	if c.set, err = s.weights("model"); err != nil {
		return err
	}
	if c.id, err = c.set.Hash(); err != nil {
		return err
	}
	if c.backend, err = o.Backend(); err != nil {
		return err
	}
	pre := preprocessing{Mean: []float64{0.48145466, 0.4578275, 0.40821073}, Std: []float64{0.26862954, 0.26130258, 0.27577711}}
	if p, err := s.read("preprocessor_config.json"); err == nil {
		if err := json.Unmarshal(p, &pre); err != nil {
			return fmt.Errorf("preprocessor_config.json: %w", err)
		}
		if len(pre.Mean) != 3 || len(pre.Std) != 3 {
			return errors.New("preprocessor_config.json: image_mean and image_std of three numbers are needed")
		}
	}
	if c.vision, err = newVision(c.backend, c.config, c.set, pre); err != nil {
		return err
	}
	if c.set.Has("text_projection.weight") && c.config.Text != nil {
		if c.text, err = newTextTower(c.backend, c.config, c.set, s.FS); err != nil {
			return err
		}
	}
	c.head, err = readHead(s, c.config.ProjectionDim)
	return err
}

func (c *CLIP) Name() string { return "the CLIP model " + c.label }
func (c *CLIP) ID() string   { return c.id[:16] }

// Close gives back the backend's memory and unmaps the weights.
func (c *CLIP) Close() error {
	var errs []error
	if c.backend != nil {
		errs = append(errs, c.backend.Close())
	}
	if c.set != nil {
		errs = append(errs, c.set.Close())
	}
	return errors.Join(errs...)
}

// See returns the image embedding.
func (c *CLIP) See(ctx context.Context, p *image.NRGBA) ([]float32, error) {
	return c.vision.embed(ctx, c.vision.pixels(p))
}

// Agreement is 100 times the cosine of the picture's and the prompt's embeddings.
func (c *CLIP) Agreement(ctx context.Context, features []float64, prompt string) (float64, bool, error) {
	if c.text == nil {
		return 0, false, nil
	}
	t := c.texts[prompt]
	if t == nil {
		v, err := c.text.embed(ctx, prompt)
		if err != nil {
			return 0, false, err
		}
		t = unit(widen(v))
		c.texts[prompt] = t
	}
	return 100 * dot(unit(features), t), true, nil
}

// Preference runs the head on the embedding of length 1, as LAION's predictor does.
func (c *CLIP) Preference(features []float64) (float64, bool) {
	if c.head == nil {
		return 0, false
	}
	x := unit(features)
	for _, l := range c.head {
		x = l.forward(x)
	}
	return x[0], true
}

// visionProgram is the image tower, compiled for one picture.
type visionProgram struct {
	config     clipConfig
	pre        preprocessing
	program    *kernels.Program
	patches    *kernels.Tensor
	positions  *kernels.Tensor
	out        *kernels.Tensor
	projection linear
	table      []float32
}

// encoderLayer is x += attention(LN x); x += MLP(LN x).
type encoderLayer struct {
	layerNorm1, layerNorm2 nn.LayerNorm
	selfAttn               nn.Attention
	fc1, fc2               nn.Linear
}

func (b encoderLayer) forward(g *kernels.Graph, x *kernels.Tensor, act kernels.Activation) *kernels.Tensor {
	x = b.selfAttn.Forward(g, b.layerNorm1.Forward(g, x), nil, x)
	h := b.fc1.Forward(g, b.layerNorm2.Forward(g, x), act, nil)
	return b.fc2.Forward(g, h, kernels.Identity, x)
}

// newVision writes down the tower by the names of transformers' CLIPVisionModelWithProjection.
//
// A patch is a row of 3·P² pixels and one number more, which is 0; the first row is the class token's, all 0 and that number 1. So the
// patches' convolution, which has no overlap, and the class token are one matrix product, and positions are its
// residual.
func newVision(b kernels.Backend, c clipConfig, set *checkpoint.Set, pre preprocessing) (*visionProgram, error) {
	v := c.Vision
	act, err := activation(v.Act)
	if err != nil {
		return nil, err
	}
	area, side := 3*v.PatchSize*v.PatchSize, v.ImageSize/v.PatchSize
	tokens := side*side + 1
	embedding, err := patchMatrix(set, v.HiddenSize, v.PatchSize)
	if err != nil {
		return nil, err
	}
	table, err := floats(set, "vision_model.embeddings.position_embedding.weight", tokens, v.HiddenSize)
	if err != nil {
		return nil, err
	}
	l := nn.NewLoader("judge", set).At("vision_model")
	pl, post := l.At("pre_layrnorm").LayerNorm(v.HiddenSize, v.Eps), l.At("post_layernorm").LayerNorm(v.HiddenSize, v.Eps) // sic
	var layers []encoderLayer
	names := nn.AttentionNames{Q: "q_proj", K: "k_proj", V: "v_proj", Out: "out_proj"}
	for i := range v.Layers {
		at := l.At("encoder.layers", i)
		layers = append(layers, encoderLayer{
			at.At("layer_norm1").LayerNorm(v.HiddenSize, v.Eps), at.At("layer_norm2").LayerNorm(v.HiddenSize, v.Eps),
			at.At("self_attn").Attention(names, v.HiddenSize, v.HiddenSize, v.Heads),
			at.At("mlp.fc1").Linear(v.HiddenSize, v.IntermediateSize), at.At("mlp.fc2").Linear(v.IntermediateSize, v.HiddenSize),
		})
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	p := &visionProgram{config: c, pre: pre, table: table, projection: linear{in: v.HiddenSize, out: c.ProjectionDim, bias: make([]float32, c.ProjectionDim)}}
	if p.projection.weight, err = floats(set, "visual_projection.weight", c.ProjectionDim, v.HiddenSize); err != nil {
		return nil, err
	}
	g := kernels.NewGraph(tensor.F32)
	p.patches, p.positions = g.Input("patches", tensor.F32, 1, tokens, area+1), g.Input("positions", tensor.F32, 1, tokens, v.HiddenSize)
	x := pl.Forward(g, g.Add("", &kernels.Linear{In: p.patches, W: embedding, Residual: p.positions}))
	for _, b := range layers {
		x = b.forward(g, x, act)
	}
	p.out = post.Forward(g, x)
	g.Output("hidden", p.out)
	p.program, err = g.Compile(b)
	return p, err
}

// patchMatrix is [patch_embedding | class_embedding], [hidden, 3·P²+1].
func patchMatrix(set *checkpoint.Set, hidden, patch int) (*kernels.Weight, error) {
	const name = "vision_model.embeddings."
	area := 3 * patch * patch
	conv, err := floats(set, name+"patch_embedding.weight", hidden, 3, patch, patch)
	if err != nil {
		return nil, err
	}
	class, err := floats(set, name+"class_embedding", hidden)
	if err != nil {
		return nil, err
	}
	w := make([]float32, 0, hidden*(area+1))
	for o := range hidden {
		w = append(append(w, conv[o*area:][:area]...), class[o])
	}
	host := tensor.Tensor{DType: tensor.F32, Shape: tensor.Shape{hidden, area + 1}, Data: tensor.Bytes(w)}
	return kernels.NewWeight("judge."+name+"patch_embedding.weight", kernels.Matrix, host), nil
}

// pixels is the picture as the tower takes it: the shorter side scaled to ImageSize (bicubic), the middle cut out, normalised; [3,S,S].
func (p *visionProgram) pixels(picture *image.NRGBA) []float32 {
	side := p.config.Vision.ImageSize
	w, h := picture.Rect.Dx(), picture.Rect.Dy()
	if w < h { // as transformers rounds the longer side
		w, h = side, side*h/w
	} else {
		w, h = side*w/h, side
	}
	scaled := imaging.Resize(picture, w, h, imaging.CatmullRom) // a = −½, as Pillow's bicubic
	left, top := (w-side)/2, (h-side)/2
	out := make([]float32, 3*side*side)
	for y := range side {
		row := scaled.Pix[(y+top)*scaled.Stride+4*left:]
		for x := range side {
			for c := range 3 {
				out[(c*side+y)*side+x] = float32((float64(row[4*x+c])/255 - p.pre.Mean[c]) / p.pre.Std[c])
			}
		}
	}
	return out
}

// embed runs the tower over normalised pixels [3,S,S].
func (p *visionProgram) embed(ctx context.Context, pixels []float32) ([]float32, error) {
	if err := p.program.Write(p.patches, p.rows(pixels)); err != nil {
		return nil, err
	}
	if err := p.program.Write(p.positions, p.table); err != nil {
		return nil, err
	}
	if err := p.program.Run(ctx); err != nil {
		return nil, err
	}
	hidden := make([]float32, p.out.Shape.Len())
	if err := p.program.Read(hidden, p.out); err != nil {
		return nil, err
	}
	if kernels.NonFinite(hidden) >= 0 {
		return nil, errors.New("the judge gave a number that is not finite: its weights may be damaged")
	}
	return narrow(p.projection.forward(widen(hidden[:p.config.Vision.HiddenSize]))), nil // of the class token
}

// rows cuts pixels into the rows that newVision describes.
func (p *visionProgram) rows(pixels []float32) []float32 {
	side, patch := p.config.Vision.ImageSize, p.config.Vision.PatchSize
	width := 3*patch*patch + 1
	rows := make([]float32, p.patches.Shape.Len())
	rows[width-1] = 1
	n := side / patch
	for token := range n * n {
		row := rows[(token+1)*width:]
		for c := range 3 {
			for i := range patch {
				from := (c*side+token/n*patch+i)*side + token%n*patch
				copy(row[(c*patch+i)*patch:][:patch], pixels[from:])
			}
		}
	}
	return rows
}

// textTower is the text encoder with its projection.
type textTower struct {
	tokenizer  *clip.Tokenizer
	config     clipTextConfig
	program    *kernels.Program
	ids        *kernels.Tensor
	out        *kernels.Tensor
	projection linear
}

func newTextTower(b kernels.Backend, c clipConfig, set *checkpoint.Set, fsys fs.FS) (*textTower, error) {
	t := &textTower{config: *c.Text, projection: linear{in: c.Text.HiddenSize, out: c.ProjectionDim, bias: make([]float32, c.ProjectionDim)}}
	act, err := activation(t.config.Act)
	if err != nil {
		return nil, err
	}
	if t.tokenizer, err = clip.LoadTokenizer(fsys); err != nil {
		return nil, err
	}
	if n := t.tokenizer.Size(); n > t.config.VocabSize {
		return nil, fmt.Errorf("the tokenizer has %d tokens, config.json vocab_size %d: they must agree", n, t.config.VocabSize)
	}
	m, err := clip.NewText(clip.TextConfig{
		VocabSize: t.config.VocabSize, HiddenSize: t.config.HiddenSize, IntermediateSize: t.config.IntermediateSize,
		NumHiddenLayers: t.config.Layers, NumAttentionHeads: t.config.Heads, MaxPositionEmbeddings: t.config.Positions,
		Act: act, LayerNormEps: t.config.Eps,
	}, nn.NewLoader("judge", set))
	if err != nil {
		return nil, err
	}
	if t.projection.weight, err = floats(set, "text_projection.weight", c.ProjectionDim, t.config.HiddenSize); err != nil {
		return nil, err
	}
	g := nn.Graph(m, tensor.F32, nn.Sizes{Rows: 1})
	t.ids, t.out = g.In("ids"), g.Out("hidden")
	t.program, err = g.Compile(b)
	return t, err
}

// embed is the projection of the hidden state at the end token. What is longer than the window is cut, as everywhere with CLIP scores.
func (t *textTower) embed(ctx context.Context, text string) ([]float32, error) {
	prompt, err := t.tokenizer.Prompt(text, clip.Plain, t.config.Positions)
	if err != nil {
		return nil, err
	}
	ids := prompt.Chunks[0].IDs
	if err := t.program.WriteIDs(t.ids, ids); err != nil {
		return nil, err
	}
	if err := t.program.Run(ctx); err != nil {
		return nil, err
	}
	hidden := make([]float32, t.out.Shape.Len())
	if err := t.program.Read(hidden, t.out); err != nil {
		return nil, err
	}
	end := prompt.Chunks[0].Tokens + 1
	width := t.config.HiddenSize
	return narrow(t.projection.forward(widen(hidden[end*width:][:width]))), nil
}

func widen(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

func narrow(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

func dot(a, b []float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// unit is v at length 1.
func unit(v []float64) []float64 {
	n := math.Sqrt(dot(v, v))
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = x / n
	}
	return out
}
