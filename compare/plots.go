package compare

import (
	"cmp"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"darkroom/atomicfile"

	"github.com/disintegration/imaging"
	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// colours of curves, as in the page's light theme.
var colours = []color.NRGBA{
	{0x26, 0x60, 0xa4, 255}, {0xc2, 0x57, 0x1a, 255}, {0x2a, 0x7d, 0x4f, 255}, {0x8b, 0x3f, 0xa0, 255},
	{0xa8, 0x86, 0x2b, 255}, {0x19, 0x80, 0x8a, 255}, {0xb5, 0x32, 0x5f, 255}, {0x5c, 0x5f, 0x66, 255},
}

// writePlots writes plots/MEASURE-seconds and -calls, as SVG and PNG, for each measure that has a better and a worse.
func (r *Report) writePlots(dir string) error {
	for _, m := range r.Measures {
		if m.Better == 0 {
			continue
		}
		for _, against := range []string{"seconds", "calls"} {
			for _, format := range []string{"svg", "png"} {
				p := r.plot(m, against)
				if p == nil {
					continue
				}
				w, err := p.WriterTo(18*vg.Centimeter, 11*vg.Centimeter, format)
				if err != nil {
					return fmt.Errorf("plot of %s: %w", m.Key, err)
				}
				name := filepath.Join(dir, "plots", fmt.Sprintf("%s-%s.%s", m.Key, against, format))
				if err := atomicfile.Write(name, func(out io.Writer) error { _, err := w.WriteTo(out); return err }); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// plot draws a curve for each group; nil where there is no point.
func (r *Report) plot(m Measure, against string) *plot.Plot {
	p := plot.New()
	p.Title.Text = m.Title
	p.X.Label.Text, p.Y.Label.Text = "seconds a picture (median)", m.Title
	if against == "calls" {
		p.X.Label.Text = "model calls a picture"
	}
	if m.Unit != "" {
		p.Y.Label.Text += " (" + m.Unit + ")"
	}
	p.Legend.Top, p.Legend.Left = m.Better < 0, false
	p.Legend.TextStyle.Font.Size = vg.Points(8)
	p.Add(plotter.NewGrid())
	drawn := 0
	for _, group := range r.groups() {
		var points plotter.XYs
		for _, s := range group.settings {
			v, ok := s.Values[m.Key]
			x := &s.Seconds.Median
			if against == "calls" {
				x = &s.Calls
			}
			if ok {
				points = append(points, plotter.XY{X: *x, Y: v.Mean})
			}
		}
		if len(points) == 0 {
			continue
		}
		slices.SortFunc(points, func(a, b plotter.XY) int { return cmp.Compare(a.X, b.X) })
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			continue // a value that is not finite: measures has none
		}
		c := colours[group.index%len(colours)]
		line.Color, dots.Color, dots.Shape = c, c, draw.CircleGlyph{}
		if dash := group.index / len(colours); dash > 0 {
			line.Dashes = []vg.Length{vg.Points(float64(2 + 2*dash)), vg.Points(2)}
		}
		p.Add(line, dots)
		p.Legend.Add(group.name, line, dots)
		drawn++
	}
	if drawn == 0 {
		return nil
	}
	return p
}

type group struct {
	index    int
	name     string
	settings []SettingResult
}

// groups are the curves, in the settings' order.
func (r *Report) groups() []*group {
	var out []*group
	at := map[string]*group{}
	for _, s := range r.Settings {
		g := at[s.Group]
		if g == nil {
			g = &group{index: len(out), name: s.GroupName}
			at[s.Group] = g
			out = append(out, g)
		}
		g.settings = append(g.settings, s)
	}
	return out
}

// The largest sheet, in cells and in pixels of a cell: a sheet is for looking over, the pictures are in images/.
const (
	sheetCell  = 192
	sheetLabel = 150 // pixels of the labels at the left
	sheetLine  = 16  // pixels of a line of text
	mostSheets = 200
)

// writeSheets writes sheets/PROMPT-SEED.png: schedulers downwards, steps to the right, the converged solution last.
func (r *Report) writeSheets(dir string) error {
	type item struct {
		prompt int
		seed   uint64
	}
	var items []item
	byItem := map[item]map[string]PictureResult{}
	for _, p := range r.Pictures {
		i := item{p.Prompt, p.Seed}
		if byItem[i] == nil {
			byItem[i] = map[string]PictureResult{}
			items = append(items, i)
		}
		byItem[i][p.Setting] = p
	}
	for _, i := range items[:min(len(items), mostSheets)] {
		sheet, err := r.sheet(dir, byItem[i], fmt.Sprintf("%d/%d", i.prompt, i.seed), fmt.Sprintf("%s, seed %d", r.Grid.Prompts[i.prompt], i.seed))
		if err != nil {
			return err
		}
		name := filepath.Join(dir, "sheets", fmt.Sprintf("prompt-%03d-seed-%d.png", i.prompt+1, i.seed))
		err = atomicfile.Write(name, func(w io.Writer) error { return png.Encode(w, sheet) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Report) sheet(dir string, pictures map[string]PictureResult, key, title string) (*image.NRGBA, error) {
	var steps []int
	for _, s := range r.Settings {
		steps = append(steps, s.Setting.Steps)
	}
	slices.Sort(steps)
	steps = slices.Compact(steps)
	groups := r.groups()
	rows := len(groups) + len(r.References)
	white := color.NRGBA{255, 255, 255, 255}
	sheet := imaging.New(sheetLabel+len(steps)*sheetCell, 2*sheetLine+rows*(sheetCell+sheetLine), white)
	write(sheet, 4, 12, title)
	for c, n := range steps {
		write(sheet, sheetLabel+c*sheetCell+4, sheetLine+12, fmt.Sprintf("%d steps", n))
	}
	put := func(row, column int, file, caption string) error {
		p, err := readPicture(filepath.Join(dir, filepath.FromSlash(file)))
		if err != nil {
			return err
		}
		x, y := sheetLabel+column*sheetCell, 2*sheetLine+row*(sheetCell+sheetLine)
		sheet = imaging.Paste(sheet, fitted(imaging.Resize(p, sheetCell-4, 0, imaging.Lanczos), sheetCell-4), image.Pt(x+2, y+2))
		write(sheet, x+4, y+sheetCell+11, caption)
		return nil
	}
	for row, g := range groups {
		write(sheet, 4, 2*sheetLine+row*(sheetCell+sheetLine)+sheetCell/2, g.name)
		for _, s := range g.settings {
			if p, ok := pictures[s.ID]; ok {
				if err := put(row, slices.Index(steps, s.Setting.Steps), p.File, fmt.Sprintf("%.2f s", p.Seconds)); err != nil {
					return nil, err
				}
			}
		}
	}
	for i, ref := range r.References {
		row := len(groups) + i
		write(sheet, 4, 2*sheetLine+row*(sheetCell+sheetLine)+sheetCell/2, "converged")
		if file := ref.Files[key]; file != "" {
			if err := put(row, 0, file, ref.Name); err != nil {
				return nil, err
			}
		}
	}
	return sheet, nil
}

// write puts a line of text with its base line at y. What the small font has no letter for is written as "?".
func write(dst *image.NRGBA, x, y int, text string) {
	text = strings.Map(func(r rune) rune {
		if r < 32 || r > 126 {
			return '?'
		}
		return r
	}, text)
	d := font.Drawer{Dst: dst, Src: image.NewUniform(color.Black), Face: basicfont.Face7x13, Dot: fixed.P(x, y)}
	d.DrawString(text)
}
