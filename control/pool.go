package control

import (
	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// pool adds the mean of a residual over the picture to every pixel.
type pool struct {
	nothing  *kernels.Weight // [width, time's width] of zeros
	identity nn.Conv2D       // adds a vector to every pixel
	heads    int
}

func newPool(time, width int) pool {
	p := pool{nothing: kernels.NewWeight("control.nothing", kernels.Matrix, tensor.Tensor{
		DType: tensor.F32, Shape: tensor.Shape{width, time}, Data: make([]byte, 4*width*time),
	}), identity: nn.Affine(width, 1, 0), heads: 1}
	if width%8 == 0 {
		p.heads = 8 // as Stable Diffusion 1 has
	}
	return p
}

func (p pool) add(g *kernels.Graph, label string, to, residual, time, strength *kernels.Tensor) *kernels.Tensor {
	n, h, w, c := residual.Shape[0], residual.Shape[1], residual.Shape[2], residual.Shape[3]
	zero := g.Add("control zero", &kernels.Linear{In: time, W: p.nothing})
	// Attention of a query of zeros weighs all pixels alike: their mean.
	pixels := g.Reshape(residual, n, h*w, c)
	mean := g.Add("control mean", &kernels.Attention{Q: g.Reshape(zero, n, 1, c), K: pixels, V: pixels, Heads: p.heads})
	scaled := g.Add(label, &kernels.Pointwise{A: zero, B: g.Reshape(mean, n, c), Scale: strength})
	return p.identity.Forward(g, to, nn.Conv{PerChannel: scaled})
}
