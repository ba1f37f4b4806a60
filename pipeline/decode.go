package pipeline

import (
	"context"
	"sync"

	"darkroom/family"
)

// Latents is a picture that has been denoised but not decoded.
type Latents struct{ m *picture }

// Denoise is Render without the decoder.
func (p *Pipeline) Denoise(ctx context.Context, r Request, ev Events) (*Latents, error) {
	m, err := p.begin(ctx, r, ev)
	if err != nil {
		return nil, err
	}
	for {
		m.join(&batcher{p: p, pictures: 1}, 0, new(sync.Mutex))
		if err := m.denoise(ctx); err != nil {
			return nil, err
		}
		n, err := m.next(ctx)
		if err != nil {
			return nil, err
		}
		if n == nil {
			break
		}
		m = n
	}
	errs := make([]error, 1)
	if p.refine(ctx, []*picture{m}, errs); errs[0] != nil {
		return nil, errs[0]
	}
	return &Latents{m}, nil
}

// Decode does the rest. If DecodesBeside is true, it may run in another goroutine while the next picture is
// denoised. It may call Events.Warn from there.
func (l *Latents) Decode(ctx context.Context) (*Image, error) { return l.m.finish(ctx) }

// DecodeSafely is Decode, but returns a panic as a *PanicError.
func (l *Latents) DecodeSafely(ctx context.Context) (img *Image, err error) {
	defer func() {
		if v := recover(); v != nil {
			img, err = nil, NewPanicError(v)
		}
	}()
	return l.Decode(ctx)
}

// DecodesBeside reports whether pictures can be decoded while others are denoised: see family.Codec.
func (p *Pipeline) DecodesBeside() bool { return p.model.Codec.Beside() }

func (p *Pipeline) decode(ctx context.Context, pl *plan, latents []float32, warn func(string)) (family.Decoded, error) {
	return p.model.Codec.Decode(ctx, latents, pl.area(p), warn)
}

// area is what the codec works on.
func (pl *plan) area(p *Pipeline) family.Area {
	return family.Area{H: pl.latentH, W: pl.latentW, Tiled: p.tiled(pl), Wrap: pl.wrap, Winograd: pl.winograd}
}

// tiled reports whether the plan's picture may be decoded in tiles. Small ones are whole all the same.
func (p *Pipeline) tiled(pl *plan) bool { return pl.Tiled || p.device.LowMemory }
