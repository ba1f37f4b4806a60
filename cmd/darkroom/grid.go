package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"darkroom/atomicfile"
	"darkroom/imagefile"
	"darkroom/recipe"
	sharing "darkroom/render"

	"github.com/urfave/cli/v2"
)

type gridOptions struct {
	Files   []string
	Columns int
	Out     string
}

func gridCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "grid",
		Usage:     "put pictures together on a contact sheet",
		ArgsUsage: "FILE…",
		Description: `Below each picture are the settings in which it differs from the others, or its name if it has no recipe.

Examples:
   darkroom grid pictures/*.png -o sheet.png
   darkroom grid a.png b.webp c.jpg --columns 3 -o sheet.jpg`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "columns", Usage: "pictures per row", DefaultText: "as many as rows, or one more"},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "the `FILE` to write", DefaultText: "grid.png"},
		},
		Action: func(c *cli.Context) error {
			o := gridOptions{c.Args().Slice(), c.Int("columns"), "grid.png"}
			if c.IsSet("out") {
				o.Out = c.String("out")
			}
			switch {
			case len(o.Files) == 0:
				return &usageError{c.Command.Name, "name the pictures to put together"}
			case c.IsSet("columns") && o.Columns < 1:
				return usagef("--columns %d: it must be at least 1", o.Columns)
			}
			return grid(e, o)
		},
	}
}

func grid(e *env, o gridOptions) error {
	format, err := imagefile.FormatOf(o.Out)
	if err != nil {
		return usagef("-o: %v", err)
	}
	if err := atomicfile.Check(o.Out); err != nil {
		return err
	}
	s := &sheet{columns: o.Columns}
	for _, file := range o.Files {
		p, err := imagefile.Load(file)
		if err != nil {
			return err
		}
		var r *recipe.Recipe
		info, err := imagefile.Inspect(file)
		if err == nil && info.Complete {
			r = info.Recipe
		} else if err != nil && !errors.Is(err, imagefile.ErrNotImage) {
			return err
		}
		s.pictures, s.recipes, s.names = append(s.pictures, p.Pixels), append(s.recipes, r), append(s.names, filepath.Base(file))
	}
	if err := s.write(o.Out, imagefile.Options{Format: format}); err != nil {
		return err
	}
	return println(e.stdout, o.Out)
}

// write draws the sheet into a file.
func (s *sheet) write(path string, o imagefile.Options) error {
	for _, r := range s.recipes { // a picture that failed has none, and is not there
		if r == nil || imagefile.SourceOf(*r) == imagefile.Composite {
			o.Source = imagefile.Composite
		}
	}
	var buf bytes.Buffer
	if err := imagefile.EncodePlain(&buf, s.draw(), o); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return atomicfile.WriteData(path, buf.Bytes())
}

// sheetPath is where the sheet of a target's pictures goes: x-grid.png, or in a folder the prompt's words, the first seed, -grid.
func sheetPath(t *sharing.Target, prompt string, seed uint64) string {
	if t.File != "" {
		ext := filepath.Ext(t.File)
		return strings.TrimSuffix(t.File, ext) + "-grid" + ext
	}
	ext := map[imagefile.Format]string{imagefile.PNG: ".png", imagefile.JPEG: ".jpg", imagefile.WebP: ".webp"}[t.Encode.Format]
	return filepath.Join(t.Folder, sharing.BaseName(prompt, seed)+"-grid"+ext)
}
