package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"darkroom/guidance"
	"darkroom/kernels"
	"darkroom/scheduler"
)

// denoiser is the edge between a sampler, which knows x and a noise level, and the U-Net, which
// knows scaled latents, timesteps and text. Prediction types and guidance are settled here, once.
type denoiser struct {
	p          *Pipeline
	plan       *plan
	prediction scheduler.PredictionType
	guide      *guidance.Guide // this picture's alone: some methods remember; nil without guidance
	step       int             // of the run, from 0

	prog   *unetProgram
	text   []float32   // [rows,tokens,width]
	tokens int         // of a row
	input  []float32   // [rows,h,w,C]
	time   []float32   // [rows,width]
	output []float32   // [rows,h,w,C]
	rows   [][]float32 // [C,h,w] each
	split  scheduler.Prediction
}

// The rows of the U-Net's batch. A picture without guidance has the first alone, and none but guidance.NeedsEmpty the third.
const (
	condRow = iota
	uncondRow
	emptyRow
)

// newDenoiser prepares the U-Net's program for a plan.
func (p *Pipeline) newDenoiser(pl *plan, c *conditioning) (*denoiser, error) {
	n := pl.latentValues
	d := &denoiser{
		p: p, plan: pl, prediction: p.schedulerConfig.PredictionType, guide: pl.newGuide(),
		text: slices.Concat(c.cond, c.uncond, c.empty), tokens: c.tokens,
		split: scheduler.Prediction{X0: make([]float32, n), Eps: make([]float32, n)},
	}
	for range pl.rows() {
		d.rows = append(d.rows, make([]float32, n))
	}
	return d, d.use(pl.rows())
}

// use makes the program for so many of the rows ready.
func (d *denoiser) use(rows int) error {
	if d.prog != nil && d.prog.batch == rows {
		return nil
	}
	prog, err := d.p.unetProgram(rows, d.plan.latentH, d.plan.latentW, d.tokens)
	if err != nil {
		return err
	}
	d.prog = prog
	d.input, d.output = make([]float32, rows*d.plan.latentValues), make([]float32, prog.out.Shape.Len())
	return prog.program.Write(prog.in.Text, d.text[:rows*d.tokens*d.p.text.Config.HiddenSize])
}

// predict is a scheduler.Denoiser. Outside of the interval in which there is guidance the U-Net is asked about the
// prompt alone.
func (d *denoiser) predict(ctx context.Context, x []float32, at scheduler.Level) (scheduler.Prediction, error) {
	place := guidance.At{Step: d.step, Steps: d.plan.schedule.Steps(), Ratio: at.Ratio()}
	rows := 1
	if d.guide != nil && d.guide.Active(place) {
		rows = d.plan.rows()
	}
	if err := d.ask(ctx, rows, x, at); err != nil {
		return scheduler.Prediction{}, err
	}
	p, cond := d.split, d.rows[condRow]
	p.Uncond = nil
	if d.guide != nil {
		var uncond, empty []float32
		if rows > 1 {
			uncond = d.rows[uncondRow]
			// The unconditional noise, which the CFG++ samplers need, before anything is overwritten.
			p.Uncond = d.prediction.Split(x, uncond, at).Eps
			empty = d.rows[rows-1]
		}
		d.guide.Combine(cond, cond, uncond, empty, place)
	}
	return d.prediction.SplitInto(p, x, cond, at), nil
}

// ask runs the U-Net on x with the first rows of the text and leaves its output in d.rows.
func (d *denoiser) ask(ctx context.Context, rows int, x []float32, at scheduler.Level) error {
	if err := d.use(rows); err != nil {
		return err
	}
	prog, config, n := d.prog, d.p.unet.Config, len(x)
	scale := float32(d.prediction.InputScale(at))
	scaled := d.rows[condRow] // free until the output comes
	for i, v := range x {
		scaled[i] = v * scale
	}
	toNHWC(d.input[:n], scaled, config.InChannels)
	proj := config.TimeProj(at.T)
	d.time = append(d.time[:0], proj...)
	for r := 1; r < rows; r++ {
		copy(d.input[r*n:], d.input[:n])
		d.time = append(d.time, proj...)
	}
	if err := prog.program.Write(prog.in.Sample, d.input); err != nil {
		return err
	}
	if err := prog.program.Write(prog.in.Time, d.time); err != nil {
		return err
	}
	if err := prog.program.Run(ctx); err != nil {
		return err
	}
	if err := prog.program.Read(d.output, prog.out); err != nil {
		return err
	}
	if kernels.NonFinite(d.output) >= 0 {
		return diagnose(ctx, prog.program, fmt.Sprintf("the U-Net at timestep %.4g", at.T))
	}
	for r := range rows {
		toNCHW(d.rows[r], d.output[r*n:(r+1)*n], config.InChannels)
	}
	return nil
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
