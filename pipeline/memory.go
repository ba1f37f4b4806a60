package pipeline

import (
	"fmt"

	"darkroom/kernels"
	"darkroom/nn"
)

// Need is an estimate of memory in bytes, made from shapes alone.
type Need struct {
	Weights     uint64 // packed for the backend, of the parts that are not loaded yet
	Activations uint64 // the arenas at their fullest
}

// Total is the sum.
func (n Need) Total() uint64 { return n.Weights + n.Activations }

// graphNeed is for a program that is loaded whole, or whose weights come block by block.
func (p *Pipeline) graphNeed(g *kernels.Graph, streamed bool) Need {
	n := Need{Activations: uint64(g.ArenaBytes())}
	if streamed {
		n.Weights = uint64(g.StreamedBytes(p.backend))
		return n
	}
	for _, w := range g.Weights() {
		if p.backend.Packed(w) == nil {
			n.Weights += uint64(p.backend.PackedBytes(w.Role, w.Shape))
		}
	}
	return n
}

// Need estimates what a picture of that size takes on top of what is loaded already.
func (p *Pipeline) Need(width, height int, guided bool) Need {
	if guided {
		return p.need(width, height, 2)
	}
	return p.need(width, height, 1)
}

// need is Need for a batch of the U-Net.
func (p *Pipeline) need(width, height, batch int) Need {
	return p.needWhere(width, height, batch, p.lowMemory)
}

// needWhere is need with and without --low-memory: then the text encoder is gone when the others come, whose weights come
// block by block, and large pictures are decoded in tiles.
func (p *Pipeline) needWhere(width, height, batch int, low bool) Need {
	f := p.decoderConfig.Factor()
	h, w := height/f, width/f
	text := nn.Graph(p.text, p.dtype, nn.Sizes{Rows: 1})
	u := nn.Graph(p.unet, p.dtype, nn.Sizes{Rows: batch, H: h, W: w, Tokens: p.text.Config.MaxPositionEmbeddings})
	if t := p.tileFor(h, w); t != nil && low {
		h, w = min(h, t.tile), min(w, t.tile)
	}
	d := nn.Graph(p.decoder, p.dtype, nn.Sizes{Rows: 1, H: h, W: w})
	sum := add(p.graphNeed(u, low), p.graphNeed(d, low))
	t := p.graphNeed(text, false)
	if low && t.Total() < sum.Total() {
		return sum // the first prompt; with the next one the programs are closed before
	}
	if low {
		return t
	}
	return add(sum, t)
}

func add(a, b Need) Need { return Need{a.Weights + b.Weights, a.Activations + b.Activations} }

// MemoryError says that a picture does not fit.
type MemoryError struct {
	Need      Need
	Free      uint64
	Device    string // a GPU's name; "" is the machine's own memory
	LowMemory uint64 // bytes that are needed with --low-memory; 0 if that is on
}

func (e *MemoryError) Error() string {
	advice := "use a smaller --width and --height, or close other programs"
	if e.LowMemory != 0 && e.LowMemory <= e.Free {
		advice = fmt.Sprintf("--low-memory needs %s; or use a smaller --width and --height, or close other programs", gib(e.LowMemory))
	}
	where := ""
	if e.Device != "" {
		where = " on " + e.Device
	}
	return fmt.Sprintf("not enough memory%s: %s needed (%s of weights, %s of activations), %s free: %s",
		where, gib(e.Need.Total()), gib(e.Need.Weights), gib(e.Need.Activations), gib(e.Free), advice)
}

func gib(n uint64) string { return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30)) }

// checkMemory refuses a picture before its work begins rather than after.
func (p *Pipeline) checkMemory(pl *plan) error {
	if u := p.unetProg; u != nil && u.h == pl.latentH && u.w == pl.latentW && u.batch >= pl.rows() && p.decodesSize(p.decodeSize(pl)) {
		return nil // it ran before
	}
	free, known := p.free()
	if !known {
		return nil
	}
	if n := p.need(pl.Width, pl.Height, pl.rows()); n.Total() > free {
		return p.memoryError(n, free, pl.Width, pl.Height, pl.rows())
	}
	return nil
}

func (p *Pipeline) memoryError(n Need, free uint64, width, height, rows int) *MemoryError {
	e := &MemoryError{Need: n, Free: free}
	if info := p.backend.Info(); info.Free != nil {
		e.Device = info.Name
	}
	if !p.lowMemory {
		e.LowMemory = p.needWhere(width, height, rows, true).Total()
	}
	return e
}

// decodeSize is the size of what the decoder is given at once, in latent pixels.
func (p *Pipeline) decodeSize(pl *plan) (h, w int) {
	if t := p.tile(pl); t != nil {
		return min(pl.latentH, t.tile), min(pl.latentW, t.tile)
	}
	return pl.latentH, pl.latentW
}

// compile loads weights and places activations, and says what it was for when that fails.
func (p *Pipeline) compile(what string, g *kernels.Graph, b kernels.Backend) (program *kernels.Program, err error) {
	if s, ok := b.(kernels.Streamer); ok && p.lowMemory {
		program, err = g.CompileStreamed(s)
	} else {
		program, err = g.Compile(b)
	}
	if err != nil {
		return nil, fmt.Errorf("%s of model %s: %w", what, p.name, err)
	}
	return program, nil
}
