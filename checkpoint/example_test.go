package checkpoint_test

import (
	"fmt"

	"darkroom/checkpoint"
)

// A model's folder says which parts it has; a part has a configuration and weights by name.
func Example() {
	folder, err := checkpoint.OpenFolder("testdata/model")
	if err != nil {
		fmt.Println(err)
		return
	}
	config, err := folder.Config("vae")
	if err != nil {
		fmt.Println(err)
		return
	}
	weights, err := folder.Weights("vae")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer weights.Close()
	fmt.Println("scaling factor", config.Float("scaling_factor"))
	fmt.Println(len(weights.Names()), "weights, the first one is", weights.Names()[0])
	// Output:
	// scaling factor 0.18215
	// 72 weights, the first one is decoder.conv_in.bias
}
