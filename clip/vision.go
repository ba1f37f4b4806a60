package clip

import (
	"fmt"

	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// VisionConfig is what config.json says of an image encoder.
type VisionConfig struct {
	HiddenSize        int
	IntermediateSize  int
	NumHiddenLayers   int
	NumAttentionHeads int
	ImageSize         int // pixels a side
	PatchSize         int
	ProjectionDim     int
	Act               kernels.Activation
	LayerNormEps      float32
}

// ReadVisionConfig reads the config.json of a CLIPVisionModelWithProjection, or the vision_config of a whole CLIP model.
// Defaults are those of transformers' CLIPVisionConfig.
func ReadVisionConfig(c *checkpoint.Config) (VisionConfig, error) {
	c.Ignore(harmlessKeys...)
	c.Ignore("architectures", "eos_token_id", "projection_size")
	c.OneOf("model_type", "clip_vision_model")
	c.Fixed("num_channels", 3)
	const wide = 1 << 20
	m := VisionConfig{
		HiddenSize: c.IntIn("hidden_size", 1, wide, 768), IntermediateSize: c.IntIn("intermediate_size", 1, wide, 3072),
		NumHiddenLayers: c.IntIn("num_hidden_layers", 1, 512, 12), NumAttentionHeads: c.IntIn("num_attention_heads", 1, wide, 12),
		ImageSize: c.IntIn("image_size", 1, 4096, 224), PatchSize: c.IntIn("patch_size", 1, 4096, 32),
		ProjectionDim: c.IntIn("projection_dim", 1, wide, 512),
		Act:           readAct(c), LayerNormEps: float32(c.Float("layer_norm_eps", 1e-5)),
	}
	if m.ImageSize%m.PatchSize != 0 {
		c.Fail("image_size", fmt.Sprintf("it must be a multiple of patch_size %d", m.PatchSize))
	}
	return m, c.Done()
}

// Tokens is one for the class and one for each patch.
func (c VisionConfig) Tokens() int {
	side := c.ImageSize / c.PatchSize
	return side*side + 1
}

// patchWidth is a patch's pixels and a place for each token.
func (c VisionConfig) patchWidth() int { return 3*c.PatchSize*c.PatchSize + c.Tokens() }

// Patches is what "patches" holds of a picture, [ImageSize,ImageSize,3], normalised: a row a token. It has the patch's
// pixels, none for the class, and then zeros but for a 1 at the token's own number.
func (c VisionConfig) Patches(pixels []float32) []float32 {
	side, p, width := c.ImageSize/c.PatchSize, c.PatchSize, c.patchWidth()
	rows := make([]float32, c.Tokens()*width)
	for token := range c.Tokens() {
		row := rows[token*width:][:width]
		row[3*p*p+token] = 1
		if token == 0 {
			continue
		}
		y, x := (token-1)/side*p, (token-1)%side*p
		for i := range p {
			for j := range p {
				for ch := range 3 { // in the order of the filter: channel, row, column
					row[(ch*p+i)*p+j] = pixels[((y+i)*c.ImageSize+x+j)*3+ch]
				}
			}
		}
	}
	return rows
}

// VisionModel is CLIP's image encoder (Radford et al. 2021), a vision transformer (Dosovitskiy et al. 2021), by the names of
// transformers' CLIPVisionModelWithProjection.
type VisionModel struct {
	Config VisionConfig

	embedding                   *kernels.Weight
	preLayerNorm, postLayerNorm nn.LayerNorm
	layers                      []encoderLayer
	visualProjection            nn.Conv2D
}

// NewVision puts the encoder together; the error lists every weight that is missing or of another shape.
func NewVision(c VisionConfig, l nn.Loader) (*VisionModel, error) {
	root := l
	if l.Has("vision_model.post_layernorm.weight") { // as transformers wrote it before version 5
		l = l.At("vision_model")
	}
	at, p := l.At("embeddings"), c.PatchSize
	filter := at.At("patch_embedding").Weight("weight", kernels.Filter, c.HiddenSize, 3, p, p)
	class := at.Weight("class_embedding", kernels.Vector, c.HiddenSize)
	positions := at.At("position_embedding").Weight("weight", kernels.Table, c.Tokens(), c.HiddenSize)
	m := &VisionModel{
		Config:           c,
		preLayerNorm:     l.At("pre_layrnorm").LayerNorm(c.HiddenSize, c.LayerNormEps), // sic
		postLayerNorm:    l.At("post_layernorm").LayerNorm(c.HiddenSize, c.LayerNormEps),
		visualProjection: root.At("visual_projection").Conv2D(c.HiddenSize, c.ProjectionDim, 1),
	}
	m.visualProjection.Stride = c.Tokens()
	for i := range c.NumHiddenLayers {
		m.layers = append(m.layers, newEncoderLayer(l.At("encoder.layers", i), layerConfig{
			width: c.HiddenSize, inner: c.IntermediateSize, heads: c.NumAttentionHeads, eps: c.LayerNormEps, act: c.Act,
		}))
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	var err error
	m.embedding, err = patchMatrix(c, filter, class, positions)
	return m, err
}

// patchMatrix is [filter | positions], [HiddenSize, patchWidth], with the class embedding in the first token's position:
// filters do not overlap, so patches, class and positions are one matrix product.
func patchMatrix(c VisionConfig, filter, class, positions *kernels.Weight) (*kernels.Weight, error) {
	w := &kernels.Weight{Name: filter.Name, Role: kernels.Matrix, Shape: tensor.Shape{c.HiddenSize, c.patchWidth()}}
	if filter.Host == nil { // a graph that is only planned
		return w, nil
	}
	area, tokens := 3*c.PatchSize*c.PatchSize, c.Tokens()
	first := make([]float32, c.HiddenSize)
	table := make([]float32, tokens*c.HiddenSize)
	values := make([]float32, w.Shape.Len())
	if err := class.Host.Decode(first, 0); err != nil {
		return nil, err
	}
	if err := positions.Host.Decode(table, 0); err != nil {
		return nil, err
	}
	for o := range c.HiddenSize {
		row := values[o*c.patchWidth():][:c.patchWidth()]
		if err := filter.Host.Decode(row[:area], o*area); err != nil {
			return nil, err
		}
		for t := range tokens {
			row[area+t] = table[t*c.HiddenSize+o]
		}
		row[area] += first[o]
	}
	w.Host = tensor.Stored(tensor.Tensor{DType: tensor.F32, Shape: w.Shape, Data: tensor.Bytes(values)})
	return w, nil
}

// Forward writes the encoder into g: patches, [N,Tokens,…] by Patches, to the states before the last layer,
// [N,Tokens,HiddenSize], and the picture's embedding, [N,ProjectionDim], not normalised.
func (m *VisionModel) Forward(g *kernels.Graph, patches *kernels.Tensor) (hidden, pooled *kernels.Tensor) {
	x := m.preLayerNorm.Forward(g, g.Add("", &kernels.Linear{In: patches, W: m.embedding}))
	for i, b := range m.layers {
		if i == len(m.layers)-1 {
			hidden = x
		}
		x = b.forward(g, x)
	}
	// The projection is a filter of one pixel on a picture of Tokens rows; its stride leaves the first one alone, the class.
	n, tokens := x.Shape[0], x.Shape[1]
	rows := g.Reshape(m.postLayerNorm.Forward(g, x), n, tokens, 1, m.Config.HiddenSize)
	return hidden, g.Reshape(m.visualProjection.Forward(g, rows, nn.Conv{}), n, m.Config.ProjectionDim)
}

// Write writes the encoder into g, for Rows pictures: "patches" to "hidden" and "pooled", as Forward has them. It
// implements nn.Network.
func (m *VisionModel) Write(g *kernels.Graph, s nn.Sizes) {
	hidden, pooled := m.Forward(g, g.Input("patches", g.DType, s.Rows, m.Config.Tokens(), m.Config.patchWidth()))
	g.Output("hidden", hidden)
	g.Output("pooled", pooled)
}
