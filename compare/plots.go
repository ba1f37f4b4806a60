package compare

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"path/filepath"
	"slices"

	"darkroom/atomicfile"
	"darkroom/compare/chart"

	"github.com/disintegration/imaging"
)

// plotFile is a plot without the end of its name.
type plotFile struct {
	Title, File string
	chart       chart.Chart
}

// plotFiles are plots/MEASURE-seconds and -calls, for each measure that has a better and a worse.
func (r *Report) plotFiles() (files []plotFile) {
	for _, m := range r.Measures {
		if m.Better == 0 {
			continue
		}
		for _, against := range []string{"calls", "seconds"} {
			if c, ok := r.plot(m, against); ok {
				files = append(files, plotFile{m.Title + " over " + against, fmt.Sprintf("plots/%s-%s", m.Key, against), c})
			}
		}
	}
	return files
}

// writePlots writes each plot as SVG and PNG.
func (r *Report) writePlots(dir string) error {
	for _, f := range r.plotFiles() {
		for end, write := range map[string]func(io.Writer) error{".svg": f.chart.WriteSVG, ".png": f.chart.WritePNG} {
			if err := atomicfile.Write(filepath.Join(dir, filepath.FromSlash(f.File+end)), write); err != nil {
				return err
			}
		}
	}
	return nil
}

// plot draws a curve for each group; false where there is no point. What is a distance is drawn as one, on a logarithmic axis: less is
// better.
func (r *Report) plot(m Measure, against string) (chart.Chart, bool) {
	c := chart.Chart{Title: m.Title + " over seconds a picture", XLabel: "seconds a picture (median, logarithmic)", YLabel: m.Title, LogX: true}
	if against == "calls" {
		c.Title, c.XLabel = m.Title+" over calls of the model", "calls of the model for a picture (logarithmic)"
	}
	if m.Unit != "" {
		c.YLabel += " (" + m.Unit + ")"
	}
	c.Note = "higher is better"
	if m.Better < 0 {
		c.Note = "lower is better"
	}
	if m.Distance != "" {
		c.YLabel, c.LogY = m.Distance+" (logarithmic)", true
		c.Note = "distance to the converged solution: lower is better"
		c.Level, c.LevelName = r.known(m), "closer than this, the converged solution is not known"
	}
	if !m.OfSet {
		c.Note += "; bands: 95 % of the difference from the best"
	}
	for i, group := range r.groups() {
		curve := chart.Curve{Name: group.name, Colour: chart.Colours[i%len(chart.Colours)], Dashed: i/len(chart.Colours)%2 == 1}
		for _, s := range group.settings {
			v, ok := s.Values[m.Key]
			if !ok {
				continue
			}
			p := chart.Point{X: s.Seconds.Median, Y: m.distance(v.Mean), Low: math.NaN(), High: math.NaN()}
			if against == "calls" {
				p.X = s.Calls
			}
			if w, ok := s.Paired[m.Key]; ok {
				p.Low, p.High = m.distance(w.Low), m.distance(w.High)
				if p.Low > p.High {
					p.Low, p.High = p.High, p.Low
				}
			}
			curve.Points = append(curve.Points, p)
		}
		if len(curve.Points) > 0 {
			c.Curves = append(c.Curves, curve)
		}
	}
	return c, len(c.Curves) > 0
}

// distance is what a plot draws of a value.
func (m Measure) distance(v float64) float64 {
	if m.scale == oneMinus {
		return max(1-v, leastDistance)
	}
	return v
}

// known is the distance to which the converged solutions are known: a third of that between them and those with half the steps; 0 where
// that was not measured.
func (r *Report) known(m Measure) (level float64) {
	for _, ref := range r.References {
		switch {
		case m.Key == "ssim" && ref.SSIM != nil:
			level = max(level, (1-*ref.SSIM)/3)
		case m.Key == "rmse" && ref.RMSE != nil:
			level = max(level, *ref.RMSE/3)
		}
	}
	return level
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

// A sheet's cell and its text, in pixels: a sheet is for looking over, the pictures are in images/.
const (
	sheetCell  = 224
	sheetLabel = 200 // of the names at the left
	sheetLine  = 24  // of a line of text
	sheetText  = 16
	mostSheets = 200
)

// items are those of the report, in the order of its pictures.
func (r *Report) items() (items []Item) {
	seen := map[Item]bool{}
	for _, p := range r.Pictures {
		if i := (Item{p.Prompt, p.Seed}); !seen[i] {
			seen[i], items = true, append(items, i)
		}
	}
	return items
}

// sheetFiles are sheets/prompt-NNN-seed-N.png, one an item.
func (r *Report) sheetFiles() (files []string) {
	items := r.items()
	for _, i := range items[:min(len(items), mostSheets)] {
		files = append(files, fmt.Sprintf("sheets/prompt-%03d-seed-%d.png", i.Prompt+1, i.Seed))
	}
	return files
}

// writeSheets writes the sheets: schedulers downwards, steps to the right, the converged solution last.
func (r *Report) writeSheets(dir string) error {
	pictures := map[Item]map[string]PictureResult{}
	for _, p := range r.Pictures {
		i := Item{p.Prompt, p.Seed}
		if pictures[i] == nil {
			pictures[i] = map[string]PictureResult{}
		}
		pictures[i][p.Setting] = p
	}
	files, items := r.sheetFiles(), r.items()
	for n, file := range files {
		i := items[n]
		sheet, err := r.sheet(dir, pictures[i], fmt.Sprintf("%d/%d", i.Prompt, i.Seed), fmt.Sprintf("%s, seed %d", r.Grid.Prompts[i.Prompt], i.Seed))
		if err != nil {
			return err
		}
		if err := atomicfile.Write(filepath.Join(dir, filepath.FromSlash(file)), func(w io.Writer) error { return png.Encode(w, sheet) }); err != nil {
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
	wide := sheet.Rect.Dx()
	write := func(x, y, most int, text string) { chart.Text(sheet, x, y, sheetText, most, text) }
	write(6, 18, wide-12, title)
	for c, n := range steps {
		label := fmt.Sprintf("%d step%s", n, plural(n))
		if n == 0 {
			label = "its own steps"
		}
		write(sheetLabel+c*sheetCell+4, sheetLine+18, sheetCell-8, label)
	}
	put := func(row, column int, file, caption string) error {
		p, err := readPicture(filepath.Join(dir, filepath.FromSlash(file)))
		if err != nil {
			return err
		}
		x, y := sheetLabel+column*sheetCell, 2*sheetLine+row*(sheetCell+sheetLine)
		sheet = imaging.Paste(sheet, fitted(imaging.Resize(p, sheetCell-4, 0, imaging.Lanczos), sheetCell-4), image.Pt(x+2, y+2))
		write(x+4, y+sheetCell+16, sheetCell-8, caption)
		return nil
	}
	middle := func(row int) int { return 2*sheetLine + row*(sheetCell+sheetLine) + sheetCell/2 }
	for row, g := range groups {
		write(6, middle(row), sheetLabel-12, g.name)
		for _, s := range g.settings {
			if p, ok := pictures[s.ID]; ok {
				if err := put(row, slices.Index(steps, s.Setting.Steps), p.File, seconds(p.Seconds)); err != nil {
					return nil, err
				}
			}
		}
	}
	for i, ref := range r.References {
		row := len(groups) + i
		write(6, middle(row), sheetLabel-12, "converged solution")
		if file := ref.Files[key]; file != "" {
			if err := put(row, 0, file, ref.Name); err != nil {
				return nil, err
			}
		}
	}
	return sheet, nil
}
