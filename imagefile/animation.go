package imagefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/png"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gen2brain/webp"

	"darkroom/recipe"
)

// Animation is pictures that follow one another.
type Animation struct {
	Frames int
	// Frame gives picture i, all of one size and opaque.
	Frame func(i int) (*image.NRGBA, error)
	FPS   float64 // pictures a second
	Loops int     // 0: for ever
	// Quality is of WebP, from 1 to 100; 0: without loss.
	Quality int
	Source  Source
}

// EncodeAnimation writes an animated PNG (.png or .apng), WebP (.webp) or GIF (.gif, with 256 colours a picture), as the file's name
// says. PNG and WebP say in XMP that the pictures are machine-made.
func EncodeAnimation(w io.Writer, path string, a Animation) error {
	m := metadata{source: a.Source}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".png", ".apng":
		return a.apng(w, m)
	case ".webp":
		return a.webp(w, m)
	case ".gif":
		return a.gif(w)
	}
	return fmt.Errorf("%s: no animation has that ending: use .png, .webp or .gif", path)
}

// encodeFilm writes the frames of a film with its recipe.
func encodeFilm(w io.Writer, r recipe.Recipe, m metadata, o Options) error {
	film, err := recipe.ParseMotion(r.Motion)
	if err != nil {
		return err
	}
	a := &Animation{Frames: len(o.Frames), Frame: func(i int) (*image.NRGBA, error) { return o.Frames[i], nil }, FPS: 8, Quality: o.Quality}
	if film != nil {
		a.FPS = film.FPS
	}
	switch o.Format {
	case PNG:
		return a.apng(w, m)
	case WebP:
		return a.webp(w, m)
	}
	return errors.New("this format holds one picture, and this is a film: use .png or .webp, or darkroom animate for .gif and .mp4")
}

func (a *Animation) frame(i int, size *image.Point) (*image.NRGBA, error) {
	img, err := a.Frame(i)
	if err != nil {
		return nil, err
	}
	if i == 0 {
		*size = img.Rect.Size()
	}
	if img.Rect.Size() != *size {
		return nil, fmt.Errorf("picture %d has %d×%d pixels, the first %d×%d", i+1, img.Rect.Dx(), img.Rect.Dy(), size.X, size.Y)
	}
	return img, nil
}

// milliseconds is how long each picture is shown.
func (a *Animation) milliseconds() int { return max(int(1000/a.FPS+0.5), 1) }

// apng writes the pictures as PNG's third edition has them (sec. 11.3.6): acTL, then fcTL and the pixels of each, the first in IDAT, the
// others in fdAT.
func (a *Animation) apng(w io.Writer, m metadata) error {
	var size image.Point
	sequence := uint32(0)
	out := new(bytes.Buffer)
	for i := range a.Frames {
		img, err := a.frame(i, &size)
		if err != nil {
			return err
		}
		var one bytes.Buffer
		if err := png.Encode(&one, Flatten(img, color.NRGBA{255, 255, 255, 255})); err != nil {
			return err
		}
		const header = len(pngSignature) + 8 + 13 + 4
		if i == 0 {
			out.Write(one.Bytes()[:header])
			writeChunk(out, "acTL", binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(a.Frames)), uint32(a.Loops)))
			writeColourChunks(out)
			m.writePNG(out)
		}
		control := binary.BigEndian.AppendUint32(nil, sequence)
		sequence++
		for _, v := range []int{size.X, size.Y, 0, 0} {
			control = binary.BigEndian.AppendUint32(control, uint32(v))
		}
		control = binary.BigEndian.AppendUint16(control, uint16(a.milliseconds()))
		control = binary.BigEndian.AppendUint16(control, 1000)
		writeChunk(out, "fcTL", append(control, 0, 0)) // each replaces the one before
		for rest := one.Bytes()[header:]; len(rest) >= 12; {
			n := int(binary.BigEndian.Uint32(rest))
			if string(rest[4:8]) == "IDAT" && i == 0 {
				writeChunk(out, "IDAT", rest[8:8+n])
			} else if string(rest[4:8]) == "IDAT" {
				writeChunk(out, "fdAT", append(binary.BigEndian.AppendUint32(nil, sequence), rest[8:8+n]...))
				sequence++
			}
			rest = rest[12+n:]
		}
		if _, err := out.WriteTo(w); err != nil {
			return err
		}
	}
	writeChunk(out, "IEND", nil)
	_, err := out.WriteTo(w)
	return err
}

// webp writes the pictures as an animated file: VP8X, ANIM, an ANMF for each (RFC 9649, sec. 2.7.1).
func (a *Animation) webp(w io.Writer, m metadata) error {
	const hasXMP, hasEXIF, animated = 1 << 2, 1 << 3, 1 << 1
	var size image.Point
	var body bytes.Buffer
	for i := range a.Frames {
		img, err := a.frame(i, &size)
		if err != nil {
			return err
		}
		if i == 0 {
			vp8x := make([]byte, 10)
			if vp8x[0] = hasXMP | animated; m.json != "" {
				vp8x[0] |= hasEXIF
			}
			put24(vp8x[4:], size.X-1)
			put24(vp8x[7:], size.Y-1)
			body.WriteString("WEBP")
			writeRIFFChunk(&body, "VP8X", vp8x)
			writeRIFFChunk(&body, "ANIM", binary.LittleEndian.AppendUint16([]byte{255, 255, 255, 255}, uint16(a.Loops)))
		}
		var one bytes.Buffer
		o := webp.Options{Lossless: a.Quality == 0, Quality: a.Quality, Method: webp.DefaultMethod}
		if err := webp.Encode(&one, Flatten(img, color.NRGBA{255, 255, 255, 255}), o); err != nil {
			return err
		}
		var frame bytes.Buffer
		head := make([]byte, 16)
		put24(head[6:], size.X-1)
		put24(head[9:], size.Y-1)
		put24(head[12:], a.milliseconds())
		head[15] = 2 // not blended with the one before
		frame.Write(head)
		for kind, chunk := range webpChunks(one.Bytes()) {
			if slices.Contains([]string{"ALPH", "VP8 ", "VP8L"}, kind) {
				writeRIFFChunk(&frame, kind, chunk)
			}
		}
		writeRIFFChunk(&body, "ANMF", frame.Bytes())
	}
	m.writeWebP(&body)
	if body.Len() > 1<<32-10 {
		return errors.New("the animation has more than 4 GiB: use fewer or smaller pictures")
	}
	if _, err := w.Write(riffHead(body.Len())); err != nil {
		return err
	}
	_, err := body.WriteTo(w)
	return err
}

// Frames reads all frames of an animated PNG, each as large as the picture, as this program writes them; of another file, the one
// picture that Decode reads.
func Frames(r io.ReaderAt, size int64) ([]*image.NRGBA, error) {
	first, err := Decode(r, size)
	if err != nil {
		return nil, err
	}
	head := make([]byte, len(pngSignature)+8+13+4)
	if _, err := r.ReadAt(head, 0); err != nil || string(head[:len(pngSignature)]) != pngSignature {
		return []*image.NRGBA{first}, nil
	}
	var all []*image.NRGBA
	var pixels bytes.Buffer // of the frame at hand
	finish := func() error {
		if pixels.Len() == 0 {
			return nil
		}
		one := bytes.NewBuffer(bytes.Clone(head))
		writeChunk(one, "IDAT", pixels.Bytes())
		writeChunk(one, "IEND", nil)
		pixels.Reset()
		img, err := Decode(bytes.NewReader(one.Bytes()), int64(one.Len()))
		if err != nil {
			return fmt.Errorf("frame %d: %w", len(all)+1, err)
		}
		if all = append(all, img); len(all)*len(img.Pix)/4 > MaxPixels {
			return errors.New("the film has too many pixels to be read")
		}
		return nil
	}
	for at := int64(len(pngSignature)); ; {
		var chunk [8]byte
		if err := readAt(r, chunk[:], at); err != nil {
			return nil, err
		}
		n, kind := int64(binary.BigEndian.Uint32(chunk[:])), string(chunk[4:])
		if n > size-at-12 {
			return nil, fmt.Errorf("the PNG's %q chunk claims %d bytes, more than the file has", kind, n)
		}
		data := []byte(nil)
		if slices.Contains([]string{"fcTL", "IDAT", "fdAT"}, kind) {
			data = make([]byte, n)
			if err := readAt(r, data, at+8); err != nil {
				return nil, err
			}
		}
		switch kind {
		case "fcTL":
			if err := finish(); err != nil {
				return nil, err
			}
			if len(data) != 26 || !bytes.Equal(data[4:12], head[16:24]) || !bytes.Equal(data[12:20], make([]byte, 8)) {
				return nil, errors.New("a frame is smaller than the picture: this film was not written by this program")
			}
		case "IDAT":
			pixels.Write(data)
		case "fdAT":
			pixels.Write(data[min(4, len(data)):])
		case "IEND":
			if err := finish(); err != nil {
				return nil, err
			}
			if len(all) <= 1 {
				return []*image.NRGBA{first}, nil
			}
			return all, nil
		}
		at += 12 + n
	}
}

// gif writes pictures of 256 colours, chosen for each.
func (a *Animation) gif(w io.Writer) error {
	var size image.Point
	out := &gif.GIF{LoopCount: a.Loops}
	for i := range a.Frames {
		img, err := a.frame(i, &size)
		if err != nil {
			return err
		}
		p := image.NewPaletted(img.Rect, medianCut(img, 256))
		draw.FloydSteinberg.Draw(p, p.Rect, Flatten(img, color.NRGBA{255, 255, 255, 255}), image.Point{})
		out.Image = append(out.Image, p)
		out.Delay = append(out.Delay, max(int(100/a.FPS+0.5), 2)) // hundredths; viewers slow down what is faster
	}
	return gif.EncodeAll(w, out)
}

// medianCut chooses colours for a picture: the box of colours with the longest side is halved at its median until there are so
// many, and each gives its mean (Heckbert 1982).
func medianCut(img *image.NRGBA, most int) color.Palette {
	var pixels [][3]uint8
	for i := 0; i < len(img.Pix); i += 4 {
		pixels = append(pixels, [3]uint8(img.Pix[i:i+3]))
	}
	boxes := [][][3]uint8{pixels}
	for len(boxes) < most {
		best, axis, longest := -1, 0, 0
		for i, box := range boxes {
			for k := range 3 {
				low, high := 255, 0
				for _, p := range box {
					low, high = min(low, int(p[k])), max(high, int(p[k]))
				}
				if high-low > longest {
					best, axis, longest = i, k, high-low
				}
			}
		}
		if best < 0 {
			break // each box is one colour
		}
		box := boxes[best]
		slices.SortFunc(box, func(a, b [3]uint8) int { return int(a[axis]) - int(b[axis]) })
		middle := len(box) / 2
		for middle < len(box)-1 && box[middle][axis] == box[middle-1][axis] { // neither half is empty, and no colour is in both
			middle++
		}
		if box[middle][axis] == box[middle-1][axis] {
			for middle = len(box) / 2; middle > 1 && box[middle][axis] == box[middle-1][axis]; {
				middle--
			}
		}
		boxes[best] = box[:middle]
		boxes = append(boxes, box[middle:])
	}
	var palette color.Palette
	for _, box := range boxes {
		var sum [3]int
		for _, p := range box {
			for k := range 3 {
				sum[k] += int(p[k])
			}
		}
		n := max(len(box), 1)
		palette = append(palette, color.NRGBA{uint8(sum[0] / n), uint8(sum[1] / n), uint8(sum[2] / n), 255})
	}
	return palette
}
