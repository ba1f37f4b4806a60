package scheduler

import (
	"fmt"
	"math"
)

// training is the noise schedule that the model was trained with, bit for bit as diffusers computes it:
// β in float32, ᾱ their running product summed up in float64 and stored in float32, as torch.cumprod does.
type training struct {
	alphaBar []float32 // ᾱₜ = Π (1−βₛ), t from 0: falls from nearly 1 to nearly 0
	sigmas   []float32 // √((1−ᾱ)/ᾱ), with ᾱ = 2⁻²⁴ in place of 0 at the end of a zero-SNR schedule
	logSigma []float32
}

// zeroSNR replaces ᾱ = 0 where σ/α must be finite: diffusers takes the smallest float16.
const zeroSNR = 1.0 / (1 << 24)

func newTraining(c Config, spec sampler) (training, error) {
	βs, err := betas(c, spec)
	if err != nil {
		return training{}, err
	}
	if c.RescaleZeroSNR {
		βs = rescaleZeroSNR(βs)
	}
	tr := training{alphaBar: cumprod(βs)}
	for i, ᾱ := range tr.alphaBar {
		if ᾱ == 0 && c.RescaleZeroSNR && i == len(tr.alphaBar)-1 {
			ᾱ = zeroSNR
			if !spec.zeroSNR {
				tr.alphaBar[i] = ᾱ
			}
		}
		σ := float32(math.Sqrt(float64(float32(1-ᾱ) / ᾱ)))
		substitute := c.RescaleZeroSNR && i == len(tr.alphaBar)-1 // may be below the level before it
		if !(σ > 0) || math.IsInf(float64(σ), 0) || i > 0 && σ < tr.sigmas[i-1] && !substitute {
			return tr, fmt.Errorf("%s: the β give σ = %v at timestep %d: noise must grow with the timestep and stay finite", c.File, σ, i)
		}
		tr.sigmas = append(tr.sigmas, σ)
		tr.logSigma = append(tr.logSigma, float32(math.Log(float64(σ))))
	}
	return tr, nil
}

// betas are the variances βₜ of the forward process (Ho et al. 2020, eq. 2).
func betas(c Config, spec sampler) ([]float32, error) {
	n := or(c.TrainSteps, 1000)
	start, end := or(c.BetaStart, spec.betaStart()), or(c.BetaEnd, spec.betaEnd())
	if c.TrainedBetas != nil {
		if len(c.TrainedBetas) != n {
			return nil, fmt.Errorf("%s: trained_betas has %d values, num_train_timesteps is %d", c.File, len(c.TrainedBetas), n)
		}
		βs := make([]float32, n)
		for i, β := range c.TrainedBetas {
			βs[i] = float32(β)
		}
		return βs, nil
	}
	switch schedule := or(c.BetaSchedule, spec.betaSchedule()); schedule {
	case "linear":
		return linspace32(start, end, n), nil
	case "scaled_linear": // linear in √β: Rombach et al. 2022
		βs := linspace32(math.Sqrt(start), math.Sqrt(end), n)
		for i, r := range βs {
			βs[i] = r * r
		}
		return βs, nil
	case "sigmoid": // Xu et al. 2022 (GeoDiff)
		βs := linspace32(-6, 6, n)
		for i, u := range βs {
			βs[i] = float32(float32(1/(1+math.Exp(-float64(u))))*float32(end-start)) + float32(start)
		}
		return βs, nil
	case "squaredcos_cap_v2": // Nichol and Dhariwal 2021, eq. 17
		return betasFor(n, func(t float64) float64 {
			c := math.Cos((t + 0.008) / 1.008 * math.Pi / 2)
			return c * c
		}), nil
	case "exp":
		return betasFor(n, func(t float64) float64 { return math.Exp(-12 * t) }), nil
	case "laplace": // Hang et al. 2024
		return betasFor(n, func(t float64) float64 {
			λ := -0.5 * math.Copysign(1, 0.5-t) * math.Log(1-2*math.Abs(0.5-t)+1e-6)
			return math.Sqrt(math.Exp(λ) / (1 + math.Exp(λ)))
		}), nil
	default:
		return nil, fmt.Errorf("beta schedule %q is not supported", schedule)
	}
}

// betasFor gives the β whose ᾱ follows a function of t in [0, 1], capped at 0.999.
func betasFor(n int, ᾱ func(float64) float64) []float32 {
	βs := make([]float32, n)
	for i := range βs {
		βs[i] = float32(min(1-ᾱ(float64(i+1)/float64(n))/ᾱ(float64(i)/float64(n)), 0.999))
	}
	return βs
}

// rescaleZeroSNR is algorithm 1 of Lin et al. 2024: √ᾱ is shifted and scaled so that its last value is 0.
func rescaleZeroSNR(βs []float32) []float32 {
	root := cumprod(βs)
	for i, ᾱ := range root {
		root[i] = float32(math.Sqrt(float64(ᾱ)))
	}
	first, last := root[0], root[len(root)-1]
	k := first / (first - last)
	var before float32 = 1
	for i := range root {
		r := float32(float32(root[i]-last) * k)
		ᾱ := r * r
		βs[i] = 1 - ᾱ/before
		before = ᾱ
	}
	return βs
}

func cumprod(βs []float32) []float32 {
	ᾱ := make([]float32, len(βs))
	product := 1.0
	for i, β := range βs {
		product *= float64(1 - β)
		ᾱ[i] = float32(product)
	}
	return ᾱ
}

// linspace32 is torch.linspace in float32: from both ends to the middle, product and sum rounded once (the
// float64 product is exact).
func linspace32(start, end float64, n int) []float32 {
	v := make([]float32, n)
	a, b := float32(start), float32(end)
	if n == 1 {
		v[0] = a
		return v
	}
	step := (b - a) / float32(n-1)
	for i := range v {
		if i < n/2 {
			v[i] = float32(float64(a) + float64(float64(step)*float64(i)))
		} else {
			v[i] = float32(float64(b) - float64(float64(step)*float64(n-1-i)))
		}
	}
	return v
}

// vp is the variance-preserving level of an integer timestep; below 0 it is the end of the schedule.
func (tr training) vp(t int, final float32) Level {
	ᾱ := final
	if t >= 0 {
		ᾱ = tr.alphaBar[t]
	}
	return Level{Alpha: float64(float32(math.Sqrt(float64(ᾱ)))), Sigma: float64(float32(math.Sqrt(float64(1 - ᾱ)))), T: float64(max(t, 0))}
}

// sigmaAt is σ/α at a fractional timestep, linear between the integer ones.
func (tr training) sigmaAt(t float64) float64 { return lerp(tr.sigmas, t) }

func lerp(v []float32, t float64) float64 {
	last := len(v) - 1
	if t <= 0 {
		return float64(v[0])
	}
	if t >= float64(last) {
		return float64(v[last])
	}
	i := int(t)
	return (float64(v[i+1])-float64(v[i]))*(t-float64(i)) + float64(v[i])
}

// timeOf is the fractional timestep whose noise level is σ/α = sigma, linear in ln σ and within training.
func (tr training) timeOf(sigma float64) float64 {
	ln := math.Log(max(sigma, 1e-10))
	low := 0
	for low < len(tr.logSigma)-2 && float64(tr.logSigma[low+1]) <= ln {
		low++
	}
	if len(tr.logSigma) < 2 {
		return 0
	}
	a, b := tr.logSigma[low], tr.logSigma[low+1]
	w := min(max((float64(a)-ln)/float64(a-b), 0), 1)
	return (1-w)*float64(low) + w*float64(low+1)
}
