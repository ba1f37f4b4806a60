package clip

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalize is what the reference does to text before it looks for words: NFC, each run of white
// space to one space, lower case. Lower-casing goes character by character, without context: a final
// Σ becomes σ, never ς, and İ becomes i followed by U+0307.
func normalize(s string) string {
	s = nfc(s)
	var b strings.Builder
	b.Grow(len(s))
	inSpace := false
	for _, r := range s {
		if isSpace(r) {
			if !inSpace {
				b.WriteByte(' ')
			}
			inSpace = true
			continue
		}
		inSpace = false
		switch {
		case r < utf8.RuneSelf:
			if 'A' <= r && r <= 'Z' {
				r += 'a' - 'A'
			}
			b.WriteByte(byte(r))
		case r == 'İ':
			b.WriteString("i\u0307")
		default:
			b.WriteRune(lowerCase.ToLower(r))
		}
	}
	return b.String()
}

// isSpace is \s: the property White_Space, in which the information separators U+001C to U+001F are not.
func isSpace(r rune) bool { return unicode.Is(unicode.White_Space, r) }

// nfc composes s as the reference does, whose tables are of Unicode 9: code points that it does not
// know stay where they are. The properties come from x/text, but not the algorithm, because x/text
// follows a newer Unicode and breaks runs of more than 30 marks with a joiner (UAX #15, Stream-Safe
// Text Format), which the reference does not.
func nfc(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf && unicode.Is(normalizing, r) }) < 0 {
		return s
	}
	out := make([]rune, 0, len(s))
	starter, last := -1, -1 // index of the last starter in out, and the class of what was put after it
	for _, m := range decompose(s) {
		if starter >= 0 && last < m.class {
			if c, ok := compose(out[starter], m.r); ok {
				out[starter] = c
				continue
			}
		}
		if m.class == 0 {
			starter, last = len(out), -1
		} else {
			last = m.class
		}
		out = append(out, m.r)
	}
	return string(out)
}

// mark is a character with its canonical combining class; 0 is a starter.
type mark struct {
	r     rune
	class int
}

// decompose is NFD: every character in full decomposition, each run of marks sorted by class.
func decompose(s string) []mark {
	out := make([]mark, 0, len(s))
	var buf [utf8.UTFMax]byte
	var parts []byte
	sorted := 0 // everything before is in order
	sortRun := func() {
		slices.SortStableFunc(out[sorted:], func(a, b mark) int { return a.class - b.class })
	}
	for _, r := range s {
		parts = append(parts[:0], buf[:utf8.EncodeRune(buf[:], r)]...)
		if r >= utf8.RuneSelf && unicode.Is(normalizing, r) {
			parts = norm.NFD.Append(parts[:0], parts...)
		}
		for len(parts) > 0 {
			c, n := utf8.DecodeRune(parts)
			m := mark{r: c}
			if c >= utf8.RuneSelf && unicode.Is(normalizing, c) {
				m.class = int(norm.NFD.Properties(parts).CCC())
			}
			if m.class == 0 {
				sortRun()
				sorted = len(out) + 1
			}
			out = append(out, m)
			parts = parts[n:]
		}
	}
	sortRun()
	return out
}

// compose is the primary composite of a and b, if there is one.
func compose(a, b rune) (rune, bool) {
	if b < utf8.RuneSelf || !unicode.Is(normalizing, b) {
		return 0, false
	}
	pair := make([]byte, 0, 2*utf8.UTFMax)
	pair = utf8.AppendRune(utf8.AppendRune(pair, a), b)
	joined := norm.NFC.Append(make([]byte, 0, 4*utf8.UTFMax), pair...)
	c, n := utf8.DecodeRune(joined)
	return c, n == len(joined) && unicode.Is(normalizing, c)
}
