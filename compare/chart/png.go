package chart

import (
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"
	"strings"
	"sync"

	"github.com/disintegration/imaging"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// raster draws on pixels, pixelsPerPoint for each point.
type raster struct{ to *image.NRGBA }

// WritePNG writes the chart in pixels, sharp enough for paper.
func (c Chart) WritePNG(w io.Writer) error {
	r := raster{image.NewNRGBA(image.Rect(0, 0, c.width()*pixelsPerPoint, height*pixelsPerPoint))}
	draw.Draw(r.to, r.to.Rect, image.White, image.Point{}, draw.Src)
	c.draw(r)
	return png.Encode(w, r.to)
}

// fill paints the inside of a closed outline.
func (r raster) fill(outline [][2]float64, c color.NRGBA) {
	var box image.Rectangle // the pixels that it may touch: the work is in proportion to them
	for _, p := range outline {
		x, y := int(math.Floor(p[0]*pixelsPerPoint)), int(math.Floor(p[1]*pixelsPerPoint))
		box = box.Union(image.Rect(x, y, x+1, y+1))
	}
	v := vector.NewRasterizer(box.Dx(), box.Dy())
	for i, p := range outline {
		x, y := float32(p[0]*pixelsPerPoint)-float32(box.Min.X), float32(p[1]*pixelsPerPoint)-float32(box.Min.Y)
		if i == 0 {
			v.MoveTo(x, y)
		} else {
			v.LineTo(x, y)
		}
	}
	v.ClosePath()
	v.Draw(r.to, box, image.NewUniform(c), image.Point{})
}

func (r raster) area(outline [][2]float64, c color.NRGBA) { r.fill(outline, c) }

func (r raster) line(points [][2]float64, c color.NRGBA, width float64, dashes []float64) {
	at, on := 0.0, true // within the dashes
	for i := 1; i < len(points); i++ {
		a, b := points[i-1], points[i]
		length := math.Hypot(b[0]-a[0], b[1]-a[1])
		if length == 0 {
			continue
		}
		between := func(s float64) [2]float64 {
			return [2]float64{a[0] + (b[0]-a[0])*s/length, a[1] + (b[1]-a[1])*s/length}
		}
		if dashes == nil {
			r.stroke(a, b, width, c)
			continue
		}
		for s := 0.0; s < length; {
			left := dashes[0] - at
			if !on {
				left = dashes[1] - at
			}
			next := min(s+left, length)
			if on {
				r.stroke(between(s), between(next), width, c)
			}
			if at += next - s; next < length {
				at, on = 0, !on
			}
			s = next
		}
	}
	if dashes == nil && len(points) > 2 && c.A == 255 { // round joins
		for _, p := range points[1 : len(points)-1] {
			r.circle(p[0], p[1], width/2, c)
		}
	}
}

func (r raster) stroke(a, b [2]float64, width float64, c color.NRGBA) {
	length := math.Hypot(b[0]-a[0], b[1]-a[1])
	if length == 0 {
		return
	}
	nx, ny := -(b[1]-a[1])/length*width/2, (b[0]-a[0])/length*width/2
	r.fill([][2]float64{{a[0] + nx, a[1] + ny}, {b[0] + nx, b[1] + ny}, {b[0] - nx, b[1] - ny}, {a[0] - nx, a[1] - ny}}, c)
}

func (r raster) circle(x, y, radius float64, c color.NRGBA) {
	var outline [][2]float64
	for i := range 24 {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / 24)
		outline = append(outline, [2]float64{x + radius*cos, y + radius*sin})
	}
	r.fill(outline, c)
}

func (r raster) dot(x, y, radius float64, c color.NRGBA) {
	r.circle(x, y, radius+0.5, color.NRGBA{255, 255, 255, 255})
	r.circle(x, y, radius-0.5, c)
}

func (r raster) text(x, y, size float64, c color.NRGBA, a anchor, text string) {
	x -= measure(text, size) * float64(a) / 2
	write(r.to, x*pixelsPerPoint, y*pixelsPerPoint, size*pixelsPerPoint, c, text)
}

func (r raster) upright(x, y, size float64, c color.NRGBA, text string) {
	w, h := int(measure(text, size)*pixelsPerPoint)+4, int(size*pixelsPerPoint*1.5)
	line := image.NewNRGBA(image.Rect(0, 0, w, h))
	write(line, 2, size*pixelsPerPoint, size*pixelsPerPoint, c, text)
	turned := imaging.Rotate90(line)
	at := image.Pt(int(x*pixelsPerPoint)-int(size*pixelsPerPoint), int(y*pixelsPerPoint)-w/2)
	draw.Draw(r.to, turned.Rect.Add(at), turned, image.Point{}, draw.Over)
}

// The font of pictures with text: the Go font, part of the program.
var goFont = sync.OnceValue(func() *opentype.Font {
	f, err := opentype.Parse(goregular.TTF)
	if err != nil {
		panic("chart: " + err.Error()) // it is part of the program
	}
	return f
})

var (
	facesMu sync.Mutex // guards faces, and the faces, which are not made for several goroutines
	faces   = map[float64]font.Face{}
)

// face is the font in a size of so many pixels. facesMu must be held.
func face(size float64) font.Face {
	if f := faces[size]; f != nil {
		return f
	}
	f, err := opentype.NewFace(goFont(), &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingNone})
	if err != nil {
		panic("chart: " + err.Error())
	}
	faces[size] = f
	return f
}

// readable replaces what the font has no letter for by "?".
func readable(text string) string {
	var buf sfnt.Buffer
	return strings.Map(func(r rune) rune {
		if i, err := goFont().GlyphIndex(&buf, r); r < 32 || err != nil || i == 0 {
			return '?'
		}
		return r
	}, text)
}

// measure is how wide a text is, in the unit of its size.
func measure(text string, size float64) float64 {
	facesMu.Lock()
	defer facesMu.Unlock()
	return float64(font.MeasureString(face(size), readable(text))) / 64
}

// write puts a line of text with its base line at y.
func write(to draw.Image, x, y, size float64, c color.NRGBA, text string) {
	facesMu.Lock()
	defer facesMu.Unlock()
	d := font.Drawer{Dst: to, Src: image.NewUniform(c), Face: face(size), Dot: fixed.Point26_6{X: fixed.Int26_6(x * 64), Y: fixed.Int26_6(y * 64)}}
	d.DrawString(readable(text))
}

// Text writes a line with its base line at y, in letters of so many pixels; it is cut, with "…", where it is wider than most (0: no
// limit).
func Text(to draw.Image, x, y int, size float64, most int, text string) {
	if most > 0 && measure(text, size) > float64(most) {
		letters := []rune(text)
		for len(letters) > 0 && measure(string(letters)+"…", size) > float64(most) {
			letters = letters[:len(letters)-1]
		}
		text = string(letters) + "…"
	}
	write(to, float64(x), float64(y), size, ink, text)
}
