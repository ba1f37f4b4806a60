package checkpoint

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Prediction types, by diffusers' names.
const (
	Epsilon     = "epsilon"
	VPrediction = "v_prediction"
	FlowPred    = "flow_prediction"
)

// Prediction is what a denoiser's output means, and how that was determined, since weights do not say.
type Prediction struct {
	Type    string // Epsilon, VPrediction
	ZeroSNR bool   // trained on a schedule that ends in pure noise
	EDM     string // "": a discrete schedule; else "edm" (Playground 2.5) or "edm-v" (CosXL)
	Why     string // the rule that decided, for people

	sigmaMin, sigmaMax float64   // of EDM
	mean, std          []float64 // of EDM's latents
}

// ParsePrediction reads what a user may say: auto ("" too) gives "".
func ParsePrediction(name string) (string, error) {
	switch strings.ToLower(name) {
	case "", "auto":
		return "", nil
	case "epsilon", "eps":
		return Epsilon, nil
	case "v", "v_prediction", "v-prediction":
		return VPrediction, nil
	case "flow", "flow_prediction":
		return FlowPred, nil
	}
	return "", fmt.Errorf("prediction %q is unknown: auto, epsilon, v or flow", name)
}

// predict applies the rules in order: what the user says, keys, a file beside, what can be measured, the family's usual.
func (p *modelParts) predict(f Family, s *Source, override string) (Prediction, error) {
	_, zero := p.marks["ztsnr"]
	if override != "" {
		return Prediction{Type: override, ZeroSNR: zero && override == VPrediction, Why: "as it was asked for"}, nil
	}
	if f == SDXL || f == Refiner {
		if r, found, err := p.edm(); found || err != nil {
			return r, err
		}
	}
	if p.marks["v_pred"] != nil {
		r := Prediction{Type: VPrediction, ZeroSNR: zero, Why: "the key v_pred is in the file"}
		if zero {
			r.Why = "the keys v_pred and ztsnr are in the file"
		}
		return r, nil
	}
	meta := s.Metadata()
	switch strings.ToLower(meta["modelspec.prediction_type"]) {
	case "v", "v_prediction":
		return Prediction{Type: VPrediction, ZeroSNR: zero, Why: "its metadata says so (modelspec.prediction_type)"}, nil
	case "epsilon", "eps":
		return Prediction{Type: Epsilon, Why: "its metadata says so (modelspec.prediction_type)"}, nil
	}
	if t, file := besides(s.path); t != "" {
		return Prediction{Type: t, ZeroSNR: zero && t == VPrediction, Why: "the file " + file + " beside it says so"}, nil
	}
	if f == SD2 {
		switch step := meta["global_step"]; step {
		case "875000", "220000":
			return Prediction{Type: Epsilon, Why: "its global_step is " + step}, nil
		case "110000", "140000":
			return Prediction{Type: VPrediction, Why: "its global_step is " + step}, nil
		}
		return p.measured()
	}
	return Prediction{Type: Epsilon, Why: "nothing says otherwise"}, nil
}

// edm reads the marks of EDM models: Playground 2.5 has the statistics of its latents, CosXL its range of noise levels.
func (p *modelParts) edm() (r Prediction, found bool, err error) {
	value := func(name string, most int) []float64 {
		a := p.marks[name]
		if a == nil || err != nil {
			return nil
		}
		n := a.Shape().Len()
		if n < 1 || n > most {
			err = fmt.Errorf("tensor %q has %d values", name, n)
			return nil
		}
		v := make([]float32, n)
		err = a.Decode(v, 0)
		out := make([]float64, n)
		for i := range v {
			out[i] = float64(v[i])
		}
		return out
	}
	mean, std := value("edm_mean", 64), value("edm_std", 64)
	high, low := value("edm_vpred.sigma_max", 1), value("edm_vpred.sigma_min", 1)
	switch {
	case err != nil:
		return r, true, err
	case mean != nil && std != nil:
		if len(mean) != len(std) {
			return r, true, fmt.Errorf("edm_mean has %d values, edm_std %d", len(mean), len(std))
		}
		return Prediction{Type: Epsilon, EDM: "edm", Why: "the keys edm_mean and edm_std are in the file: EDM, as Playground 2.5",
			sigmaMin: 0.002, sigmaMax: 80, mean: mean, std: std}, true, nil
	case high != nil:
		r = Prediction{Type: VPrediction, EDM: "edm-v", Why: "the key edm_vpred.sigma_max is in the file: EDM, as CosXL", sigmaMin: 0.002, sigmaMax: high[0]}
		if low != nil {
			r.sigmaMin = low[0]
		}
		return r, true, nil
	}
	return r, false, nil
}

// measured tells the two kinds of Stable Diffusion 2 apart by a bias whose spread differs: above 0.09 it predicts v.
// Inpainting models, of 9 channels, all predict noise.
func (p *modelParts) measured() (Prediction, error) {
	const name = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"
	a := p.unet[name]
	if a == nil || p.unet.axis("conv_in.weight", 1) == 9 || a.Shape().Len() > 1<<16 {
		return Prediction{Type: Epsilon, Why: "nothing says otherwise"}, nil
	}
	v := make([]float32, a.Shape().Len())
	if err := a.Decode(v, 0); err != nil {
		return Prediction{}, err
	}
	var sum, squares float64
	for _, x := range v {
		sum += float64(x)
	}
	mean := sum / float64(len(v))
	for _, x := range v {
		squares += (float64(x) - mean) * (float64(x) - mean)
	}
	std := math.Sqrt(squares / float64(max(len(v)-1, 1)))
	r := Prediction{Type: Epsilon, Why: fmt.Sprintf("measured: a bias spreads by %.3f, at most 0.09", std)}
	if std > 0.09 {
		r.Type, r.Why = VPrediction, fmt.Sprintf("measured: a bias spreads by %.3f, more than 0.09", std)
	}
	return r, nil
}

var parameterization = regexp.MustCompile(`(?m)^\s*parameterization:\s*["']?(v|eps)["']?\s*(#.*)?$`)

// besides reads the .yaml that older programs want beside a file, for its parameterization alone.
func besides(path string) (prediction, file string) {
	if path == "" {
		return "", ""
	}
	file = strings.TrimSuffix(path, filepath.Ext(path)) + ".yaml"
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() || info.Size() > 1<<20 {
		return "", ""
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", ""
	}
	m := parameterization.FindSubmatch(text)
	switch {
	case m == nil:
		return "", ""
	case string(m[1]) == "v":
		return VPrediction, filepath.Base(file)
	}
	return Epsilon, filepath.Base(file)
}

// schedulerConfig is scheduler/scheduler_config.json, with the class that the family's folders have.
func schedulerConfig(f Family, p Prediction) object {
	c := object{
		"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
		"steps_offset": 1, "set_alpha_to_one": false, "skip_prk_steps": true, "clip_sample": false, "prediction_type": p.Type,
	}
	switch {
	case p.EDM != "":
		c := object{"_class_name": "EDMDPMSolverMultistepScheduler", "num_train_timesteps": 1000, "prediction_type": p.Type,
			"sigma_min": p.sigmaMin, "sigma_max": p.sigmaMax, "sigma_data": 0.5}
		if p.EDM == "edm-v" { // CosXL's file has no scheduler: these are its folder's
			c["_class_name"], c["sigma_data"], c["sigma_schedule"] = "EDMEulerScheduler", 1.0, "exponential"
		}
		return c
	case f == SDXL || f == Refiner:
		c["_class_name"], c["timestep_spacing"] = "EulerDiscreteScheduler", "leading"
	case f == SD2 && p.Type == VPrediction:
		c["_class_name"] = "DDIMScheduler"
	}
	if p.ZeroSNR {
		c["rescale_betas_zero_snr"], c["timestep_spacing"] = true, "trailing"
	}
	if p.Type == FlowPred {
		return object{"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 1}
	}
	return c
}
