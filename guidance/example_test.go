package guidance_test

import (
	"fmt"

	"darkroom/guidance"
)

// Classifier-free guidance at scale 3: uncond + 3·(cond − uncond).
func Example() {
	method, err := guidance.Parse("cfg")
	if err != nil {
		fmt.Println(err)
		return
	}
	guide := guidance.Guide{Method: method, Scale: 3, Channels: 1}
	cond, uncond := []float32{1, 2}, []float32{0.5, 2}
	out := make([]float32, 2)
	guide.Combine(out, cond, uncond, nil, guidance.At{Step: 0, Steps: 20, Ratio: 14.6})
	fmt.Println(out)
	// Output: [2 2]
}

// A method is written with its parameters; what it does not know is an error that says what it does.
func ExampleParse() {
	method, err := guidance.Parse("apg:eta=0,momentum=-0.5")
	fmt.Println(method, err)
	_, err = guidance.Parse("apg:eta=0,speed=2")
	fmt.Println(err)
	// Output:
	// apg:eta=0,momentum=-0.5 <nil>
	// guidance apg: no key "speed": there are eta, norm, momentum, scale, start, stop, low, high, rescale
}
