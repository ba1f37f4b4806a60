package main

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"math/rand/v2"
	"time"

	"darkroom/imagefile"
	"darkroom/pipeline"
	"darkroom/recipe"

	"github.com/urfave/cli/v2"
)

// generateOptions are the command line of generate.
type generateOptions struct {
	Request requestOptions
	Engine  pipeline.Options
	From    string // a picture to make again
	Count   int
	Out     string // file, folder, "-" for stdout, "" for the current folder
	Format  string // "": by the file's extension, else PNG
	Quality *int
	Preview int // a preview every so many steps; 0: none
	Quiet   bool
	JSON    bool
}

func generateCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "generate",
		Usage:     "make pictures from a prompt",
		ArgsUsage: "PROMPT",
		Description: `Prints the path of each picture when it is written. A file that is named is replaced (with --count,
NAME.png stands for NAME-1.png, NAME-2.png, …); in a folder nothing is ever replaced. Each picture carries its recipe, from which --from makes it again,
byte for byte on the same machine; flags given beside --from change the recipe. darkroom history lists what was made; DARKROOM_HISTORY=off keeps no history.

Examples:
   darkroom generate "a red apple"
   darkroom generate "a red apple" -o apple.png --seed 7 --steps 30 --scheduler dpm++2m-karras
   darkroom generate "a (red:1.3) apple" --negative "leaf" --count 4 -o pictures/
   darkroom generate "a red apple" --width 512 --height 768 -o - | display
   darkroom generate --from apple.png -o again.png
   darkroom generate --from apple.png --seed 8 -o other.webp`,
		Flags: append(append(requestFlags(), engineFlags()...),
			&cli.StringFlag{Name: "from", Usage: "make the picture in `FILE` again: an image with a recipe, or a recipe", DefaultText: "none"},
			&cli.IntFlag{Name: "count", Usage: "number of pictures, with seeds one after the other", DefaultText: "1"},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "`FILE` (.png, .jpg, .webp), folder, or - for stdout", DefaultText: "the current folder"},
			&cli.StringFlag{Name: "format", Usage: "png, jpg or webp, for folders and stdout", DefaultText: "png"},
			&cli.IntFlag{Name: "quality", Usage: "1 to 100, for JPEG and WebP", DefaultText: "JPEG 95, WebP lossless"},
			&cli.IntFlag{Name: "preview", Usage: "every N steps, show what the picture will be in NAME.preview.png, which is removed at the end", DefaultText: "0, none"},
			quietFlag(),
			jsonFlag("print a line of JSON for each picture: path, seed, seconds, recipe"),
		),
		Action: func(c *cli.Context) error {
			o := generateOptions{
				From: c.String("from"), Count: 1, Out: c.String("out"), Format: c.String("format"), Quality: given(c, "quality", c.Int),
				Preview: c.Int("preview"), Quiet: c.Bool("quiet"), JSON: c.Bool("json"),
			}
			override(&o.Count, given(c, "count", c.Int))
			var err error
			if o.Request, err = readRequestFlags(c); err != nil {
				return err
			}
			if o.Engine, err = readEngineFlags(c); err != nil {
				return err
			}
			if c.IsSet("out") && o.Out == "" {
				return usagef("-o is empty: name a file or a folder")
			}
			return generate(c.Context, e, o)
		},
	}
}

// generate makes pictures and writes each as soon as it is there.
func generate(ctx context.Context, e *env, o generateOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	out, err := newTarget(e, o.Out, o.Format, o.Quality, o.Count)
	if err != nil {
		return err
	}
	var from *source
	if o.From != "" {
		if from, err = readSource(o.From); err != nil {
			return err
		}
	}
	if err := out.check(); err != nil {
		return err
	}
	show := newProgress(e.stderr, o.Quiet)
	past := openDiary()
	defer past.close()
	e.where.set("opening the model")
	var p *pipeline.Pipeline
	if from != nil {
		p, err = from.open(o.Engine, show)
	} else {
		p, err = openPipeline(o.Engine)
	}
	if err != nil {
		return err
	}
	defer release(p)
	request, err := o.request(p, from, show)
	if err != nil {
		return err
	}
	for i := range o.Count {
		e.where.finished(i, o.Count)
		if err := generateOne(ctx, e, o, p, request, i, out, from, show, past); err != nil {
			return err
		}
		request.Seed++
	}
	return nil
}

// check finds what is wrong without looking at any file.
func (o *generateOptions) check() error {
	switch {
	case o.Request.Prompt == nil && o.From == "":
		return &usageError{"generate", "the prompt is missing: darkroom generate \"a red apple\""}
	case o.Count < 1:
		return usagef("--count %d: at least 1 picture is needed", o.Count)
	case o.Preview < 0:
		return usagef("--preview %d: it must not be negative; 0 is none", o.Preview)
	case o.Preview > 0 && o.Out == "-":
		return usagef("--preview needs a place for its file: -o must not be -")
	case o.JSON && o.Out == "-":
		return usagef("--json and -o - would both write to stdout: leave one out")
	}
	return nil
}

// request puts together what the model, --from and the flags say.
func (o *generateOptions) request(p *pipeline.Pipeline, from *source, show progress) (pipeline.Request, error) {
	r := p.NewRequest("")
	r.Seed = uint64(rand.Uint32()) // 32 bits: all that most other programs take
	if from != nil {
		for _, w := range from.warnings() {
			show.note("warning: " + w)
		}
		if err := from.sameWeights(p); err != nil {
			show.note("warning: " + err.Error())
		}
		r = from.request(p)
	}
	o.Request.apply(&r)
	if last := r.Seed + uint64(o.Count-1); last < r.Seed {
		return r, usagef("--seed %d --count %d: the last seed would be beyond 18446744073709551615", r.Seed, o.Count)
	}
	return r, nil
}

func generateOne(ctx context.Context, e *env, o generateOptions, p *pipeline.Pipeline, r pipeline.Request, i int, out *target, from *source, show progress, past *diary) error {
	title := fmt.Sprintf("picture %d of %d", i+1, o.Count)
	e.where.set("preparing %s (seed %d)", title, r.Seed)
	events := pipeline.Events{
		Warn: func(message string) {
			if i == 0 { // the same for all
				show.note("warning: " + message)
			}
		},
		Start: func(steps int) {
			e.where.set("denoising %s (seed %d), before step 1 of %d", title, r.Seed, steps)
			if i == 0 && o.Request.Seed == nil && from == nil && !o.Quiet {
				show.note(fmt.Sprintf("seed %d", r.Seed)) // it was drawn
			}
			show.start(title, steps)
		},
		PreviewEvery: o.Preview,
	}
	steps := 0
	start := events.Start
	events.Start = func(n int) { steps = n; start(n) }
	events.Step = func(n int) {
		show.step(n)
		if n < steps {
			e.where.set("denoising %s (seed %d), after step %d of %d", title, r.Seed, n, steps)
		} else {
			e.where.set("decoding %s (seed %d)", title, r.Seed)
		}
	}
	if o.Preview > 0 {
		path := out.previewPath(i, r)
		e.where.temporary(path)
		defer e.where.sweep()
		events.Preview = func(_ int, picture *image.NRGBA) error { return writePreview(path, picture) }
	}
	begun := time.Now()
	picture, err := p.Render(ctx, r, events)
	rendered := time.Since(begun)
	show.end()
	if err != nil {
		return err
	}
	if from != nil && from.complete && i == 0 {
		warnIfDifferent(from.recipe, picture.Recipe, from.file, show)
	}
	e.where.set("writing %s", title)
	path, data, err := out.write(i, picture)
	if err != nil {
		return err
	}
	e.where.finished(i+1, o.Count)
	if err := o.printResult(e.stdout, path, picture.Recipe, time.Since(begun)); err != nil {
		return err
	}
	if err := past.add(generated(p, r, out.encode, picture, path, data, rendered)); err != nil {
		show.note("warning: " + err.Error())
	}
	return nil
}

// writePreview writes a small-lived file for a viewer to watch: whole at any time, without a recipe.
func writePreview(path string, picture *image.NRGBA) error {
	return imagefile.WriteFile(path, func(w io.Writer) error { return png.Encode(w, picture) })
}

// warnIfDifferent says so when the same recipe did not give the same picture.
func warnIfDifferent(was, is recipe.Recipe, file string, show progress) {
	before, after := was, is
	before.Result, after.Result = recipe.Result{}, recipe.Result{}
	before.Version, before.Device, after.Version, after.Device = "", "", "", ""
	if was.Result.Pixels == "" || was.Result.Pixels == is.Result.Pixels || !sameRecipe(before, after) {
		return
	}
	show.note(fmt.Sprintf("warning: the picture differs from the one in %s; darkroom verify %s says where", file, file))
}

func sameRecipe(a, b recipe.Recipe) bool {
	ja, errA := a.MarshalJSON()
	jb, errB := b.MarshalJSON()
	return errA == nil && errB == nil && string(ja) == string(jb)
}

// result is a line of --json.
type result struct {
	Path    string          `json:"path"`
	Seed    uint64          `json:"seed"`
	Seconds float64         `json:"seconds"`
	Recipe  json.RawMessage `json:"recipe"`
}

func (o *generateOptions) printResult(w io.Writer, path string, r recipe.Recipe, took time.Duration) error {
	switch {
	case path == "-":
		return nil
	case !o.JSON:
		return println(w, path)
	}
	text, err := r.MarshalJSON()
	if err != nil {
		return err
	}
	return printJSON(w, result{path, r.Seed, took.Round(time.Millisecond).Seconds(), text})
}

// printJSON writes v in one line, without escapes for HTML.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
