package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
)

// sample has curves whose ends lie on one another, names that are long, and values that no logarithm has.
func sample() Chart {
	c := Chart{Title: `SSIM <over> "calls"`, Note: "lower is better", XLabel: "calls", YLabel: "1 − SSIM", LogX: true, LogY: true, Level: 2e-4, LevelName: "known"}
	for i, name := range []string{"ddim", "euler", "dpm++2m-karras, guidance apg:eta=0,momentum=-0.5", "unipc"} {
		curve := Curve{Name: name, Colour: Colours[i], Dashed: i == 2}
		for _, x := range []float64{5, 10, 20} {
			y := 0.3 / (x * x)
			curve.Points = append(curve.Points, Point{x, y, y / 1.5, y * 1.5})
		}
		c.Curves = append(c.Curves, curve)
	}
	c.Curves[3].Points[0].Low = math.NaN()
	c.Curves[3].Points = append(c.Curves[3].Points, Point{40, 0, 0, 0}, Point{math.NaN(), 1, 1, 1})
	return c
}

type text struct {
	name       string
	x, y, size float64
	anchor     string
}

// texts are those of an SVG, which must be XML.
func texts(t *testing.T, c Chart) (list []text, whole string) {
	t.Helper()
	var b bytes.Buffer
	if err := c.WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	whole = b.String()
	d := xml.NewDecoder(strings.NewReader(whole))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return list, whole
		}
		if err != nil {
			t.Fatalf("the SVG is no XML: %v", err)
		}
		e, ok := token.(xml.StartElement)
		if !ok || e.Name.Local != "text" {
			continue
		}
		one := text{}
		for _, a := range e.Attr {
			v, _ := strconv.ParseFloat(a.Value, 64)
			switch a.Name.Local {
			case "x":
				one.x = v
			case "y":
				one.y = v
			case "font-size":
				one.size = v
			case "text-anchor":
				one.anchor = a.Value
			}
		}
		inner, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := inner.(xml.CharData); ok {
			one.name = string(data)
		}
		list = append(list, one)
	}
}

// Names stand beside their curves, whole, on lines of their own.
func TestLabels(t *testing.T) {
	c := sample()
	list, whole := texts(t, c)
	found := map[string]text{}
	for _, one := range list {
		found[one.name] = one
	}
	for i, a := range c.Curves {
		l, ok := found[a.Name]
		if !ok {
			t.Fatalf("no label %q", a.Name)
		}
		if end := l.x + measure(l.name, l.size); end > float64(c.width()) {
			t.Errorf("%q ends at %.0f of %d", l.name, end, c.width())
		}
		if l.y < top || l.y > height-bottom+lineHeight {
			t.Errorf("%q stands at %.0f", l.name, l.y)
		}
		for _, b := range c.Curves[:i] {
			if d := math.Abs(found[b.Name].y - l.y); d < 12 {
				t.Errorf("%q and %q are %.0f apart", a.Name, b.Name, d)
			}
		}
	}
	if strings.Contains(whole, "NaN") || strings.Contains(whole, "Inf") {
		t.Error("the SVG has numbers that are none")
	}
	if found["0.001"].name == "" || found["0.01"].name == "" || found["10"].name == "" {
		t.Errorf("ticks are missing: %v", list)
	}
}

// A logarithmic axis puts equal ratios at equal distances.
func TestLogAxis(t *testing.T) {
	a := over([]float64{0.001, 0.1}, true, 0, 100)
	if one, two := a.at(0.01)-a.at(0.001), a.at(0.1)-a.at(0.01); math.Abs(one-two) > 1e-9 || one < 30 {
		t.Errorf("decades of %v and %v", one, two)
	}
	if got := a.ticks(6); len(got) < 6 || got[0] < a.low {
		t.Errorf("ticks %v", got)
	}
	for _, values := range [][]float64{{0, math.NaN()}, {5}, nil} {
		for _, log := range []bool{false, true} {
			a := over(values, log, 0, 100)
			if v := a.at(a.low + (a.high-a.low)/2); !(v > 0 && v < 100) || len(a.ticks(6)) > 40 {
				t.Errorf("axis over %v, logarithmic %v: %+v", values, log, a)
			}
		}
	}
}

// The PNG shows what the SVG does: each curve's colour, at its points.
func TestPNG(t *testing.T) {
	c := sample()
	var b bytes.Buffer
	if err := c.WritePNG(&b); err != nil {
		t.Fatal(err)
	}
	p, err := png.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	if p.Bounds().Dx() != c.width()*pixelsPerPoint {
		t.Errorf("%v pixels", p.Bounds())
	}
	last := c.Curves[3] // drawn on top of the others
	counts := map[[3]uint32]int{}
	for y := range p.Bounds().Dy() {
		for x := range p.Bounds().Dx() {
			r, g, b, _ := p.At(x, y).RGBA()
			counts[[3]uint32{r >> 8, g >> 8, b >> 8}]++
		}
	}
	if n := counts[[3]uint32{uint32(last.Colour.R), uint32(last.Colour.G), uint32(last.Colour.B)}]; n < 500 {
		t.Errorf("%d pixels in the colour of %s", n, last.Name)
	}
}

func TestTextIsCut(t *testing.T) {
	if got := readable("Wörter 猫 \n"); got != "Wörter ? ?" {
		t.Errorf("readable: %q", got)
	}
}
