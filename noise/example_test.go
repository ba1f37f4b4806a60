package noise_test

import (
	"fmt"

	"darkroom/noise"
)

// The first five numbers of torch.randn after torch.manual_seed(0).
func Example() {
	source, err := noise.New(noise.KindTorchCPU, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	x := make([]float32, 5)
	source.Normal(x)
	fmt.Printf("%.4f\n", x)
	// Output: [1.5410 -0.2934 -2.1788 0.5684 -1.0845]
}
