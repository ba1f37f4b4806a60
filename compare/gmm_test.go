package compare

import (
	"math"
	"testing"

	"darkroom/scheduler"
)

// The denoiser is the mean of p(x₀|x), which in one dimension can be integrated.
func TestMixtureDenoiser(t *testing.T) {
	t.Parallel()
	m := Mixture{Weight: []float64{1, 2}, Mean: [][]float64{{-1}, {0.7}}, Spread: []float64{0.2, 0.5}}
	for _, at := range []scheduler.Level{{Alpha: 1, Sigma: 0.8}, {Alpha: 0.6, Sigma: 0.8}, {Alpha: 0.99, Sigma: 0.14}} {
		for _, x := range []float64{-1.2, 0.1, 2} {
			var mean, total float64
			for x0 := -6.0; x0 < 6; x0 += 1e-3 {
				var prior float64
				for k, w := range m.Weight {
					prior += w / m.Spread[k] * math.Exp(-math.Pow((x0-m.Mean[k][0])/m.Spread[k], 2)/2)
				}
				p := prior * math.Exp(-math.Pow((x-at.Alpha*x0)/at.Sigma, 2)/2)
				mean, total = mean+p*x0, total+p
			}
			// 1e-6: the sum's steps of 1e-3 over a smooth function that is 0 at both ends.
			if got, want := m.Denoise([]float64{x}, at)[0], mean/total; math.Abs(got-want) > 1e-6 {
				t.Errorf("E[x0|%v] at %+v is %v, want %v", x, at, got, want)
			}
		}
	}
}

// Of one Gaussian the path is known: x(0) = μ + (x(σ) − μ)·s/√(s²+σ²).
func TestExactEnds(t *testing.T) {
	t.Parallel()
	m := Mixture{Weight: []float64{1}, Mean: [][]float64{{0.3, -0.2}}, Spread: []float64{0.4}}
	const scale, σ = 14.6, 14.6
	start := []float32{0.5, -1, 0.02, 2}
	for i, got := range m.exactEnds(start, scale, σ) {
		μ := m.Mean[0][i%2]
		want := μ + (float64(start[i])*scale-μ)*0.4/math.Hypot(0.4, σ)
		// 1e-5: what is left of the path below σ = 0.001 is jumped, with an error of σ²/(2s²).
		if math.Abs(got-want) > 1e-5 {
			t.Errorf("value %d ends at %v, want %v", i, got, want)
		}
	}
}

// Errors fall with the order of each solver: the slope between 20 and 40 calls, where neither the first steps nor the last jump to
// σ = 0 matter yet. 0.4: a slope between two points, not yet in the limit.
func TestGMMOrders(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		order float64
		steps []int
	}{
		"ddim": {1, []int{20, 40}}, "euler-karras": {1, []int{20, 40}}, "dpm++2m-karras": {2, []int{20, 40}}, "heun-karras": {2, []int{20, 40}},
	} {
		rs, err := CompareGMM([]string{name}, c.steps, 48, 1)
		if err != nil {
			t.Fatal(err)
		}
		if o := rs[1].Order; o == nil || math.Abs(*o-c.order) > 0.4 {
			t.Errorf("%s: order %v, want %v (errors %v, %v)", name, o, c.order, rs[0].RMSE, rs[1].RMSE)
		}
	}
}

func TestGMMRanks(t *testing.T) {
	t.Parallel()
	rs, err := CompareGMM([]string{"euler-a", "ddim", "dpm++2m-karras", "dpm-adaptive"}, []int{30}, 256, 3)
	if err != nil {
		t.Fatal(err)
	}
	rs = RankGMM(rs)
	if rs[0].Scheduler == "ddim" || rs[3].Scheduler != "euler-a" || !rs[3].Stochastic {
		t.Errorf("order %v, %v, %v, %v", rs[0].Scheduler, rs[1].Scheduler, rs[2].Scheduler, rs[3].Scheduler)
	}
	for _, r := range rs {
		// 256 points of a cloud of width 1: the mean to 4·1/√256, the spread to 4·1/√512.
		if r.MeanError > 0.25 || r.SpreadError > 0.18 {
			t.Errorf("%s: the cloud's mean is off by %.3f, its spread by %.1f %%", r.Scheduler, r.MeanError, 100*r.SpreadError)
		}
	}
	if _, err := CompareGMM([]string{"nonsense"}, []int{5}, 8, 0); err == nil {
		t.Error("an unknown scheduler is accepted")
	}
}
