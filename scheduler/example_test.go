package scheduler_test

import (
	"fmt"
	"math"

	"darkroom/scheduler"
)

// A sampler turns noise into a picture, here into a point of a mixture of Gaussians, whose denoiser is a formula.
func Example() {
	config, err := scheduler.ParseConfig("scheduler_config.json", []byte(`{
		"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "epsilon"
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := scheduler.New(config, scheduler.Options{Name: "dpm++2m-karras", Steps: 8})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Name(), s.Steps(), "steps,", s.Calls(), "calls")

	x := []float32{0.3, -1.1} // unit noise
	s.Init(x)
	err = s.Run(scheduler.Run{
		X:       x,
		Denoise: scheduler.Rings().Denoiser(),
		OnStep: func(step int, x, x0 []float32) error {
			at := s.Levels()[step+1]
			fmt.Printf("step %d, to σ/α %.2f\n", step+1, at.Ratio())
			return nil
		},
	})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Printf("on the ring: %v\n", math.Abs(math.Hypot(float64(x[0]), float64(x[1]))-1.2) < 0.5)
	// Output:
	// dpm++2m 8 steps, 8 calls
	// step 1, to σ/α 7.90
	// step 2, to σ/α 4.03
	// step 3, to σ/α 1.91
	// step 4, to σ/α 0.83
	// step 5, to σ/α 0.32
	// step 6, to σ/α 0.11
	// step 7, to σ/α 0.03
	// step 8, to σ/α 0.00
	// on the ring: true
}
