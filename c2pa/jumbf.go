package c2pa

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Content types of boxes (ISO 19566-5, and the C2PA specification, sec. 11.1).
const (
	storeType      = "c2pa"
	manifestType   = "c2ma"
	assertionsType = "c2as"
	claimType      = "c2cl"
	signatureType  = "c2cs"
	cborType       = "cbor"
)

// box is a JUMBF superbox: a description, and content.
type box struct {
	kind, label string
	inner       []box  // superboxes in it
	data        []byte // or what its content box holds, of type "cbor" unless dataKind says otherwise
	dataKind    string
}

func superbox(kind, label string, inner ...box) box {
	return box{kind: kind, label: label, inner: inner}
}

func super(kind, label string, data []byte) box {
	return box{kind: kind, label: label, data: data, dataKind: cborType}
}

func cborBox(label string, data []byte) box { return super(cborType, label, data) }

func boxBytes(kind string, content []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(8+len(content)))
	return append(append(out, kind...), content...)
}

// typeTail follows a type's four letters in its UUID.
var typeTail = func() []byte {
	b, err := hex.DecodeString("00110010800000aa00389b71")
	if err != nil {
		panic(err)
	}
	return b
}()

// content is what the superbox holds, without its own header: assertions are hashed so.
func (b box) content() []byte {
	const requestable, labelled = 1, 2
	description := append(append([]byte(b.kind), typeTail...), requestable|labelled)
	description = append(append(description, b.label...), 0)
	out := boxBytes("jumd", description)
	for _, i := range b.inner {
		out = append(out, i.bytes()...)
	}
	if b.dataKind != "" {
		out = append(out, boxBytes(b.dataKind, b.data)...)
	}
	return out
}

func (b box) bytes() []byte { return boxBytes("jumb", b.content()) }

// read is a superbox as a file holds it.
type read struct {
	kind, label string
	raw         []byte // content, with the description
	inner       []*read
	data        []byte // of the first content box
}

// maxDepth and maxBoxes bound what is read: real stores have four levels.
const (
	maxDepth = 8
	maxBoxes = 10_000
)

var errCut = errors.New("the C2PA manifest is damaged: a box is cut off")

// split takes a box off the front.
func split(b []byte) (kind string, content, rest []byte, err error) {
	if len(b) < 8 {
		return "", nil, nil, errCut
	}
	n, head := uint64(binary.BigEndian.Uint32(b)), uint64(8)
	switch n {
	case 0:
		n = uint64(len(b))
	case 1:
		if len(b) < 16 {
			return "", nil, nil, errCut
		}
		n, head = binary.BigEndian.Uint64(b[8:]), 16
	}
	if n < head || n > uint64(len(b)) {
		return "", nil, nil, errCut
	}
	return string(b[4:8]), b[head:n], b[n:], nil
}

func readSuperbox(content []byte, depth int, left *int) (*read, error) {
	if *left--; depth > maxDepth || *left < 0 {
		return nil, errors.New("the C2PA manifest has too many boxes")
	}
	kind, description, rest, err := split(content)
	if err != nil {
		return nil, err
	}
	if kind != "jumd" || len(description) < 17 {
		return nil, errors.New("the C2PA manifest is damaged: a box has no description")
	}
	r := &read{kind: string(description[:4]), raw: content}
	if description[16]&2 != 0 {
		label, _, ok := strings.Cut(string(description[17:]), "\x00")
		if !ok {
			return nil, errCut
		}
		r.label = label
	}
	for len(rest) > 0 {
		var inside []byte
		if kind, inside, rest, err = split(rest); err != nil {
			return nil, err
		}
		switch {
		case kind == "jumb":
			in, err := readSuperbox(inside, depth+1, left)
			if err != nil {
				return nil, err
			}
			r.inner = append(r.inner, in)
		case r.data == nil && kind != "free":
			r.data = inside
		}
	}
	return r, nil
}

// readStore reads a manifest store.
func readStore(b []byte) (*read, error) {
	kind, content, _, err := split(b)
	if err != nil {
		return nil, err
	}
	if kind != "jumb" {
		return nil, fmt.Errorf("the C2PA manifest is damaged: it begins with a box %q", kind)
	}
	left := maxBoxes
	return readSuperbox(content, 0, &left)
}

func (r *read) find(label string) *read {
	for _, i := range r.inner {
		if i.label == label {
			return i
		}
	}
	return nil
}

func (r *read) ofKind(kind string) *read {
	for _, i := range r.inner {
		if i.kind == kind {
			return i
		}
	}
	return nil
}
