package main

import (
	"image"
	"image/color"
	"math"
	"strings"

	"darkroom/imagefile"
	"darkroom/recipe"

	"github.com/disintegration/imaging"
	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
)

// sheet is a contact sheet: pictures in rows, each with its distinguishing settings below it.
type sheet struct {
	columns  int // 0: as many as rows, or one more
	pictures []*image.NRGBA
	recipes  []*recipe.Recipe // nil where a picture has none
	names    []string         // what such a picture is called
}

// Sizes of a sheet in pixels. Pictures are made smaller where all of them would be more than may be decoded again.
const (
	sheetGap   = 4
	sheetLabel = 18
)

// draw puts the pictures together.
func (s *sheet) draw() *image.NRGBA {
	n := len(s.pictures)
	columns := s.columns
	if columns == 0 {
		columns = int(math.Ceil(math.Sqrt(float64(n))))
	}
	columns = min(columns, n)
	rows := (n + columns - 1) / columns
	w, h := 0, 0
	for _, p := range s.pictures {
		if p != nil {
			w, h = max(w, p.Rect.Dx()), max(h, p.Rect.Dy())
		}
	}
	labels := s.labels()
	line := 0
	if strings.Join(labels, "") != "" {
		line = sheetLabel
	}
	shrink := min(1, math.Sqrt(imagefile.MaxPixels/float64(columns*(w+sheetGap))/float64(rows*(h+sheetGap+line))), recipe.MaxSide/float64(columns*(w+sheetGap)), recipe.MaxSide/float64(rows*(h+sheetGap+line)))
	cellW, cellH := max(int(float64(w)*shrink), 1), max(int(float64(h)*shrink), 1)
	out := imaging.New(columns*(cellW+sheetGap)+sheetGap, rows*(cellH+sheetGap+line)+sheetGap, color.White)
	for i, p := range s.pictures {
		if p == nil {
			continue // it failed: its place stays white
		}
		if p.Rect.Dx() > cellW || p.Rect.Dy() > cellH {
			p = imaging.Fit(p, cellW, cellH, imaging.Lanczos)
		}
		x, y := sheetGap+i%columns*(cellW+sheetGap), sheetGap+i/columns*(cellH+sheetGap+line)
		at := image.Pt(x+(cellW-p.Rect.Dx())/2, y+(cellH-p.Rect.Dy())/2)
		for row := range p.Rect.Dy() { // imaging.Paste would copy the whole sheet
			copy(out.Pix[out.PixOffset(at.X, at.Y+row):], imagefile.Flatten(p, color.NRGBA{255, 255, 255, 255}).Pix[row*p.Stride:row*p.Stride+4*p.Rect.Dx()])
		}
		writeText(out, x, y+cellH+13, labels[i], cellW)
	}
	return out
}

// labels say of each picture in which settings it differs from the others; nothing where all are alike, and a picture's name
// where it has no recipe.
func (s *sheet) labels() []string {
	labels := make([]string, len(s.pictures))
	var differ []*recipe.Setting
	all := recipe.All()
	for i := range all {
		if seen := s.values(&all[i]); len(seen) > 1 && all[i].InRecipe() {
			differ = append(differ, &all[i])
		}
	}
	for i, r := range s.recipes {
		if r == nil {
			labels[i] = s.names[i]
			continue
		}
		var words []string
		for _, d := range differ {
			text := d.Format(d.FromRecipe(r))
			switch {
			case text == "" || (text == "0" || text == "false") && !d.Zero:
			case len(differ) == 1 && d.Kind == recipe.TextKind, d.Name == "width" || d.Name == "height" || d.Name == "prompt" || d.Name == "scheduler":
				words = append(words, text)
			default:
				words = append(words, d.Name+" "+text)
			}
		}
		labels[i] = strings.Join(words, ", ")
	}
	return labels
}

// values are those that the pictures' recipes have of a setting.
func (s *sheet) values(row *recipe.Setting) map[string]bool {
	seen := map[string]bool{}
	for _, r := range s.recipes {
		if r != nil {
			seen[row.Format(row.FromRecipe(r))] = true
		}
	}
	return seen
}

// writeText puts a line of text with its base line at y, cut to a width. What the small font has no letter for is "?".
func writeText(dst *image.NRGBA, x, y int, text string, width int) {
	text = strings.Map(func(r rune) rune {
		if r < 32 || r > 126 {
			return '?'
		}
		return r
	}, text)
	const letter = 7
	if most := max(width/letter, 1); len(text) > most {
		text = text[:max(most-2, 0)] + ".."
	}
	d := font.Drawer{Dst: dst, Src: image.NewUniform(color.Black), Face: basicfont.Face7x13, Dot: fixed.P(x, y)}
	d.DrawString(text)
}
