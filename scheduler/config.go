package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"darkroom/config"
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

	// DynamicShift takes the place of Shift where the shift depends on the picture's size (Esser et al. 2024, sec. 5.3.2):
	// use_dynamic_shifting. It is e^μ, or μ with LinearShift, and μ grows with the picture's tokens from BaseShift at
	// BaseTokens to MaxShift at MaxTokens.
	DynamicShift, LinearShift bool
	BaseShift, MaxShift       float64
	BaseTokens, MaxTokens     int

	// What no file says, but pipelines do. EvenFlow has the levels of a flow model even from 1 to 1/N before the shift. Mu
	// is a rule of the pipeline's own for μ; nil: the line above.
	EvenFlow bool
	// CutLeft, which goes with EvenFlow too, has image to image cut the number of steps that are left out, not of those that are run.
	CutLeft bool
	Mu      func(tokens, steps int) float64

	SigmaData float64 // sigma_data of EDM models; 0: it is none
	Rho       float64 // of their spacing, with SigmaMin and SigmaMax
	EvenInLog bool    // sigma_schedule exponential
}

// ParseConfig reads a scheduler_config.json; file is its name for messages. A key that no diffusers
// scheduler has, or a value that is not supported, is an error which names file, key and value.
func ParseConfig(file string, data []byte) (Config, error) { return ParseConfigOf("", file, data) }

// ParseConfigOf reads the file for a class that another file names, model_index.json, whatever class this one was saved by: as
// diffusers does, the values are the file's, and what it leaves out is the class's default. "": the file's own class.
func ParseConfigOf(class, file string, data []byte) (Config, error) {
	f, err := config.Parse(data, file)
	if err != nil {
		return Config{File: file}, err
	}
	if class == "" {
		class = f.OneOf("_class_name", "", classNames()...)
	} else if !slices.Contains(classNames(), class) {
		return Config{File: file}, fmt.Errorf("the scheduler class %s is not supported, only %s", class, strings.Join(classNames(), ", "))
	}
	f.Ignore("_class_name")
	// Values that whoever saved the file had not set: another class has other defaults.
	if f.Has("_use_default_values") {
		f.Drop(f.Strings("_use_default_values", 0)...)
	}
	c := Config{
		File:  file,
		Class: class,

		PredictionType: readPrediction(f),
		TrainSteps:     f.IntIn("num_train_timesteps", 1, 1<<20, 0),
		BetaStart:      f.FloatIn("beta_start", tiny, 1, 0),
		BetaEnd:        f.FloatIn("beta_end", tiny, 1, 0),
		BetaSchedule:   f.OneOf("beta_schedule", "", "linear", "scaled_linear", "squaredcos_cap_v2", "laplace", "exp", "sigmoid"),
		TrainedBetas:   readBetas(f),
		RescaleZeroSNR: f.Bool("rescale_betas_zero_snr", false),

		Spacing:       f.OneOf("timestep_spacing", "", "leading", "trailing", "linspace"),
		StepsOffset:   f.IntIn("steps_offset", 0, 1<<20, 0),
		SetAlphaToOne: f.Bool("set_alpha_to_one", false),

		ClipSample:      f.Bool("clip_sample", false),
		ClipSampleRange: f.FloatIn("clip_sample_range", tiny, math.MaxFloat32, 0),
		Thresholding:    f.Bool("thresholding", false),
		ThresholdRatio:  f.FloatIn("dynamic_thresholding_ratio", tiny, 1, 0),
		SampleMax:       f.FloatIn("sample_max_value", tiny, math.MaxFloat32, 0),

		Sigmas:           readSigmas(f),
		SigmaMin:         f.FloatIn("sigma_min", tiny, math.MaxFloat32, 0),
		SigmaMax:         f.FloatIn("sigma_max", tiny, math.MaxFloat32, 0),
		FinalSigmas:      f.OneOf("final_sigmas_type", "", "zero", "sigma_min"),
		Interpolation:    f.OneOf("interpolation_type", "", "linear", "log_linear"),
		TimestepType:     f.OneOf("timestep_type", "", "discrete", "continuous"),
		LambdaMinClipped: f.FloatIn("lambda_min_clipped", math.Inf(-1), math.MaxFloat64, math.Inf(-1)),

		Algorithm:       f.OneOf("algorithm_type", "", "dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++", "deis", "data_prediction", "noise_prediction"),
		SolverType:      f.OneOf("solver_type", "", "midpoint", "heun", "logrho", "bh1", "bh2"),
		SolverOrder:     f.IntIn("solver_order", 1, 3, 0),
		LowerOrderFinal: optional(f, "lower_order_final"),
		EulerAtFinal:    f.Bool("euler_at_final", false),
		SkipPRK:         optional(f, "skip_prk_steps"),
		VarianceType:    f.OneOf("variance_type", "", "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),

		DisableCorrector: readInts(f, "disable_corrector"),
		PredictX0:        optional(f, "predict_x0"),
		PredictorOrder:   f.IntIn("predictor_order", 1, 4, 0),
		CorrectorOrder:   f.IntIn("corrector_order", 0, 4, 0),

		OriginalSteps:  f.IntIn("original_inference_steps", 1, 1<<20, 0),
		TimestepScale:  f.FloatIn("timestep_scaling", tiny, math.MaxFloat32, 0),
		Shift:          f.FloatIn("shift", tiny, math.MaxFloat32, f.FloatIn("flow_shift", tiny, math.MaxFloat32, 0)),
		ShiftTerminal:  f.FloatIn("shift_terminal", tiny, 1, 0),
		StochasticFlow: f.Bool("stochastic_sampling", false),

		DynamicShift: f.Bool("use_dynamic_shifting", false), LinearShift: f.OneOf("time_shift_type", "exponential", "linear") == "linear",
		BaseShift: f.FloatIn("base_shift", 0, math.MaxFloat32, 0.5), MaxShift: f.FloatIn("max_shift", 0, math.MaxFloat32, 1.15),
		BaseTokens: f.IntIn("base_image_seq_len", 1, 1<<24, 256), MaxTokens: f.IntIn("max_image_seq_len", 1, 1<<24, 4096),
	}
	f.Fixed("invert_sigmas", false) // the noise of a schedule here falls
	if c.DynamicShift && c.BaseTokens == c.MaxTokens {
		f.Fail("max_image_seq_len", "it must not be base_image_seq_len")
	}
	// These concern training, or inputs that a picture from a prompt does not have.
	f.Ignore("sigma_data", "s_noise", "s_churn", "s_tmin", "s_tmax", "rho", "final_sigma", "noise_sampler_seed", "tensor_format")
	if strings.HasPrefix(c.Class, "EDM") {
		c.readEDM(f)
	}
	if strings.HasPrefix(c.Class, "FlowMatch") {
		c.PredictionType = Flow
	}
	if c.BetaEnd != 0 && c.BetaEnd < c.BetaStart {
		f.Fail("beta_end", fmt.Sprintf("it must not be below beta_start = %v", c.BetaStart))
	}
	return c, f.Done()
}

// tiny is the least value of what must be positive.
const tiny = 1e-12

// readPrediction reads prediction_type, or the switch that diffusers had before it.
func readPrediction(f *config.Object) PredictionType {
	old := Epsilon
	if !f.Bool("predict_epsilon", true) {
		old = Sample
	}
	name := f.OneOf("prediction_type", "", append(slices.Clone(predictionNames[:EDM]), "original_sample")...)
	switch name {
	case "":
		return old
	case "original_sample": // an old name in diffusers
		return Sample
	}
	p, _ := ParsePredictionType(name)
	return p
}

func readBetas(f *config.Object) []float64 {
	if !f.Has("trained_betas") {
		return nil
	}
	βs := f.Floats("trained_betas", 0)
	if len(βs) == 0 {
		f.Fail("trained_betas", "a list of numbers is needed")
	}
	for i, β := range βs {
		if !(β > 0 && β < 1) {
			f.Fail("trained_betas", fmt.Sprintf("β[%d] = %v must be between 0 and 1", i, β))
			break
		}
	}
	return βs
}

// readInts is nil where the key is absent.
func readInts(f *config.Object, key string) []int {
	if !f.Has(key) {
		return nil
	}
	return f.Ints(key, 0)
}

// readSigmas reads the switches that choose a sigma schedule; only one of them may be true.
func readSigmas(f *config.Object) (chosen string) {
	for _, s := range []struct{ key, name string }{{"use_karras_sigmas", "karras"}, {"use_exponential_sigmas", "exponential"},
		{"use_beta_sigmas", "beta"}, {"use_lu_lambdas", "lu"}, {"use_flow_sigmas", "flow"}} {
		switch on := f.Bool(s.key, false); {
		case on && chosen != "":
			f.Fail(s.key, "the "+chosen+" schedule was chosen too: want one")
		case on:
			chosen = s.name
		}
	}
	return chosen
}

// optional is nil where the key is absent.
func optional(f *config.Object, key string) *bool {
	v := f.Bool(key, false)
	if !f.Has(key) {
		return nil
	}
	return &v
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

func quoted(names []string) string { return strings.Join(names, ", ") }
