package imagefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"strings"
)

// writeWebP rewrites an encoded image as an extended file: VP8X, the image, EXIF, XMP (RFC 9649, sec. 2.7).
func writeWebP(w io.Writer, encoded []byte, img *image.NRGBA, m metadata) error {
	const hasXMP, hasEXIF, hasAlpha = 1 << 2, 1 << 3, 1 << 4
	vp8x := make([]byte, 10)
	if vp8x[0] = hasXMP; m.json != "" {
		vp8x[0] |= hasEXIF
	}
	if !img.Opaque() {
		vp8x[0] |= hasAlpha
	}
	put24(vp8x[4:], img.Rect.Dx()-1)
	put24(vp8x[7:], img.Rect.Dy()-1)

	var body bytes.Buffer
	body.WriteString("WEBP")
	writeRIFFChunk(&body, "VP8X", vp8x)
	for kind, chunk := range webpChunks(encoded) {
		if kind != "VP8X" {
			writeRIFFChunk(&body, kind, chunk)
		}
	}
	m.writeWebP(&body)
	_, err := w.Write(append(riffHead(body.Len()), body.Bytes()...))
	return err
}

// riffHead is what stands before a file's chunks of so many bytes.
func riffHead(n int) []byte { return binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(n)) }

// writeWebP writes the chunks of texts.
func (m metadata) writeWebP(body *bytes.Buffer) {
	if m.json != "" {
		writeRIFFChunk(body, "EXIF", writeEXIF(m.parameters))
	}
	writeRIFFChunk(body, "XMP ", []byte(writeXMP(m.json, m.source)))
}

func writeRIFFChunk(w *bytes.Buffer, kind string, data []byte) {
	w.WriteString(kind)
	w.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(data))))
	w.Write(data)
	if len(data)%2 == 1 {
		w.WriteByte(0)
	}
}

func put24(b []byte, v int) { b[0], b[1], b[2] = byte(v), byte(v>>8), byte(v>>16) }

func get24(b []byte) uint32 { return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 }

// readWebP walks over the chunks without reading the pixels.
func readWebP(r io.ReaderAt, size int64, info *Info) error {
	at := int64(12)
	for range maxParts {
		if at+8 > size {
			return nil
		}
		var head [8]byte
		if err := readAt(r, head[:], at); err != nil {
			return fmt.Errorf("the WebP is cut off: %w", err)
		}
		kind, length := string(head[:4]), int64(binary.LittleEndian.Uint32(head[4:]))
		if length > size-at-8 {
			return fmt.Errorf("the WebP's %q chunk claims %d bytes, more than the file has", kind, length)
		}
		take := length
		switch kind {
		case "VP8X", "VP8 ", "VP8L":
			take = min(length, 10) // the size is in the first bytes
		case "EXIF", "XMP ":
			if length > maxChunk {
				info.addText(Text{Key: kind, Problem: fmt.Sprintf("%d bytes: too long to be read", length)})
				take = 0
			}
		default:
			take = 0
		}
		if take > 0 {
			data := make([]byte, take)
			if err := readAt(r, data, at+8); err != nil {
				return fmt.Errorf("the WebP is cut off: %w", err)
			}
			if err := info.takeWebPChunk(kind, data); err != nil {
				return err
			}
		}
		at += 8 + length + length%2
	}
	return errors.New("the WebP has too many chunks")
}

func (info *Info) takeWebPChunk(kind string, data []byte) error {
	damaged := fmt.Errorf("the WebP is damaged: no size in its %q chunk", kind)
	switch kind {
	case "EXIF":
		info.takeEXIF([]byte(strings.TrimPrefix(string(data), exifHeader))) // some writers leave JPEG's header in
	case "XMP ":
		info.takeXMP(string(data))
	case "VP8X":
		if len(data) < 10 {
			return damaged
		}
		return info.setSize(get24(data[4:])+1, get24(data[7:])+1)
	case "VP8 ": // RFC 6386, sec. 9.1: frame tag, start code, 14 bits of width, 14 of height
		if len(data) < 10 || string(data[3:6]) != "\x9d\x01\x2a" {
			return damaged
		}
		w, h := binary.LittleEndian.Uint16(data[6:]), binary.LittleEndian.Uint16(data[8:])
		return info.setSize(uint32(w&0x3fff), uint32(h&0x3fff))
	case "VP8L": // RFC 9649, sec. 3.4: signature, 14 bits of width - 1, 14 of height - 1
		if len(data) < 5 || data[0] != 0x2f {
			return damaged
		}
		info.Lossless = true
		bits := binary.LittleEndian.Uint32(data[1:])
		return info.setSize(bits&0x3fff+1, bits>>14&0x3fff+1)
	}
	return nil
}
