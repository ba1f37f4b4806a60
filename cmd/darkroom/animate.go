package main

import (
	"bytes"
	"context"
	"image"
	"io"
	"os"
	"path/filepath"
	"strings"

	"darkroom/atomicfile"
	"darkroom/imagefile"
	"darkroom/pipeline"
	"darkroom/recipe"
	sharing "darkroom/render"

	"github.com/urfave/cli/v2"
)

type animateOptions struct {
	Request recipe.Given
	Engine  pipeline.Options
	Devices deviceList
	Out     string
	Quiet   bool
}

func animateCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "animate",
		Usage:     "make a film from a prompt with a motion module (AnimateDiff)",
		ArgsUsage: "PROMPT",
		Description: `All frames are denoised together, and the motion module has them agree. The module belongs to the model: there are
modules for Stable Diffusion 1.5 and for XL. It is a file, a folder, or a name in the models folder animatediff_models.
The film is an animated PNG or WebP, which carry the recipe, a GIF or, with ffmpeg, MP4 or WebM.

Examples:
   darkroom animate "a boat on waves" --model sd15 --motion mm_sd_v15_v2 -o boat.webp
   darkroom animate "a boat on waves" --model sd15 --motion v3_sd15_mm.ckpt --frames 24 --fps 12 --seed 4 -o boat.mp4`,
		Flags: append(settingFlags(), deviceFlag(), parallelFlag(), threadsFlag(), lowMemoryFlag(),
			&cli.IntFlag{Name: "frames", Usage: "pictures in all", DefaultText: "16", Category: recipe.PictureGroup.String()},
			&cli.Float64Flag{Name: "fps", Usage: "pictures per second", DefaultText: "8", Category: recipe.OutputGroup.String()},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "the `FILE` to write: .webp, .png, .gif, .mp4 or .webm", DefaultText: "film.webp"},
			quietFlag(),
		),
		Action: func(c *cli.Context) error {
			o := animateOptions{Out: "film.webp", Quiet: c.Bool("quiet")}
			override(&o.Out, given(c, "out", c.String))
			var err error
			if o.Request, err = readSettings(c, true); err != nil {
				return err
			}
			if err := o.check(given(c, "frames", c.Int), given(c, "fps", c.Float64)); err != nil {
				return err
			}
			if o.Engine, o.Devices, err = readEngines(c); err != nil {
				return err
			}
			o.Engine.Model, o.Engine.Backend, o.Engine.DType = o.Request.Model, o.Request.Backend, o.Request.DType
			return animate(c.Context, e, o)
		},
	}
}

// check finds what is wrong without looking at the model, and puts frames and fps into the setting.
func (o *animateOptions) check(frames *int, fps *float64) error {
	switch {
	case !o.Request.Has("prompt"):
		return &usageError{"animate", "the prompt is missing: darkroom animate \"a boat on waves\" --motion MODULE"}
	case !o.Request.Has("motion"):
		return &usageError{"animate", "--motion is missing: name a motion module, such as mm_sd_v15_v2 for Stable Diffusion 1.5. For films without one there is darkroom walk"}
	}
	m, err := recipe.ParseMotion(o.Request.Motion)
	if err != nil || m == nil {
		return usagef("--motion: %v", err)
	}
	override(&m.Frames, frames)
	override(&m.FPS, fps)
	if _, err := recipe.ParseMotion(m.String()); err != nil {
		return usagef("--%v", err)
	}
	o.Request.Motion = m.String()
	return checkFilm(o.Out)
}

func animate(ctx context.Context, e *env, o animateOptions) error {
	if err := atomicfile.Check(o.Out); err != nil {
		return err
	}
	e.status.set("opening the model")
	engines, err := o.Devices.engines(o.Engine)
	if err != nil {
		return err
	}
	m, err := sharing.Open(func() (*pipeline.Pipeline, error) { return openPipeline(engines[0]) })
	if err != nil {
		return err
	}
	defer release(m)
	p := m.Pipeline()
	r := p.NewRequest("")
	r.Seed = drawSeed()
	r.Give(&o.Request)
	show := newProgress(e.stderr, o.Quiet)
	film, err := p.Render(ctx, r, pipeline.Events{
		Warn:  func(text string) { show.note("warning: " + text) },
		Start: func(steps int) { show.start("rendering", steps) },
		Step: func(n int) {
			e.status.set("rendering, after step %d", n)
			show.step(n)
		},
	})
	show.end()
	if err != nil {
		return err
	}
	e.status.set("writing %s", o.Out)
	if err := writeAnimated(ctx, o.Out, film, r.Quality); err != nil {
		return err
	}
	return println(e.stdout, o.Out)
}

// writeAnimated writes a film in the format that its file's name asks for.
func writeAnimated(ctx context.Context, out string, film *pipeline.Image, quality int) error {
	m, err := recipe.ParseMotion(film.Recipe.Motion)
	if err != nil {
		return err
	}
	a := imagefile.Animation{Frames: len(film.Frames), FPS: m.FPS, Quality: quality, Frame: func(i int) (*image.NRGBA, error) { return film.Frames[i], ctx.Err() }}
	options := film.Options(imagefile.Options{Quality: quality})
	switch strings.ToLower(filepath.Ext(out)) {
	case ".gif":
		return atomicfile.Write(out, func(w io.Writer) error { return imagefile.EncodeAnimation(w, out, a) })
	case ".mp4", ".webm":
		dir, err := os.MkdirTemp(filepath.Dir(out), ".darkroom-*")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		for i, frame := range film.Frames {
			var buf bytes.Buffer
			if err := imagefile.EncodePlain(&buf, frame, imagefile.Options{}); err != nil {
				return err
			}
			if err := os.WriteFile(framePath(dir, i), buf.Bytes(), 0o666); err != nil {
				return err
			}
		}
		return ffmpeg(ctx, out, m.FPS, dir)
	case ".webp":
		options.Format = imagefile.WebP
	}
	return atomicfile.Write(out, func(w io.Writer) error { return imagefile.Encode(w, film.Pixels, film.Recipe, options) })
}
