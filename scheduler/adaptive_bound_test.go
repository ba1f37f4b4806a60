package scheduler

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// dpm-adaptive ends on a model whose answers have nothing to do with each other.
func TestAdaptiveEnds(t *testing.T) {
	s, err := New(Config{}, Options{Name: "dpm-adaptive"})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, 16)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	s.Init(x)
	calls := 0
	err = s.Run(Run{
		X: x,
		Denoise: func(x []float32, _ Level) (Prediction, error) {
			x0, eps := make([]float32, len(x)), make([]float32, len(x))
			for i := range x {
				x0[i], eps[i] = float32(1e4*r.NormFloat64()), float32(1e4*r.NormFloat64())
			}
			if calls++; calls > 20_000 {
				t.Fatal("it does not end")
			}
			return Prediction{X0: x0, Eps: eps}, nil
		},
		Noise: func(dst []float32) error { return nil },
	})
	if err == nil || !strings.Contains(err.Error(), "dpm-adaptive") {
		t.Errorf("after %d calls: %v", calls, err)
	}
}
