package clip

import (
	"fmt"

	"darkroom/checkpoint"
	"darkroom/kernels"
)

// VisionConfigOf is what the config.json of an image encoder would say, of which there are the weights alone. Heads and the
// activation, which shapes do not show, are those of the published encoder of that width: OpenAI's have the quick GELU.
func VisionConfigOf(w checkpoint.Weights) (VisionConfig, error) {
	axis := func(name string, i int) int {
		a, ok := w.Array(name)
		if !ok || i >= len(a.Shape()) {
			return 0
		}
		return a.Shape()[i]
	}
	c := VisionConfig{
		HiddenSize: axis("vision_model.embeddings.patch_embedding.weight", 0), PatchSize: axis("vision_model.embeddings.patch_embedding.weight", 2),
		IntermediateSize: axis("vision_model.encoder.layers.0.mlp.fc1.weight", 0), ProjectionDim: axis("visual_projection.weight", 0),
		Act: kernels.GELU, LayerNormEps: 1e-5, NumAttentionHeads: 16,
	}
	for c.NumHiddenLayers < 512 && axis(fmt.Sprintf("vision_model.encoder.layers.%d.mlp.fc1.weight", c.NumHiddenLayers), 0) > 0 {
		c.NumHiddenLayers++
	}
	switch c.HiddenSize {
	case 768: // ViT-B
		c.NumAttentionHeads, c.Act = 12, kernels.QuickGELU
	case 1024: // ViT-L
		c.Act = kernels.QuickGELU
	case 1280, 1664: // ViT-H, ViT-bigG
	default:
		return c, fmt.Errorf("CLIP's image encoder of width %d is not known (768, 1024, 1280 and 1664 are): give the folder with its config.json", c.HiddenSize)
	}
	side := 1
	for tokens := axis("vision_model.embeddings.position_embedding.weight", 0); side*side+1 < tokens && side < 1024; {
		side++
	}
	c.ImageSize = side * c.PatchSize
	if c.PatchSize == 0 || c.IntermediateSize == 0 || c.ProjectionDim == 0 || c.NumHiddenLayers == 0 {
		return c, fmt.Errorf("CLIP's image encoder lacks its embeddings, layers or visual_projection")
	}
	return c, nil
}

// VisionMean and VisionStd are the means and deviations of colours that CLIP was trained with.
func VisionMean() []float64 { return []float64{0.48145466, 0.4578275, 0.40821073} }
func VisionStd() []float64  { return []float64{0.26862954, 0.26130258, 0.27577711} }

// Normalised is a picture of ImageSize² pixels, 8 bits per colour and four bytes per pixel, as Patches takes it, with those means
// and deviations of its colours.
func (c VisionConfig) Normalised(pixels []byte, mean, std []float64) []float32 {
	out := make([]float32, 3*c.ImageSize*c.ImageSize)
	for i := range c.ImageSize * c.ImageSize {
		for k := range 3 {
			out[3*i+k] = float32((float64(pixels[4*i+k])/255 - mean[k]) / std[k])
		}
	}
	return out
}
