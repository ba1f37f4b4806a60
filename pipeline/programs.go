package pipeline

import (
	"fmt"

	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/unet"
)

// A program of each kind is kept for the shape that was used last: requests in a row have mostly the
// same. Another shape replaces it, so that memory for activations does not add up.

type textProgram struct {
	graph   *kernels.Graph
	program *kernels.Program
	skip    int
	ids     *kernels.Tensor
	hidden  *kernels.Tensor
}

// textProgram is the text encoder for one window of tokens.
func (p *Pipeline) textProgram(skip int) (*textProgram, error) {
	if t := p.textProg; t != nil && t.skip == skip {
		return t, nil
	}
	if p.textProg != nil {
		p.textProg.program.Close()
		p.textProg = nil
	}
	g := nn.Graph(p.text, p.dtype, nn.Sizes{Rows: 1, Skip: skip})
	program, err := g.Compile(p.backend) // whole, also where memory is short: it is dropped after use
	if err != nil {
		return nil, fmt.Errorf("text encoder of model %s: %w", p.name, err)
	}
	p.textProg = &textProgram{g, program, skip, g.In("ids"), g.Out("hidden")}
	return p.textProg, nil
}

// dropText frees the text encoder's activations and weights.
func (p *Pipeline) dropText() {
	if p.textProg == nil {
		return
	}
	p.textProg.program.Close()
	for _, w := range p.textProg.graph.Weights() {
		p.backend.Unload(w)
	}
	p.textProg = nil
}

type unetProgram struct {
	program             *kernels.Program
	batch, h, w, tokens int
	in                  unet.Inputs
	out                 *kernels.Tensor
}

// unetProgram is the U-Net for so many latents of h×w and a text of so many tokens.
func (p *Pipeline) unetProgram(batch, h, w, tokens int) (*unetProgram, error) {
	if u := p.unetProg; u != nil && u.batch == batch && u.h == h && u.w == w && u.tokens == tokens {
		return u, nil
	}
	if p.unetProg != nil {
		p.unetProg.program.Close()
		p.unetProg = nil
	}
	g := nn.Graph(p.unet, p.dtype, nn.Sizes{Rows: batch, H: h, W: w, Tokens: tokens})
	program, err := p.compile("U-Net", g, p.backend)
	if err != nil {
		return nil, err
	}
	in := unet.Inputs{Sample: g.In("sample"), Time: g.In("time"), Text: g.In("text")}
	p.unetProg = &unetProgram{program, batch, h, w, tokens, in, g.Out("prediction")}
	return p.unetProg, nil
}

func (p *Pipeline) closePrograms() {
	if p.textProg != nil {
		p.textProg.program.Close()
	}
	if p.unetProg != nil {
		p.unetProg.program.Close()
	}
	p.textProg, p.unetProg = nil, nil
	p.decoder1.closeProgram()
}
