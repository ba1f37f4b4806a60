package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/color/palette"
	"image/draw"
	"image/png"
	"strconv"
	"strings"

	"github.com/disintegration/imaging"
)

// The ways in which terminals show pictures.
const (
	kittyGraphics = "kitty"
	itermGraphics = "iterm"
	sixelGraphics = "sixel"
)

// terminalGraphics is the way that the terminal of an environment knows, "" where nothing says that it knows any. DARKROOM_GRAPHICS
// names one.
func terminalGraphics(env func(string) string) string {
	term, program := env("TERM"), env("TERM_PROGRAM")
	switch named := env("DARKROOM_GRAPHICS"); {
	case named == kittyGraphics, named == itermGraphics, named == sixelGraphics:
		return named
	case env("KITTY_WINDOW_ID") != "", term == "xterm-kitty", term == "xterm-ghostty", program == "ghostty":
		return kittyGraphics
	case program == "iTerm.app", program == "WezTerm", env("LC_TERMINAL") == "iTerm2", program == "mintty":
		return itermGraphics
	case strings.Contains(term, "sixel"), strings.HasPrefix(term, "foot"), strings.HasPrefix(term, "mlterm"), strings.HasPrefix(term, "yaft"):
		return sixelGraphics
	}
	return ""
}

// graphicsSide is the longest side of a preview in a terminal, in pixels.
const graphicsSide = 256

// terminalPicture is what a terminal is sent to show a picture, with the line's end after it.
func terminalPicture(protocol string, p *image.NRGBA) ([]byte, error) {
	if p.Rect.Dx() > graphicsSide || p.Rect.Dy() > graphicsSide {
		p = imaging.Fit(p, graphicsSide, graphicsSide, imaging.Box)
	}
	if protocol == sixelGraphics {
		return append(sixel(p), '\n'), nil
	}
	var file bytes.Buffer
	if err := png.Encode(&file, p); err != nil {
		return nil, err
	}
	text := base64.StdEncoding.EncodeToString(file.Bytes())
	var b bytes.Buffer
	if protocol == itermGraphics {
		fmt.Fprintf(&b, "\x1b]1337;File=inline=1;size=%d:%s\a\n", file.Len(), text)
		return b.Bytes(), nil
	}
	// kitty: in pieces of at most 4096 bytes, of which the first says what it is and all but the last that more follow.
	const most = 4096
	for first := true; first || text != ""; first = false {
		piece := text[:min(most, len(text))]
		text = text[len(piece):]
		keys := "m=" + strconv.Itoa(map[bool]int{true: 1}[text != ""])
		if first {
			keys = "a=T,f=100,q=2," + keys
		}
		fmt.Fprintf(&b, "\x1b_G%s;%s\x1b\\", keys, piece)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// sixel writes a picture in DEC's sixels, in the 216 colours of the web, dithered: columns of six pixels, a colour after another.
func sixel(p *image.NRGBA) []byte {
	size := p.Rect.Size()
	paletted := image.NewPaletted(image.Rect(0, 0, size.X, size.Y), append(color.Palette{}, palette.WebSafe...))
	draw.FloydSteinberg.Draw(paletted, paletted.Rect, p, p.Rect.Min)
	var b bytes.Buffer
	fmt.Fprintf(&b, "\x1bPq\"1;1;%d;%d", size.X, size.Y)
	used := map[uint8]bool{}
	for _, c := range paletted.Pix {
		used[c] = true
	}
	for i, c := range paletted.Palette {
		if used[uint8(i)] {
			r, g, bl, _ := c.RGBA()
			fmt.Fprintf(&b, "#%d;2;%d;%d;%d", i, r*100/0xffff, g*100/0xffff, bl*100/0xffff)
		}
	}
	for top := 0; top < size.Y; top += 6 {
		bits := map[uint8][]byte{}
		for y := top; y < min(top+6, size.Y); y++ {
			for x := range size.X {
				c := paletted.ColorIndexAt(x, y)
				if bits[c] == nil {
					bits[c] = make([]byte, size.X)
				}
				bits[c][x] |= 1 << (y - top)
			}
		}
		for c := range len(paletted.Palette) {
			row := bits[uint8(c)]
			if row == nil {
				continue
			}
			fmt.Fprintf(&b, "#%d", c)
			for x := 0; x < len(row); {
				n := 1
				for x+n < len(row) && row[x+n] == row[x] {
					n++
				}
				if n > 3 {
					fmt.Fprintf(&b, "!%d%c", n, 63+row[x])
				} else {
					b.Write(bytes.Repeat([]byte{63 + row[x]}, n))
				}
				x += n
			}
			b.WriteByte('$')
		}
		b.WriteByte('-')
	}
	b.WriteString("\x1b\\")
	return b.Bytes()
}

// previewOption reads --preview: every how many steps, and whether in the terminal: "5", "term", "term:5".
func previewOption(text string) (every int, term bool, err error) {
	const usual = 5
	rest, term := strings.CutPrefix(text, "term")
	switch {
	case text == "":
		return 0, false, nil
	case term && rest == "":
		return usual, true, nil
	case term:
		text = strings.TrimPrefix(rest, ":")
	}
	if every, err = strconv.Atoi(text); err != nil || term && (rest[0] != ':' || every < 1) {
		return 0, false, usagef("--preview %q: it must be a number of steps, term, or term:N", text)
	}
	return every, term, nil
}
