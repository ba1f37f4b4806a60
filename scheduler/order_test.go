package scheduler

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// normals fills from a fixed stream of unit normals.
func normals(seed uint64) func([]float32) error {
	r := rand.New(rand.NewPCG(seed, 1))
	return func(dst []float32) error {
		for i := range dst {
			dst[i] = float32(r.NormFloat64())
		}
		return nil
	}
}

// fine is SD's schedule with timesteps so dense that samplers which count in them can take small steps.
var fine = Config{TrainSteps: 1 << 15, BetaStart: 0.00085 * 1000 / (1 << 15), BetaEnd: 0.012 * 1000 / (1 << 15), BetaSchedule: "linear"}

// fineEnd is a tenth of its timesteps.
const fineEnd = 1<<15/10 - 20

// solverError is the root mean square distance of a sampler's x from the exact solution on the same first x. It is
// taken before the step to σ = 0, a jump whose length does not depend on N, and with a schedule of timesteps at
// a tenth of them, where all N that are multiples of 10 have a level.
func solverError(t *testing.T, o Options, c Config) float64 {
	t.Helper()
	s, err := New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	m := Rings()
	x := make([]float32, 2*24)
	normals(7)(x)
	s.Init(x)
	levels := s.Levels()
	stop := len(levels) - 1
	if levels[stop].Sigma == 0 {
		stop--
	}
	for o.Sigmas == "model" && levels[stop].T < fineEnd {
		stop--
	}
	exact := m.Flow(x, levels[0], levels[stop], 250)
	var got []float32
	err = s.Run(Run{X: x, Denoise: m.Denoiser(), Noise: normals(8), OnStep: func(step int, x, _ []float32) error {
		if step == stop-1 {
			got = clone(x)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return distance2(got, exact)
}

func distance2(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		sum += math.Pow(float64(a[i])-float64(b[i]), 2)
	}
	return math.Sqrt(sum / float64(len(a)))
}

// TestOrder: the error of each ODE sampler falls as N^−order, within 0.25, between n and 2n steps, and is the one of the
// table that users read.
func TestOrder(t *testing.T) {
	zero := 0.0 // --eta 0 where the default is above
	for _, test := range []struct {
		o     Options
		n     int     // steps: such that the asymptote is reached and float32's rounding is not
		order float64 // 0: the table's
	}{
		{o: Options{Name: "ddim-karras"}, n: 80},
		{o: Options{Name: "pndm", Sigmas: "model"}, n: 80},
		{o: Options{Name: "plms", Sigmas: "model"}, n: 80},
		{o: Options{Name: "euler-exponential"}, n: 80},
		{o: Options{Name: "euler-karras"}, n: 80},
		{o: Options{Name: "heun-karras"}, n: 80},
		{o: Options{Name: "dpm2-karras"}, n: 80},
		{o: Options{Name: "lms-karras"}, n: 100},
		{o: Options{Name: "lms-karras", Order: 1}, n: 80, order: 1},
		{o: Options{Name: "lms-karras", Order: 2}, n: 80, order: 2},
		{o: Options{Name: "lms-karras", Order: 3}, n: 80, order: 3},
		{o: Options{Name: "ipndm-karras"}, n: 80},
		{o: Options{Name: "dpm-fast"}, n: 48},
		{o: Options{Name: "dpm++2s-karras"}, n: 80},
		{o: Options{Name: "dpm++2m-karras"}, n: 80},
		{o: Options{Name: "dpm++2m-exponential", Variant: "heun"}, n: 80},
		{o: Options{Name: "dpm++2m-sde-exponential", Eta: &zero}, n: 80, order: 2},
		{o: Options{Name: "dpm++3m-exponential"}, n: 80},
		{o: Options{Name: "deis-karras"}, n: 80},
		{o: Options{Name: "deis-karras", Order: 1}, n: 80, order: 1},
		{o: Options{Name: "deis-exponential", Order: 3}, n: 80, order: 3},
		{o: Options{Name: "unipc-karras"}, n: 80},
		{o: Options{Name: "unipc-karras", Order: 1}, n: 80, order: 2},
		{o: Options{Name: "unipc-exponential", Variant: "bh1"}, n: 80, order: 3},
		{o: Options{Name: "res-multistep-karras"}, n: 80},
		{o: Options{Name: "gradient-estimation-karras"}, n: 160},
		{o: Options{Name: "euler-cfg++-karras"}, n: 80},
		{o: Options{Name: "dpm++2m-cfg++-karras"}, n: 80},
	} {
		order := test.order
		if order == 0 {
			spec, _, err := resolve(fine, Options{Name: test.o.Name, Steps: 1})
			if err != nil {
				t.Fatal(err)
			}
			order = float64(spec.Order)
		}
		var errors []float64
		for _, n := range []int{test.n, 2 * test.n} {
			o := test.o
			o.Steps = n
			errors = append(errors, solverError(t, o, fine))
		}
		slope := math.Log2(errors[0] / errors[1])
		t.Logf("%-28s order %d %s: %.2f, stated %v", test.o.Name, test.o.Order, test.o.Variant, slope, order)
		if !(math.Abs(slope-order) <= 0.25) {
			t.Errorf("%+v: errors %.3g at %d and %d steps: order %.2f, stated %v", test.o, errors, test.n, 2*test.n, slope, order)
		}
	}
}

// TestFlowOrder is the same on rectified-flow levels.
func TestFlowOrder(t *testing.T) {
	for name, order := range map[string]float64{"flow-euler": 1, "flow-heun": 2} {
		var errors []float64
		for _, n := range []int{80, 160} {
			var list []string
			for _, σ := range polynomial(nil, sigmaRange{0.02, 0.98}, n, 2) {
				list = append(list, strconv.FormatFloat(σ, 'g', -1, 64))
			}
			c := Config{PredictionType: Flow}
			errors = append(errors, solverError(t, Options{Name: name, Sigmas: strings.Join(list, ",")}, c))
		}
		if slope := math.Log2(errors[0] / errors[1]); !(math.Abs(slope-order) <= 0.25) {
			t.Errorf("%s: errors %.3g: order %.2f, stated %v", name, errors, slope, order)
		}
	}
}

// TestFlowSimple: of the levels of ComfyUI's and Forge's tables, k/T shifted with k from 1 to T, simple takes those T/N apart from the
// noisiest. Here they are not rounded to a table. For FLUX.1 they are the model's own.
func TestFlowSimple(t *testing.T) {
	for _, c := range []struct {
		config Config
		T      int
	}{{Config{PredictionType: Flow, Shift: 3}, 1000}, {Config{PredictionType: Flow, Shift: 1.6, EvenFlow: true}, 10_000}} {
		for _, n := range []int{1, 4, 20, 28} {
			s, err := New(c.config, Options{Name: "flow-euler", Steps: n, Sigmas: "simple"})
			if err != nil {
				t.Fatal(err)
			}
			own, err := New(c.config, Options{Name: "flow-euler", Steps: n})
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				k := float64(c.T-int(float64(i)*float64(c.T)/float64(n))) / float64(c.T)
				want := c.config.Shift * k / (1 + (c.config.Shift-1)*k)
				got := s.Levels()[i].Sigma
				if math.Abs(got-want) > c.config.Shift/float64(c.T) { // k is rounded by up to 1/T, and the shift's slope is at most the shift
					t.Errorf("T %d, %d steps: level %d is %v, want %v", c.T, n, i, got, want)
				}
				if c.config.EvenFlow && got != own.Levels()[i].Sigma {
					t.Errorf("%d steps: level %d is %v, and FLUX.1's own %v", n, i, got, own.Levels()[i].Sigma)
				}
			}
		}
	}
	if _, err := New(Config{PredictionType: Flow}, Options{Name: "flow-euler", Steps: 4, Sigmas: "normal"}); err == nil {
		t.Error("timesteps of a table of β are picked from a flow model")
	}
}

// TestAdaptive: dpm-adaptive's error follows its tolerance, and costs calls.
func TestAdaptive(t *testing.T) {
	var errors []float64
	for _, tol := range []float64{0.05, 0.005, 0.0005} {
		errors = append(errors, solverError2(t, Options{Name: "dpm-adaptive", RTol: tol, ATol: tol / 10}))
	}
	if !(errors[1] < errors[0]/4 && errors[2] < errors[1]/4 && errors[2] < 2e-3) {
		t.Errorf("errors %.3g do not follow the tolerances", errors)
	}
}

// solverError2 is solverError at the very end, against the exact solution there.
func solverError2(t *testing.T, o Options) float64 {
	t.Helper()
	s, err := New(fine, o)
	if err != nil {
		t.Fatal(err)
	}
	m := Rings()
	x := make([]float32, 2*24)
	normals(7)(x)
	s.Init(x)
	levels := s.Levels()
	exact := m.Flow(x, levels[0], levels[len(levels)-1], 400)
	if err := s.Run(Run{X: x, Denoise: m.Denoiser(), Noise: normals(8)}); err != nil {
		t.Fatal(err)
	}
	return distance2(x, exact)
}

// TestLimit: with many steps all ODE samplers agree with the exact solution. 0.02: a first-order sampler errs by 1/N
// of about 1 (see TestOrder), and the last step, to σ = 0, jumps over what is left of the noise, 0.03.
func TestLimit(t *testing.T) {
	zero := 0.0
	for _, info := range Names() {
		o := Options{Name: info.Name, Steps: 150}
		switch {
		case strings.HasPrefix(info.Name, "flow") || info.Name == "lcm" || info.Name == "tcd":
			continue
		case info.Name == "dpm-adaptive":
			o = Options{Name: info.Name, RTol: 0.001, ATol: 0.0001}
		case info.Order == 2 && info.Calls == 1 && info.Name != "pndm" && info.Name != "plms":
			// The last timestep of linspace leaps from σ = 0.06 to 0.006, 7 times the leap before, which a multistep
			// sampler extrapolates badly.
			o.Sigmas = "karras"
		case info.Order == 0: // stochastic samplers become deterministic, where eta does that
			spec, _ := lookup(info.Name)
			if !spec.noisy {
				continue
			}
			o.Eta = &zero
		}
		if e := solverError2(t, o); !(e < 0.02) {
			t.Errorf("%s: %.3g from the exact solution", info.Name, e)
		}
	}
}

// TestStochastic: the samplers that draw noise give the right mean and covariance. x starts from the exact
// distribution at the first level, so that only the sampler errs.
func TestStochastic(t *testing.T) {
	one, m, points := 1.0, Rings(), 2500
	mean, covariance := m.Moments()
	for _, o := range []Options{
		{Name: "ddim", Eta: &one}, {Name: "ddpm"}, {Name: "euler-a"}, {Name: "dpm2-a"}, {Name: "dpm-fast", Eta: &one}, {Name: "dpm++2s-a"},
		{Name: "dpm++sde"}, {Name: "dpm++2m-sde"}, {Name: "dpm++2m-sde", Variant: "heun"}, {Name: "dpm++3m-sde"}, {Name: "sa-solver"}, {Name: "er-sde"},
		{Name: "res-multistep-karras", Eta: &one}, {Name: "restart"}, {Name: "euler", Churn: 20, Steps: 240}, {Name: "heun", Churn: 20}, {Name: "dpm-adaptive", Eta: &one},
	} {
		if o.Name != "dpm-adaptive" && o.Steps == 0 {
			o.Steps = 80
		}
		s, err := New(fine, o)
		if err != nil {
			t.Fatal(err)
		}
		x := make([]float32, 2*points)
		m.sample(x, s.Levels()[0])
		if err := s.Run(Run{X: x, Denoise: m.Denoiser(), Noise: normals(9)}); err != nil {
			t.Fatal(err)
		}
		// Of 2500 points the mean errs by 0.9/√2500 = 0.018 and a covariance by about as much: 4 of these, and 0.01 for
		// the sampler's own bias at 80 steps.
		const tolerance = 0.082
		for i := range mean {
			got := 0.0
			for k := range points {
				got += float64(x[2*k+i]) / float64(points)
			}
			if !(math.Abs(got-mean[i]) < tolerance) {
				t.Errorf("%+v: mean %d is %.3f, want %.3f", o, i, got, mean[i])
			}
			for j := range mean {
				got := 0.0
				for k := range points {
					got += (float64(x[2*k+i]) - mean[i]) * (float64(x[2*k+j]) - mean[j]) / float64(points)
				}
				if !(math.Abs(got-covariance[2*i+j]) < tolerance) {
					t.Errorf("%+v: covariance %d,%d is %.3f, want %.3f", o, i, j, got, covariance[2*i+j])
				}
			}
		}
	}
}

// sample draws points of two values from the mixture's distribution at a level.
func (m Mixture) sample(x []float32, at Level) {
	r := rand.New(rand.NewPCG(3, 3))
	total := 0.0
	for _, w := range m.Weights {
		total += w
	}
	for i := 0; i < len(x); i += 2 {
		u, k := r.Float64()*total, 0
		for u > m.Weights[k] {
			u -= m.Weights[k]
			k++
		}
		for j, μ := range m.Means[k] {
			x0 := μ + m.Widths[k]*r.NormFloat64()
			x[i+j] = float32(at.Alpha*x0 + at.Sigma*r.NormFloat64())
		}
	}
}

// TestZeroSNR: from pure noise, σ/α = 4096 or α = 0, all deterministic samplers find the exact solution at 40 steps. 0.12: what
// a first-order sampler leaves at 40 steps (0.06, see TestOrder), twice; and not a multiple of it, which
// a step from 4096 can easily make.
func TestZeroSNR(t *testing.T) {
	zero, m := 0.0, Rings()
	c := fine
	c.RescaleZeroSNR, c.PredictionType, c.Spacing = true, VPrediction, "trailing"
	for _, info := range Names() {
		spec, _ := lookup(info.Name)
		o := Options{Name: info.Name, Steps: 40, Eta: &zero}
		switch {
		case spec.flow || info.Name == "lcm" || info.Name == "tcd" || info.Order == 0 && !spec.noisy:
			continue
		case info.Name == "dpm-adaptive":
			o.Steps = 0
		}
		s, err := New(c, o)
		if err != nil {
			t.Fatal(err)
		}
		x := make([]float32, 2*24)
		normals(7)(x)
		// Whatever α the sampler starts at, the solution is that of the same noise.
		start := Level{Alpha: math.Sqrt(zeroSNR), Sigma: math.Sqrt(1 - zeroSNR)}
		exact := m.Flow(x, start, Level{Alpha: 1}, 600)
		s.Init(x)
		if err := s.Run(Run{X: x, Denoise: m.Denoiser(), Noise: normals(8)}); err != nil {
			t.Fatal(err)
		}
		if e := distance2(x, exact); !(e < 0.12) {
			t.Errorf("%s: %.3g from the exact solution", info.Name, e)
		}
	}
}
