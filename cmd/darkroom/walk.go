package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"darkroom/atomicfile"
	"darkroom/pipeline"
	"darkroom/recipe"

	"github.com/urfave/cli/v2"
)

type walkOptions struct {
	Request recipe.Given
	Engine  pipeline.Options
	Devices deviceList
	Prompts []string // to be passed, one after the other
	Seeds   []uint64 // likewise
	Frames  int
	Loop    bool
	FPS     float64
	Out     string
	Keep    bool // the pictures stay
	Quiet   bool
}

func walkCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "walk",
		Usage:     "make a film that goes from prompt to prompt, or into a picture",
		ArgsUsage: "PROMPT…",
		Description: `Goes from prompt to prompt and from seed to seed, blending the encoded prompts (--toward) and the noise (--variation).
With --move, each picture starts from the one before, moved: the camera zooms into the picture, or pans across it.
The film is an animated PNG, WebP or GIF or, with ffmpeg, MP4 or WebM. Its pictures are kept in NAME.frames until the film is
written; after an interruption, the same command continues with them. Each picture has its recipe.

Examples:
   darkroom walk "a cat" "a dog" "a fox" --frames 24 --loop --seed 1 -o animals.webp
   darkroom walk "a red apple" --seeds 1,5,9 --frames 30 -o seeds.png
   darkroom walk "a castle" --move zoom=1.05 --strength 0.45 --frames 20 --seed 2 -o zoom.gif
   darkroom walk "a boat" "a house" --frames 48 --fps 24 -o film.mp4 --keep`,
		Flags: append(settingFlags(), deviceFlag(), parallelFlag(), threadsFlag(), lowMemoryFlag(),
			&cli.StringFlag{Name: "seeds", Usage: "seeds to go through, with commas, instead of --seed", DefaultText: "one", Category: recipe.PictureGroup.String()},
			&cli.IntFlag{Name: "frames", Usage: "pictures in all", DefaultText: "24", Category: recipe.PictureGroup.String()},
			&cli.BoolFlag{Name: "loop", Usage: "return to the first prompt and seed", Category: recipe.PictureGroup.String()},
			&cli.Float64Flag{Name: "fps", Usage: "pictures per second", DefaultText: "12", Category: recipe.OutputGroup.String()},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "the `FILE` to write: .webp, .png, .gif, .mp4 or .webm", DefaultText: "walk.webp"},
			&cli.BoolFlag{Name: "keep", Usage: "keep the pictures in NAME.frames", Category: recipe.OutputGroup.String()},
			quietFlag(),
		),
		Action: func(c *cli.Context) error {
			o := walkOptions{Prompts: c.Args().Slice(), Frames: 24, FPS: 12, Out: "walk.webp", Loop: c.Bool("loop"), Keep: c.Bool("keep"), Quiet: c.Bool("quiet")}
			override(&o.Frames, given(c, "frames", c.Int))
			override(&o.FPS, given(c, "fps", c.Float64))
			override(&o.Out, given(c, "out", c.String))
			var err error
			if o.Request, err = readSettings(c, false); err != nil {
				return err
			}
			if err := o.readSeeds(c); err != nil {
				return err
			}
			if err := o.check(); err != nil {
				return err
			}
			if o.Engine, o.Devices, err = readEngines(c); err != nil {
				return err
			}
			o.Engine.Model, o.Engine.Backend, o.Engine.DType = o.Request.Model, o.Request.Backend, o.Request.DType
			return walk(c.Context, e, o)
		},
	}
}

// readSeeds reads --seeds, or --seed; without either one is drawn.
func (o *walkOptions) readSeeds(c *cli.Context) error {
	if !c.IsSet("seeds") {
		seed := o.Request.Seed
		if !o.Request.Has("seed") {
			seed = drawSeed()
		}
		o.Seeds = []uint64{seed}
		return nil
	}
	if o.Request.Has("seed") {
		return usagef("--seed and --seeds: give one of them")
	}
	for _, word := range strings.Split(c.String("seeds"), ",") {
		seed, err := strconv.ParseUint(strings.TrimSpace(word), 10, 64)
		if err != nil {
			return usagef("--seeds %q: %.40q is not a seed", c.String("seeds"), word)
		}
		o.Seeds = append(o.Seeds, seed)
	}
	return nil
}

// check finds what is wrong without looking at any file.
func (o *walkOptions) check() error {
	if o.Request.Has("prompt") {
		if len(o.Prompts) > 0 {
			return usagef("two prompts: --prompt %.40q and the argument %.40q: give the arguments alone", o.Request.Prompt, o.Prompts[0])
		}
		o.Prompts = []string{o.Request.Prompt}
	}
	chain := o.Request.Has("move")
	switch {
	case len(o.Prompts) == 0:
		return &usageError{"walk", "the prompt is missing: darkroom walk \"a cat\" \"a dog\""}
	case len(o.Prompts) > 1 && len(o.Seeds) > 1 && len(o.Prompts) != len(o.Seeds):
		return usagef("%d prompts and %d seeds: give as many of both, or one of either", len(o.Prompts), len(o.Seeds))
	case len(o.Prompts) == 1 && len(o.Seeds) == 1 && !chain:
		return usagef("one prompt and one seed do not make a film: give several prompts, --seeds or --move")
	case chain && len(o.Seeds) > 1:
		return usagef("--move begins each picture with the one before: it goes from prompt to prompt, not from seed to seed")
	case o.Request.Has("motion"):
		return usagef("--motion makes a film by itself: darkroom animate")
	case o.Request.Has("toward") || o.Request.Has("variation"):
		return usagef("--toward and --variation are what a walk sets itself: leave them out")
	case o.Frames < 2 || o.Frames > 100_000:
		return usagef("--frames %d: it must be from 2 to 100000", o.Frames)
	case !(o.FPS >= 0.1 && o.FPS <= 240):
		return usagef("--fps %v: it must be from 0.1 to 240", o.FPS)
	}
	if _, err := recipe.ParseMove(o.Request.Move); err != nil {
		return usagef("--move %v", err)
	}
	return checkFilm(o.Out)
}

// keys are how many prompts or seeds are passed.
func (o *walkOptions) keys() int { return max(len(o.Prompts), len(o.Seeds)) }

// at is where picture i is: between which of the prompts or seeds, and how far.
func (o *walkOptions) at(i int) (from, to int, share float64) {
	legs := o.keys() - 1
	steps := o.Frames - 1
	if o.Loop {
		legs, steps = legs+1, o.Frames // the last picture lies before the first one, which comes again
	}
	if legs == 0 {
		return 0, 0, 0
	}
	from = i * legs / steps
	share = float64(i*legs-from*steps) / float64(steps)
	if from == legs { // the end
		from, share = legs-1, 1
	}
	return from, (from + 1) % o.keys(), share
}

// request is picture i, from r, what all have in common.
func (o *walkOptions) request(r pipeline.Request, i int) pipeline.Request {
	from, to, share := o.at(i)
	prompt := func(k int) string { return o.Prompts[min(k, len(o.Prompts)-1)] }
	seed := func(k int) uint64 { return o.Seeds[min(k, len(o.Seeds)-1)] }
	if share == 1 {
		from, share = to, 0
	}
	r.Prompt, r.Seed = prompt(from), seed(from)
	if share > 0 && prompt(to) != prompt(from) {
		r.Toward = recipe.FormatToward(share, prompt(to))
	}
	if share > 0 && seed(to) != seed(from) {
		r.Variation = recipe.FormatVariation([]recipe.Variation{{Seed: seed(to), Strength: share}})
	}
	return r
}

// chained is picture i of a film in which each begins with the one before, of which file is the name; "" for the first. Each has a
// seed of its own: the same noise again and again would be burnt in.
func (o *walkOptions) chained(r pipeline.Request, i int, before string) pipeline.Request {
	r = o.request(r, i)
	r.Seed += uint64(i)
	if before == "" {
		r.Move = ""
		if r.Init == "" {
			r.Strength = nil
		}
		return r
	}
	r.Init = before
	return r
}

func walk(ctx context.Context, e *env, o walkOptions) error {
	if err := atomicfile.Check(o.Out); err != nil {
		return err
	}
	film := &film{e: e, o: o, dir: strings.TrimSuffix(o.Out, filepath.Ext(o.Out)) + ".frames", show: newProgress(e.stderr, o.Quiet), warned: map[string]bool{}}
	if err := film.render(ctx); err != nil {
		return err
	}
	if err := film.write(ctx); err != nil {
		return err
	}
	if !o.Keep {
		if err := film.remove(); err != nil {
			return err
		}
	}
	return println(e.stdout, o.Out)
}

// framePath is the file of picture i, counted from 1.
func framePath(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprintf("frame-%05d.png", i+1))
}
