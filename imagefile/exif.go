package imagefile

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/japanese"
)

// Tags and types of EXIF 2.3 (CIPA DC-008), which is TIFF 6.0 with tags of its own.
const (
	tagImageDescription = 0x010e
	tagOrientation      = 0x0112
	tagExifIFD          = 0x8769
	tagUserComment      = 0x9286
	tagXPComment        = 0x9c9c // Windows' own
	tagColorSpace       = 0xa001

	typeByte      = 1
	typeASCII     = 2
	typeShort     = 3
	typeLong      = 4
	typeUndefined = 7

	unicodePrefix = "UNICODE\x00"
	asciiPrefix   = "ASCII\x00\x00\x00"
	jisPrefix     = "JIS\x00\x00\x00\x00\x00"
)

// writeEXIF is an EXIF block with one comment, in UTF-16 and big-endian throughout: what AUTOMATIC1111's interface writes
// into JPEG and WebP files and looks for there.
func writeEXIF(comment string) []byte {
	be := binary.BigEndian
	text := []byte(unicodePrefix)
	for _, u := range utf16.Encode([]rune(comment)) {
		text = be.AppendUint16(text, u)
	}
	entry := func(b []byte, tag, kind uint16, count, value uint32) []byte {
		b = be.AppendUint16(be.AppendUint16(b, tag), kind)
		return be.AppendUint32(be.AppendUint32(b, count), value)
	}
	const exifIFD = 8 + 2 + 12 + 4            // header, then a directory of one entry
	const textAt = exifIFD + 2 + 2*12 + 4     // then a directory of two
	b := []byte("MM\x00\x2a\x00\x00\x00\x08") // big-endian TIFF; the first directory is at 8
	b = be.AppendUint16(b, 1)
	b = entry(b, tagExifIFD, typeLong, 1, exifIFD)
	b = be.AppendUint32(b, 0) // no further directory
	b = be.AppendUint16(b, 2)
	b = entry(b, tagUserComment, typeUndefined, uint32(len(text)), textAt)
	b = entry(b, tagColorSpace, typeShort, 1, 1<<16) // sRGB; a short stands left in its field
	b = be.AppendUint32(b, 0)
	return append(b, text...)
}

// takeEXIF looks for texts in an EXIF block. A block that cannot be read is a text with a problem, not an error: the
// picture is no worse for it.
func (info *Info) takeEXIF(data []byte) {
	err := exifTexts(data, func(key, value string) {
		if value != "" {
			info.addText(Text{Key: key, Value: value})
		}
	})
	if err != nil {
		info.addText(Text{Key: "EXIF", Problem: err.Error()})
	}
}

// exifTexts gives the texts of an EXIF block to take, the user comment last, which counts most: it is what other
// programs' parameters stand in.
func exifTexts(data []byte, take func(key, value string)) error {
	damaged := errors.New("the EXIF block is damaged")
	if len(data) < 8 {
		return damaged
	}
	var order binary.ByteOrder
	switch string(data[:4]) {
	case "MM\x00\x2a":
		order = binary.BigEndian
	case "II\x2a\x00":
		order = binary.LittleEndian
	default:
		return damaged
	}
	comment := ""
	// Two directories at most: the first, and EXIF's own. The comment belongs into the second; Fooocus puts it in the first.
	at := uint64(order.Uint32(data[4:]))
	for range 2 {
		next := uint64(0)
		if at+2 > uint64(len(data)) {
			return damaged
		}
		entries := data[at+2:]
		for range order.Uint16(data[at:]) {
			if len(entries) < 12 {
				return damaged
			}
			tag, kind, count := order.Uint16(entries), order.Uint16(entries[2:]), uint64(order.Uint32(entries[4:]))
			value := uint64(order.Uint32(entries[8:]))
			entry := entries
			entries = entries[12:]
			if tag == tagExifIFD {
				next = value
				continue
			}
			if kind != typeByte && kind != typeASCII && kind != typeUndefined || tag != tagUserComment && tag != tagXPComment && kind != typeASCII {
				continue
			}
			text := entry[8:12]
			if count <= 4 {
				text = text[:count]
			} else if value+count > uint64(len(data)) {
				return damaged
			} else {
				text = data[value : value+count]
			}
			switch {
			case tag == tagUserComment:
				comment = commentText(text)
			case tag == tagXPComment:
				take("XPComment", utf16Text(text, binary.LittleEndian))
			case tag == tagImageDescription:
				takeASCII("ImageDescription", text, take)
			default:
				takeASCII("", text, take)
			}
		}
		if next == 0 {
			break
		}
		at = next
	}
	take("parameters", comment)
	return nil
}

// exifOrientation is the orientation in an EXIF block's first directory; 1 where it has none or is damaged.
func exifOrientation(data []byte) int {
	if len(data) < 8 {
		return 1
	}
	var order binary.ByteOrder = binary.BigEndian
	if string(data[:2]) == "II" {
		order = binary.LittleEndian
	}
	at := uint64(order.Uint32(data[4:]))
	if at+2 > uint64(len(data)) {
		return 1
	}
	entries := data[at+2:]
	for range order.Uint16(data[at:]) {
		if len(entries) < 12 {
			break
		}
		if order.Uint16(entries) == tagOrientation && order.Uint16(entries[2:]) == typeShort {
			return int(order.Uint16(entries[8:]))
		}
		entries = entries[12:]
	}
	return 1
}

// takeASCII gives a text field to take. ComfyUI puts its texts into the fields for the camera's name and the like, each after
// its key: "prompt:{…}". Others without a name of their own are the camera's.
func takeASCII(name string, b []byte, take func(key, value string)) {
	text := plainText(b)
	if key, value, ok := strings.Cut(text, ":"); ok && strings.HasPrefix(strings.TrimSpace(value), "{") && json.Valid([]byte(value)) && !strings.ContainsAny(key, " {}\"") {
		take(strings.ToLower(key), value)
	} else if name != "" {
		take(name, text)
	}
}

// commentText decodes a user comment: eight bytes say how, if they do.
func commentText(b []byte) string {
	if text, ok := bytes.CutPrefix(b, []byte(unicodePrefix)); ok {
		if !bytes.Contains(bytes.TrimRight(text, "\x00"), []byte{0}) && utf8.Valid(text) {
			return plainText(text) // UTF-8 all the same: UTF-16 has zeros wherever there is a letter of Latin
		}
		// The standard does not say which byte order. Most write big-endian always, some the file's.
		big, little := utf16Text(text, binary.BigEndian), utf16Text(text, binary.LittleEndian)
		if latinShare(little) > latinShare(big) {
			return little
		}
		return big
	}
	if text, ok := bytes.CutPrefix(b, []byte(jisPrefix)); ok {
		if decoded, err := japanese.ISO2022JP.NewDecoder().Bytes(text); err == nil && bytes.ContainsRune(text, 0x1b) {
			return plainText(decoded)
		}
		return plainText(text)
	}
	return plainText(bytes.TrimPrefix(bytes.TrimPrefix(b, []byte(asciiPrefix)), make([]byte, 8)))
}

// plainText is a text that should be ASCII: UTF-8, or else Latin-1.
func plainText(b []byte) string {
	b = bytes.TrimRight(b, "\x00 ")
	if !utf8.Valid(b) {
		return latin1(b)
	}
	return strings.TrimPrefix(string(b), "\ufeff")
}

func utf16Text(b []byte, order binary.ByteOrder) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = order.Uint16(b[2*i:])
	}
	return strings.TrimPrefix(strings.TrimRight(string(utf16.Decode(units)), "\x00"), "\ufeff")
}

// latinShare counts the characters below U+0100. A parameters text has many ("Steps: "), one read in the wrong byte
// order almost none.
func latinShare(s string) int {
	n := 0
	for _, c := range s {
		if c < 0x100 {
			n++
		}
	}
	return n
}

// xmpNamespace is the name under which the recipe stands in an XMP packet: darkroom:recipe.
const xmpNamespace = "urn:darkroom:1.0/"

// iptcNamespace is of IPTC's extension for photographs, whose DigitalSourceType says what made a picture.
const iptcNamespace = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"

// iptc is the property as an attribute.
func (s Source) iptc() string {
	return `xmlns:Iptc4xmpExt="` + iptcNamespace + `" Iptc4xmpExt:DigitalSourceType="` + s.URL() + `"`
}

// writeXMP is an XMP packet (ISO 16684-1) with what made the picture, and with the recipe's JSON as a text property where there is
// one.
func writeXMP(recipe string, source Source) string {
	if recipe == "" {
		return xmpPacket(xmpMeta(source.iptc() + `></rdf:Description>`))
	}
	// JSON escapes control characters itself. Two more characters may not stand in XML; in JSON they stand in strings only.
	recipe = strings.NewReplacer("\ufffe", `\ufffe`, "\uffff", `\uffff`).Replace(recipe)
	var text strings.Builder
	if err := xml.EscapeText(&text, []byte(recipe)); err != nil {
		panic(err) // a strings.Builder does not fail
	}
	return xmpPacket(xmpMeta(source.iptc() + ` xmlns:darkroom="` + xmpNamespace + `"><darkroom:recipe>` + text.String() + `</darkroom:recipe></rdf:Description>`))
}

// xmpMeta is the inside of a packet, with one description.
func xmpMeta(description string) string {
	return `<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">` +
		`<rdf:Description rdf:about="" ` + description + `</rdf:RDF></x:xmpmeta>`
}

const (
	xmpBegin = `<?xpacket begin="` + "\ufeff" + `" id="W5M0MpCehiHzreSzNTczkc9d"?>`
	xmpEnd   = `<?xpacket end="r"?>`
)

func xmpPacket(meta string) string { return xmpBegin + meta + xmpEnd }

func (info *Info) takeXMP(packet string) {
	err := xmpTexts(packet, func(key, value string) {
		if value = strings.TrimSpace(value); value != "" {
			info.addText(Text{Key: key, Value: value})
		}
	})
	if err != nil {
		info.addText(Text{Key: "XMP", Problem: err.Error()})
	}
}

// xmpNames are the properties of an XMP packet that are taken, and the keys of their texts: the recipe, and where other
// programs keep theirs.
var xmpNames = map[xml.Name]string{
	{Space: xmpNamespace, Local: "recipe"}:                            "darkroom",
	{Space: iptcNamespace, Local: "DigitalSourceType"}:                "DigitalSourceType",
	{Space: "http://ns.adobe.com/exif/1.0/", Local: "UserComment"}:    "UserComment",
	{Space: "http://purl.org/dc/elements/1.1/", Local: "description"}: "Description",
}

// xmpTexts gives properties to take, which are elements or, as other programs rewrite a packet, attributes. An element's text may
// lie in a list of languages.
func xmpTexts(packet string, take func(key, value string)) error {
	dec := xml.NewDecoder(strings.NewReader(packet))
	var key string // of the element that we are in
	var text strings.Builder
	depth := 0 // in that element
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			for _, a := range tok.Attr {
				if key := xmpNames[a.Name]; key != "" {
					take(key, a.Value)
				}
			}
			if key != "" {
				depth++
			} else if key = xmpNames[tok.Name]; key != "" {
				depth = 0
				text.Reset()
			}
		case xml.CharData:
			if key != "" {
				text.Write(tok)
			}
		case xml.EndElement:
			if key != "" && depth == 0 {
				take(key, text.String())
				key = ""
			} else if key != "" {
				depth--
			}
		}
	}
}
