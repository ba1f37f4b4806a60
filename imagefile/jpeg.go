package imagefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	exifHeader = "Exif\x00\x00"
	xmpHeader  = "http://ns.adobe.com/xap/1.0/\x00"

	markerSOI  = 0xd8 // start of image
	markerSOS  = 0xda // start of scan: the pixels
	markerEOI  = 0xd9 // end of image
	markerAPP1 = 0xe1 // EXIF or XMP
)

// writeJPEG writes an encoded image with an EXIF and an XMP segment behind its first marker, where both standards want them.
func writeJPEG(w io.Writer, encoded []byte, m metadata) error {
	out := bytes.NewBuffer(bytes.Clone(encoded[:2]))
	for _, payload := range []string{exifHeader + string(writeEXIF(m.parameters)), xmpHeader + writeXMP(m.json)} {
		if len(payload) > 0xffff-2 {
			return fmt.Errorf("the recipe has %d bytes and a JPEG segment holds %d: shorten the prompt or write a PNG", len(payload), 0xffff-2)
		}
		out.Write([]byte{0xff, markerAPP1})
		out.Write(binary.BigEndian.AppendUint16(nil, uint16(2+len(payload))))
		out.WriteString(payload)
	}
	out.Write(encoded[2:])
	_, err := w.Write(out.Bytes())
	return err
}

// readJPEG walks over the segments up to the pixels.
func readJPEG(r io.ReaderAt, info *Info) error {
	at := int64(2)
	for range maxParts {
		var head [4]byte
		if err := readAt(r, head[:], at); err != nil {
			return fmt.Errorf("the JPEG ends before its pixels: %w", err)
		}
		if head[0] != 0xff {
			return errors.New("the JPEG is damaged: no marker where one must be")
		}
		marker := head[1]
		if marker == 0xff { // padding
			at++
			continue
		}
		if marker == markerSOS || marker == markerEOI {
			return nil
		}
		if marker == 0x01 || marker >= 0xd0 && marker <= markerSOI { // markers without a length
			at += 2
			continue
		}
		length := int64(binary.BigEndian.Uint16(head[2:]))
		if length < 2 {
			return errors.New("the JPEG is damaged: a segment is shorter than its header")
		}
		if marker == markerAPP1 || isStartOfFrame(marker) {
			data := make([]byte, length-2)
			if err := readAt(r, data, at+4); err != nil {
				return fmt.Errorf("the JPEG ends before its pixels: %w", err)
			}
			if err := info.takeJPEGSegment(marker, data); err != nil {
				return err
			}
		}
		at += 2 + length
	}
	return errors.New("the JPEG has too many segments")
}

// isStartOfFrame: SOF0 to SOF15 without DHT, JPG and DAC, which lie among them.
func isStartOfFrame(marker byte) bool {
	return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc
}

func (info *Info) takeJPEGSegment(marker byte, data []byte) error {
	if marker == markerAPP1 {
		if exif, ok := strings.CutPrefix(string(data), exifHeader); ok {
			info.takeEXIF([]byte(exif))
		} else if xmp, ok := strings.CutPrefix(string(data), xmpHeader); ok {
			info.takeXMP(xmp)
		}
		return nil
	}
	if len(data) < 5 { // precision, height, width
		return errors.New("the JPEG is damaged: no size in its frame")
	}
	return info.setSize(uint32(binary.BigEndian.Uint16(data[3:])), uint32(binary.BigEndian.Uint16(data[1:])))
}
