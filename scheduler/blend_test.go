package scheduler

import "testing"

// The model never reads an x that Blend has not seen, but the first: every sampler with several calls a step blends
// what its further calls read.
func TestBlendEveryCall(t *testing.T) {
	const kept = 123 // what Blend writes
	for _, info := range Names() {
		s, err := New(fine, Options{Name: info.Name, Steps: 6})
		if err != nil {
			s, err = New(Config{PredictionType: Flow}, Options{Name: info.Name, Steps: 6}) // a flow sampler
		}
		if err != nil {
			t.Fatalf("%s: %v", info.Name, err)
		}
		x := make([]float32, 8)
		normals(1)(x)
		s.Init(x)
		calls, unseen := 0, 0
		m := Rings()
		real := m.Denoiser()
		err = s.Run(Run{X: x, Noise: normals(2), Blend: func(x []float32, _ Level) { x[0] = kept },
			Denoise: func(x []float32, at Level) (Prediction, error) {
				if calls++; calls > 1 && x[0] != kept {
					unseen++
				}
				return real(x, at)
			}})
		if err != nil {
			t.Fatalf("%s: %v", info.Name, err)
		}
		if calls < 2 || unseen > 0 {
			t.Errorf("%s: %d of %d calls read what Blend has not seen", info.Name, unseen, calls)
		}
	}
}
