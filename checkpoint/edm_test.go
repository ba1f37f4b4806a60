package checkpoint

import (
	"math"
	"slices"
	"testing"

	"darkroom/scheduler"
	"darkroom/tensor"
)

// TestEDMFile: the marks of Playground 2.5's and CosXL's files become the configurations that their folders have.
func TestEDMFile(t *testing.T) {
	all := readStructures(t)
	open := func(marks map[string][]float32) *Single {
		t.Helper()
		s := shaped("sdxl", all["sdxl"].File)
		for name, v := range marks {
			s.arrays[name] = placed{tensor.Of(v, len(v)), false}
		}
		m, err := NewSingle(s, SingleOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	sampling := func(m *Single) scheduler.Config {
		t.Helper()
		c, err := scheduler.ParseConfig("x", []byte(m.files["scheduler/scheduler_config.json"]))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	mean, std := []float32{-1.6574, 1.886, -1.383, 2.5155}, []float32{8.4927, 5.9022, 6.5498, 5.2299}
	m := open(map[string][]float32{"edm_mean": mean, "edm_std": std})
	c := sampling(m)
	if c.Class != "EDMDPMSolverMultistepScheduler" || c.SigmaData != 0.5 || c.SigmaMin != 0.002 || c.SigmaMax != 80 || c.Rho != 7 || c.EvenInLog || c.PredictionType != scheduler.EDM {
		t.Errorf("Playground's sampling is %+v", c)
	}
	vae, err := m.Config("vae")
	if err != nil {
		t.Fatal(err)
	}
	near := func(got []float64, want []float32) bool {
		return slices.EqualFunc(got, want, func(a float64, b float32) bool { return math.Abs(a-float64(b)) < 1e-6 })
	}
	if got := vae.Float("scaling_factor"); got != 0.5 || !near(vae.Floats("latents_mean", 0), mean) || !near(vae.Floats("latents_std", 0), std) {
		t.Errorf("Playground's autoencoder is %s", m.files["vae/config.json"])
	}
	c = sampling(open(map[string][]float32{"edm_vpred.sigma_max": {120}, "edm_vpred.sigma_min": {0.002}}))
	if c.Class != "EDMEulerScheduler" || c.SigmaData != 1 || math.Abs(c.SigmaMin-0.002) > 1e-8 || c.SigmaMax != 120 || !c.EvenInLog || c.PredictionType != scheduler.VPrediction {
		t.Errorf("CosXL's sampling is %+v", c)
	}
}
