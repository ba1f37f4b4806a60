package imagefile

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func chunks(parts ...string) []byte {
	out := bytes.NewBufferString(pngSignature)
	for i := 0; i < len(parts); i += 2 {
		writeChunk(out, parts[i], []byte(parts[i+1]))
	}
	return out.Bytes()
}

func ihdr(w, h uint32) string {
	b := binary.BigEndian.AppendUint32(nil, w)
	b = binary.BigEndian.AppendUint32(b, h)
	return string(append(b, 8, 2, 0, 0, 0))
}

func bomb(n int) string {
	var buf bytes.Buffer
	z := zlib.NewWriter(&buf)
	_, err := z.Write(make([]byte, n))
	if err = errors.Join(err, z.Close()); err != nil {
		panic(err) // writing into a buffer does not fail
	}
	return buf.String()
}

func TestHostileFiles(t *testing.T) {
	claims := chunks("IHDR", ihdr(8, 8), "tEXt", "a\x00b")
	binary.BigEndian.PutUint32(claims[8+25:], 0xffffffff) // the second chunk's length
	flipped := chunks("IHDR", ihdr(8, 8), "tEXt", "parameters\x00b", "IEND", "")
	flipped[8+25+8+3] ^= 1
	for _, c := range []struct {
		name, err string
		file      []byte
	}{
		{"empty", "not a PNG", nil},
		{"text", "not a PNG", []byte("a text, not an image")},
		{"only a signature", "ends without an IEND", []byte(pngSignature + "     ")},
		{"no IHDR", "does not begin with an IHDR", chunks("tEXt", "a\x00b", "IEND", "")},
		{"no size", "0×8 pixels", chunks("IHDR", ihdr(0, 8), "IEND", "")},
		{"a chunk longer than the file", "claims 4294967295 bytes", claims},
		{"a flipped bit", "wrong checksum", flipped},
		{"cut off", "ends without an IEND", chunks("IHDR", ihdr(8, 8))},
		{"a recipe that is none", "recipe in the file cannot be read", chunks("IHDR", ihdr(8, 8), "iTXt", "darkroom\x00\x00\x00\x00\x00{\"steps\":true}", "IEND", "")},
		{"a JPEG without segments", "ends before its pixels", []byte("\xff\xd8\xff\xe1\xff\xff        ")},
		{"a JPEG segment without length", "shorter than its header", []byte("\xff\xd8\xff\xe1\x00\x00        ")},
		{"a WebP without an image", "does not say how large", []byte("RIFF\x04\x00\x00\x00WEBP")},
		{"a WebP chunk longer than the file", "claims", []byte("RIFF\x04\x00\x00\x00WEBPVP8X\xff\xff\xff\x7f")},
	} {
		_, err := Read(bytes.NewReader(c.file), int64(len(c.file)))
		if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: error %v, want …%s…", c.name, err, c.err)
		}
	}
}

// A text that cannot be read is reported; the rest of the file is still read.
func TestProblemsAreNotFatal(t *testing.T) {
	file := chunks("IHDR", ihdr(8, 8), "zTXt", "huge\x00\x00"+bomb(maxChunk+1), "zTXt", "odd\x00\x07", "tEXt", "none", "eXIf", "MM",
		"tEXt", "good\x00text", "IEND", "")
	info, err := Read(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Texts) != 5 {
		t.Fatalf("texts: %v", info.Texts)
	}
	for i, want := range []string{"too long", "unknown compression", "no text", "damaged"} {
		if !strings.Contains(info.Texts[i].Problem, want) {
			t.Errorf("text %d: %+v, want a problem %q", i, info.Texts[i], want)
		}
	}
	if info.Text("good") != "text" {
		t.Error("the text after the bad ones was lost")
	}
}

// Many texts that unpack to far more than the file has are not all kept.
func TestTextBombs(t *testing.T) {
	parts := []string{"IHDR", ihdr(8, 8)}
	for range 50 {
		parts = append(parts, "zTXt", "x\x00\x00"+bomb(1<<20))
	}
	for range 5000 {
		parts = append(parts, "tEXt", "y\x00z")
	}
	file := chunks(append(parts, "IEND", "")...)
	info, err := Read(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, text := range info.Texts {
		total += len(text.Value)
	}
	if total > maxTexts || len(info.Texts) > 1000 {
		t.Errorf("%d texts of %d bytes were kept", len(info.Texts), total)
	}
	if p := info.Texts[20].Problem; !strings.Contains(p, "too many texts") {
		t.Errorf("problem %q", p)
	}
}

// A file of nothing but tiny parts does not keep the reader busy for long.
func TestEndlessParts(t *testing.T) {
	for name, head := range map[string]string{"the JPEG has too many": "\xff\xd8" + strings.Repeat("\xff", maxParts+100)} {
		_, err := Read(strings.NewReader(head), int64(len(head)))
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v", err)
		}
	}
}

// A small file that claims a large picture is refused before memory is taken for it.
func TestDecodeTakesLittleMemory(t *testing.T) {
	for _, size := range []uint32{8000, 1 << 20} {
		file := chunks("IHDR", ihdr(size, size), "IDAT", bomb(1000), "IEND", "")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode(bytes.NewReader(file), int64(len(file)))
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), "too many") {
			t.Errorf("error %v", err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
			t.Errorf("%d bytes taken for a file of %d", took, len(file))
		}
	}
}

func FuzzRead(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.*")
	if len(files) < 10 {
		f.Fatal("the seed files are missing")
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, o := range []Options{{}, {Format: JPEG}, {Format: WebP}, {Format: WebP, Quality: 70}} {
		f.Add(encoded(f, picture(5, 4), sample("猫"), o))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		if info.Width < 1 || info.Height < 1 {
			t.Errorf("%d×%d pixels and no error", info.Width, info.Height)
		}
		if info.Width*info.Height > 1<<16 {
			return // allowed, but slow to decode
		}
		img, err := Decode(bytes.NewReader(data), int64(len(data)))
		if err == nil && (img.Rect.Dx() < 1 || img.Rect.Dy() < 1) {
			t.Error("an empty picture and no error")
		}
	})
}
