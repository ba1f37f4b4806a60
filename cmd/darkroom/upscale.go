package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"darkroom/atomicfile"
	"darkroom/family"
	"darkroom/imagefile"
	"darkroom/models/library"
	"darkroom/pipeline"
	"darkroom/server/enlarge"
	"darkroom/stage"

	"github.com/urfave/cli/v2"
)

type upscaleOptions struct {
	File     string
	Upscaler string
	Out      string
	Tile     int
	Engine   pipeline.Options
	Quiet    bool
}

func upscaleCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "upscale",
		Usage:     "enlarge a picture with an upscaler's network",
		ArgsUsage: "FILE",
		Description: `The upscaler is a file of the ESRGAN kind (RRDB, or Real-ESRGAN's compact one), .pth or .safetensors, or the
name of one in the folder upscale_models of the models. Large pictures are enlarged in tiles, without seams.
The recipe stays in the picture, with the original size.

Examples:
   darkroom upscale cat.png --upscaler RealESRGAN_x4plus.pth
   darkroom upscale cat.png --upscaler 4x-anime -o large.webp --tile 128`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "upscaler", Usage: "a `FILE` or a name", DefaultText: "none"},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "the `FILE` to write", DefaultText: "NAME-x4.png beside the picture"},
			&cli.IntFlag{Name: "tile", Usage: "side of a tile in pixels; smaller tiles need less memory", DefaultText: "256"},
		}, append(settingFlags("backend", "dtype"), deviceFlag(), threadsFlag(), lowMemoryFlag(), quietFlag())...),
		Action: func(c *cli.Context) error {
			file, err := oneWord(c, "the picture")
			if err != nil {
				return err
			}
			if file == "" {
				return usagef("name the picture to enlarge")
			}
			if c.String("upscaler") == "" {
				return usagef("--upscaler is needed: a file of an upscaler's weights, or its name")
			}
			if c.IsSet("tile") && c.Int("tile") < 16 {
				return usagef("--tile %d: it must be at least 16 pixels", c.Int("tile"))
			}
			engine, err := readEngineFlags(c)
			if err != nil {
				return err
			}
			return upscale(c.Context, e, upscaleOptions{file, c.String("upscaler"), c.String("out"), c.Int("tile"), engine, c.Bool("quiet")})
		},
	}
}

func upscale(ctx context.Context, e *env, o upscaleOptions) error {
	path, err := library.FindPart(library.Upscalers, o.Upscaler)
	if err != nil {
		return usagef("--upscaler %s: %v", o.Upscaler, err)
	}
	picture, err := imagefile.Load(o.File)
	if err != nil {
		return err
	}
	b, err := pipeline.NewBackend(o.Engine)
	if err != nil {
		return err
	}
	defer release(b)
	u, err := family.OpenUpscaler(path, &stage.Device{Backend: b, DType: b.Info().DTypes[0], LowMemory: o.Engine.LowMemory})
	if err != nil {
		return err
	}
	defer release(u)
	size := picture.Pixels.Bounds().Size()
	if w, h := size.X*u.Scale, size.Y*u.Scale; w > imagefile.MaxPixels/h {
		return usagef("%s has %d×%d pixels: %d×%d would be too large", o.File, size.X, size.Y, w, h)
	}
	out := cmp.Or(o.Out, fmt.Sprintf("%s-x%d.png", strings.TrimSuffix(o.File, filepath.Ext(o.File)), u.Scale))
	format, err := imagefile.FormatOf(out)
	if err != nil {
		return usagef("-o: %v", err)
	}
	if err := atomicfile.Check(out); err != nil {
		return err
	}
	done, tiles := 0, u.Tiles(size.X, size.Y, o.Tile)
	larger, err := u.Upscale(ctx, picture.Pixels, o.Tile, func() {
		if done++; !o.Quiet && tiles > 1 {
			fmt.Fprintf(e.stderr, "tile %d of %d\n", done, tiles)
		}
	})
	if err != nil {
		return err
	}
	info, err := imagefile.Inspect(o.File)
	if err != nil {
		info = imagefile.Info{} // it has no recipe to keep
	}
	data, _, err := enlarge.Encode(larger, info, enlarge.Upscaler{Path: path, Scale: u.Scale, HashCache: o.Engine.HashCache}, format)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteData(out, data); err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, out)
	return err
}
