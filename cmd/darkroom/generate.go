package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"darkroom/batch/jobs"
	"darkroom/c2pa"
	"darkroom/imagefile"
	"darkroom/pipeline"
	"darkroom/recipe"
	sharing "darkroom/render"

	"github.com/urfave/cli/v2"
)

// generateOptions are the command line of generate.
type generateOptions struct {
	Request   recipe.Given
	Engine    pipeline.Options
	Devices   deviceList // a pipeline on each
	Styles    []recipe.Given
	Drawn     bool   // --seed random: the seed in Request was drawn
	From      string // a picture to make again
	Count     int
	Out       string // file, folder, "-" for stdout, "" for the current folder
	Preview   int    // a preview every so many steps; 0: none
	Terminal  bool   // in the terminal instead of a file
	Signer    *c2pa.Signer
	Grid      bool    // a contact sheet of all pictures, too
	Wildcards string  // the folder of __name__; "": wildcards, if there is one
	Further   float64 // the share of another seed's noise that is mixed into the picture of From; 0: none
	Quiet     bool
	JSON      bool
}

func generateCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "generate",
		Usage:     "make pictures from a prompt",
		ArgsUsage: "PROMPT",
		Description: `Prints the path of each picture once it is written. A file named by -o is replaced (with --count, NAME.png becomes
NAME-1.png, NAME-2.png, …); in a folder, nothing is ever replaced. Each picture carries its recipe. --from makes the
picture again from it, byte for byte on the same machine; other flags given with --from change the recipe. darkroom history
lists earlier pictures; DARKROOM_HISTORY=off turns that off.

Examples:
   darkroom generate "a red apple"
   darkroom generate "a red apple" -o apple.png --seed 7 --steps 20 --scheduler dpm++2m
   darkroom generate "a (red:1.3) apple" --negative "leaf" --count 4 -o pictures/
   darkroom generate "a red apple" --count 100 --device 0,1 -o pictures/
   darkroom generate "a red apple" --width 512 --height 768 --model sd15 -o - | display
   darkroom generate --from apple.png -o again.png
   darkroom generate --from apple.png --seed 8 -o other.webp`,
		Flags: append(settingFlags(), presetFlag(), styleFlag(), deviceFlag(), parallelFlag(), threadsFlag(), lowMemoryFlag(),
			&cli.StringFlag{Name: "from", Usage: "make a picture again from `FILE`, an image with a recipe or a recipe alone", DefaultText: "none"},
			&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Usage: "number of pictures, with consecutive seeds", DefaultText: "1"},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "`FILE` (.png, .jpg, .webp), folder, or - for stdout", DefaultText: "the current folder"},
			&cli.StringFlag{Name: "preview", Usage: "every `N` steps, write a preview to NAME.preview.png, removed at the end; term or term:N shows it in the terminal (kitty, iTerm2, sixel)", DefaultText: "0, none"},
			wildcardsFlag(), certFlag(), keyFlag(),
			&cli.BoolFlag{Name: "grid", Usage: "also put the pictures of --count on a contact sheet, NAME-grid.png"},
			quietFlag(),
			jsonFlag("print one line of JSON per picture: path, seed, seconds, recipe"),
		),
		Action: func(c *cli.Context) error {
			o := generateOptions{
				From: c.String("from"), Count: 1, Out: c.String("out"),
				Grid: c.Bool("grid"), Wildcards: c.String("wildcards"), Quiet: c.Bool("quiet"), JSON: c.Bool("json"),
			}
			override(&o.Count, given(c, "count", c.Int))
			var err error
			if o.Signer, err = readSigner(c); err != nil {
				return err
			}
			if o.Preview, o.Terminal, err = previewOption(c.String("preview")); err != nil {
				return err
			}
			if err := o.readRequest(c); err != nil {
				return err
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

// readRequest combines the picture's settings from the configuration, the environment and the command line. A recipe, if one
// is read, sets everything that the first two could.
func (o *generateOptions) readRequest(c *cli.Context) error {
	flags, err := readSettings(c, true)
	if err != nil {
		return err
	}
	config, err := readConfig()
	if err != nil {
		return err
	}
	var below recipe.Given
	if o.From == "" {
		if below, err = standing(config); err != nil {
			return err
		}
	}
	o.Request, o.Styles, err = named(c, config, below, flags)
	fitOutput(&o.Request, flags, o.Out)
	o.Drawn = randomSeed(c)
	return err
}

// generate makes pictures and writes each as soon as it is there.
func generate(ctx context.Context, e *env, o generateOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	var quality *int
	if o.Request.Has("quality") {
		quality = &o.Request.Quality
	}
	out, err := newTarget(e, o.Out, o.Request.Format, quality, o.Count)
	if err != nil {
		return err
	}
	if out.Encode.Signer = o.Signer; o.Signer != nil && out.Encode.Format == imagefile.WebP {
		return usagef("--c2pa-cert: manifests are supported in PNG and JPEG files, not in WebP")
	}
	var from *source
	if o.From != "" {
		if from, err = readSource(o.From); err != nil {
			return err
		}
	}
	if err := out.Check(); err != nil {
		return err
	}
	show := newProgress(e.stderr, o.Quiet)
	graphics := ""
	if o.Terminal {
		if graphics = terminalGraphics(os.Getenv); graphics == "" {
			return usagef("--preview term: this terminal is not known to show pictures: set DARKROOM_GRAPHICS to kitty, iterm or sixel if it does, or use --preview 5 for a file")
		}
		show = &lines{w: e.stderr, every: 2 * time.Second} // pictures and a bar would overwrite each other
	}
	past := newHistoryLog()
	defer past.close()
	e.status.set("opening the model")
	models, err := o.open(from, show)
	defer func() {
		for _, m := range models {
			release(m)
		}
	}()
	if err != nil {
		return err
	}
	request, err := o.request(models[0].Pipeline(), from, show)
	if err != nil {
		return err
	}
	e.status.finished(0, o.Count)
	words, err := o.filler(request)
	if err != nil {
		return err
	}
	g := &generation{e: e, o: o, request: request, words: words, out: out, from: from, show: show, past: past, graphics: graphics}
	return g.run(ctx, models)
}

// open opens the model on each device.
func (o *generateOptions) open(from *source, show progress) (all []*sharing.Model, err error) {
	if o.Request.Has("width") {
		o.Engine.Width = o.Request.Width
	}
	if o.Request.Has("height") {
		o.Engine.Height = o.Request.Height
	}
	engines, err := o.Devices.engines(o.Engine)
	if err != nil {
		return nil, err
	}
	for _, engine := range engines {
		m, err := sharing.Open(func() (*pipeline.Pipeline, error) {
			if from != nil {
				return from.open(engine, show)
			}
			return openPipeline(engine)
		})
		if err != nil {
			return all, err
		}
		all = append(all, m)
	}
	return all, nil
}

// check finds mistakes that show without opening any file.
func (o *generateOptions) check() error {
	switch {
	case !o.Request.Has("prompt") && o.From == "":
		return &usageError{"generate", "the prompt is missing: darkroom generate \"a red apple\""}
	case o.Count < 1:
		return usagef("--count %d: it must be at least 1", o.Count)
	case o.Preview < 0:
		return usagef("--preview %d: it must not be negative; 0 is none", o.Preview)
	case o.Preview > 0 && !o.Terminal && o.Out == "-":
		return usagef("--preview writes a file beside the picture: -o must not be -")
	case o.Grid && o.Count < 2:
		return usagef("--grid needs several pictures: give --count")
	case o.JSON && o.Out == "-":
		return usagef("--json and -o - would both write to stdout: leave one out")
	}
	return nil
}

// request combines the settings of the model, --from and the flags.
func (o *generateOptions) request(p *pipeline.Pipeline, from *source, show progress) (pipeline.Request, error) {
	r := p.NewRequest("")
	r.Seed = drawSeed()
	if from != nil {
		for _, w := range from.warnings() {
			show.note("warning: " + w)
		}
		if err := from.sameWeights(p); err != nil {
			show.note("warning: " + err.Error())
		}
		var notes []string
		r, notes = from.request(p, r)
		if !from.hasSeed() && !o.Request.Has("seed") {
			notes = append(notes, from.file+" names no seed: using a random one")
		}
		for _, note := range notes {
			show.note("warning: " + note)
		}
	}
	if o.Request.Has("init") { // its size, where none is given
		r.Width, r.Height = 0, 0
	}
	r.Give(&o.Request)
	for _, style := range o.Styles {
		addStyle(&r.Settings, style)
	}
	if o.Further > 0 {
		var err error
		if r.Variation, err = further(r.Variation, o.Further); err != nil {
			return r, usagef("%s: variation %v", from.file, err)
		}
	}
	if last := r.Seed + uint64(o.Count-1); last < r.Seed {
		return r, usagef("--seed %d --count %d: the last seed would exceed 18446744073709551615", r.Seed, o.Count)
	}
	return r, nil
}

// filler fills in {a|b} and __name__ of a weighted prompt, as in job files; nil where there is none. A recipe's prompt is
// filled in already.
func (o *generateOptions) filler(r pipeline.Request) (*jobs.Filler, error) {
	if o.From != "" || r.Syntax != recipe.Weighted {
		return nil, nil
	}
	words, err := jobs.NewFiller(r.Prompt, r.Negative, o.Wildcards)
	if err != nil {
		return nil, usagef("%v", err)
	}
	if _, _, err := words.Fill(r.Seed); err != nil {
		return nil, usagef("%v", err)
	}
	return words, nil
}

// warnIfDifferent warns if the same recipe did not give the same picture.
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

func (o *generateOptions) printResult(above, w io.Writer, path string, r recipe.Recipe, took time.Duration) error {
	switch {
	case path == "-":
		return nil
	case !o.JSON:
		return printLine(above, w, path)
	}
	text, err := r.MarshalJSON()
	if err != nil {
		return err
	}
	var line bytes.Buffer
	if err := printJSON(&line, result{path, r.Seed, took.Round(time.Millisecond).Seconds(), text}); err != nil {
		return err
	}
	return printLine(above, w, strings.TrimSuffix(line.String(), "\n"))
}

// printJSON writes v in one line, without escapes for HTML.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
