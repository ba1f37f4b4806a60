package scheduler

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
)

// Config is a model's scheduler_config.json. It holds for whichever sampler is chosen, as diffusers'
// from_config has it; what the file leaves out (a zero value here) is that sampler's own default. Two
// exceptions to diffusers' defaults: pictures are clipped only where the file says so, and the last α
// is step 0's unless the file says set_alpha_to_one, as in every Stable Diffusion release.
type Config struct {
	File  string // for error messages
	Class string // _class_name, such as PNDMScheduler; "" where absent

	PredictionType PredictionType
	TrainSteps     int       // num_train_timesteps; 0: 1000
	BetaStart      float64   // 0: the sampler's
	BetaEnd        float64   // 0: the sampler's
	BetaSchedule   string    // linear, scaled_linear, squaredcos_cap_v2, laplace, exp, sigmoid; "": the sampler's
	TrainedBetas   []float64 // nil: computed from the four above
	RescaleZeroSNR bool      // rescale_betas_zero_snr (Lin et al. 2024): the last α is 0

	Spacing       string // timestep_spacing; "": the sampler's
	StepsOffset   int
	SetAlphaToOne bool

	ClipSample      bool
	ClipSampleRange float64 // 0: 1
	Thresholding    bool    // dynamic thresholding (Saharia et al. 2022)
	ThresholdRatio  float64 // dynamic_thresholding_ratio; 0: 0.995
	SampleMax       float64 // sample_max_value; 0: 1

	Sigmas           string // karras, exponential, beta, lu, flow from use_…_sigmas; "": the model's own
	SigmaMin         float64
	SigmaMax         float64
	FinalSigmas      string // final_sigmas_type, zero or sigma_min; "": zero
	Interpolation    string // interpolation_type, linear or log_linear; "": linear
	TimestepType     string // discrete or continuous; "": discrete
	LambdaMinClipped float64

	Algorithm       string // algorithm_type; names the equation that the dpm++ family solves
	SolverType      string // midpoint, heun, bh1, bh2, logrho
	SolverOrder     int
	LowerOrderFinal *bool
	EulerAtFinal    bool
	SkipPRK         *bool // skip_prk_steps
	VarianceType    string

	DisableCorrector []int
	PredictX0        *bool
	PredictorOrder   int
	CorrectorOrder   int

	OriginalSteps  int     // original_inference_steps of lcm and tcd; 0: 50
	TimestepScale  float64 // timestep_scaling of lcm; 0: 10
	Shift          float64 // shift or flow_shift of flow models; 0: 1
	ShiftTerminal  float64
	StochasticFlow bool // stochastic_sampling
}

// ParseConfig reads a scheduler_config.json; file is its name for messages. A key that no diffusers
// scheduler has, or a value that is not supported, is an error which names file, key and value.
func ParseConfig(file string, data []byte) (Config, error) {
	c := Config{File: file, LambdaMinClipped: math.Inf(-1)}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(sanitize(data), &raw); err != nil {
		return c, fmt.Errorf("%s: not a JSON object: %w", file, err)
	}
	keys := make([]string, 0, len(raw))
	for k := range raw {
		keys = append(keys, k)
	}
	sort.Strings(keys) // the same error for the same file
	fields := c.fields()
	for _, key := range keys {
		v := raw[key]
		set, known := fields[key]
		switch {
		case string(v) == "null": // unset
			continue
		case known:
			if err := set(v); err != nil {
				return c, fmt.Errorf("%s: %s = %s: %w", file, key, short(v), err)
			}
		case strings.HasPrefix(key, "_") || slices.Contains(foreignKeys, key):
			continue
		default:
			return c, fmt.Errorf("%s: %s = %s: no such setting: supported are %s", file, key, short(v), quoted(sortedKeys(fields)))
		}
	}
	if strings.HasPrefix(c.Class, "FlowMatch") {
		c.PredictionType = Flow
	}
	if c.BetaEnd != 0 && c.BetaEnd < c.BetaStart {
		return c, fmt.Errorf("%s: beta_end = %v: it must not be below beta_start = %v", file, c.BetaEnd, c.BetaStart)
	}
	return c, nil
}

// foreignKeys are settings of diffusers schedulers which mean nothing for any sampler here: they
// concern training, or inputs that a picture from a prompt does not have.
var foreignKeys = []string{"base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift",
	"sigma_data", "s_noise", "s_churn", "s_tmin", "s_tmax", "rho", "final_sigma", "noise_sampler_seed"}

type setter func(json.RawMessage) error

// fields maps each key to the code that checks and stores its value.
func (c *Config) fields() map[string]setter {
	return map[string]setter{
		"_class_name":                text(&c.Class, classNames()...),
		"prediction_type":            c.setPrediction,
		"num_train_timesteps":        integer(&c.TrainSteps, 1, 1<<20),
		"beta_start":                 number(&c.BetaStart, 1e-12, 1),
		"beta_end":                   number(&c.BetaEnd, 1e-12, 1),
		"beta_schedule":              text(&c.BetaSchedule, "linear", "scaled_linear", "squaredcos_cap_v2", "laplace", "exp", "sigmoid"),
		"trained_betas":              c.setBetas,
		"rescale_betas_zero_snr":     flag(&c.RescaleZeroSNR),
		"timestep_spacing":           text(&c.Spacing, "leading", "trailing", "linspace"),
		"steps_offset":               integer(&c.StepsOffset, 0, 1<<20),
		"set_alpha_to_one":           flag(&c.SetAlphaToOne),
		"clip_sample":                flag(&c.ClipSample),
		"clip_sample_range":          number(&c.ClipSampleRange, 1e-12, math.MaxFloat32),
		"thresholding":               flag(&c.Thresholding),
		"dynamic_thresholding_ratio": number(&c.ThresholdRatio, 1e-12, 1),
		"sample_max_value":           number(&c.SampleMax, 1e-12, math.MaxFloat32),
		"use_karras_sigmas":          c.useSigmas("karras"),
		"use_exponential_sigmas":     c.useSigmas("exponential"),
		"use_beta_sigmas":            c.useSigmas("beta"),
		"use_lu_lambdas":             c.useSigmas("lu"),
		"use_flow_sigmas":            c.useSigmas("flow"),
		"sigma_min":                  number(&c.SigmaMin, 1e-12, math.MaxFloat32),
		"sigma_max":                  number(&c.SigmaMax, 1e-12, math.MaxFloat32),
		"final_sigmas_type":          text(&c.FinalSigmas, "zero", "sigma_min"),
		"interpolation_type":         text(&c.Interpolation, "linear", "log_linear"),
		"timestep_type":              text(&c.TimestepType, "discrete", "continuous"),
		"lambda_min_clipped":         number(&c.LambdaMinClipped, math.Inf(-1), math.MaxFloat64),
		"algorithm_type":             text(&c.Algorithm, "dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++", "deis", "data_prediction", "noise_prediction"),
		"solver_type":                text(&c.SolverType, "midpoint", "heun", "logrho", "bh1", "bh2"),
		"solver_order":               integer(&c.SolverOrder, 1, 3),
		"lower_order_final":          optional(&c.LowerOrderFinal),
		"euler_at_final":             flag(&c.EulerAtFinal),
		"skip_prk_steps":             optional(&c.SkipPRK),
		"variance_type":              text(&c.VarianceType, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
		"disable_corrector":          func(v json.RawMessage) error { return json.Unmarshal(v, &c.DisableCorrector) },
		"predict_x0":                 optional(&c.PredictX0),
		"solver_p":                   refuse("a predictor inside the predictor"),
		"predictor_order":            integer(&c.PredictorOrder, 1, 4),
		"corrector_order":            integer(&c.CorrectorOrder, 0, 4),
		"original_inference_steps":   integer(&c.OriginalSteps, 1, 1<<20),
		"timestep_scaling":           number(&c.TimestepScale, 1e-12, math.MaxFloat32),
		"shift":                      number(&c.Shift, 1e-12, math.MaxFloat32),
		"flow_shift":                 number(&c.Shift, 1e-12, math.MaxFloat32),
		"shift_terminal":             number(&c.ShiftTerminal, 1e-12, 1),
		"invert_sigmas":              onlyFalse("the noise of a schedule here falls"),
		"use_dynamic_shifting":       onlyFalse("the shift must not depend on the picture's size"),
		"time_shift_type":            text(new(string), "exponential", "linear"),
		"stochastic_sampling":        flag(&c.StochasticFlow),
	}
}

func (c *Config) setPrediction(v json.RawMessage) (err error) {
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		return fmt.Errorf("want one of %s", quoted(predictionNames))
	}
	if s == "original_sample" { // an old name in diffusers
		s = "sample"
	}
	c.PredictionType, err = ParsePredictionType(s)
	return err
}

func (c *Config) setBetas(v json.RawMessage) error {
	if err := json.Unmarshal(v, &c.TrainedBetas); err != nil || len(c.TrainedBetas) == 0 {
		return fmt.Errorf("want a list of numbers")
	}
	for i, β := range c.TrainedBetas {
		if !(β > 0 && β < 1) {
			return fmt.Errorf("β[%d] = %v must be between 0 and 1", i, β)
		}
	}
	return nil
}

// useSigmas is the setter of use_<name>_sigmas; only one of them may be true.
func (c *Config) useSigmas(name string) setter {
	return func(v json.RawMessage) error {
		var on bool
		if err := json.Unmarshal(v, &on); err != nil {
			return errBool
		}
		if on && c.Sigmas != "" {
			return fmt.Errorf("the %s schedule was chosen too: want one", c.Sigmas)
		}
		if on {
			c.Sigmas = name
		}
		return nil
	}
}

// clip clamps a predicted picture to the range of clip_sample.
func (c Config) clip(x0 []float32) {
	r := float32(or(c.ClipSampleRange, 1))
	for i, v := range x0 {
		x0[i] = min(max(v, -r), r)
	}
}

// threshold is dynamic thresholding of one picture (Saharia et al. 2022, section 2.3): clamp to ±s and divide by s, where s is
// a high quantile of |x₀|, at least 1.
func (c Config) threshold(x0 []float32) {
	s := float32(min(max(float64(quantileAbs(x0, or(c.ThresholdRatio, 0.995))), 1), or(c.SampleMax, 1)))
	for i, v := range x0 {
		x0[i] = min(max(v, -s), s) / s
	}
}

// quantileAbs is the q-quantile of |v|, linear between neighbours as torch.quantile has it.
func quantileAbs(v []float32, q float64) float32 {
	a := make([]float32, len(v))
	for i, x := range v {
		a[i] = float32(math.Abs(float64(x)))
	}
	slices.Sort(a)
	rank := float32(q) * float32(len(a)-1)
	low := int(rank)
	w := rank - float32(low)
	return a[low] + float32(w*(a[min(low+1, len(a)-1)]-a[low]))
}

// or is v, or the default where v is the zero value.
func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

var errBool = fmt.Errorf("want true or false")

func flag(dst *bool) setter {
	return func(v json.RawMessage) error {
		if json.Unmarshal(v, dst) != nil {
			return errBool
		}
		return nil
	}
}

func optional(dst **bool) setter {
	return func(v json.RawMessage) error {
		*dst = new(bool)
		return flag(*dst)(v)
	}
}

func onlyFalse(why string) setter {
	return func(v json.RawMessage) error {
		if string(v) != "false" {
			return fmt.Errorf("only false is supported: %s", why)
		}
		return nil
	}
}

func refuse(what string) setter {
	return func(json.RawMessage) error { return fmt.Errorf("only null is supported, not %s", what) }
}

func text(dst *string, allowed ...string) setter {
	return func(v json.RawMessage) error {
		if json.Unmarshal(v, dst) != nil || len(allowed) > 0 && !slices.Contains(allowed, *dst) {
			return fmt.Errorf("want one of %s", quoted(allowed))
		}
		return nil
	}
}

func integer(dst *int, low, high int) setter {
	return func(v json.RawMessage) error {
		if json.Unmarshal(v, dst) != nil || *dst < low || *dst > high {
			return fmt.Errorf("want an integer from %d to %d", low, high)
		}
		return nil
	}
}

func number(dst *float64, low, high float64) setter {
	return func(v json.RawMessage) error {
		var text string // diffusers writes infinities as strings or bare words
		if json.Unmarshal(v, &text) == nil && math.IsInf(low, -1) && strings.EqualFold(text, "-Infinity") {
			*dst = math.Inf(-1)
			return nil
		}
		if json.Unmarshal(v, dst) != nil || !(*dst >= low && *dst <= high) {
			return fmt.Errorf("want a number from %v to %v", low, high)
		}
		return nil
	}
}

// sanitize quotes the bare -Infinity that Python's json module writes, which is not JSON.
func sanitize(data []byte) []byte {
	return []byte(strings.ReplaceAll(string(data), ": -Infinity", `: "-Infinity"`))
}

func short(v json.RawMessage) string {
	if len(v) > 60 {
		return string(v[:60]) + "…"
	}
	return string(v)
}

func quoted(names []string) string { return strings.Join(names, ", ") }

func sortedKeys(m map[string]setter) []string {
	var ks []string
	for k := range m {
		ks = append(ks, k)
	}
	sort.Strings(ks)
	return ks
}
