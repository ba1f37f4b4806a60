// Package imagefile writes pictures with their recipe inside, and reads the recipe back from any image file that has
// one, whichever program wrote it.
//
//	format  pixels                              parameters text             recipe as JSON
//	PNG     lossless                            tEXt "parameters" (+ iTXt)  iTXt "darkroom"
//	JPEG    lossy, quality 95                   EXIF UserComment            XMP darkroom:recipe
//	WebP    lossless; lossy with a quality      EXIF UserComment            XMP darkroom:recipe
//
// The same picture and recipe give the same bytes: nothing written depends on the time. (WebP is encoded by the libwebp
// that the system has, or by the one built in: the pixels of a lossless file are the same, its bytes are the same on
// the same machine.)
package imagefile

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"path/filepath"
	"strings"

	"darkroom/c2pa"
	"darkroom/recipe"

	"github.com/gen2brain/webp"
	xwebp "golang.org/x/image/webp"
)

// Format is a file format for images.
type Format int

// The formats that are read and written.
const (
	PNG Format = iota
	JPEG
	WebP
)

func (f Format) String() string {
	return [...]string{"PNG", "JPEG", "WebP"}[f]
}

// FormatOf is the format that a file's name asks for.
func FormatOf(path string) (Format, error) {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".png":
		return PNG, nil
	case ".jpg", ".jpeg":
		return JPEG, nil
	case ".webp":
		return WebP, nil
	case "":
		return 0, fmt.Errorf("%s: a name without an extension does not say which format: end it with .png, .jpg or .webp", path)
	}
	return 0, fmt.Errorf("%s: cannot write %q files: use .png, .jpg or .webp", path, filepath.Ext(path))
}

// Options say how an image is encoded. The zero value is a PNG.
type Options struct {
	Format Format
	// Quality is from 1 to 100. 0: JPEG at 95, WebP without loss. PNG has none.
	Quality int
	// Source is what made a picture that EncodePlain writes.
	Source Source
	// Signer signs a C2PA manifest in the file, which PNG and JPEG hold; nil for none.
	Signer *c2pa.Signer
	// Frames are those of a film, which PNG and WebP hold; nil for a picture.
	Frames []*image.NRGBA
}

// Encode writes img with its recipe to w.
func Encode(w io.Writer, img *image.NRGBA, r recipe.Recipe, o Options) error {
	if o.Quality < 0 || o.Quality > 100 {
		return fmt.Errorf("image quality is %d: must be 1 to 100", o.Quality)
	}
	json, err := r.MarshalJSON()
	if err != nil {
		return err
	}
	m := metadata{r.Parameters(), string(json), SourceOf(r)}
	if o.Signer != nil {
		signer := o.Signer
		o.Signer = nil
		var plain bytes.Buffer
		if err := Encode(&plain, img, r, o); err != nil {
			return err
		}
		signed, err := signer.Embed(plain.Bytes(), c2pa.Claim{Generator: "Darkroom", Version: r.Version, Source: m.source.URL()})
		if err != nil {
			return err
		}
		_, err = w.Write(signed)
		return err
	}
	switch {
	case len(o.Frames) > 1:
		err = encodeFilm(w, r, m, o)
	case o.Format == PNG:
		err = encodePNG(w, img, m)
	case o.Format == JPEG:
		err = encodeJPEG(w, img, m, o.Quality)
	case o.Format == WebP:
		err = encodeWebP(w, img, m, o.Quality)
	default:
		panic(fmt.Sprintf("imagefile: unknown format %d", o.Format))
	}
	if err != nil {
		return fmt.Errorf("encoding %v: %w", o.Format, err)
	}
	return nil
}

// EncodePlain writes img without a recipe, with what made it.
func EncodePlain(w io.Writer, img *image.NRGBA, o Options) error {
	m := metadata{source: o.Source}
	switch o.Format {
	case JPEG:
		return encodeJPEG(w, img, m, o.Quality)
	case WebP:
		return encodeWebP(w, img, m, o.Quality)
	}
	return encodePNG(w, img, m)
}

// Source is what made a picture, in IPTC's terms (cv.iptc.org/newscodes/digitalsourcetype).
type Source int

const (
	Trained   Source = iota // a trained model
	Composite               // a trained model, of a picture that was given to it
)

// URL is the term's.
func (s Source) URL() string {
	return "http://cv.iptc.org/newscodes/digitalsourcetype/" + [...]string{"trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"}[s]
}

// SourceOf is what made a recipe's picture.
func SourceOf(r recipe.Recipe) Source {
	if r.Init != "" {
		return Composite
	}
	return Trained
}

// metadata is the recipe in its two forms.
type metadata struct {
	parameters string
	json       string // "": there is no recipe
	source     Source
}

// MaxPixels is the largest image that is decoded, in pixels: a file of a few bytes can claim any size, and
// memory for it is taken before the claim is checked.
const MaxPixels = 1 << 26

// Decode reads the pixels of a PNG, JPEG or WebP file of the given size in bytes; of an animation, the first picture.
func Decode(r io.ReaderAt, size int64) (*image.NRGBA, error) {
	info, err := Read(r, size)
	if err != nil {
		return nil, err
	}
	pixels := int64(info.Width) * int64(info.Height)
	// Deflate makes at most 1032 bytes of one: more pixels than that were never in the file. A palette image may
	// hold 8 pixels a byte.
	if pixels > MaxPixels || info.Format == PNG && pixels/8 > size*1032 {
		return nil, fmt.Errorf("the %v file of %d bytes claims %d×%d pixels: too many", info.Format, size, info.Width, info.Height)
	}
	var img image.Image
	section := io.NewSectionReader(r, 0, size)
	switch info.Format {
	case PNG:
		img, err = png.Decode(section)
	case JPEG:
		img, err = jpeg.Decode(section)
	case WebP:
		img, err = decodeWebP(section)
	}
	if err != nil {
		return nil, fmt.Errorf("decoding %v: %w", info.Format, err)
	}
	return toNRGBA(img), nil
}

func toNRGBA(img image.Image) *image.NRGBA {
	if n, ok := img.(*image.NRGBA); ok {
		return n
	}
	b := img.Bounds()
	n := image.NewNRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	for y := range b.Dy() {
		for x := range b.Dx() {
			n.Set(x, y, img.At(b.Min.X+x, b.Min.Y+y))
		}
	}
	return n
}

func encodeJPEG(w io.Writer, img *image.NRGBA, m metadata, quality int) error {
	if quality == 0 {
		quality = 95
	}
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, img, &jpeg.Options{Quality: quality}); err != nil {
		return err
	}
	return writeJPEG(w, buf.Bytes(), m)
}

func encodeWebP(w io.Writer, img *image.NRGBA, m metadata, quality int) error {
	var buf bytes.Buffer
	o := webp.Options{Lossless: quality == 0, Quality: quality, Method: webp.DefaultMethod}
	if err := webp.Encode(&buf, img, o); err != nil {
		return err
	}
	return writeWebP(w, buf.Bytes(), img, m)
}

// decodeWebP reads a picture, or an animation's first. It uses the decoder in Go: a hostile file must not reach one in C.
func decodeWebP(r io.Reader) (img image.Image, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the file is damaged (%v)", p)
		}
	}()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	still, at, canvas, err := firstFrame(data)
	if err != nil {
		return nil, err
	}
	if int64(canvas.Dx())*int64(canvas.Dy()) > MaxPixels {
		return nil, errors.New("it has too many pixels")
	}
	if img, err = xwebp.Decode(bytes.NewReader(still)); err != nil {
		return nil, err
	}
	return onCanvas(fromYUV(img), at, canvas), nil
}

// ErrNotImage says that a file is none of the formats that are read.
var ErrNotImage = errors.New("not a PNG, JPEG or WebP image")
