package family

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"slices"
	"sync"

	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/stage"
	"darkroom/tensor"
	"darkroom/vae"
)

// autoencoder is the Codec of diffusers' AutoencoderKL, and of AutoencoderTiny.
type autoencoder struct {
	config  vae.Config // of a small one, what is known here of it
	tiny    bool       // its encoder gives latents, and no variance; it needs no tiles
	inline  bool       // it runs on the denoiser's queue
	device  *stage.Device
	decoder *stage.Part
	encoder *stage.Part // nil where the files have none

	opening sync.Mutex  // guards own, while it is opened
	own     *stage.Part // the decoder on its queue; decoder itself where there is no other
	mu      sync.Mutex  // one decode at a time; guards wide
	wide    *stage.Part // for what overflows float16
}

// trainedAt is how many pixels per side the autoencoder was trained on.
func (c *autoencoder) trainedAt() int {
	if c.config.SampleSize == 0 {
		return 512
	}
	return c.config.SampleSize
}

// tiles are those for latents of h×w; nil where the whole is no larger than a tile.
func (c *autoencoder) tiles(h, w int) *stage.Tiles {
	t := stage.DecodeTiles(c.trainedAt(), c.config.Factor())
	if h <= t.Tile && w <= t.Tile || c.tiny {
		return nil
	}
	return t
}

func (c *autoencoder) Tiled(h, w int) bool { return c.tiles(h, w) != nil }

// sizes are those of what the decoder is given at once.
func (c *autoencoder) sizes(a Area) nn.Sizes {
	if t := c.tiles(a.H, a.W); t != nil && a.Tiled {
		return nn.Sizes{Rows: 1, H: min(a.H, t.Tile), W: min(a.W, t.Tile), Winograd: a.Winograd}
	}
	return nn.Sizes{Rows: 1, H: a.H, W: a.W, Wrap: a.Wrap, Winograd: a.Winograd}
}

func (c *autoencoder) Beside() bool {
	_, ok := c.device.Backend.(kernels.Forker)
	return ok && !c.device.LowMemory && !c.inline
}

// queue is the decoder on a queue of its own, opened when it is first needed, where it runs beside the denoiser.
func (c *autoencoder) queue() (*stage.Part, error) {
	c.opening.Lock()
	defer c.opening.Unlock()
	if c.own != nil {
		return c.own, nil
	}
	if !c.Beside() {
		c.own = c.decoder
		return c.own, nil
	}
	b, err := c.device.Backend.(kernels.Forker).Fork()
	if err != nil {
		return nil, fmt.Errorf("a queue for the decoder: %w", err)
	}
	d := *c.device
	d.Backend = b
	c.own = c.decoder.RunsOn(&d)
	return c.own, nil
}

func (c *autoencoder) Ready(a Area) error {
	if !c.Beside() {
		return nil
	}
	p, err := c.queue()
	if err != nil || p.Ran(c.sizes(a)) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return p.Ready(c.sizes(a))
}

func (c *autoencoder) Ran(a Area) bool {
	c.opening.Lock()
	p := c.own
	c.opening.Unlock()
	return p != nil && p.Ran(c.sizes(a))
}

// Decode decodes. Where float16 overflows, which some autoencoders do on some pictures, that decode is done once more in
// a type with float32's range. Whether it is follows from the latents alone, so a picture has the same bytes whatever was
// decoded before.
func (c *autoencoder) Decode(ctx context.Context, latents []float32, a Area, warn func(string)) (Decoded, error) {
	p, err := c.queue()
	if err != nil {
		return Decoded{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	values, err := c.run(ctx, p, latents, a)
	var bad *stage.NotFiniteError
	if errors.As(err, &bad) && p.Device().DType == tensor.F16 {
		wide, otherErr := c.widened(c.sizes(a))
		if otherErr != nil {
			return Decoded{}, fmt.Errorf("%w; and decoding in a wider type is not possible: %w", bad.Diagnosis(ctx, ""), otherErr)
		}
		warn(fmt.Sprintf("the decoder's numbers overflow fp16: decoding this picture again in %s", wide.Device().DType.Name()))
		p = wide
		values, err = c.run(ctx, p, latents, a)
	}
	if errors.As(err, &bad) {
		return Decoded{}, bad.Diagnosis(ctx, "")
	}
	if err != nil {
		return Decoded{}, fmt.Errorf("decoding: %w", err)
	}
	f := c.config.Factor()
	return Decoded{toPicture(values, f*a.W, f*a.H), p.Device().DType}, nil
}

// widened is the decoder in float32, or where memory is short in bfloat16, on the same device. The caller holds mu.
func (c *autoencoder) widened(s nn.Sizes) (*stage.Part, error) {
	if c.wide != nil {
		return c.wide, nil
	}
	if c.device.Another == nil {
		return nil, errors.New("this device computes in one type only")
	}
	var errs []error
	for _, t := range []tensor.DType{tensor.F32, tensor.BF16} {
		b, err := c.device.Another(t)
		if err != nil {
			return nil, err
		}
		d := *c.device
		d.Backend, d.DType = b, t
		p := c.decoder.On(&d)
		if err = p.Ready(s); err == nil {
			c.wide = p
			return p, nil
		}
		errs = append(errs, err, b.Close())
	}
	return nil, errors.Join(errs...)
}

// run decodes latents [C,h,w] to values [H,W,3] from -1 to 1.
func (c *autoencoder) run(ctx context.Context, p *stage.Part, latents []float32, a Area) ([]float32, error) {
	z := slices.Clone(latents)
	c.Unscale(z)
	nhwc := make([]float32, len(z))
	tensor.ToNHWC(nhwc, z, c.config.LatentChannels)
	decode := func(z []float32, h, w int, wrap [2]bool) ([]float32, error) {
		out, err := p.Run(ctx, nn.Sizes{Rows: 1, H: h, W: w, Wrap: wrap, Winograd: a.Winograd}, stage.Values{"latent": tensor.Of(z, 1, h, w, c.config.LatentChannels)}, "image")
		if err != nil {
			return nil, err
		}
		return tensor.Floats(out["image"].Data), nil
	}
	if t := c.tiles(a.H, a.W); t != nil && a.Tiled {
		return t.RunWrapped(nhwc, a.H, a.W, c.config.LatentChannels, c.config.OutChannels, a.Wrap, func(z []float32, h, w int) ([]float32, error) {
			return decode(z, h, w, [2]bool{})
		})
	}
	return decode(nhwc, a.H, a.W, a.Wrap)
}

// encodeSizes are those of what the encoder is given at once of a picture of width×height pixels.
func (c *autoencoder) encodeSizes(width, height int, tiled bool) nn.Sizes {
	if t := stage.EncodeTiles(c.trainedAt(), c.config.Factor()); tiled && !c.tiny {
		width, height = min(width, t.Tile), min(height, t.Tile)
	}
	return nn.Sizes{Rows: 1, H: height, W: width}
}

// Encode runs the encoder. Its activations are freed afterwards, and with little memory its weights too: it runs once a picture.
func (c *autoencoder) Encode(ctx context.Context, picture []float32, a Area) (mean, std []float32, err error) {
	if c.encoder == nil {
		return nil, nil, errors.New("this model's files have no encoder, so it cannot start from a picture: use another --vae")
	}
	const colours = 3
	nhwc := make([]float32, len(picture))
	tensor.ToNHWC(nhwc, picture, colours)
	channels, name := 2*c.config.LatentChannels, "moments" // means, then logarithms of variances
	if c.tiny {
		channels, name = c.config.LatentChannels, "latent"
	}
	height, width := a.H*c.config.Factor(), a.W*c.config.Factor()
	encode := func(x []float32, h, w int, wrap [2]bool) ([]float32, error) {
		out, err := c.encoder.Run(ctx, nn.Sizes{Rows: 1, H: h, W: w, Wrap: wrap, Winograd: a.Winograd}, stage.Values{"image": tensor.Of(x, 1, h, w, colours)}, name)
		if err != nil {
			return nil, err
		}
		return tensor.Floats(out[name].Data), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var values []float32
	if t := stage.EncodeTiles(c.trainedAt(), c.config.Factor()); a.Tiled && !c.tiny && (height > t.Tile || width > t.Tile) {
		values, err = t.RunWrapped(nhwc, height, width, colours, channels, a.Wrap, func(x []float32, h, w int) ([]float32, error) {
			return encode(x, h, w, [2]bool{})
		})
	} else {
		values, err = encode(nhwc, height, width, a.Wrap)
	}
	if c.device.LowMemory {
		c.encoder.Unload()
	} else {
		c.encoder.Close()
	}
	var bad *stage.NotFiniteError
	if errors.As(err, &bad) {
		return nil, nil, fmt.Errorf("%w: try --dtype fp32", bad)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the picture: %w", err)
	}
	moments := make([]float32, len(values))
	tensor.ToNCHW(moments, values, channels)
	if mean = moments; !c.tiny {
		mean, std = moments[:len(moments)/2], moments[len(moments)/2:]
	}
	for i, v := range mean {
		// Latents are (z − shift)·scale, z = mean + std·ε (Kingma & Welling 2013), and log σ² is cut as diffusers does.
		shift, scale := c.config.Scale(i * c.config.LatentChannels / len(mean))
		mean[i] = (v - float32(shift)) * float32(scale)
		if std != nil {
			std[i] = float32(math.Exp(0.5*math.Min(math.Max(float64(std[i]), -30), 20))) * float32(scale)
		}
	}
	return mean, std, nil
}

// Unscale is z = latents/scale + shift, or with statistics of the latents z = latents·std/scale + mean.
func (c *autoencoder) Unscale(latents []float32) {
	for i, v := range latents {
		if c.config.LatentsStd != nil {
			channel := i * c.config.LatentChannels / len(latents)
			latents[i] = v*float32(c.config.LatentsStd[channel])/float32(c.config.ScalingFactor) + float32(c.config.LatentsMean[channel])
			continue
		}
		latents[i] = v/float32(c.config.ScalingFactor) + float32(c.config.ShiftFactor)
	}
}

func (c *autoencoder) Shed() {
	if c.own != nil {
		c.own.Close()
	}
}

func (c *autoencoder) Close() error {
	var errs []error
	for _, p := range []*stage.Part{c.wide, c.own} {
		if p == nil {
			continue
		}
		p.Close()
		if p.Device() != c.device {
			errs = append(errs, p.Device().Backend.Close())
		}
	}
	return errors.Join(errs...)
}

// toPicture maps values from [-1, 1] to 8 bits as diffusers does: halved and shifted in float32, cut to
// [0, 1], times 255, to the nearest, ties to even.
func toPicture(values []float32, width, height int) *image.NRGBA {
	picture := image.NewNRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		for c := range 3 {
			v := min(max(values[3*i+c]*0.5+0.5, 0), 1)
			picture.Pix[4*i+c] = uint8(math.RoundToEven(float64(v * 255)))
		}
		picture.Pix[4*i+3] = 255
	}
	return picture
}
