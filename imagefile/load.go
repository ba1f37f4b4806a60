package imagefile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"image"
	"image/color"
	_ "image/gif" // first frames

	"github.com/disintegration/imaging"
	xwebp "golang.org/x/image/webp"
)

// maxInput is the largest file that Load reads, in bytes.
const maxInput = 256 << 20

// Picture is a picture to start from: as a viewer shows it, turned as its EXIF orientation says.
type Picture struct {
	Pixels *image.NRGBA
	SHA256 string // of the file, 64 hex digits
}

// Load reads a picture of any size, depth and colour model: PNG, JPEG, WebP, GIF (of animations the first
// frame), TIFF and BMP.
func Load(path string) (*Picture, error) {
	data, err := readPicture(path)
	if err != nil {
		return nil, err
	}
	img, err := decodeAny(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	sum := sha256.Sum256(data)
	return &Picture{img, hex.EncodeToString(sum[:])}, nil
}

// Measure reads what Load would decode from its header alone: the kind of file, as in "png", and the size in pixels before it is
// turned as its orientation says. Sizes that Load refuses are errors.
func Measure(data []byte) (kind string, width, height int, err error) {
	config, kind, err := image.DecodeConfig(bytes.NewReader(data))
	if len(data) > 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP" {
		config, err = xwebp.DecodeConfig(bytes.NewReader(data))
		kind = "webp"
	}
	if err != nil {
		return "", 0, 0, fmt.Errorf("it is not a picture that can be read (PNG, JPEG, WebP, GIF, TIFF or BMP), or it is damaged: %w", err)
	}
	if n := int64(config.Width) * int64(config.Height); n > MaxPixels || n < 1 || kind == "png" && n/8 > int64(len(data))*1032 {
		return "", 0, 0, fmt.Errorf("the %s file of %d bytes claims %d×%d pixels: too many", kind, len(data), config.Width, config.Height)
	}
	return kind, config.Width, config.Height, nil
}

// LoadData is Load for what is in memory.
func LoadData(data []byte) (*image.NRGBA, error) { return decodeAny(data) }

func decodeAny(data []byte) (*image.NRGBA, error) {
	kind, _, _, err := Measure(data)
	if err != nil {
		return nil, err
	}
	var img image.Image
	if kind == "webp" {
		img, err = decodeWebP(bytes.NewReader(data))
	} else {
		img, err = imaging.Decode(bytes.NewReader(data), imaging.AutoOrientation(true)) // turns JPEGs
	}
	if err != nil {
		return nil, fmt.Errorf("the picture is damaged: %w", err)
	}
	return toNRGBA(turned(img, orientation(kind, data))), nil
}

// orientation is what the EXIF block of a PNG or WebP says of how the picture is to be turned, 1 to 8; 1 is as it lies.
func orientation(kind string, data []byte) int {
	switch kind {
	case "webp":
		for name, chunk := range webpChunks(data) {
			if name == "EXIF" {
				return exifOrientation(bytes.TrimPrefix(chunk, []byte("Exif\x00\x00")))
			}
		}
	case "png":
		for rest := data[min(8, len(data)):]; len(rest) >= 12; {
			size := int64(binary.BigEndian.Uint32(rest))
			if size > int64(len(rest)-12) {
				return 1
			}
			if string(rest[4:8]) == "eXIf" {
				return exifOrientation(rest[8 : 8+size])
			}
			rest = rest[12+size:]
		}
	}
	return 1
}

// turned is a picture as a viewer shows it.
func turned(img image.Image, orientation int) image.Image {
	switch orientation {
	case 2:
		return imaging.FlipH(img)
	case 3:
		return imaging.Rotate180(img)
	case 4:
		return imaging.FlipV(img)
	case 5:
		return imaging.Transpose(img)
	case 6:
		return imaging.Rotate270(img)
	case 7:
		return imaging.Transverse(img)
	case 8:
		return imaging.Rotate90(img)
	}
	return img
}

// Flatten puts a picture with transparent parts on a colour.
func Flatten(img *image.NRGBA, on color.NRGBA) *image.NRGBA {
	if img.Opaque() {
		return img
	}
	b := img.Bounds()
	return imaging.Overlay(imaging.New(b.Dx(), b.Dy(), on), img, image.Point{}, 1)
}
