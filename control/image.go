package control

import (
	"fmt"

	"darkroom/kernels"
	"darkroom/nn"
)

// ImageProjection makes the tokens of an image prompt of the embedding that CLIP's image encoder gives (Ye et al. 2023,
// "IP-Adapter"), by the names of its files: image_proj. What reads them is unet.Model.WithImage.
type ImageProjection struct {
	EmbeddingDim, Tokens, Width int // of CLIP's embedding; how many tokens of which width

	proj nn.Linear
	norm nn.LayerNorm
}

// NewImageProjection puts the network together for a U-Net that reads texts of that width. The loader stands at image_proj;
// the weights' shapes say the rest.
func NewImageProjection(src nn.Source, l nn.Loader, width int) (*ImageProjection, error) {
	a, ok := src.Array("image_proj.proj.weight")
	if !ok {
		return nil, fmt.Errorf("image prompt: there is no image_proj.proj.weight: only adapters that read an image's embedding are supported, not those that read its patches (\"plus\")")
	}
	s := a.Shape()
	if len(s) != 2 || s[0]%width != 0 {
		return nil, fmt.Errorf("image prompt: image_proj.proj.weight is %v, which makes no tokens of %d, the width of the U-Net's text: the adapter belongs to another kind of model", s, width)
	}
	p := &ImageProjection{EmbeddingDim: s[1], Tokens: s[0] / width, Width: width,
		proj: l.At("proj").Linear(s[1], s[0]), norm: l.At("norm").LayerNorm(width, 1e-5)}
	return p, l.Err()
}

// Write writes the network into g, for Rows images: "embedding", [N,EmbeddingDim], to "image", [N,Tokens,Width]. It
// implements nn.Network.
func (p *ImageProjection) Write(g *kernels.Graph, s nn.Sizes) {
	x := p.proj.Forward(g, g.Input("embedding", g.DType, s.Rows, p.EmbeddingDim), kernels.Identity, nil)
	g.Output("image", p.norm.Forward(g, g.Reshape(x, s.Rows, p.Tokens, p.Width)))
}
