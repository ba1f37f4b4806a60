package c2pa

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// place is where a file holds its manifest, or where one would be put.
type place struct {
	at       int                          // its offset
	length   int                          // of what holds it; 0 where there is none
	manifest []byte                       // the store; nil where there is none
	wrap     func(manifest []byte) []byte // the manifest as the file holds it
}

// ErrFormat says that a file is of a format that holds no manifest here.
var ErrFormat = errors.New("C2PA manifests are supported in PNG and JPEG files")

const pngSignature = "\x89PNG\r\n\x1a\n"

func placeOf(file []byte) (place, error) {
	switch {
	case bytes.HasPrefix(file, []byte(pngSignature)):
		return placePNG(file)
	case bytes.HasPrefix(file, []byte{0xff, 0xd8, 0xff}):
		return placeJPEG(file)
	}
	return place{}, ErrFormat
}

// placePNG: a caBX chunk before the pixels (PNG third edition, and the C2PA specification, A.3.3).
func placePNG(file []byte) (place, error) {
	const header = len(pngSignature) + 8 + 13 + 4
	p := place{at: header, wrap: func(m []byte) []byte {
		out := append(binary.BigEndian.AppendUint32(nil, uint32(len(m))), "caBX"...)
		out = append(out, m...)
		return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[4:]))
	}}
	for at := len(pngSignature); at+12 <= len(file); {
		n := int(binary.BigEndian.Uint32(file[at:]))
		if n > len(file)-at-12 {
			break
		}
		switch string(file[at+4 : at+8]) {
		case "caBX":
			p.at, p.length, p.manifest = at, n+12, file[at+8:at+8+n]
			return p, nil
		case "IEND":
			return p, nil
		}
		at += 12 + n
	}
	return p, errors.New("the PNG is cut off")
}

// segment is how much of a manifest a JPEG segment holds.
const segment = 64000

// placeJPEG: APP11 segments, each with the head of the box that they carry together (ISO 19566-5, annex D).
func placeJPEG(file []byte) (place, error) {
	p := place{wrap: func(m []byte) (out []byte) {
		head := m[:8]
		for i, rest := 0, m[8:]; i == 0 || len(rest) > 0; i++ {
			part := rest[:min(len(rest), segment)]
			rest = rest[len(part):]
			out = append(out, 0xff, 0xeb)
			out = binary.BigEndian.AppendUint16(out, uint16(2+2+2+4+8+len(part)))
			out = append(out, "JP"...)
			out = binary.BigEndian.AppendUint16(out, 1) // the box's number
			out = binary.BigEndian.AppendUint32(out, uint32(i+1))
			out = append(append(out, head...), part...)
		}
		return out
	}}
	at := 2
	for at+4 <= len(file) && file[at] == 0xff {
		marker, n := file[at+1], int(binary.BigEndian.Uint16(file[at+2:]))
		if n < 2 || n > len(file)-at-2 {
			return p, errors.New("the JPEG is cut off")
		}
		body := file[at+4 : at+2+n]
		if marker == 0xeb && len(body) >= 16 && string(body[:2]) == "JP" && string(body[12:16]) == "jumb" {
			if p.manifest == nil {
				p.at, p.manifest = at, bytes.Clone(body[8:])
			} else if at == p.at+p.length {
				p.manifest = append(p.manifest, body[16:]...)
			}
			p.length = at + 2 + n - p.at
		} else if p.manifest != nil || marker < 0xe0 || marker > 0xef {
			break // after the application's segments
		}
		at += 2 + n
	}
	if p.manifest == nil {
		p.at = at
	}
	return p, nil
}
