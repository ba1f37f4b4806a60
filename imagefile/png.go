package imagefile

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// xmpKey is of the text chunk that holds an XMP packet.
const xmpKey = "XML:com.adobe.xmp"

const pngSignature = "\x89PNG\r\n\x1a\n"

// encodePNG writes the pixels with image/png and its own chunks between IHDR and the pixels, where readers that stop at
// the pixels find them (PNG third edition, sec. 5.6).
func encodePNG(w io.Writer, img *image.NRGBA, m metadata) error {
	var buf bytes.Buffer
	if err := png.Encode(&buf, img); err != nil {
		return err
	}
	const header = len(pngSignature) + 8 + 13 + 4 // with the whole of IHDR
	encoded := buf.Bytes()
	out := bytes.NewBuffer(bytes.Clone(encoded[:header]))
	writeColourChunks(out)
	m.writePNG(out)
	out.Write(encoded[header:])
	_, err := w.Write(out.Bytes())
	return err
}

// writePNG writes the chunks of texts.
func (m metadata) writePNG(out *bytes.Buffer) {
	if m.json != "" {
		writeTextChunk(out, "parameters", m.parameters)
		writeInternationalTextChunk(out, "darkroom", m.json)
	}
	writeInternationalTextChunk(out, xmpKey, writeXMP("", m.source))
}

// writeColourChunks says that the pixels are sRGB, and, for readers that do not know sRGB, its gamma and
// chromaticities as sec. 11.3.2.5 gives them.
func writeColourChunks(w *bytes.Buffer) {
	writeChunk(w, "gAMA", binary.BigEndian.AppendUint32(nil, 45455))
	var chrm []byte
	for _, v := range []uint32{31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000} {
		chrm = binary.BigEndian.AppendUint32(chrm, v)
	}
	writeChunk(w, "cHRM", chrm)
	writeChunk(w, "sRGB", []byte{0}) // rendering intent: perceptual
}

// writeTextChunk writes a tEXt chunk, and after it an iTXt chunk where the text is not Latin-1, which is all that tEXt holds:
// there the first has \u732b in place of a character, as JSON spells it, for readers that know no iTXt; for others the last
// counts. A text whose Latin-1 reads as UTF-8, as some programs write it, gets the second chunk too.
func writeTextChunk(w *bytes.Buffer, key, text string) {
	data := append([]byte(key), 0)
	exact := true
	for _, c := range text {
		if c <= 0xff {
			data = append(data, byte(c))
			continue
		}
		exact = false
		for _, unit := range utf16.Encode([]rune{c}) {
			data = fmt.Appendf(data, `\u%04x`, unit)
		}
	}
	writeChunk(w, "tEXt", data)
	if !exact || pngLatin1(data) != latin1(data) {
		writeInternationalTextChunk(w, key, text)
	}
}

func writeInternationalTextChunk(w *bytes.Buffer, key, text string) {
	// key, 0, compression flag and method, language, 0, translated key, 0, text in UTF-8
	writeChunk(w, "iTXt", []byte(key+"\x00\x00\x00\x00\x00"+text))
}

func writeChunk(w *bytes.Buffer, kind string, data []byte) {
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(data)))
	w.Write(n[:])
	w.WriteString(kind)
	w.Write(data)
	sum := crc32.Update(crc32.ChecksumIEEE([]byte(kind)), crc32.IEEETable, data)
	binary.BigEndian.PutUint32(n[:], sum)
	w.Write(n[:])
}

// readPNG walks over the chunks without reading the pixels.
func readPNG(r io.ReaderAt, size int64, info *Info) error {
	at := int64(len(pngSignature))
	for range maxParts {
		var head [8]byte
		if err := readAt(r, head[:], at); err != nil {
			return fmt.Errorf("the PNG ends without an IEND chunk: %w", err)
		}
		length, kind := int64(binary.BigEndian.Uint32(head[:])), string(head[4:])
		if length > size-at-12 {
			return fmt.Errorf("the PNG's %q chunk claims %d bytes, more than the file has", kind, length)
		}
		if at == int64(len(pngSignature)) && (kind != "IHDR" || length != 13) {
			return errors.New("the PNG does not begin with an IHDR chunk")
		}
		switch kind {
		case "IHDR", "tEXt", "zTXt", "iTXt", "eXIf":
			if length > maxChunk {
				info.addText(Text{Key: kind, Problem: fmt.Sprintf("%d bytes: too long to be read", length)})
				break
			}
			data, err := readChunk(r, at, length)
			if err != nil {
				return fmt.Errorf("PNG chunk %q: %w", kind, err)
			}
			if err := info.takePNGChunk(kind, data); err != nil {
				return fmt.Errorf("PNG chunk %q: %w", kind, err)
			}
		case "IEND":
			return nil
		}
		at += 12 + length
	}
	return errors.New("the PNG has too many chunks")
}

func readChunk(r io.ReaderAt, at, length int64) ([]byte, error) {
	data := make([]byte, 4+length+4) // kind, data, checksum
	if err := readAt(r, data, at+4); err != nil {
		return nil, err
	}
	sum := binary.BigEndian.Uint32(data[4+length:])
	if crc32.ChecksumIEEE(data[:4+length]) != sum {
		return nil, errors.New("wrong checksum: the file is damaged")
	}
	return data[4 : 4+length], nil
}

func (info *Info) takePNGChunk(kind string, data []byte) error {
	switch kind {
	case "IHDR":
		return info.setSize(binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[4:]))
	case "eXIf":
		info.takeEXIF(data)
		return nil
	}
	key, text, err := pngText(kind, data)
	t := Text{Key: key, Value: text}
	if err != nil {
		t = Text{Key: key, Problem: err.Error()}
	}
	info.addText(t)
	if key == xmpKey {
		info.takeXMP(text)
	}
	return nil
}

// pngText takes a text chunk apart (sec. 11.3.3).
func pngText(kind string, data []byte) (key, text string, err error) {
	keyBytes, rest, ok := bytes.Cut(data, []byte{0})
	key = latin1(keyBytes)
	if !ok {
		return key, "", errors.New("no text")
	}
	switch kind {
	case "tEXt":
		return key, pngLatin1(rest), nil
	case "zTXt":
		if len(rest) < 1 || rest[0] != 0 {
			return key, "", errors.New("unknown compression")
		}
		plain, err := inflate(rest[1:])
		return key, pngLatin1(plain), err
	}
	if len(rest) < 2 {
		return key, "", errors.New("no text")
	}
	compressed, method := rest[0] != 0, rest[1]
	_, rest, _ = bytes.Cut(rest[2:], []byte{0}) // language
	_, rest, ok = bytes.Cut(rest, []byte{0})    // translated key
	if !ok {
		return key, "", errors.New("no text")
	}
	if compressed && method != 0 {
		return key, "", errors.New("unknown compression")
	}
	if compressed {
		rest, err = inflate(rest)
	}
	return key, strings.ToValidUTF8(string(rest), "�"), err
}

func inflate(data []byte) ([]byte, error) {
	z, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxChunk+1))
	if err == nil && len(plain) > maxChunk {
		return nil, errors.New("too long to be read")
	}
	return plain, err
}

// pngLatin1 decodes what should be Latin-1. Some programs write UTF-8 there, and Latin-1 that is valid UTF-8 by chance
// is not met with.
func pngLatin1(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return latin1(b)
}

func latin1(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String()
}
