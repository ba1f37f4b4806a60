package scheduler

import (
	"fmt"
	"math"

	"darkroom/config"
)

// Models of the EDM kind (Karras et al. 2022, table 1): Playground 2.5 and CosXL. x = x₀ + σ·ε with any σ from σ_min to σ_max; the
// network reads x/√(σ²+d²) and the clock ¼·ln σ, with d the deviation of the data, and what it gives is F in
//
//	x₀ = d²/(σ²+d²)·x ± σ·d/√(σ²+d²)·F
//
// with + for edm, which diffusers' files call epsilon, and − for v_prediction.

// readEDM reads what the files of EDM classes have besides.
func (c *Config) readEDM(f *config.Object) {
	c.SigmaData = f.FloatIn("sigma_data", tiny, math.MaxFloat32, 0.5)
	c.Rho = f.FloatIn("rho", tiny, 1000, 7)
	c.EvenInLog = f.OneOf("sigma_schedule", "karras", "karras", "exponential") == "exponential"
	c.SigmaMin, c.SigmaMax = or(c.SigmaMin, 0.002), or(c.SigmaMax, 80)
	if c.SigmaMin >= c.SigmaMax {
		f.Fail("sigma_min", fmt.Sprintf("it must be below sigma_max = %v", c.SigmaMax))
	}
	if c.PredictionType == Epsilon {
		c.PredictionType = EDM
	} else if c.PredictionType != VPrediction {
		f.Fail("prediction_type", "supported are epsilon and v_prediction")
	}
}

// isEDM says whether the model is of that kind.
func (c Config) isEDM() bool { return c.SigmaData > 0 }

// edmSigmas are n falling levels from σ_max to σ_min, spaced as the model's file says.
func (c Config) edmSigmas(n int) []float64 {
	r := sigmaRange{c.SigmaMin, c.SigmaMax}
	if c.EvenInLog {
		return exponential(nil, r, n, 0)
	}
	return polynomial(nil, r, n, c.Rho)
}

// edmTraining stands in for the timesteps of other models where schedules pick from them.
func edmTraining(c Config) training {
	var tr training
	falling := c.edmSigmas(or(c.TrainSteps, 1000))
	for i := range falling {
		σ := float32(falling[len(falling)-1-i])
		tr.sigmas = append(tr.sigmas, σ)
		tr.logSigma = append(tr.logSigma, float32(math.Log(float64(σ))))
	}
	return tr
}

// edmGrid makes α = 1 levels, also for the solvers in λ.
func edmGrid(s *Schedule) error {
	σs, _, err := s.chosenSigmas(s.config.edmSigmas(s.options.Steps), sigmaRange{s.config.SigmaMin, s.config.SigmaMax})
	if err != nil {
		return err
	}
	var levels []Level
	for _, σ := range σs {
		levels = append(levels, s.exploding(σ))
	}
	s.setLevels(append(levels, Level{Alpha: 1, Sigma: s.lastSigma()}))
	s.initScale = math.Sqrt(levels[0].Sigma*levels[0].Sigma + 1)
	return nil
}

// clock is the model's clock at α = 1 and σ.
func (s *Schedule) clock(σ float64) float64 {
	if s.config.isEDM() {
		return 0.25 * math.Log(float64(float32(σ)))
	}
	return s.train.timeOf(σ)
}

// needsTimesteps refuses samplers that count in timesteps on models that have none.
func (s *Schedule) needsTimesteps() error {
	if s.config.isEDM() {
		return fmt.Errorf("%s counts in timesteps, which this model of the EDM kind has not: use euler, heun, dpm++2m, dpm++2m-sde or another", s.name)
	}
	return nil
}

// edmScales are the factors of x and of the network's output in x₀.
func (p PredictionType) edmScales(at Level) (skip, out float64) {
	σ, d := at.Sigma, at.Data
	out = σ * d / math.Sqrt(σ*σ+d*d)
	if p == VPrediction {
		out = -out
	}
	return d * d / (σ*σ + d*d), out
}
