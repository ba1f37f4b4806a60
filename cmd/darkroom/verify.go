package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"os"

	"darkroom/imagefile"
	"darkroom/pipeline"
	"darkroom/recipe"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

type verifyOptions struct {
	File   string
	Engine pipeline.Options
	Quiet  bool
	JSON   bool
}

func verifyCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "make a picture again and check that every stage agrees",
		ArgsUsage: "FILE",
		Description: `Renders the picture from its recipe and compares the hashes of the weights, the noise, the latents
and the pixels with those in the recipe. Exit code 0: all agree. 1: they do not; the first difference
is named.

Examples:
   darkroom verify apple.png
   darkroom verify apple.png --backend ref
   darkroom verify apple.png --model /data/models/sd15 --json`,
		Flags: append(engineFlags(), quietFlag(), jsonFlag("print one JSON object")),
		Action: func(c *cli.Context) error {
			file, err := oneWord(c, "the file")
			if err != nil {
				return err
			}
			engine, err := readEngineFlags(c)
			if err != nil {
				return err
			}
			return verify(c.Context, e, verifyOptions{file, engine, c.Bool("quiet"), c.Bool("json")})
		},
	}
}

// seam is a place where two renderings are compared.
type seam struct {
	Name  string `json:"name"`
	Was   string `json:"was"`
	Is    string `json:"is"`
	Agree bool   `json:"agree"`
}

// verdict is what verify finds.
type verdict struct {
	File  string      `json:"file"`
	Seams []seam      `json:"seams"`
	First string      `json:"first_difference"` // a seam's name; "": all agree
	Diff  *difference `json:"difference,omitempty"`
	Edit  bool        `json:"edited"` // the file's pixels are not those that its recipe was written for
}

func verify(ctx context.Context, e *env, o verifyOptions) error {
	src, err := readSource(o.File)
	if err != nil {
		return err
	}
	if !src.complete || src.recipe.Result.Pixels == "" {
		return fmt.Errorf("%s: the file has no hashes to compare with: only darkroom's own files have them (generate --from %s makes a similar picture)", o.File, o.File)
	}
	show := newProgress(e.stderr, o.Quiet)
	e.status.set("opening the model")
	o.Engine.Rehash = true
	p, err := src.open(o.Engine, show)
	if err != nil {
		return err
	}
	defer release(p)
	for _, w := range src.warnings() {
		show.note("warning: " + w)
	}
	v, err := compareSeams(ctx, e, p, src, show)
	if err != nil {
		return err
	}
	if err := v.print(e, o.JSON); err != nil {
		return err
	}
	return v.err(src.recipe)
}

// compareSeams renders the picture again, unless the weights differ: then nothing after them can agree.
func compareSeams(ctx context.Context, e *env, p *pipeline.Pipeline, src *source, show progress) (*verdict, error) {
	v := &verdict{File: src.file}
	e.status.set("hashing the weights")
	hash, err := p.Hash()
	if err != nil {
		return nil, err
	}
	if v.compare("weights", src.recipe.ModelHash, hash); v.First != "" {
		return v, nil
	}
	was := src.recipe.Result
	picture, err := p.Render(ctx, pipeline.FromRecipe(src.recipe), pipeline.Events{
		Start: func(steps int) { show.start("rendering", steps) },
		Step: func(n int) {
			e.status.set("rendering, after step %d", n)
			show.step(n)
		},
	})
	show.end()
	if err != nil {
		return nil, err
	}
	is := picture.Recipe.Result
	v.compare("noise", was.Noise, is.Noise)
	v.compare("latents", was.Latents, is.Latents)
	v.compare("pixels", was.Pixels, is.Pixels)
	return v, v.compareFile(was, picture)
}

func (v *verdict) compare(name, was, is string) {
	agree := was == is
	v.Seams = append(v.Seams, seam{name, was, is, agree})
	if !agree && v.First == "" {
		v.First = name
	}
}

// compareFile looks at the file's own pixels, where the format keeps them: are they those of the recipe, and how far
// from the new ones?
func (v *verdict) compareFile(was recipe.Result, now *pipeline.Image) error {
	frames, lossless, err := filePixels(v.File)
	if err != nil || !lossless {
		return err
	}
	v.Edit = recipe.HashPixels(frames...) != was.Pixels
	if d := differ(frames[0], now.Pixels); d.Pixels > 0 { // of a film, the first frame's
		v.Diff = &d
	}
	return nil
}

// filePixels decodes the file. It is lossless if the file is an image in a format that keeps every pixel.
func filePixels(path string) (frames []*image.NRGBA, lossless bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	info, err := imagefile.Read(f, st.Size())
	if errors.Is(err, imagefile.ErrNotImage) || err == nil && !info.Lossless {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	frames, err = imagefile.Frames(f, st.Size())
	return frames, true, err
}

// difference is how far two pictures are apart.
type difference struct {
	Pixels int     `json:"pixels"` // that differ at all
	Of     int     `json:"of"`
	Max    int     `json:"max"`  // the largest difference of a channel, of 255
	PSNR   float64 `json:"psnr"` // dB
}

func differ(a, b *image.NRGBA) difference {
	d := difference{Of: b.Rect.Dx() * b.Rect.Dy()}
	if a.Rect.Size() != b.Rect.Size() {
		return difference{Pixels: d.Of, Of: d.Of, Max: 255}
	}
	sum := 0.0
	for i := 0; i < len(a.Pix); i += 4 {
		most := 0
		for c := range 3 {
			diff := int(a.Pix[i+c]) - int(b.Pix[i+c])
			most = max(most, diff, -diff)
			sum += float64(diff * diff)
		}
		if most > 0 {
			d.Pixels++
		}
		d.Max = max(d.Max, most)
	}
	if sum > 0 {
		d.PSNR = 10 * math.Log10(255*255*float64(3*d.Of)/sum)
	}
	return d
}

func (v *verdict) print(e *env, asJSON bool) error {
	if asJSON {
		return printJSON(e.stdout, v)
	}
	t := newTable(e.stdout)
	for _, s := range v.Seams {
		if s.Agree {
			t.AppendRow(table.Row{s.Name, "agree", s.Is})
		} else {
			t.AppendRow(table.Row{s.Name, "differ", fmt.Sprintf("%.10s… in the recipe, %.10s… now", s.Was, s.Is)})
		}
	}
	if v.Edit {
		t.AppendRow(table.Row{"file", "differs", "the file's pixels are not those that its recipe was written for: it was edited"})
	}
	if v.Diff != nil {
		t.AppendRow(table.Row{"", "", fmt.Sprintf("%d of %d pixels of the file differ from the new picture, by at most %d of 255, PSNR %.1f dB", v.Diff.Pixels, v.Diff.Of, v.Diff.Max, v.Diff.PSNR)})
	}
	t.Render()
	return nil
}

// err says what the first difference means.
func (v *verdict) err(r recipe.Recipe) error {
	meaning := map[string]string{
		"weights": "this is not the model that made it: say where that is with --model",
		"noise":   "the random numbers differ: another numerics id, or a damaged recipe",
		"latents": "noise and weights agree, the model's arithmetic does not: compare device, backend, dtype and numerics (darkroom inspect)",
		"pixels":  "the latents agree, the decoder's arithmetic does not: compare device, backend, dtype and numerics (darkroom inspect)",
	}
	switch {
	case v.First != "":
		return fmt.Errorf("%s: the first difference is in the %s: %s. It was made on %s, %s", v.File, v.First, meaning[v.First], r.Backend, r.Device)
	case v.Edit:
		return fmt.Errorf("%s: the recipe gives the picture it was written for, but the file holds other pixels: it was edited", v.File)
	}
	return nil
}
