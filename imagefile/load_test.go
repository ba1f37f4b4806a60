package imagefile

import (
	"bytes"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	save := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	encode := func(img image.Image, how func(*bytes.Buffer, image.Image) error) []byte {
		var b bytes.Buffer
		if err := how(&b, img); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	asPNG := func(b *bytes.Buffer, img image.Image) error { return png.Encode(b, img) }
	deep := image.NewGray16(image.Rect(0, 0, 3, 2))
	deep.SetGray16(2, 1, color.Gray16{0x8080})
	p, err := Load(save("16bit.jpg", encode(deep, asPNG))) // a PNG, whatever its name says
	if err != nil || p.Pixels.Bounds() != deep.Bounds() || p.Pixels.NRGBAAt(2, 1) != (color.NRGBA{0x80, 0x80, 0x80, 255}) || len(p.SHA256) != 64 {
		t.Errorf("16 bit grey: %+v, %v", p, err)
	}
	clear := image.NewNRGBA(image.Rect(0, 0, 2, 1))
	clear.SetNRGBA(0, 0, color.NRGBA{255, 0, 0, 255})
	p, err = Load(save("alpha.png", encode(clear, asPNG)))
	if err != nil {
		t.Fatal(err)
	}
	if got := Flatten(p.Pixels, color.NRGBA{255, 255, 255, 255}); got.NRGBAAt(0, 0) != (color.NRGBA{255, 0, 0, 255}) || got.NRGBAAt(1, 0) != (color.NRGBA{255, 255, 255, 255}) {
		t.Errorf("flattened: %v", got.Pix)
	}
	two := image.NewPaletted(image.Rect(0, 0, 4, 4), color.Palette{color.Black, color.White})
	two.SetColorIndex(1, 0, 1)
	p, err = Load(save("anim.gif", encode(two, func(b *bytes.Buffer, img image.Image) error {
		return gif.EncodeAll(b, &gif.GIF{Image: []*image.Paletted{two, image.NewPaletted(two.Rect, two.Palette)}, Delay: []int{1, 1}})
	})))
	if err != nil || p.Pixels.NRGBAAt(1, 0).R != 255 {
		t.Errorf("a GIF's first frame: %v", err)
	}
	// A JPEG that its EXIF orientation 6 turns a quarter: width and height change places.
	wide := encode(image.NewGray(image.Rect(0, 0, 16, 8)), func(b *bytes.Buffer, img image.Image) error { return jpeg.Encode(b, img, nil) })
	exif := []byte("\xff\xe1\x00\x22Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00")
	turned := append(append(append([]byte{}, wide[:2]...), exif...), wide[2:]...)
	if p, err = Load(save("turned.jpg", turned)); err != nil || p.Pixels.Bounds() != image.Rect(0, 0, 8, 16) {
		t.Errorf("turned: %v, %v", p, err)
	}
	whole := encode(deep, asPNG)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty.png": {nil, "is empty"}, "text.png": {[]byte("no picture at all"), "not a picture"},
		"cut.png": {whole[:len(whole)-20], "damaged"}, "cut.jpg": {wide[:len(wide)/2], "damaged"},
		"huge.png": {append(append([]byte{}, whole[:16]...), append([]byte{0x7f, 0, 0, 0, 0x7f, 0, 0, 0}, whole[24:]...)...), ""},
	} {
		if _, err := Load(save(name, c.data)); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := Load(filepath.Join(dir, "none.png")); err == nil || !strings.Contains(err.Error(), "none.png") {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "not a file") {
		t.Errorf("a folder: %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	var b bytes.Buffer
	_ = png.Encode(&b, image.NewGray(image.Rect(0, 0, 2, 2)))
	f.Add(b.Bytes())
	f.Add([]byte("GIF89a"))
	b.Reset()
	if err := EncodeAnimation(&b, "x.webp", animation()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("RIFF\x00\x00\x00\x00WEBPVP8 "))
	f.Fuzz(func(t *testing.T, data []byte) {
		if img, err := decodeAny(data); err == nil && img.Bounds().Empty() {
			t.Error("an empty picture without an error")
		}
	})
}
