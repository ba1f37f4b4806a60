package imagefile

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"strings"
	"testing"

	"github.com/gen2brain/webp"
)

// moving is picture i of an animation: a light that wanders over a gradient.
func moving(i int) (*image.NRGBA, error) {
	img := image.NewNRGBA(image.Rect(0, 0, 37, 23))
	for y := range 23 {
		for x := range 37 {
			img.SetNRGBA(x, y, color.NRGBA{uint8(6 * x), uint8(10 * y), uint8(255 - 6*x), 255})
		}
	}
	img.SetNRGBA(3*i, 2*i, color.NRGBA{255, 255, 255, 255})
	return img, nil
}

func animation() Animation { return Animation{Frames: 5, Frame: moving, FPS: 8} }

func animated(t *testing.T, name string, a Animation) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := EncodeAnimation(&buf, name, a); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Each picture of an APNG is a PNG of its own: its chunks are numbered without a gap and its pixels are those that were given.
func TestAPNG(t *testing.T) {
	file := animated(t, "x.apng", animation())
	if _, err := png.Decode(bytes.NewReader(file)); err != nil {
		t.Errorf("a reader that knows no animation: %v", err)
	}
	var header, now []byte
	var frames [][]byte
	sequence := uint32(0)
	counted := func(data []byte) {
		if n := binary.BigEndian.Uint32(data); n != sequence {
			t.Errorf("sequence number %d, want %d", n, sequence)
		}
		sequence++
	}
	for at := 8; at < len(file); {
		n, kind := int(binary.BigEndian.Uint32(file[at:])), string(file[at+4:at+8])
		data := file[at+8 : at+8+n]
		if crc32.ChecksumIEEE(file[at+4:at+8+n]) != binary.BigEndian.Uint32(file[at+8+n:]) {
			t.Errorf("wrong checksum of %s", kind)
		}
		switch kind {
		case "IHDR":
			header = data
		case "acTL":
			if binary.BigEndian.Uint32(data) != 5 || binary.BigEndian.Uint32(data[4:]) != 0 {
				t.Errorf("acTL %v", data)
			}
		case "fcTL":
			counted(data)
			if binary.BigEndian.Uint32(data[4:]) != 37 || binary.BigEndian.Uint16(data[20:]) != 125 || binary.BigEndian.Uint16(data[22:]) != 1000 {
				t.Errorf("fcTL %v", data)
			}
			if now != nil {
				frames = append(frames, now)
			}
			now = []byte{}
		case "fdAT":
			counted(data)
			now = append(now, data[4:]...)
		case "IDAT":
			now = append(now, data...)
		}
		at += 12 + n
	}
	frames = append(frames, now)
	if len(frames) != 5 {
		t.Fatalf("%d pictures", len(frames))
	}
	for i, pixels := range frames {
		var one bytes.Buffer
		one.WriteString(pngSignature)
		writeChunk(&one, "IHDR", header)
		writeChunk(&one, "IDAT", pixels)
		writeChunk(&one, "IEND", nil)
		img, err := png.Decode(&one)
		want, _ := moving(i)
		if err != nil || !bytes.Equal(toNRGBA(img).Pix, want.Pix) {
			t.Errorf("picture %d: %v, or other pixels", i, err)
		}
	}
}

// libwebp reads what is written, to the pixel; without loss a file says so in each picture.
func TestAnimatedWebP(t *testing.T) {
	got, err := webp.DecodeAll(bytes.NewReader(animated(t, "x.webp", animation())))
	if err != nil || len(got.Image) != 5 {
		t.Fatalf("%v, %d pictures", err, len(got.Image))
	}
	for i, img := range got.Image {
		if want, _ := moving(i); !bytes.Equal(toNRGBA(img).Pix, want.Pix) {
			t.Errorf("picture %d has other pixels", i)
		}
		if got.Delay[i] != 125 {
			t.Errorf("picture %d is shown for %d ms", i, got.Delay[i])
		}
	}
}

// The first picture of an animation can be loaded, also one that covers a part of the canvas, as other programs write it.
func TestLoadAnimatedWebP(t *testing.T) {
	file := animated(t, "x.webp", animation())
	want, _ := moving(0)
	got, err := LoadData(file)
	if err != nil || !bytes.Equal(got.Pix, want.Pix) {
		t.Fatalf("%v, other pixels than the first picture's", err)
	}
	if read, err := Decode(bytes.NewReader(file), int64(len(file))); err != nil || !bytes.Equal(read.Pix, want.Pix) {
		t.Errorf("Decode: %v", err)
	}
	frame := bytes.Index(file, []byte("ANMF")) + 8
	part := bytes.Clone(file)
	canvas := bytes.Index(file, []byte("VP8X")) + 8 + 4
	put24(part[canvas:], want.Rect.Dx()+10-1)
	part[frame] = 3 // 6 pixels to the right
	got, err = LoadData(part)
	if err != nil || got.Rect.Dx() != want.Rect.Dx()+10 || got.NRGBAAt(0, 0).A != 0 || got.NRGBAAt(6, 0) != want.NRGBAAt(0, 0) {
		t.Errorf("a part of the canvas: %v, %v", err, got.Bounds())
	}
	for n := range len(file) {
		if _, err := LoadData(file[:n]); err == nil && n < frame+20 {
			t.Fatalf("%d bytes of the file give a picture", n)
		}
	}
}

// Each of EXIF's eight orientations, in PNG and WebP files, whose readers know nothing of them.
func TestTurned(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 3, 2))
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	mark := color.NRGBA{255, 0, 0, 255}
	img.SetNRGBA(2, 0, mark) // the right upper corner
	corners := []image.Point{1: {2, 0}, {0, 0}, {0, 1}, {2, 1}, {0, 2}, {1, 2}, {1, 0}, {0, 0}}
	for o := 1; o <= 8; o++ {
		exif := []byte("MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00")
		exif[19] = byte(o)
		var plain bytes.Buffer
		if err := png.Encode(&plain, img); err != nil {
			t.Fatal(err)
		}
		var file bytes.Buffer
		file.Write(plain.Bytes()[:33]) // signature and IHDR
		writeChunk(&file, "eXIf", exif)
		file.Write(plain.Bytes()[33:])
		plain.Reset()
		if err := webp.Encode(&plain, img, webp.Options{Lossless: true}); err != nil {
			t.Fatal(err)
		}
		var riff bytes.Buffer
		riff.Write(plain.Bytes())
		writeRIFFChunk(&riff, "EXIF", exif)
		for kind, data := range map[string][]byte{"PNG": file.Bytes(), "WebP": riff.Bytes()} {
			got, err := LoadData(data)
			if err != nil {
				t.Fatal(kind, err)
			}
			if c := corners[o]; got.NRGBAAt(c.X, c.Y) != mark || (got.Rect.Dx() == 3) != (o < 5) {
				t.Errorf("%s, orientation %d: %v has %v at %v", kind, o, got.Rect, got.NRGBAAt(c.X, c.Y), c)
			}
		}
	}
}

// 256 colours come near a picture of 851, and a picture of few colours is kept as it is.
func TestGIF(t *testing.T) {
	got, err := gif.DecodeAll(bytes.NewReader(animated(t, "x.gif", animation())))
	if err != nil || len(got.Image) != 5 || got.Delay[0] != 13 {
		t.Fatalf("%v, %+v", err, got)
	}
	for i, img := range got.Image {
		want, _ := moving(i)
		sum := 0
		have := toNRGBA(img)
		for k := range want.Pix {
			d := int(want.Pix[k]) - int(have.Pix[k])
			sum += d * d
		}
		if mean := float64(sum) / float64(len(want.Pix)); mean > 40 {
			t.Errorf("picture %d: a mean square error of %.0f", i, mean)
		}
	}
	few := image.NewNRGBA(image.Rect(0, 0, 40, 40))
	for i := range 1600 {
		few.SetNRGBA(i%40, i/40, color.NRGBA{uint8(i % 13 * 19), uint8(i % 7 * 36), 9, 255})
	}
	if n := len(medianCut(few, 256)); n != 91 {
		t.Errorf("91 colours became %d", n)
	}
	one := Animation{Frames: 1, FPS: 1, Frame: func(int) (*image.NRGBA, error) { return few, nil }}
	exact, err := gif.DecodeAll(bytes.NewReader(animated(t, "x.gif", one)))
	if err != nil || !bytes.Equal(toNRGBA(exact.Image[0]).Pix, few.Pix) {
		t.Errorf("a picture of 91 colours changed: %v", err)
	}
}

func TestAnimationErrors(t *testing.T) {
	a := animation()
	a.Frame = func(i int) (*image.NRGBA, error) { return image.NewNRGBA(image.Rect(0, 0, 8+i, 8)), nil }
	for name, want := range map[string]string{"x.tga": "no animation has that ending", "x.png": "picture 2 has 9×8 pixels, the first 8×8", "x.gif": "picture 2 has", "x.webp": "picture 2 has"} {
		if err := EncodeAnimation(&bytes.Buffer{}, name, a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every file says in IPTC's terms that a model made it, and whether a picture was given to the model; also where the recipe is too
// long for one segment, and without a recipe.
func TestDigitalSource(t *testing.T) {
	for _, o := range []Options{{}, {Format: JPEG}, {Format: WebP}, {Format: WebP, Quality: 50}} {
		for _, c := range []struct {
			prompt, init, want string
		}{
			{"a cat", "", "trainedAlgorithmicMedia"},
			{strings.Repeat("a cat and ", 9000), "", "trainedAlgorithmicMedia"},
			{"a cat", "in.png", "compositeWithTrainedAlgorithmicMedia"},
		} {
			r := sample(c.prompt)
			r.Init = c.init
			info := readBack(t, encoded(t, picture(9, 7), r, o))
			if got := info.text("DigitalSourceType"); got != "http://cv.iptc.org/newscodes/digitalsourcetype/"+c.want {
				t.Errorf("%v, %.10s…: %q", o.Format, c.prompt, got)
			}
			if info.Recipe == nil || info.Recipe.Prompt != c.prompt {
				t.Errorf("%v: the recipe is lost", o.Format)
			}
		}
		var buf bytes.Buffer
		plain := o
		plain.Source = Composite
		if err := EncodePlain(&buf, picture(9, 7), plain); err != nil {
			t.Fatal(err)
		}
		info := readBack(t, buf.Bytes())
		if got := info.text("DigitalSourceType"); !strings.HasSuffix(got, "/compositeWithTrainedAlgorithmicMedia") || info.Recipe != nil {
			t.Errorf("%v without a recipe: %q, %+v", o.Format, got, info.Recipe)
		}
	}
	for _, name := range []string{"x.png", "x.webp"} {
		a := animation()
		a.Source = Composite
		info := readBack(t, animated(t, name, a))
		if got := info.text("DigitalSourceType"); !strings.HasSuffix(got, "/compositeWithTrainedAlgorithmicMedia") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func readBack(t *testing.T, file []byte) Info {
	t.Helper()
	info, err := Read(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func (info *Info) text(key string) string {
	for _, x := range info.Texts {
		if x.Key == key {
			return x.Value
		}
	}
	return ""
}
