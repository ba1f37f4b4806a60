package main

import (
	"bytes"
	"cmp"
	"fmt"
	"image/color"
	"path/filepath"
	"strings"

	"darkroom/atomicfile"
	"darkroom/imagefile"
	"darkroom/preprocess"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

type preprocessOptions struct {
	preprocess.Options
	Name string
	File string
	Out  string
}

func preprocessCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "preprocess",
		Usage:     "show what a control network sees of a picture",
		ArgsUsage: "[NAME FILE]",
		Description: `Without arguments, it lists the names, which also work in --control MODEL=IMAGE:pre=NAME. There, the picture is first
scaled to the size of the one to be made.

Examples:
   darkroom preprocess
   darkroom preprocess canny photo.jpg
   darkroom preprocess canny photo.jpg --low 50 --high 120 -o edges.png
   darkroom generate "a house" --control canny=edges.png`,
		Flags: []cli.Flag{
			&cli.Float64Flag{Name: "low", Usage: "the lower threshold", DefaultText: "the preprocessor's"},
			&cli.Float64Flag{Name: "high", Usage: "the upper threshold", DefaultText: "the preprocessor's"},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "the `FILE` to write", DefaultText: "PICTURE-NAME.png beside the picture"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return preprocessors(e)
			}
			if c.NArg() != 2 {
				return &usageError{c.Command.Name, "a preprocessor's name and a picture are needed: darkroom preprocess canny photo.jpg"}
			}
			o := preprocessOptions{preprocess.Options{Low: c.Float64("low"), High: c.Float64("high")}, c.Args().Get(0), c.Args().Get(1), c.String("out")}
			if o.Low < 0 || o.High < 0 {
				return usagef("--low %v --high %v: they must not be negative", o.Low, o.High)
			}
			return preprocessed(e, o)
		},
	}
}

func preprocessors(e *env) error {
	t := newTable(e.stdout)
	t.AppendHeader(table.Row{"name", "what it makes"})
	for _, p := range preprocess.All() {
		t.AppendRow(table.Row{p.Name, p.About})
	}
	t.Render()
	return nil
}

func preprocessed(e *env, o preprocessOptions) error {
	if err := preprocess.Check(o.Name); err != nil {
		return usagef("%v", err)
	}
	picture, err := imagefile.Load(o.File)
	if err != nil {
		return err
	}
	out := cmp.Or(o.Out, fmt.Sprintf("%s-%s.png", strings.TrimSuffix(o.File, filepath.Ext(o.File)), o.Name))
	format, err := imagefile.FormatOf(out)
	if err != nil {
		return usagef("-o: %v", err)
	}
	if err := atomicfile.Check(out); err != nil {
		return err
	}
	img, err := preprocess.Apply(o.Name, imagefile.Flatten(picture.Pixels, color.NRGBA{255, 255, 255, 255}), o.Options)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	if err := imagefile.EncodePlain(&buf, img, imagefile.Options{Format: format}); err != nil {
		return err
	}
	if err := atomicfile.WriteData(out, buf.Bytes()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, out)
	return err
}
