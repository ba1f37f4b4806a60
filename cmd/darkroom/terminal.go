package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"darkroom/atomicfile"
)

// output is stdout or stderr as commands write text to it. Control characters that could steer a terminal are made
// visible, wherever they came from. The first write error is kept, because many callers do not check.
type output struct {
	name string
	w    io.Writer

	mu   sync.Mutex
	rest []byte // the beginning of a character
	err  error
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	text := p
	if len(o.rest) > 0 {
		text = append(o.rest, p...)
	}
	whole := len(text)
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if tail := text[len(text)-n:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				whole -= n
			}
			break
		}
	}
	o.rest = bytes.Clone(text[whole:])
	_, o.err = o.w.Write(visible(text[:whole]))
	if o.err != nil {
		return 0, o.err
	}
	return len(p), nil
}

// failure is the error of the first write that failed.
func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return atomicfile.Explain(o.name, o.err)
}

// unfiltered is what an output writes to: for pictures and progress bars.
func unfiltered(w io.Writer) io.Writer {
	if o, ok := w.(*output); ok {
		return o.w
	}
	return w
}

// visible replaces what steers, but for line breaks and tabs. The replacements are good in JSON, too.
func visible(text []byte) []byte {
	if bytes.IndexFunc(text, func(c rune) bool { return c == utf8.RuneError || steers(c) && c != '\n' && c != '\t' }) < 0 {
		return text
	}
	var b bytes.Buffer
	for _, c := range string(text) {
		if c != '\n' && c != '\t' && steers(c) {
			fmt.Fprintf(&b, `\u%04x`, c)
		} else {
			b.WriteRune(c) // a byte that is no UTF-8 is �
		}
	}
	return b.Bytes()
}

// steers reports whether a terminal may do something else with a character than to show it: control characters (C0, DEL, C1),
// line separators, and those that turn the direction of text.
func steers(c rune) bool {
	switch {
	case unicode.IsControl(c), c == '\u2028', c == '\u2029', unicode.Is(unicode.Bidi_Control, c):
		return true
	}
	return false
}

// printable makes what steers a terminal visible in a text, but for line breaks, and cuts what is too long for a message:
// quotations of a file after 200 characters.
func printable(s string) string {
	var b strings.Builder
	for _, c := range cutLong(s) {
		switch {
		case c == '\n' || !steers(c):
			b.WriteRune(c)
		case c > 0xff:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// The longest quotation, the longest word (a path, or a text without quotation marks), and the longest message.
const (
	mostQuoted  = 200
	mostWord    = 1000
	mostMessage = 20_000
)

// cutLong shortens quotations, words and the whole of a message.
func cutLong(s string) string {
	if len(s) <= mostQuoted {
		return s
	}
	var b strings.Builder
	n, most := 0, mostWord // characters since the last mark or space
	quoted := false
	for i, c := range s {
		if b.Len() > mostMessage {
			fmt.Fprintf(&b, "… (%d bytes more)", len(s)-i)
			break
		}
		switch {
		case c == '"' && !strings.HasSuffix(s[:i], `\`):
			if n > most {
				b.WriteString("…")
			}
			quoted = !quoted
			if n, most = 0, mostWord; quoted {
				most = mostQuoted
			}
			b.WriteRune(c)
			continue
		case c == '\n' || c == ' ' && !quoted:
			if n > most {
				b.WriteString("…")
			}
			if n = 0; c == '\n' {
				quoted, most = false, mostWord
			}
			b.WriteRune(c)
			continue
		}
		if n++; n <= most {
			b.WriteRune(c)
		}
	}
	if n > most {
		b.WriteString("…")
	}
	return b.String()
}
