package compare

import (
	"math"
	"testing"

	"darkroom/scheduler"
)

// TestFlowSteps: the paths that errors are measured against are exact to a tenth of the smallest error in the table.
func TestFlowSteps(t *testing.T) {
	t.Parallel()
	m, x := scheduler.Rings(), []float32{7.3, -14.6, 0.3, 29, -3, -3}
	from, to := scheduler.Level{Alpha: 1, Sigma: 14.6}, scheduler.Level{Alpha: 1}
	exact := m.Flow(x, from, to, 3000)
	for i, v := range m.Flow(x, from, to, flowSteps) {
		if math.Abs(float64(v-exact[i])) > 1e-6 {
			t.Errorf("value %d ends at %v, with ten times the steps at %v", i, v, exact[i])
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
