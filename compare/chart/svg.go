package chart

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"image/color"
	"io"
	"strings"
)

// svg writes elements.
type svg struct{ b *bytes.Buffer }

// WriteSVG writes the chart with its fonts by name; it is as wide as where it stands.
func (c Chart) WriteSVG(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="Go, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif">`+"\n", c.width(), height, c.width(), height)
	fmt.Fprintf(&b, "<title>%s: %s over %s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", escaped(c.Title), escaped(c.YLabel), escaped(c.XLabel))
	c.draw(svg{&b})
	b.WriteString("</svg>\n")
	_, err := w.Write(b.Bytes())
	return err
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a builder takes everything
	return b.String()
}

func opacity(name string, c color.NRGBA) string {
	if c.A == 255 {
		return ""
	}
	return fmt.Sprintf(` %s="%.2f"`, name, float64(c.A)/255)
}

func points(list [][2]float64) string {
	var b strings.Builder
	for i, p := range list {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%.1f,%.1f", p[0], p[1])
	}
	return b.String()
}

func (s svg) line(list [][2]float64, c color.NRGBA, width float64, dashes []float64) {
	dash := ""
	if dashes != nil {
		dash = fmt.Sprintf(` stroke-dasharray="%g %g"`, dashes[0], dashes[1])
	}
	fmt.Fprintf(s.b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="%g" stroke-linejoin="round"%s%s/>`+"\n", points(list), hex(c), width, dash, opacity("stroke-opacity", c))
}

func (s svg) area(list [][2]float64, c color.NRGBA) {
	fmt.Fprintf(s.b, `<polygon points="%s" fill="%s"%s/>`+"\n", points(list), hex(c), opacity("fill-opacity", c))
}

func (s svg) dot(x, y, radius float64, c color.NRGBA) {
	fmt.Fprintf(s.b, `<circle cx="%.1f" cy="%.1f" r="%g" fill="%s" stroke="#fff" stroke-width="1"/>`+"\n", x, y, radius, hex(c))
}

func (s svg) text(x, y, size float64, c color.NRGBA, a anchor, text string) {
	if text != "" {
		fmt.Fprintf(s.b, `<text x="%.1f" y="%.1f" font-size="%g" fill="%s" text-anchor="%s">%s</text>`+"\n", x, y, size, hex(c), []string{"start", "middle", "end"}[a], escaped(text))
	}
}

func (s svg) upright(x, y, size float64, c color.NRGBA, text string) {
	fmt.Fprintf(s.b, `<text transform="translate(%.1f %.1f) rotate(-90)" font-size="%g" fill="%s" text-anchor="middle">%s</text>`+"\n", x, y, size, hex(c), escaped(text))
}
