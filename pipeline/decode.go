package pipeline

import (
	"context"
	"errors"
	"fmt"
	"image"
	"sync"
	"sync/atomic"

	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
	"darkroom/vae"
)

// Latents are a picture that is denoised and not decoded yet.
type Latents struct{ m *picture }

// Denoise does what Render does up to the decoder.
func (p *Pipeline) Denoise(ctx context.Context, r Request, ev Events) (*Latents, error) {
	m, err := p.begin(ctx, r, ev)
	if err != nil {
		return nil, err
	}
	m.sit(&table{p: p, seated: 1}, 0, new(sync.Mutex))
	if err := m.denoise(ctx); err != nil {
		return nil, err
	}
	return &Latents{m}, nil
}

// Decode does the rest. Where DecodesBeside says so, it may run in another goroutine while the next picture is
// denoised. Events.Warn may be called from there.
func (l *Latents) Decode(ctx context.Context) (*Image, error) { return l.m.finish(ctx) }

// DecodesBeside says whether pictures can be decoded while others are denoised: on a GPU, where the decoder has a
// queue of its own. Processors are all busy with one of both. To save memory there is one after the other.
func (p *Pipeline) DecodesBeside() bool {
	_, ok := p.backend.(kernels.Forker)
	return ok && !p.lowMemory
}

// readyToDecode loads the decoder's weights, the first time, before another goroutine may decode: they are looked at where memory is
// counted. What does not fit is told before the work begins.
func (p *Pipeline) readyToDecode(pl *plan) error {
	if !p.DecodesBeside() {
		return nil
	}
	d, err := p.decoding()
	if err != nil || d.size.Load() != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err = d.ready(p.decodeSize(pl))
	return err
}

// decoding is where latents become pictures: the decoder on a backend, which may be the U-Net's.
type decoding struct {
	p       *Pipeline
	backend kernels.Backend
	own     bool // the backend is no other's
	dtype   tensor.DType
	decoder *vae.Decoder

	mu      sync.Mutex // one decode at a time
	program *decodeProgram
	size    atomic.Pointer[[2]int] // of the latest program, h and w: read without waiting for a decode
}

type decodeProgram struct {
	program  *kernels.Program
	h, w     int
	z, image *kernels.Tensor
}

// decoding opens the decoder's queue when it is first needed.
func (p *Pipeline) decoding() (*decoding, error) {
	p.decodingMu.Lock()
	defer p.decodingMu.Unlock()
	if p.decoder1 != nil {
		return p.decoder1, nil
	}
	d := &decoding{p: p, backend: p.backend, dtype: p.dtype, decoder: p.decoder}
	if p.DecodesBeside() {
		var err error
		if d.backend, err = p.backend.(kernels.Forker).Fork(); err != nil {
			return nil, fmt.Errorf("a queue for the decoder: %w", err)
		}
		d.own = true
	}
	p.decoder1 = d
	return d, nil
}

// decodesSize says whether the decoder has decoded tiles of that size before.
func (p *Pipeline) decodesSize(h, w int) bool {
	p.decodingMu.Lock()
	d := p.decoder1
	p.decodingMu.Unlock()
	if d == nil {
		return false
	}
	size := d.size.Load()
	return size != nil && *size == [2]int{h, w}
}

// decoded is a picture, and the type that it was decoded in.
type decoded struct {
	pixels *image.NRGBA
	dtype  tensor.DType
}

// decode turns latents [C,h,w] into a picture. Where float16 overflows, which some autoencoders do on some pictures, that
// decode is done once more in a type with float32's range. Whether it is follows from the latents alone, so a
// picture has the same bytes whatever was decoded before.
func (p *Pipeline) decode(ctx context.Context, pl *plan, latents []float32, warn func(string)) (decoded, error) {
	d, err := p.decoding()
	if err != nil {
		return decoded{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	tile := p.tile(pl)
	values, err := d.run(ctx, latents, pl.latentH, pl.latentW, tile)
	var bad *notFinite
	if errors.As(err, &bad) && d.dtype == tensor.F16 {
		wide, otherErr := p.wideDecoding(pl)
		if otherErr != nil {
			return decoded{}, fmt.Errorf("%w; and decoding in a wider type is not possible: %w", bad.diagnosis(ctx), otherErr)
		}
		warn(fmt.Sprintf("the decoder's numbers are too large for fp16: this picture is decoded once more in %s", dtypeNames[wide.dtype]))
		d = wide
		values, err = d.run(ctx, latents, pl.latentH, pl.latentW, tile)
	}
	if errors.As(err, &bad) {
		return decoded{}, bad.diagnosis(ctx)
	}
	if err != nil {
		return decoded{}, fmt.Errorf("decoding: %w", err)
	}
	f := p.decoderConfig.Factor()
	return decoded{toPicture(values, f*pl.latentW, f*pl.latentH), d.dtype}, nil
}

// wideDecoding is the decoder in float32, or where memory is short in bfloat16, on the same device. The caller holds the
// lock of the usual one.
func (p *Pipeline) wideDecoding(pl *plan) (*decoding, error) {
	if p.wide != nil {
		return p.wide, nil
	}
	th, tw := p.decodeSize(pl)
	var errs []error
	for _, t := range []tensor.DType{tensor.F32, tensor.BF16} {
		o := p.options
		o.Backend = p.backend.Info().Kind // where auto ended
		o.DType = dtypeNames[t]
		b, err := openBackend(o, func(string) {})
		if err != nil {
			return nil, err
		}
		d := &decoding{p: p, backend: b, own: true, dtype: t}
		if d.decoder, err = vae.NewDecoder(p.decoderConfig, nn.NewLoader("vae", p.vaeWeights)); err == nil {
			if _, err = d.ready(th, tw); err == nil {
				p.wide = d
				return d, nil
			}
		}
		errs = append(errs, err)
		d.close()
	}
	return nil, errors.Join(errs...)
}

// notFinite says that a decode gave NaN or infinity.
type notFinite struct{ program *kernels.Program }

func (e *notFinite) Error() string { return "the decoder gave a number that is not finite" }

// diagnosis names the layer.
func (e *notFinite) diagnosis(ctx context.Context) error {
	return diagnose(ctx, e.program, "the decoder")
}

// run decodes latents [C,h,w] to values [H,W,3] from -1 to 1, in tiles if there is a tile.
func (d *decoding) run(ctx context.Context, latents []float32, h, w int, tile *tiling) ([]float32, error) {
	c := d.p.decoderConfig
	z := make([]float32, len(latents))
	for i, v := range latents {
		z[i] = v/float32(c.ScalingFactor) + float32(c.ShiftFactor)
	}
	nhwc := make([]float32, len(z))
	toNHWC(nhwc, z, c.LatentChannels)
	if tile == nil {
		return d.decode(ctx, nhwc, h, w)
	}
	return tile.decode(nhwc, h, w, c.LatentChannels, func(z []float32, h, w int) ([]float32, error) { return d.decode(ctx, z, h, w) })
}

// decode runs the decoder on z, [h,w,C].
func (d *decoding) decode(ctx context.Context, z []float32, h, w int) ([]float32, error) {
	prog, err := d.ready(h, w)
	if err != nil {
		return nil, err
	}
	if err := prog.program.Write(prog.z, z); err != nil {
		return nil, err
	}
	if err := prog.program.Run(ctx); err != nil {
		return nil, err
	}
	values := make([]float32, prog.image.Shape.Len())
	if err := prog.program.Read(values, prog.image); err != nil {
		return nil, err
	}
	if kernels.NonFinite(values) >= 0 {
		return nil, &notFinite{prog.program}
	}
	return values, nil
}

// ready is the program for one latent of h×w. The latest one is kept.
func (d *decoding) ready(h, w int) (*decodeProgram, error) {
	if prog := d.program; prog != nil && prog.h == h && prog.w == w {
		return prog, nil
	}
	d.closeProgram()
	g := nn.Graph(d.decoder, d.dtype, nn.Sizes{Rows: 1, H: h, W: w})
	program, err := d.p.compile("decoder", g, d.backend)
	if err != nil {
		return nil, err
	}
	d.program = &decodeProgram{program, h, w, g.In("latent"), g.Out("image")}
	d.size.Store(&[2]int{h, w})
	return d.program, nil
}

// closeProgram frees the activations, and weights that come block by block.
func (d *decoding) closeProgram() {
	if d != nil && d.program != nil {
		d.program.program.Close()
		d.program = nil
		d.size.Store(nil)
	}
}

func (d *decoding) close() error {
	if d == nil {
		return nil
	}
	d.closeProgram()
	if d.own {
		return d.backend.Close()
	}
	return nil
}
