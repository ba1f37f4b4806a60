package t5

import (
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// charsmap is SentencePiece's precompiled normalization (Kudo & Richardson 2018, sec. 3.2): a double-array trie (Aoe 1989) from
// characters to places in a list of strings that end with a zero byte.
type charsmap struct {
	trie []uint32
	text []byte
}

// readCharsmap reads the bytes that a model has: the size of the trie in bytes, the trie, the strings. Nothing is no map.
func readCharsmap(b []byte) (*charsmap, error) {
	if len(b) == 0 {
		return nil, nil
	}
	bad := errors.New("the tokenizer's map of characters (precompiled_charsmap) is damaged")
	if len(b) < 4 {
		return nil, bad
	}
	n := int(binary.LittleEndian.Uint32(b))
	if b = b[4:]; n%4 != 0 || n == 0 || n > len(b) {
		return nil, bad
	}
	m := &charsmap{make([]uint32, n/4), b[n:]}
	for i := range m.trie {
		m.trie[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return m, nil
}

// find is what the shortest entry at the start of s becomes.
func (m *charsmap) find(s string) (to string, ok bool) {
	at := func(i uint32) (unit uint32, ok bool) {
		if int(i) >= len(m.trie) {
			return 0, false
		}
		return m.trie[i], true
	}
	offset := func(unit uint32) uint32 { return unit >> 10 << (unit & (1 << 9) >> 6) }
	unit, node := m.trie[0], uint32(0)
	node ^= offset(unit)
	for i := range len(s) {
		c := uint32(s[i])
		if c == 0 {
			return "", false
		}
		node ^= c
		var in bool
		if unit, in = at(node); !in || unit&(1<<31|0xFF) != c {
			return "", false
		}
		node ^= offset(unit)
		if unit>>8&1 == 0 { // not the end of an entry
			continue
		}
		leaf, in := at(node)
		place := int(leaf & (1<<31 - 1))
		if !in || place > len(m.text) {
			return "", false
		}
		end := place
		for end < len(m.text) && m.text[end] != 0 {
			end++
		}
		return string(m.text[place:end]), true
	}
	return "", false
}

// normalize is that of the tokenizers library. It looks up what a reader sees as one character (a grapheme cluster of Unicode)
// as a whole if it is short, and otherwise its code points one by one.
func (m *charsmap) normalize(text string) string {
	if m == nil {
		return text
	}
	const short = 6 // bytes
	var b strings.Builder
	state := -1
	for text != "" {
		var cluster string
		cluster, text, _, state = uniseg.FirstGraphemeClusterInString(text, state)
		if len(cluster) < short {
			if to, ok := m.find(cluster); ok {
				b.WriteString(to)
				continue
			}
		}
		for cluster != "" {
			_, n := utf8.DecodeRuneInString(cluster)
			if to, ok := m.find(cluster[:n]); ok {
				b.WriteString(to)
			} else {
				b.WriteString(cluster[:n])
			}
			cluster = cluster[n:]
		}
	}
	return b.String()
}
