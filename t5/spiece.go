package t5

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// message reads a protocol buffer: f gets each field's number, and its bytes, or of numbers those that they are written with.
func message(b []byte, f func(field int, value []byte) error) error {
	bad := errors.New("the file is cut off or damaged")
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return bad
		}
		b = b[n:]
		size := uint64(0)
		switch key & 7 {
		case 0: // a number of variable length
			_, n := binary.Uvarint(b)
			if n <= 0 {
				return bad
			}
			size = uint64(n)
		case 1:
			size = 8
		case 2: // bytes, with their length
			length, n := binary.Uvarint(b)
			if n <= 0 {
				return bad
			}
			b, size = b[n:], length
		case 5:
			size = 4
		default:
			return bad
		}
		if size > uint64(len(b)) {
			return bad
		}
		if err := f(int(key>>3), b[:size]); err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}

// readPieces reads spiece.model, a ModelProto of SentencePiece: pieces (1) with their text (1) and score (2), the training's
// kind of model (2, 3), and the normalization's map of characters (3, 2).
func readPieces(b []byte) (*unigram, []byte, error) {
	u := &unigram{}
	var chars []byte
	kind := uint64(1)
	err := message(b, func(field int, value []byte) error {
		switch field {
		case 1:
			p := piece{}
			err := message(value, func(field int, value []byte) error {
				switch {
				case field == 1:
					p.text = string(value)
				case field == 2 && len(value) == 4:
					p.score = float64(math.Float32frombits(binary.LittleEndian.Uint32(value)))
				}
				return nil
			})
			u.pieces = append(u.pieces, p)
			return err
		case 2:
			return message(value, func(field int, value []byte) error {
				if field == 3 {
					kind, _ = binary.Uvarint(value)
				}
				return nil
			})
		case 3:
			return message(value, func(field int, value []byte) error {
				if field == 2 {
					chars = value
				}
				return nil
			})
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, nil, err
	case kind != 1:
		return nil, nil, fmt.Errorf("its model is not a unigram one (kind %d): only T5's is supported", kind)
	}
	return u, chars, nil
}
