package imagefile_test

import (
	"bytes"
	"fmt"
	"image"

	"darkroom/imagefile"
	"darkroom/recipe"
)

// A picture carries its recipe.
func Example() {
	picture := image.NewNRGBA(image.Rect(0, 0, 64, 64))
	r := recipe.Recipe{
		Prompt: "a red apple", PromptSyntax: "weighted", Seed: 7, Noise: "torch-cpu", Width: 64, Height: 64, Steps: 20,
		Scheduler: "ddim", CFG: 5, Model: "default", DType: "fp32", Backend: "cpu",
	}
	var file bytes.Buffer
	if err := imagefile.Encode(&file, picture, r, imagefile.Options{Format: imagefile.PNG}); err != nil {
		fmt.Println(err)
		return
	}
	info, err := imagefile.Read(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(info.Recipe.Prompt, info.Recipe.Seed)
	// Output: a red apple 7
}
