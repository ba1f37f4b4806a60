package recipe_test

import (
	"fmt"

	"darkroom/recipe"
)

// Another program's text becomes settings in Darkroom's own words.
func ExampleParseParameters() {
	foreign, err := recipe.ParseParameters(`a red apple
Negative prompt: blurry
Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1, Size: 512x768, Model: sd15`)
	if err != nil {
		fmt.Println(err)
		return
	}
	r := foreign.Recipe
	fmt.Printf("%q, not %q\n", r.Prompt, r.Negative)
	fmt.Println(r.Scheduler, r.Sigmas, r.Steps, "steps, cfg", r.CFG, "seed", r.Seed, r.Width, "x", r.Height)
	// Output:
	// "a red apple", not "blurry"
	// dpm++2m karras 20 steps, cfg 7 seed 1 512 x 768
}

// Settings by name are the command line that means the same.
func ExampleGiven_Command() {
	g := recipe.NewGiven(map[string]any{"prompt": "a red apple", "seed": uint64(7), "steps": 20})
	fmt.Println(g.Command())
	// Output: darkroom generate '--prompt=a red apple' --seed 7 --steps 20
}
