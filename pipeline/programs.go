package pipeline

import (
	"darkroom/kernels"
	"darkroom/unet"
)

// A program of each kind is kept for the shape that was used last: requests in a row have mostly the
// same. Another shape replaces it, so that memory for activations does not add up.

type textProgram struct {
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
	g, ids, hidden := p.text.Graph(p.dtype, 1, skip)
	program, err := p.compile("text encoder", g)
	if err != nil {
		return nil, err
	}
	p.textProg = &textProgram{program, skip, ids, hidden}
	return p.textProg, nil
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
	g, in, out := p.unet.Graph(p.dtype, batch, h, w, tokens)
	program, err := p.compile("U-Net", g)
	if err != nil {
		return nil, err
	}
	p.unetProg = &unetProgram{program, batch, h, w, tokens, in, out}
	return p.unetProg, nil
}

type decodeProgram struct {
	program  *kernels.Program
	h, w     int
	z, image *kernels.Tensor
}

// decodeProgram is the decoder for one latent of h×w.
func (p *Pipeline) decodeProgram(h, w int) (*decodeProgram, error) {
	if d := p.decodeProg; d != nil && d.h == h && d.w == w {
		return d, nil
	}
	if p.decodeProg != nil {
		p.decodeProg.program.Close()
		p.decodeProg = nil
	}
	g, z, image := p.decoder.Graph(p.dtype, 1, h, w)
	program, err := p.compile("decoder", g)
	if err != nil {
		return nil, err
	}
	p.decodeProg = &decodeProgram{program, h, w, z, image}
	return p.decodeProg, nil
}

func (p *Pipeline) closePrograms() {
	if p.textProg != nil {
		p.textProg.program.Close()
	}
	if p.unetProg != nil {
		p.unetProg.program.Close()
	}
	if p.decodeProg != nil {
		p.decodeProg.program.Close()
	}
	p.textProg, p.unetProg, p.decodeProg = nil, nil, nil
}
