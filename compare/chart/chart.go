// Package chart draws curves with bands, on linear or logarithmic axes, as SVG and as PNG. Curves are labelled where they end, so
// that no legend has to be matched by colour.
package chart

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
)

// Chart is what is drawn. Values that do not fit an axis (NaN, or not above 0 on a logarithmic one) are left out.
type Chart struct {
	Title, Note    string // the note stands under the title
	XLabel, YLabel string
	LogX, LogY     bool
	Curves         []Curve
	// Level is a value of y below which (or above, with a linear axis) nothing is meant: it is drawn as a dotted line with its
	// name. 0: none.
	Level     float64
	LevelName string
}

// Curve is drawn through its points, from left to right.
type Curve struct {
	Name   string
	Colour color.NRGBA
	Dashed bool
	Points []Point
}

// Point is a value with its band; Low and High are NaN where there is none.
type Point struct{ X, Y, Low, High float64 }

// Colours for curves, told apart by those who see few colours too (Okabe and Ito 2008, darkened for white paper).
var Colours = []color.NRGBA{
	{0x00, 0x5f, 0x9e, 255}, {0xb8, 0x4a, 0x00, 255}, {0x00, 0x7a, 0x5a, 255}, {0x9c, 0x3a, 0x78, 255},
	{0x8a, 0x6d, 0x00, 255}, {0x2b, 0x87, 0xb5, 255}, {0xa8, 0x26, 0x3a, 255}, {0x4d, 0x4d, 0x4d, 255},
}

// The page, in points of an SVG; a PNG has pixelsPerPoint of each.
const (
	field           = 580 // width of the curves' field; the names beside it make the page as wide as they need
	height          = 460
	left, top       = 74, 58
	bottom          = 52
	labelSize       = 13
	titleSize       = 17
	lineHeight      = 15
	pixelsPerPoint  = 2
	labelGap        = 10
	mostLabelledFor = 24 // curves: more have no room for their names
)

var (
	ink   = color.NRGBA{0x1d, 0x1c, 0x1a, 255}
	soft  = color.NRGBA{0x5c, 0x58, 0x50, 255}
	faint = color.NRGBA{0xe2, 0xde, 0xd6, 255}
)

// canvas is what a chart is drawn on.
type canvas interface {
	line(points [][2]float64, c color.NRGBA, width float64, dashes []float64)
	area(points [][2]float64, c color.NRGBA)
	dot(x, y, radius float64, c color.NRGBA)
	text(x, y, size float64, c color.NRGBA, a anchor, text string)
	upright(x, y, size float64, c color.NRGBA, text string) // read from below, centred
}

type anchor int

const (
	start anchor = iota
	middle
	end
)

// axis maps values to positions.
type axis struct {
	log      bool
	low      float64
	high     float64
	from, to float64
}

func (a axis) fits(v float64) bool {
	return !math.IsNaN(v) && !math.IsInf(v, 0) && (!a.log || v > 0)
}

func (a axis) at(v float64) float64 {
	low, high := a.low, a.high
	if a.log {
		v, low, high = math.Log(v), math.Log(low), math.Log(high)
	}
	return a.from + (a.to-a.from)*(v-low)/(high-low)
}

// over makes an axis that holds the values with some room at both ends.
func over(values []float64, log bool, from, to float64) axis {
	a := axis{log: log, from: from, to: to}
	values = slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return !a.fits(v) })
	if len(values) == 0 {
		values = []float64{1}
	}
	a.low, a.high = slices.Min(values), slices.Max(values)
	if log {
		room := math.Max(math.Pow(a.high/a.low, 0.06), 1.08)
		a.low, a.high = a.low/room, a.high*room
		return a
	}
	room := (a.high - a.low) * 0.06
	if room == 0 {
		room = math.Max(math.Abs(a.high)*0.1, 1e-9)
	}
	a.low, a.high = a.low-room, a.high+room
	return a
}

// ticks are round values on the axis, about n of them.
func (a axis) ticks(n int) (out []float64) {
	if a.log && a.high/a.low > 3 {
		steps := []float64{1, 2, 5}
		switch decades := math.Log10(a.high / a.low); {
		case decades > 3:
			steps = []float64{1}
		case decades < 1:
			steps = []float64{1, 1.5, 2, 3, 4, 6, 8}
		}
		for p := math.Floor(math.Log10(a.low)); p <= math.Log10(a.high); p++ {
			for _, k := range steps {
				if v := k * math.Pow(10, p); v >= a.low && v <= a.high {
					out = append(out, v)
				}
			}
		}
		return out
	}
	raw := (a.high - a.low) / float64(n)
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * power
	for _, k := range []float64{5, 2, 1} {
		if k*power >= raw {
			step = k * power
		}
	}
	for v := math.Ceil(a.low/step) * step; v <= a.high; v += step {
		out = append(out, v)
	}
	return out
}

// number is a tick's text: 0.002, 40, 1e-06.
func number(v float64) string {
	if math.Abs(v) < 1e-12 {
		return "0"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// room is the width of the names at the right.
func (c Chart) room() float64 {
	room := 16.0
	if len(c.Curves) <= mostLabelledFor {
		for _, curve := range c.Curves {
			room = max(room, measure(curve.Name, labelSize)+labelGap+14)
		}
	}
	return math.Ceil(max(room, measure(c.Title, titleSize)-field, measure(c.Note, labelSize)-field))
}

// width is of the whole page.
func (c Chart) width() int { return left + field + int(c.room()) }

// draw puts the chart on a canvas.
func (c Chart) draw(to canvas) {
	var xs, ys []float64
	for _, curve := range c.Curves {
		for _, p := range curve.Points {
			xs, ys = append(xs, p.X), append(ys, p.Y, p.Low, p.High)
		}
	}
	const right = left + field
	x := over(xs, c.LogX, left, right)
	y := over(ys, c.LogY, height-bottom, top)
	to.text(left, 24, titleSize, ink, start, c.Title)
	to.text(left, 43, labelSize, soft, start, c.Note)
	for _, v := range y.ticks(6) {
		to.line([][2]float64{{left, y.at(v)}, {right, y.at(v)}}, faint, 1, nil)
		to.text(left-8, y.at(v)+4.5, labelSize, soft, end, number(v))
	}
	for _, v := range x.ticks(8) {
		to.line([][2]float64{{x.at(v), height - bottom}, {x.at(v), height - bottom + 5}}, soft, 1, nil)
		to.text(x.at(v), height-bottom+20, labelSize, soft, middle, number(v))
	}
	to.line([][2]float64{{left, height - bottom}, {right, height - bottom}}, soft, 1, nil)
	to.text((left+right)/2.0, height-10, labelSize, ink, middle, c.XLabel)
	to.upright(20, (top+height-bottom)/2, labelSize, ink, c.YLabel)
	if y.fits(c.Level) && c.Level > y.low && c.Level < y.high {
		to.line([][2]float64{{left, y.at(c.Level)}, {right, y.at(c.Level)}}, soft, 1.2, []float64{2, 3})
		to.text(left+6, y.at(c.Level)-5, labelSize-1, soft, start, c.LevelName)
	}
	for _, curve := range c.Curves {
		curve.band(to, x, y)
	}
	var labels []label
	for _, curve := range c.Curves {
		if l, ok := curve.line(to, x, y); ok {
			labels = append(labels, l)
		}
	}
	if len(c.Curves) <= mostLabelledFor {
		spread(labels, top, height-bottom)
		for _, l := range labels {
			to.line([][2]float64{{l.x + 6, l.from}, {right + 4, l.y}}, fade(l.colour, 110), 0.8, nil)
			to.text(right+labelGap, l.y+4.5, labelSize, l.colour, start, l.name)
		}
	}
}

// fitting are the points that the axes can show, from left to right.
func (c Curve) fitting(x, y axis) []Point {
	points := slices.DeleteFunc(slices.Clone(c.Points), func(p Point) bool { return !x.fits(p.X) || !y.fits(p.Y) })
	slices.SortStableFunc(points, func(a, b Point) int { return cmp.Compare(a.X, b.X) })
	return points
}

// band is drawn under all curves. Where a point has none, the band is as narrow as the curve.
func (c Curve) band(to canvas, x, y axis) {
	points := c.fitting(x, y)
	any := false
	var outline [][2]float64
	end := func(v, otherwise float64) float64 {
		if !y.fits(v) {
			return y.at(otherwise)
		}
		any = true
		return y.at(v)
	}
	for _, p := range points {
		outline = append(outline, [2]float64{x.at(p.X), end(p.High, p.Y)})
	}
	for _, p := range slices.Backward(points) {
		outline = append(outline, [2]float64{x.at(p.X), end(p.Low, p.Y)})
	}
	if !any {
		return
	}
	if len(points) > 1 {
		to.area(outline, fade(c.Colour, 34))
	}
	for _, p := range points {
		if y.fits(p.Low) && y.fits(p.High) {
			to.line([][2]float64{{x.at(p.X), y.at(p.Low)}, {x.at(p.X), y.at(p.High)}}, fade(c.Colour, 130), 1.4, nil)
		}
	}
}

func (c Curve) line(to canvas, x, y axis) (l label, ok bool) {
	points := c.fitting(x, y)
	if len(points) == 0 {
		return l, false
	}
	var path [][2]float64
	for _, p := range points {
		path = append(path, [2]float64{x.at(p.X), y.at(p.Y)})
	}
	var dashes []float64
	if c.Dashed {
		dashes = []float64{6, 4}
	}
	if len(path) > 1 {
		to.line(path, c.Colour, 2, dashes)
	}
	for _, p := range path {
		to.dot(p[0], p[1], 3.6, c.Colour)
	}
	last := path[len(path)-1]
	return label{c.Name, c.Colour, last[0], last[1], last[1]}, true
}

// label names a curve at its end.
type label struct {
	name    string
	colour  color.NRGBA
	x, from float64 // where the curve ends
	y       float64 // where the name stands
}

// spread moves labels apart, so that each has a line of its own between low and high.
func spread(labels []label, low, high float64) {
	slices.SortStableFunc(labels, func(a, b label) int { return cmp.Compare(a.from, b.from) })
	step := min(lineHeight, (high-low)/float64(max(len(labels)-1, 1)))
	for i := range labels {
		labels[i].y = max(labels[i].y, low)
		if i > 0 {
			labels[i].y = max(labels[i].y, labels[i-1].y+step)
		}
	}
	for i := len(labels) - 1; i >= 0; i-- {
		labels[i].y = min(labels[i].y, high-float64(len(labels)-1-i)*step)
		if i+1 < len(labels) {
			labels[i].y = min(labels[i].y, labels[i+1].y-step)
		}
	}
}

func fade(c color.NRGBA, alpha uint8) color.NRGBA {
	c.A = alpha
	return c
}

// hex is a colour without its alpha, as CSS writes it.
func hex(c color.NRGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }
