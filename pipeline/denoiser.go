package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"

	"darkroom/kernels"
	"darkroom/scheduler"
	"darkroom/unet"
)

// denoiser is the edge between a sampler, which knows x and a noise level, and the U-Net, which
// knows scaled latents, timesteps and text. Prediction types and guidance are settled here, once.
type denoiser struct {
	program    *kernels.Program
	in         unet.Inputs
	out        *kernels.Tensor
	config     unet.Config
	prediction scheduler.PredictionType
	cfg        float64
	rescale    float64
	batch      int // 2 with guidance: [uncond, cond]

	input  []float32 // [batch,h,w,C]
	time   []float32 // [batch,width]
	output []float32 // [batch,h,w,C]
	cond   []float32 // [C,h,w]
	uncond []float32 // [C,h,w]
	split  scheduler.Prediction
}

// newDenoiser prepares the U-Net's program for a plan; hidden is [batch, tokens, width].
func (p *Pipeline) newDenoiser(pl *plan, c *conditioning) (*denoiser, error) {
	batch := 1
	if pl.guided() {
		batch = 2
	}
	prog, err := p.unetProgram(batch, pl.latentH, pl.latentW, c.tokens)
	if err != nil {
		return nil, err
	}
	n := pl.latentValues
	d := &denoiser{
		program: prog.program, in: prog.in, out: prog.out, config: p.unet.Config,
		prediction: p.schedulerConfig.PredictionType, cfg: pl.CFG, rescale: pl.Rescale, batch: batch,
		input: make([]float32, batch*n), time: make([]float32, 0, batch*p.unet.Config.BlockOutChannels[0]),
		output: make([]float32, batch*prog.out.Shape.Len()/batch),
		cond:   make([]float32, n), uncond: make([]float32, n),
		split: scheduler.Prediction{X0: make([]float32, n), Eps: make([]float32, n)},
	}
	text := c.cond
	if batch == 2 {
		text = append(append([]float32{}, c.uncond...), c.cond...)
	}
	return d, d.program.Write(d.in.Text, text)
}

// predict is a scheduler.Denoiser.
func (d *denoiser) predict(ctx context.Context, x []float32, at scheduler.Level) (scheduler.Prediction, error) {
	n, channels := len(x), d.config.InChannels
	scale := float32(d.prediction.InputScale(at))
	for i, v := range x { // NCHW, into buffer that cond will overwrite
		d.cond[i] = v * scale
	}
	toNHWC(d.input[:n], d.cond, channels)
	if d.batch == 2 {
		copy(d.input[n:], d.input[:n])
	}
	proj := d.config.TimeProj(at.T)
	d.time = d.time[:0]
	for range d.batch {
		d.time = append(d.time, proj...)
	}
	if err := d.program.Write(d.in.Sample, d.input); err != nil {
		return scheduler.Prediction{}, err
	}
	if err := d.program.Write(d.in.Time, d.time); err != nil {
		return scheduler.Prediction{}, err
	}
	if err := d.program.Run(ctx); err != nil {
		return scheduler.Prediction{}, err
	}
	if err := d.program.Read(d.output, d.out); err != nil {
		return scheduler.Prediction{}, err
	}
	if kernels.NonFinite(d.output) >= 0 {
		return scheduler.Prediction{}, diagnose(ctx, d.program, fmt.Sprintf("the U-Net at timestep %.4g", at.T))
	}

	toNCHW(d.cond, d.output[len(d.output)-n:], channels)
	p := d.split
	if d.batch == 2 {
		toNCHW(d.uncond, d.output[:n], channels)
		// The unconditional noise, which the CFG++ samplers need, before cond is overwritten.
		p.Uncond = d.prediction.Split(x, d.uncond, at).Eps
		guide(d.cond, d.uncond, d.cfg, d.rescale)
	}
	p = d.prediction.SplitInto(p, x, d.cond, at)
	return p, nil
}

// guide replaces cond by uncond + cfg·(cond − uncond) (Ho & Salimans 2022, eq. 6), then, where φ is
// not 0, brings its standard deviation back towards cond's (Lin et al. 2023, sec. 3.4).
func guide(cond, uncond []float32, cfg, φ float64) {
	before := deviation(cond)
	for i, u := range uncond {
		cond[i] = u + float32(cfg)*(cond[i]-u)
	}
	if φ == 0 {
		return
	}
	factor := float32(φ*before/deviation(cond) + 1 - φ)
	for i := range cond {
		cond[i] *= factor
	}
}

// deviation is the sample standard deviation.
func deviation(v []float32) float64 {
	var sum, squares float64
	for _, x := range v {
		sum += float64(x)
	}
	mean := sum / float64(len(v))
	for _, x := range v {
		squares += (float64(x) - mean) * (float64(x) - mean)
	}
	return math.Sqrt(squares / float64(len(v)-1))
}

// diagnose finds the layer that first gave NaN or infinity and wraps it with what was being done.
func diagnose(ctx context.Context, p *kernels.Program, what string) error {
	err := p.Diagnose(ctx)
	var bad *kernels.NonFiniteError
	switch {
	case errors.As(err, &bad):
		return fmt.Errorf("%s: no picture: %w. The weights may be damaged, or their values too large for the type: try --dtype fp32", what, bad)
	case err != nil:
		return fmt.Errorf("%s gave a number that is not finite; looking for the layer: %w", what, err)
	}
	return fmt.Errorf("%s gave a number that is not finite, but not when run again: the machine's memory or processor may be faulty", what)
}
