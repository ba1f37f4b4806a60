package imagefile

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"image"
	"io"

	"darkroom/recipe"
)

// Some programs hide their text in the least bits of the pixels, where it outlives services that drop every chunk: column by
// column, of the alpha, or of red, green and blue. It begins with one of these words; then come its length in bits, 32 bits, and
// the text, compressed with gzip or not.
var hiddenMarks = []struct {
	mark       string
	rgb        bool
	compressed bool
}{
	{"stealth_pnginfo", false, false}, {"stealth_pngcomp", false, true},
	{"stealth_rgbinfo", true, false}, {"stealth_rgbcomp", true, true},
}

// takeHidden looks for a hidden text where the file has no other. A picture that cannot be decoded has none.
func (info *Info) takeHidden(r io.ReaderAt) {
	img, err := Decode(r, info.Size)
	if err != nil {
		return
	}
	for _, h := range hiddenMarks {
		bits := leastBits{img: img, rgb: h.rgb}
		mark := make([]byte, len(h.mark))
		if !bits.read(mark) || string(mark) != h.mark {
			continue
		}
		text, err := bits.text(h.compressed)
		if err != nil {
			info.addText(Text{Key: h.mark, Problem: err.Error()})
			return
		}
		info.addText(Text{Key: h.mark, Value: text})
		if f, err := recipe.ParseForeign(text); err == nil {
			r := f.Recipe
			info.Parameters, info.Recipe = &f, &r
		}
		return
	}
}

// leastBits reads the pixels' least bits, column by column.
type leastBits struct {
	img *image.NRGBA
	rgb bool
	at  int // bits read
}

// read fills b, the first bit of each byte the highest; false where the picture ends before.
func (l *leastBits) read(b []byte) bool {
	w, h := l.img.Rect.Dx(), l.img.Rect.Dy()
	perPixel := 1
	if l.rgb {
		perPixel = 3
	}
	if l.at+8*len(b) > w*h*perPixel {
		return false
	}
	for i := range b {
		for range 8 {
			pixel, channel := l.at/perPixel, 3
			if l.rgb {
				channel = l.at % perPixel
			}
			b[i] = b[i]<<1 | l.img.Pix[pixel%h*l.img.Stride+pixel/h*4+channel]&1
			l.at++
		}
	}
	return true
}

// text reads the length and what follows.
func (l *leastBits) text(compressed bool) (string, error) {
	damaged := errors.New("the text in the pixels is damaged")
	var size [4]byte
	if !l.read(size[:]) {
		return "", damaged
	}
	n := int(binary.BigEndian.Uint32(size[:]) / 8)
	if n > maxChunk {
		return "", errors.New("too long to be read")
	}
	data := make([]byte, n)
	if !l.read(data) {
		return "", damaged
	}
	if !compressed {
		return plainText(data), nil
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return "", damaged
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxChunk+1))
	if err != nil || len(plain) > maxChunk {
		return "", damaged
	}
	return plainText(plain), nil
}
