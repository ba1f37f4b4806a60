package scheduler

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
)

// fuzzCase is a legal or illegal choice of everything, from numbers that a fuzzer varies.
func fuzzCase(name, sigmas, steps, prediction, spacing uint, zero bool, strength float64) (Config, Options) {
	infos, schedules := Names(), SigmaSchedules()
	c := Config{BetaStart: 0.00085, BetaEnd: 0.012, BetaSchedule: "scaled_linear", PredictionType: PredictionType(prediction % 4), RescaleZeroSNR: zero, LambdaMinClipped: math.Inf(-1)}
	o := Options{Name: infos[name%uint(len(infos))].Name, Steps: int(steps % 101), Spacing: []string{"", "leading", "trailing", "linspace"}[spacing%4]}
	if k := sigmas % uint(len(schedules)+1); k > 0 {
		o.Sigmas = schedules[k-1][0]
	}
	if strength > 0 && strength < 1 {
		o.Strength = &strength
	}
	return c, o
}

// checkSchedule asserts what holds for every legal schedule: noise falls strictly, steps and calls are as asked, no value
// is NaN or infinite, and a run that stops after a step and goes on from its saved state ends in the same bits.
func checkSchedule(c Config, o Options, cut int) error {
	s, err := New(c, o)
	if err != nil {
		return nil // illegal: an error is what is due
	}
	if err := checkLevels(s, o); err != nil {
		return err
	}
	calls := 0
	model := toy(c.PredictionType)
	denoise := func(x []float32, at Level) (Prediction, error) {
		calls++
		return model(x, at)
	}
	first := func() []float32 {
		x := make([]float32, 3)
		normals(5)(x)
		if o.Strength != nil {
			s.AddNoise(x, []float32{0.5, -0.25, 1}, x)
		} else {
			s.Init(x)
		}
		return x
	}
	x, n := first(), 0
	var saved []byte
	state := &State{}
	if s.Steps() > 0 {
		cut %= s.Steps()
	} else {
		cut %= 5
	}
	err = s.Run(Run{X: x, Denoise: denoise, Noise: normals(6), State: state, OnStep: func(step int, x, x0 []float32) error {
		if step != n || len(x0) != len(x) {
			return fmt.Errorf("OnStep was told step %d of %d, with %d and %d values", step, n, len(x), len(x0))
		}
		if step == cut {
			saved, _ = json.Marshal(state)
		}
		n++
		return nil
	}})
	switch {
	case err != nil:
		return err
	case s.Steps() >= 0 && n != s.Steps():
		return fmt.Errorf("%d steps, want %d", n, s.Steps())
	case s.Calls() >= 0 && calls != s.Calls():
		return fmt.Errorf("%d calls, want %d", calls, s.Calls())
	}
	for _, v := range x {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("x = %v", x)
		}
	}
	if saved == nil {
		return nil
	}
	var resumed State
	if err := json.Unmarshal(saved, &resumed); err != nil {
		return err
	}
	y := make([]float32, 3)
	if err := s.Run(Run{X: y, Denoise: reusing(denoise), Noise: normals(6), State: &resumed}); err != nil {
		return err
	}
	if !slices.Equal(x, y) {
		return fmt.Errorf("resumed after step %d: %v, want %v", cut, y, x)
	}
	return nil
}

// reusing is a denoiser that gives the same slices each time, as a pipeline does.
func reusing(d Denoiser) Denoiser {
	var kept Prediction
	return func(x []float32, at Level) (Prediction, error) {
		p, err := d(x, at)
		if kept.X0 == nil {
			kept = Prediction{X0: make([]float32, len(x)), Eps: make([]float32, len(x))}
		}
		copy(kept.X0, p.X0)
		copy(kept.Eps, p.Eps)
		return kept, err
	}
}

func checkLevels(s *Schedule, o Options) error {
	levels := s.Levels()
	if want := o.Steps; o.Strength == nil && s.Name() != "dpm-fast" && s.Name() != "dpm-adaptive" && len(levels) != want+1 {
		return fmt.Errorf("%d levels for %d steps", len(levels), want)
	}
	for i, l := range levels[1:] {
		last := i == len(levels)-2 && s.sampler.onStride
		if s.Name() != "restart" && !(l.Ratio() < levels[i].Ratio() || last && l.Ratio() == levels[i].Ratio()) {
			return fmt.Errorf("level %d: σ/α %v after %v", i+1, l.Ratio(), levels[i].Ratio())
		}
	}
	return nil
}

func FuzzSchedule(f *testing.F) {
	for i := range uint(40) {
		f.Add(i, i%13, 3*i+1, i%3, i%4, i%5 == 0, float64(i%3)/3, int(i))
	}
	f.Fuzz(func(t *testing.T, name, sigmas, steps, prediction, spacing uint, zero bool, strength float64, cut int) {
		c, o := fuzzCase(name, sigmas, steps, prediction, spacing, zero, strength)
		if err := checkSchedule(c, o, max(cut, 0)); err != nil {
			t.Fatalf("%+v %+v: %v", c, o, err)
		}
	})
}

// TestEverySchedule runs checkSchedule over every sampler with every sigma schedule, spacing and prediction type.
func TestEverySchedule(t *testing.T) {
	legal := 0
	for name := range uint(len(Names())) {
		for sigmas := range uint(len(SigmaSchedules()) + 1) {
			for i, steps := range []uint{1, 2, 5, 16, 37} {
				for prediction := range uint(4) {
					c, o := fuzzCase(name, sigmas, steps, prediction, uint(i)+sigmas, i%2 == 1, float64(i%3)/2.5)
					if err := checkSchedule(c, o, i); err != nil {
						t.Errorf("%+v %+v: %v", c, o, err)
					}
					if _, err := New(c, o); err == nil {
						legal++
					}
				}
			}
		}
	}
	t.Logf("%d legal choices", legal)
	if legal < 3000 {
		t.Errorf("only %d legal choices", legal)
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, seed := range []string{`{}`, `{"_class_name":"PNDMScheduler","beta_start":0.00085,"beta_end":0.012,"beta_schedule":"scaled_linear","skip_prk_steps":true,"trained_betas":null}`,
		`{"prediction_type":"v_prediction","rescale_betas_zero_snr":true,"timestep_spacing":"trailing"}`, `{"trained_betas":[0.1,0.2],"num_train_timesteps":2}`,
		`{"lambda_min_clipped": -Infinity}`, `{"num_train_timesteps":1048576,"beta_end":1}`, `[]`, `{"use_karras_sigmas":true,"use_beta_sigmas":true}`, `{"_class_name":"FlowMatchEulerDiscreteScheduler","shift":3.0}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig("f.json", data)
		if err != nil || c.TrainSteps > 1<<12 {
			return
		}
		for _, name := range []string{"", "ddim", "euler-karras", "dpm++2m", "lcm"} {
			if err := checkSchedule(c, Options{Name: name, Steps: 4}, 1); err != nil {
				t.Fatalf("%s %q: %v", data, name, err)
			}
		}
	})
}

// TestErrors: what is wrong is named, and what would be right.
func TestErrors(t *testing.T) {
	bad := -0.5
	for _, test := range []struct {
		config, want string
		o            Options
	}{
		{`{"beta_schedule":"cubic"}`, `scheduler_config.json: beta_schedule is "cubic": not supported, only "linear", "scaled_linear", "squaredcos_cap_v2", "laplace", "exp", "sigmoid"`, Options{}},
		{`{"colour":1}`, `scheduler_config.json: colour is 1: not supported, the key is unknown here`, Options{}},
		{`{"timestep_spacing":7}`, `scheduler_config.json: timestep_spacing is 7: a text is needed`, Options{}},
		{`{"steps_offset":-1}`, `scheduler_config.json: steps_offset is -1: a whole number from 0 to 1048576 is needed`, Options{}},
		{`{"beta_start":0.5,"beta_end":0.1}`, `scheduler_config.json: beta_end is 0.1: it must not be below beta_start = 0.5`, Options{}},
		{`{"trained_betas":[]}`, `scheduler_config.json: trained_betas is []: a list of numbers is needed`, Options{}},
		{`{"trained_betas":[0.5,1.5]}`, `scheduler_config.json: trained_betas is [0.5,1.5]: β[1] = 1.5 must be between 0 and 1`, Options{}},
		{`{"use_karras_sigmas":true,"use_beta_sigmas":true}`, `scheduler_config.json: use_beta_sigmas is true: the karras schedule was chosen too: want one`, Options{}},
		{`{"use_dynamic_shifting":true,"max_image_seq_len":256}`, `scheduler_config.json: max_image_seq_len is 256: it must not be base_image_seq_len`, Options{}},
		{`{"invert_sigmas":true}`, `scheduler_config.json: invert_sigmas is true: not supported, only false`, Options{}},
		{`{"prediction_type":"score"}`, `scheduler_config.json: prediction_type is "score": not supported, only "epsilon", "v_prediction", "sample", "flow_prediction", "original_sample"`, Options{}},
		{`{}`, `scheduler: no sampler is called "eulr"; nearest: euler`, Options{Name: "eulr", Steps: 4}},
		{`{}`, `scheduler: no sampler is called "euler-karas"; nearest: `, Options{Name: "euler-karas", Steps: 4}},
		{`{}`, `scheduler: 0 steps: at least 1 is needed`, Options{Name: "euler"}},
		{`{}`, `scheduler: -3 steps: at least 1 is needed`, Options{Name: "dpm-adaptive", Steps: -3}},
		{`{}`, `scheduler: ddim: eta -0.5: it must be from 0 to 1`, Options{Name: "ddim", Steps: 4, Eta: &bad}},
		{`{}`, `scheduler: no sigma schedule is called "karas"; nearest: karras`, Options{Name: "euler", Steps: 4, Sigmas: "karas"}},
		{`{}`, `scheduler: sigmas "3,4": number 2 is not below the one before it: noise must fall`, Options{Name: "euler", Sigmas: "3,4"}},
		{`{}`, `scheduler: 5 steps and 2 sigmas contradict each other: leave the steps out`, Options{Name: "euler", Sigmas: "4,3", Steps: 5}},
		{`{}`, `scheduler: euler-karras: the name asks for karras sigmas and the options for beta: want one`, Options{Name: "euler-karras", Sigmas: "beta", Steps: 5}},
		{`{}`, `scheduler: 1001 steps: the model was trained with 1000, and more cannot be made`, Options{Name: "ddim", Steps: 1001}},
		{`{"rescale_betas_zero_snr":true,"timestep_spacing":"trailing"}`, `scheduler: ddim: the first level has α = 0`, Options{Name: "ddim", Steps: 4}},
		{`{"algorithm_type":"dpmsolver"}`, `scheduler: scheduler_config.json: algorithm_type = dpmsolver: not supported by dpm++2m: supported are dpmsolver++ and sde-dpmsolver++`, Options{Name: "dpm++2m", Steps: 4}},
	} {
		c, err := ParseConfig("scheduler_config.json", []byte(test.config))
		if err == nil {
			_, err = New(c, test.o)
		}
		if err == nil || len(err.Error()) < len(test.want) || err.Error()[:len(test.want)] != test.want {
			t.Errorf("%s %+v: %v, want %s", test.config, test.o, err, test.want)
		}
	}
}

// TestStop: an error of the model, of the noise or of OnStep ends the run and comes out wrapped.
func TestStop(t *testing.T) {
	stop := errors.New("stop")
	s, err := New(Config{}, Options{Name: "euler-a", Steps: 4})
	if err != nil {
		t.Fatal(err)
	}
	x := []float32{1, 2, 3}
	fails := func([]float32) error { return stop }
	for _, r := range []Run{
		{Denoise: func([]float32, Level) (Prediction, error) { return Prediction{}, stop }, Noise: normals(1)},
		{Denoise: toy(Epsilon), Noise: fails},
		{Denoise: toy(Epsilon), Noise: normals(1), OnStep: func(int, []float32, []float32) error { return stop }},
	} {
		r.X = x
		if err := s.Run(r); !errors.Is(err, stop) {
			t.Errorf("got %v", err)
		}
	}
	if err := s.Run(Run{X: x, Denoise: toy(Epsilon)}); !errors.Is(err, errNoNoise) {
		t.Errorf("without noise: %v", err)
	}
}
