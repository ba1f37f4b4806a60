package pipeline

import (
	"fmt"

	"darkroom/nn"
	"darkroom/stage"
)

// Need is an estimate of memory in bytes, computed from shapes alone.
type Need = stage.Need

// Need estimates the memory a picture of that size takes, on top of what is already loaded.
func (p *Pipeline) Need(width, height int, guided bool) Need {
	rows := 1
	if guided {
		rows = 2
	}
	return p.need(width, height, rows, p.device.LowMemory)
}

// need is Need for so many rows of the denoiser's batch.
func (p *Pipeline) need(width, height, rows int, tiled bool) Need {
	low := p.device.LowMemory
	return p.withRefiner(p.model.Need(width, height, rows, low, tiled), width, height, rows, low)
}

// withRefiner is a need of the first model, and what the second one takes.
func (p *Pipeline) withRefiner(n Need, width, height, rows int, low bool) Need {
	if p.refiner == nil {
		return n
	}
	last := p.refiner.model.NeedWithoutCodec(width, height, rows, low)
	if !low {
		return n.Plus(last)
	}
	if last.Total() > n.Total() { // one is gone when the other comes
		return last
	}
	return n
}

// NeedFrugal is Need when the text encoders' weights are freed after each prompt, as happens when memory does not hold
// everything.
func (p *Pipeline) NeedFrugal(width, height int, guided bool) Need {
	rows := 1
	if guided {
		rows = 2
	}
	if !p.canBeFrugal() {
		return p.need(width, height, rows, p.device.LowMemory)
	}
	return p.model.NeedFrugal(width, height, rows, false)
}

// NeedLow is Need with Options.LowMemory.
func (p *Pipeline) NeedLow(width, height int, guided bool) Need {
	rows := 1
	if guided {
		rows = 2
	}
	return p.withRefiner(p.model.Need(width, height, rows, true, true), width, height, rows, true)
}

// needOf is need for a plan, which may have controls, and whose calls of the denoiser may have other forms beside the whole one.
func (p *Pipeline) needOf(pl *plan, rows int) Need {
	return p.needWith(pl, rows, p.device.LowMemory, p.tiled(pl))
}

func (p *Pipeline) needWith(pl *plan, rows int, low, tiled bool) Need {
	need := p.model.Need
	whole := pl
	pl = pl.seen()
	if pl.controls != nil {
		need = pl.controls.steered.Need
	}
	n := p.withRefiner(need(pl.Width, pl.Height, rows, low, tiled), pl.Width, pl.Height, rows, low)
	if decoder := p.model.Part("vae"); whole != pl && decoder != nil { // which sees the picture whole, or in tiles of its own
		n.Activations += decoder.Need(decoder.Sizes(whole.Width, whole.Height, rows, tiled), low).Activations
	}
	if tokens := pl.references.count(); tokens > 0 { // the denoiser reads them beside the picture's
		part := p.net(pl).Part()
		s := part.Sizes(pl.Width, pl.Height, rows, false)
		alone := part.Need(s, low).Activations
		s.References = tokens
		n.Activations += max(part.Need(s, low).Activations, alone) - alone
	}
	for _, cut := range pl.cuts() {
		part := p.net(pl).Part()
		s := part.Sizes(pl.Width, pl.Height, rows, false)
		s.Cut = cut
		n.Activations += part.Need(s, low).Activations
	}
	return n
}

// cuts are the forms that the plan's cache needs of the denoiser beside the whole one.
func (pl *plan) cuts() []nn.Cut {
	layers := pl.cache.Layers()
	switch {
	case !pl.cache.On():
		return nil
	case pl.cache.Gate() > 0: // the first also has all results of cross-attention at its end
		return []nn.Cut{{Form: nn.KeepCross, Layers: layers}, {Form: nn.NoCross, Layers: layers}}
	}
	return []nn.Cut{{Form: nn.Outer, Layers: layers}, {Form: nn.First, Layers: layers}}
}

// MemoryError reports that a picture does not fit into memory.
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
	if p.ran(pl, pl.rows()) {
		return nil
	}
	free, known := p.free()
	if !known {
		return nil
	}
	if err := p.checkSecond(pl, pl.rows()); err != nil {
		return err
	}
	if n := p.needOf(pl, pl.rows()); n.Total() > free {
		if p.canBeFrugal() && pl.controls == nil && !pl.cache.On() && p.model.NeedFrugal(pl.seen().Width, pl.seen().Height, pl.rows(), p.tiled(pl)).Total() <= free {
			p.device.Frugal = true
			return nil
		}
		return p.memoryError(n, free, p.needWith(pl, pl.rows(), true, true))
	}
	return nil
}

// canBeFrugal reports whether text encoders can give their weights back after use, where memory is short: they come again with the
// next prompt.
func (p *Pipeline) canBeFrugal() bool { return !p.device.LowMemory && p.refiner == nil }

// ran reports whether pictures of the plan's size ran before with so many rows, so that there is memory for them.
func (p *Pipeline) ran(pl *plan, rows int) bool {
	part := p.net(pl).Part()
	s := part.Size()
	if !part.Loaded() || s.H != pl.seen().latentH || s.W != pl.seen().latentW || s.Wrap != pl.wrap || s.Merge != pl.TokenMerging || s.Rows < rows || pl.cache.On() != (s.Cut.Form != nn.Whole) {
		return false
	}
	return p.model.Codec.Ran(pl.area(p))
}

func (p *Pipeline) memoryError(n Need, free uint64, low Need) *MemoryError {
	e := &MemoryError{Need: n, Free: free}
	if info := p.device.Backend.Info(); info.Free != nil {
		e.Device = info.Name
	}
	if !p.device.LowMemory {
		e.LowMemory = low.Total()
	}
	return e
}
