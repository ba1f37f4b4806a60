package imagefile

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"darkroom/recipe"
)

const (
	exifHeader     = "Exif\x00\x00"
	xmpHeader      = "http://ns.adobe.com/xap/1.0/\x00"
	extendedHeader = "http://ns.adobe.com/xmp/extension/\x00"

	markerSOI     = 0xd8 // start of image
	markerSOS     = 0xda // start of scan: the pixels
	markerEOI     = 0xd9 // end of image
	markerAPP1    = 0xe1 // EXIF or XMP
	markerComment = 0xfe

	maxSegment = 0xffff - 2 // bytes of a segment, without its length
)

// writeJPEG writes an encoded image with EXIF and XMP segments after its first marker, where both standards want them. What
// does not fit into one segment is split over several: EXIF as ExifTool does and Pillow reads, XMP as its standard says.
func writeJPEG(w io.Writer, encoded []byte, m metadata) error {
	out := bytes.NewBuffer(bytes.Clone(encoded[:2]))
	segment := func(parts ...string) {
		payload := strings.Join(parts, "")
		out.Write([]byte{0xff, markerAPP1})
		out.Write(binary.BigEndian.AppendUint16(nil, uint16(2+len(payload))))
		out.WriteString(payload)
	}
	if n := len(m.parameters) + len(m.json); n > recipe.MaxJSON {
		return fmt.Errorf("the recipe has %d bytes, more than the %d that are read again: shorten the prompt or write a PNG", n, recipe.MaxJSON)
	}
	exif := ""
	if m.json != "" {
		exif = string(writeEXIF(m.parameters))
	}
	for exif != "" {
		n := min(len(exif), maxSegment-len(exifHeader))
		segment(exifHeader, exif[:n])
		exif = exif[n:]
	}
	xmp := writeXMP(m.json, m.source)
	if len(xmpHeader)+len(xmp) <= maxSegment {
		segment(xmpHeader, xmp)
	} else {
		// ISO 16684-3, sec. 6.3.5: the packet names the extension by its MD5; each part says where it belongs.
		extension := strings.TrimSuffix(strings.TrimPrefix(xmp, xmpBegin), xmpEnd)
		id := fmt.Sprintf("%X", md5.Sum([]byte(extension)))
		segment(xmpHeader, xmpPacket(xmpMeta(m.source.iptc()+` xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="`+id+`"/>`)))
		for at := 0; at < len(extension); {
			n := min(len(extension)-at, maxSegment-len(extendedHeader)-len(id)-8)
			place := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(len(extension))), uint32(at))
			segment(extendedHeader, id, string(place), extension[at:at+n])
			at += n
		}
	}
	out.Write(encoded[2:])
	_, err := w.Write(out.Bytes())
	return err
}

// segments are the parts of a JPEG's texts, which may come in several segments.
type segments struct {
	exif     []byte
	extended []byte // of the XMP, as far as it has come: the parts are in order
	size     uint32 // that it says it has
}

// readJPEG walks over the segments up to the pixels.
func readJPEG(r io.ReaderAt, info *Info) error {
	var parts segments
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
			parts.take(info)
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
		if marker == markerAPP1 || marker == markerComment || isStartOfFrame(marker) {
			data := make([]byte, length-2)
			if err := readAt(r, data, at+4); err != nil {
				return fmt.Errorf("the JPEG ends before its pixels: %w", err)
			}
			if err := info.takeJPEGSegment(marker, data, &parts); err != nil {
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

func (info *Info) takeJPEGSegment(marker byte, data []byte, parts *segments) error {
	switch marker {
	case markerAPP1:
		parts.add(info, data)
		return nil
	case markerComment:
		info.addText(Text{Key: "comment", Value: plainText(data)})
		return nil
	}
	if len(data) < 5 { // precision, height, width
		return errors.New("the JPEG is damaged: no size in its frame")
	}
	return info.setSize(uint32(binary.BigEndian.Uint16(data[3:])), uint32(binary.BigEndian.Uint16(data[1:])))
}

// add keeps a segment of EXIF or XMP, and takes those before it that it does not continue.
func (p *segments) add(info *Info, data []byte) {
	if exif, ok := bytes.CutPrefix(data, []byte(exifHeader)); ok {
		begins := bytes.HasPrefix(exif, []byte("MM\x00\x2a")) || bytes.HasPrefix(exif, []byte("II\x2a\x00"))
		if begins && len(p.exif) > 0 {
			info.takeEXIF(p.exif)
			p.exif = nil
		}
		if len(p.exif)+len(exif) <= maxChunk {
			p.exif = append(p.exif, exif...)
		}
	} else if xmp, ok := bytes.CutPrefix(data, []byte(xmpHeader)); ok {
		info.takeXMP(string(xmp))
	} else if part, ok := bytes.CutPrefix(data, []byte(extendedHeader)); ok && len(part) > 32+8 {
		size, at := binary.BigEndian.Uint32(part[32:]), binary.BigEndian.Uint32(part[36:])
		if at == 0 {
			p.extended, p.size = nil, size
		}
		if int(at) == len(p.extended) && len(p.extended)+len(part)-40 <= maxChunk {
			p.extended = append(p.extended, part[40:]...)
		}
	}
}

// take takes what was kept.
func (p *segments) take(info *Info) {
	if p.exif != nil {
		info.takeEXIF(p.exif)
	}
	if p.extended != nil && len(p.extended) == int(p.size) {
		info.takeXMP(string(p.extended))
	} else if p.extended != nil {
		info.addText(Text{Key: "XMP", Problem: "a part of the extended packet is missing"})
	}
}
