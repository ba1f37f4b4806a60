package pipeline_test

import (
	"context"
	"fmt"

	"darkroom/pipeline"
)

// The embedded model needs no files. Two steps give a blurred picture, but the same one each time.
func Example() {
	p, err := pipeline.Open(pipeline.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	request := p.NewRequest("a red apple")
	request.Seed, request.Steps = 7, 2
	picture, err := p.Render(context.Background(), request, pipeline.Events{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(picture.Pixels.Bounds().Dx(), "x", picture.Pixels.Bounds().Dy())
	fmt.Println(picture.Recipe.Scheduler, "with seed", picture.Recipe.Seed)
	// Output:
	// 256 x 256
	// ddim with seed 7
}
