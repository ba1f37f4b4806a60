package control

import (
	"fmt"

	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// ImageProjection makes the tokens of an image prompt of what CLIP's image encoder gives (Ye et al. 2023, "IP-Adapter"), by
// the names of its files: image_proj. What reads them is unet.Model.WithImage. It implements nn.Network.
type ImageProjection interface {
	nn.Network
	// Reads is the network's input and the output of clip.VisionModel that it takes: "pooled" or "hidden".
	Reads() string
	// Width is that of what it reads.
	Width() int
	// Tokens is how many it makes: its output "image" is [N,Tokens,width].
	Tokens() int
}

// NewImageProjection puts the network together for a U-Net that reads texts of that width. The loader stands at image_proj;
// the weights' shapes say the rest.
func NewImageProjection(src nn.Source, l nn.Loader, width int) (ImageProjection, error) {
	shape := func(name string) tensor.Shape {
		a, ok := src.Array("image_proj." + name)
		if !ok {
			return nil
		}
		return a.Shape()
	}
	if latents := shape("latents"); len(latents) == 3 {
		return newResampler(l, shape, latents, width)
	}
	s := shape("proj.weight")
	if len(s) != 2 {
		return nil, fmt.Errorf("image prompt: there is neither image_proj.proj.weight nor image_proj.latents: this kind of adapter is not known")
	}
	if s[0]%width != 0 {
		return nil, fmt.Errorf("image prompt: image_proj.proj.weight is %v, which makes no tokens of %d, the width of the U-Net's text: the adapter belongs to another kind of model", s, width)
	}
	p := &projection{in: s[1], tokens: s[0] / width, width: width, proj: l.At("proj").Linear(s[1], s[0]), norm: l.At("norm").LayerNorm(width, 1e-5)}
	return p, l.Err()
}

// projection makes tokens of CLIP's embedding of a picture.
type projection struct {
	in, tokens, width int
	proj              nn.Linear
	norm              nn.LayerNorm
}

func (p *projection) Reads() string { return "pooled" }
func (p *projection) Width() int    { return p.in }
func (p *projection) Tokens() int   { return p.tokens }

// Write writes the network into g, for Rows pictures: "pooled", [N,in], to "image".
func (p *projection) Write(g *kernels.Graph, s nn.Sizes) {
	x := p.proj.Forward(g, g.Input(p.Reads(), g.DType, s.Rows, p.in), kernels.Identity, nil)
	g.Output("image", p.norm.Forward(g, g.Reshape(x, s.Rows, p.tokens, p.width)))
}

// resampler makes tokens of CLIP's states of a picture's patches ("plus"): learned tokens that attend to the patches and to
// themselves, as the perceiver of Flamingo (Alayrac et al. 2022).
type resampler struct {
	in, tokens, hidden int
	latents            *kernels.Weight // Vector [tokens·hidden]
	nothing            *kernels.Weight // a filter of zeros, which lets latents through once a row
	projIn, projOut    nn.Linear
	layers             []resamplerLayer
	normOut            nn.LayerNorm
}

type resamplerLayer struct {
	norm1, norm2 nn.LayerNorm // of the patches, of the tokens
	attention    nn.Attention
	norm         nn.LayerNorm
	ff           [2]nn.Linear
}

// headSize is fixed by the published networks.
const headSize = 64

func newResampler(l nn.Loader, shape func(string) tensor.Shape, latents tensor.Shape, width int) (*resampler, error) {
	r := &resampler{tokens: latents[1], hidden: latents[2]}
	if in := shape("proj_in.weight"); len(in) == 2 {
		r.in = in[1]
	}
	w := l.Weight("latents", kernels.Table, latents...)
	r.latents = &kernels.Weight{Name: w.Name, Role: kernels.Vector, Shape: tensor.Shape{latents.Len()}, Host: w.Host}
	size := latents.Len()
	r.nothing = kernels.NewWeight("image_proj.nothing", kernels.Filter, tensor.Tensor{DType: tensor.F32, Shape: tensor.Shape{size, 1, 1, 1}, Data: make([]byte, 4*size)})
	r.projIn, r.projOut = l.At("proj_in").Linear(r.in, r.hidden), l.At("proj_out").Linear(r.hidden, width)
	r.normOut = l.At("norm_out").LayerNorm(width, 1e-5)
	for i := 0; ; i++ {
		q := shape(fmt.Sprintf("layers.%d.0.to_q.weight", i))
		if len(q) != 2 || i > 64 {
			break
		}
		inner := q[0]
		if inner%headSize != 0 {
			return nil, fmt.Errorf("image prompt: image_proj.layers.%d.0.to_q.weight is %v: heads of %d are needed", i, q, headSize)
		}
		at, ff := l.At("layers", i, 0), l.At("layers", i, 1)
		fused := at.At("to_kv").Weight("weight", kernels.Matrix, 2*inner, r.hidden)
		r.layers = append(r.layers, resamplerLayer{
			norm1: at.At("norm1").LayerNorm(r.hidden, 1e-5), norm2: at.At("norm2").LayerNorm(r.hidden, 1e-5),
			attention: nn.Attention{
				ToQ: at.At("to_q").Linear(r.hidden, inner), ToOut: at.At("to_out").Linear(inner, r.hidden), Heads: inner / headSize,
				ToK: nn.Linear{Weight: nn.Rows(fused, 0, inner)}, ToV: nn.Linear{Weight: nn.Rows(fused, inner, 2*inner)},
			},
			norm: ff.At(0).LayerNorm(r.hidden, 1e-5),
			ff:   [2]nn.Linear{ff.At(1).Linear(r.hidden, 4*r.hidden), ff.At(3).Linear(4*r.hidden, r.hidden)},
		})
	}
	return r, l.Err()
}

func (r *resampler) Reads() string { return "hidden" }
func (r *resampler) Width() int    { return r.in }
func (r *resampler) Tokens() int   { return r.tokens }

// Write writes the network into g, for Rows pictures of Tokens patches: "hidden", [N,Tokens,in], to "image".
func (r *resampler) Write(g *kernels.Graph, s nn.Sizes) {
	in := g.Input(r.Reads(), g.DType, s.Rows, s.Tokens, r.in)
	x := r.projIn.Forward(g, in, kernels.Identity, nil)
	// The learned tokens, once a row: the bias of a convolution that reads one number of each row, times 0.
	numbers := g.Reshape(in, s.Rows, s.Tokens*r.in, 1, 1)
	tokens := g.Add("", &kernels.Conv2D{In: numbers, W: r.nothing, Bias: r.latents, Stride: s.Tokens * r.in})
	y := g.Reshape(tokens, s.Rows, r.tokens, r.hidden)
	for _, l := range r.layers {
		own := l.norm2.Forward(g, y)
		both := g.Add("", &kernels.Concat{Parts: []*kernels.Tensor{l.norm1.Forward(g, x), own}, Axis: 1})
		y = l.attention.Forward(g, own, both, y)
		h := l.ff[0].Forward(g, l.norm.Forward(g, y), kernels.GELU, nil)
		y = l.ff[1].Forward(g, h, kernels.Identity, y)
	}
	g.Output("image", r.normOut.Forward(g, r.projOut.Forward(g, y, kernels.Identity, nil)))
}
