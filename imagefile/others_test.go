package imagefile

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"image"
	"image/jpeg"
	"image/png"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

// exifOf is a little-endian EXIF block with one text field in its first directory.
func exifOf(tag, kind uint16, text string) []byte {
	le := binary.LittleEndian
	b := []byte("II\x2a\x00\x08\x00\x00\x00")
	b = le.AppendUint16(b, 1)
	b = le.AppendUint16(le.AppendUint16(b, tag), kind)
	b = le.AppendUint32(le.AppendUint32(b, uint32(len(text))), 26)
	return append(le.AppendUint32(b, 0), text...)
}

func utf16Bytes(text string, order binary.AppendByteOrder) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, u)
	}
	return string(b)
}

// jpegWith is a small JPEG with segments after its first marker.
func jpegWith(t *testing.T, segments ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, picture(8, 8), nil); err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(buf.Bytes()[:2])
	for _, s := range segments {
		out = append(out, 0xff, s[0])
		out = binary.BigEndian.AppendUint16(out, uint16(len(s)+1))
		out = append(out, s[1:]...)
	}
	return append(out, buf.Bytes()[2:]...)
}

// webpWith is a WebP of one pixel's claim with an EXIF chunk.
func webpWith(exif []byte) []byte {
	var body bytes.Buffer
	body.WriteString("WEBP")
	writeRIFFChunk(&body, "VP8X", []byte{8, 0, 0, 0, 7, 0, 0, 7, 0, 0})
	writeRIFFChunk(&body, "EXIF", exif)
	return append(binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(body.Len())), body.Bytes()...)
}

// Texts in all the places and encodings in which programs and services leave them.
func TestTextsOfOthers(t *testing.T) {
	const rest = "\nSteps: 6, Sampler: Euler a, CFG scale: 5, Seed: 7, Size: 64x64"
	const text = "a café 猫" + rest
	const graph = `{"3": {"class_type": "KSampler", "inputs": {"seed": 7, "steps": 6, "cfg": 5, "sampler_name": "euler_ancestral", "scheduler": "normal", "positive": ["6", 0], "latent_image": ["5", 0]}},
		"5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}}, "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a café 猫"}}}`
	exif := func(tag, kind uint16, text string) []byte {
		return jpegWith(t, "\xe1"+exifHeader+string(exifOf(tag, kind, text)))
	}
	const xmp = `<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/">` +
		`<exif:UserComment><rdf:Alt><rdf:li xml:lang="x-default">{"c":"a café 猫","uc":"","seed":7,"steps":6,"scale":5,"size":"64x64","sampler":"Euler A"}</rdf:li></rdf:Alt></exif:UserComment>` +
		`</rdf:Description></rdf:RDF></x:xmpmeta>`
	for name, file := range map[string][]byte{
		"UTF-16 big-endian":           exif(tagUserComment, typeUndefined, unicodePrefix+utf16Bytes(text, binary.BigEndian)),
		"UTF-16 little-endian":        exif(tagUserComment, typeUndefined, unicodePrefix+utf16Bytes(text, binary.LittleEndian)),
		"UTF-16 with a mark":          exif(tagUserComment, typeUndefined, unicodePrefix+utf16Bytes("\ufeff"+text, binary.BigEndian)),
		"UTF-8 after UNICODE":         exif(tagUserComment, typeUndefined, unicodePrefix+text),
		"UTF-8 after ASCII":           exif(tagUserComment, typeUndefined, asciiPrefix+text),
		"UTF-8 after zeros":           exif(tagUserComment, typeUndefined, strings.Repeat("\x00", 8)+text),
		"UTF-8 after JIS":             exif(tagUserComment, typeUndefined, jisPrefix+text),
		"a comment of bytes":          exif(tagUserComment, typeByte, text),
		"XPComment":                   exif(tagXPComment, typeByte, utf16Bytes(text+"\x00", binary.LittleEndian)),
		"ImageDescription":            exif(tagImageDescription, typeASCII, text+"\x00"),
		"a JPEG comment":              jpegWith(t, "\xfe"+text),
		"ComfyUI's graph as camera":   exif(0x0110, typeASCII, "prompt:"+graph+"\x00"),
		"ComfyUI in ImageDescription": exif(tagImageDescription, typeASCII, "Prompt: "+graph+"\x00"),
		"ComfyUI in a WebP":           webpWith(exifOf(0x0110, typeASCII, "prompt:"+graph+"\x00")),
		"EXIF in two segments": jpegWith(t, "\xe1"+exifHeader+string(exifOf(tagUserComment, typeUndefined, asciiPrefix+text)[:40]),
			"\xe1"+exifHeader+string(exifOf(tagUserComment, typeUndefined, asciiPrefix+text)[40:])),
		"a PNG's text":          chunks("IHDR", ihdr(8, 8), "tEXt", "parameters\x00"+text, "IEND", ""),
		"a PNG's EXIF":          chunks("IHDR", ihdr(8, 8), "eXIf", string(exifOf(tagUserComment, typeUndefined, unicodePrefix+text)), "IEND", ""),
		"a PNG's graph":         chunks("IHDR", ihdr(8, 8), "tEXt", "prompt\x00"+graph, "IEND", ""),
		"Draw Things in a PNG":  chunks("IHDR", ihdr(8, 8), "iTXt", "XML:com.adobe.xmp\x00\x00\x00\x00\x00"+xmp, "IEND", ""),
		"Draw Things in a JPEG": jpegWith(t, "\xe1"+xmpHeader+xmp),
	} {
		info, err := Read(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if info.Recipe == nil || info.Complete || info.Recipe.Prompt != "a café 猫" || info.Recipe.Seed != 7 || info.Recipe.Name() != "euler-a" || info.Recipe.Width != 64 {
			t.Errorf("%s: recipe %+v of texts %q", name, info.Recipe, info.Texts)
		}
	}
	// ISO-2022-JP, as cameras write it: 猫 is G- in JIS X 0208.
	info, err := Read(bytes.NewReader(exif(tagUserComment, typeUndefined, jisPrefix+"\x1b$BG-\x1b(B"+rest)), 1<<20)
	if err != nil || info.Recipe == nil || info.Recipe.Prompt != "猫" {
		t.Errorf("JIS: %v, texts %q", err, info.Texts)
	}
	// A camera's own fields are nothing to show.
	info, err = Read(bytes.NewReader(exif(0x0110, typeASCII, "Canon EOS: 5D\x00")), 1<<20)
	if err != nil || len(info.Texts) != 0 {
		t.Errorf("a camera's name: %v, texts %q", err, info.Texts)
	}
}

// hide writes a text into the least bits, as the programs that do so.
func hide(img *image.NRGBA, mark, text string, rgb bool) {
	data := binary.BigEndian.AppendUint32([]byte(mark), uint32(8*len(text)))
	data = append(data, text...)
	at, w, h := 0, img.Rect.Dx(), img.Rect.Dy()
	for x := range w {
		for y := range h {
			for c := range 4 {
				if (c < 3) != rgb || at >= 8*len(data) {
					continue
				}
				p := &img.Pix[y*img.Stride+4*x+c]
				*p = *p&^1 | data[at/8]>>(7-at%8)&1
				at++
			}
		}
	}
}

func TestHiddenTexts(t *testing.T) {
	const novel = `{"Description": "a lamp", "Software": "NovelAI", "Source": "x", "Comment": "{\"steps\": 28, \"seed\": 5, \"sampler\": \"k_euler\", \"scale\": 5.0, \"uc\": \"text\", \"width\": 64, \"height\": 64}"}`
	const plain = "a lamp\nNegative prompt: text\nSteps: 28, Sampler: Euler, CFG scale: 5, Seed: 5, Size: 64x64"
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte(novel))
	_ = z.Close()
	for _, c := range []struct {
		mark, text string
		rgb        bool
	}{
		{"stealth_pnginfo", plain, false}, {"stealth_pngcomp", zipped.String(), false}, {"stealth_rgbinfo", novel, true}, {"stealth_rgbcomp", zipped.String(), true},
	} {
		img := picture(64, 64)
		hide(img, c.mark, c.text, c.rgb)
		var file bytes.Buffer
		if err := png.Encode(&file, img); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "x.png")
		save(t, path, file.Bytes())
		info, err := Inspect(path)
		if err != nil {
			t.Fatal(err)
		}
		if r := info.Recipe; r == nil || info.Complete || r.Prompt != "a lamp" || r.Negative != "text" || r.Seed != 5 || r.Steps != 28 || info.Text(c.mark) == "" {
			t.Errorf("%s: %+v", c.mark, info)
		}
		// Damaged: a text with a problem, no error.
		for _, bad := range []string{c.text[:len(c.text)/2], ""} {
			img := picture(64, 64)
			hide(img, c.mark, bad, c.rgb)
			if strings.HasSuffix(c.mark, "comp") {
				bits := leastBits{img: img, rgb: c.rgb, at: 8 * len(c.mark)}
				if _, err := bits.text(true); err == nil {
					t.Errorf("%s: half of a text was read", c.mark)
				}
			}
		}
		long := picture(16, 16)
		hide(long, c.mark, strings.Repeat("x", 1<<12), c.rgb)
		bits := leastBits{img: long, rgb: c.rgb, at: 8 * len(c.mark)}
		if _, err := bits.text(strings.HasSuffix(c.mark, "comp")); err == nil {
			t.Errorf("%s: a text longer than the picture was read", c.mark)
		}
	}
	path := filepath.Join(t.TempDir(), "x.png")
	var file bytes.Buffer
	if err := png.Encode(&file, picture(1, 1)); err != nil {
		t.Fatal(err)
	}
	save(t, path, file.Bytes())
	if info, err := Inspect(path); err != nil || info.Recipe != nil || len(info.Texts) != 0 {
		t.Errorf("a picture that hides nothing: %+v, %v", info, err)
	}
}

// FuzzHidden: no pixels stop the reader of hidden texts.
func FuzzHidden(f *testing.F) {
	for _, h := range hiddenMarks {
		img := picture(32, 32)
		hide(img, h.mark, "a lamp", h.rgb)
		f.Add(img.Pix, h.rgb, h.compressed)
	}
	f.Fuzz(func(t *testing.T, pix []byte, rgb, compressed bool) {
		w := len(pix) / 4 / 8
		if w == 0 {
			return
		}
		img := &image.NRGBA{Pix: pix[:w*8*4], Stride: 4 * w, Rect: image.Rect(0, 0, w, 8)}
		bits := leastBits{img: img, rgb: rgb}
		text, err := bits.text(compressed)
		if err == nil && len(text) > 2*maxChunk {
			t.Errorf("%d bytes of text", len(text))
		}
	})
}
