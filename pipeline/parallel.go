package pipeline

import (
	"darkroom/kernels"
	"darkroom/stage"
)

// openSecond opens the device for half of the denoiser's rows. It must compute the same bits as the first: the kernels that a
// device uses depend on what it is.
func (p *Pipeline) openSecond(o Options) error {
	if o.Second == nil {
		return nil
	}
	first := p.device.Backend.Info()
	if first.Kind != CUDA && first.Kind != Ref {
		return usagef("--parallel cfg is for two GPUs, and the %s backend is none", first.Name)
	}
	if first.Kind == CUDA && o.Device == *o.Second {
		return usagef("--parallel cfg: the two devices are the same, %s", first.Name)
	}
	own := o
	own.Device, own.Backend, own.DType, own.Second = *o.Second, first.Kind, p.dtypeName(), nil
	own.wide = p.model.Wide
	b, dtype, err := newBackend(own, func(text string) { p.warnings = append(p.warnings, text) })
	if err != nil {
		return err
	}
	p.device.Second = &stage.Device{Backend: b, DType: dtype, LowMemory: o.LowMemory}
	if second := b.Info(); second.Device != first.Device {
		return usagef("--parallel cfg: %s is a %s and %s a %s: pictures would depend on which computes which half, so two of one kind are needed",
			first.Name, first.Device, second.Name, second.Device)
	}
	return nil
}

// closeSecond closes that device, after its programs.
func (p *Pipeline) closeSecond() error {
	if p.device.Second == nil {
		return nil
	}
	return p.device.Second.Backend.Close()
}

// needSecond is what so many rows of a plan take on the second device.
func (p *Pipeline) needSecond(pl *plan, rows int) (n Need) {
	low := p.device.LowMemory
	pl = pl.seen()
	part := p.net(pl).Part()
	s := part.Sizes(pl.Width, pl.Height, rows, false)
	s.References = pl.references.count()
	n = part.NeedSecond(s, low)
	for _, cut := range pl.cuts() {
		s.Cut = cut
		n.Activations += part.NeedSecond(s, low).Activations // the whole network has the weights
	}
	if p.refiner != nil {
		part := p.refiner.model.Denoiser.Part()
		n = n.Plus(part.NeedSecond(part.Sizes(pl.Width, pl.Height, rows, false), low))
	}
	return n
}

// checkSecond says that the second device has too little memory.
func (p *Pipeline) checkSecond(pl *plan, rows int) error {
	free, known := freeOn(p.device.Second)
	if !known {
		return nil
	}
	if n := p.needSecond(pl, rows); n.Total() > free {
		return &MemoryError{Need: n, Free: free, Device: p.device.Second.Backend.Info().Name}
	}
	return nil
}

// freeOn is the memory that a device with one of its own could still give.
func freeOn(d *stage.Device) (free uint64, known bool) {
	var info kernels.Info
	if d != nil {
		info = d.Backend.Info()
	}
	if info.Free == nil {
		return 0, false
	}
	return info.Free()
}
