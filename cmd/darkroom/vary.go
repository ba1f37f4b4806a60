package main

import (
	"fmt"

	"darkroom/recipe"

	"github.com/urfave/cli/v2"
)

// How far a variation goes from the picture: shares of the way from its noise to another.
const (
	subtleVariation = 0.12
	strongVariation = 0.4
)

func varyCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "vary",
		Usage:     "make variations of a picture",
		ArgsUsage: "PICTURE",
		Description: `Makes the picture again from the recipe in the file, with noise of other seeds mixed in: a little with --subtle,
more with --strong. Other flags change the recipe. This is short for generate --from:
darkroom vary cat.png --subtle is darkroom generate --from cat.png --variation random:0.12 --count 4 --grid.

Examples:
   darkroom vary cat.png
   darkroom vary cat.png --subtle --count 9 -o cats/
   darkroom vary cat.png --variation 7:0.25 --count 1 -o other.png`,
		Flags: append(settingFlags(), deviceFlag(), parallelFlag(), threadsFlag(), lowMemoryFlag(),
			&cli.BoolFlag{Name: "subtle", Usage: fmt.Sprintf("a little: --variation random:%v", subtleVariation), Category: recipe.EditingGroup.String()},
			&cli.BoolFlag{Name: "strong", Usage: fmt.Sprintf("more, which is the default: --variation random:%v", strongVariation), Category: recipe.EditingGroup.String()},
			&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Usage: "number of pictures", DefaultText: "4"},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "`FILE` (.png, .jpg, .webp) or folder", DefaultText: "the current folder"},
			&cli.BoolFlag{Name: "no-grid", Usage: "make no contact sheet"},
			quietFlag(),
			jsonFlag("print one line of JSON per picture: path, seed, seconds, recipe"),
		),
		Action: func(c *cli.Context) error {
			file, err := oneWord(c, "the picture")
			if err != nil {
				return err
			}
			o := generateOptions{From: file, Count: 4, Out: c.String("out"), Quiet: c.Bool("quiet"), JSON: c.Bool("json")}
			override(&o.Count, given(c, "count", c.Int))
			o.Grid = o.Count > 1 && !c.Bool("no-grid")
			flags, err := readSettings(c, false)
			if err != nil {
				return err
			}
			o.Request = flags
			fitOutput(&o.Request, flags, o.Out)
			switch {
			case c.Bool("subtle") && c.Bool("strong"), flags.Has("variation") && (c.Bool("subtle") || c.Bool("strong")):
				return usagef("--subtle, --strong, --variation: give only one")
			case c.Bool("subtle"):
				o.Further = subtleVariation
			case !flags.Has("variation"):
				o.Further = strongVariation
			}
			if o.Engine, o.Devices, err = readEngines(c); err != nil {
				return err
			}
			o.Engine.Model, o.Engine.Backend, o.Engine.DType = o.Request.Model, o.Request.Backend, o.Request.DType
			if c.IsSet("out") && o.Out == "" {
				return usagef("-o is empty: name a file or a folder")
			}
			return generate(c.Context, e, o)
		},
	}
}

// further mixes another seed's noise into that of a picture, which may be a variation already.
func further(variation string, strength float64) (string, error) {
	list, err := recipe.ParseVariation(variation)
	return recipe.FormatVariation(append(list, recipe.Variation{Seed: drawSeed(), Strength: strength})), err
}
