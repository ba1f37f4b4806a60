package clip

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// span is a piece of a prompt with its weight, or a BREAK.
type span struct {
	text   string
	weight float64
}

// isBreak: the web UIs mark a BREAK by the weight -1, which brackets around it change; then it is a word.
func (s span) isBreak() bool { return s.text == "BREAK" && s.weight == -1 }

// parseWeighted reads the emphasis syntax of the AUTOMATIC1111 web UI:
//
//	(text)      weight × 1.1          \( \) \[ \] \\   the character itself
//	(text:1.3)  weight × 1.3          \                nothing, before any other character
//	[text]      weight ÷ 1.1          BREAK            starts a new chunk
//
// Brackets nest and multiply. One that is never closed reaches to the end; one that was never opened is
// text, as is a ":1.3)" outside of round brackets. Neighbours of equal weight become one span. There is
// always at least one span. The error is brackets that nest deeper than maxDepth.
func parseWeighted(prompt string) ([]span, error) {
	p := weightParser{rest: prompt}
	for p.rest != "" {
		p.next()
		if max(len(p.round), len(p.square)) > maxDepth {
			return nil, fmt.Errorf("more than %d brackets are open at once near %.20q: close some", maxDepth, p.rest)
		}
	}
	for _, start := range p.round {
		p.multiply(start, roundWeight)
	}
	for _, start := range p.square {
		p.multiply(start, squareWeight)
	}
	return merged(p.spans), nil
}

// maxDepth bounds the work on a hostile prompt; 1.1^1000 has left float32.
const maxDepth = 1000

// Weights of a pair of brackets. They are variables because the constant 1/1.1 would be exact, and the
// web UIs divide float64 values.
var (
	roundWeight  = 1.1
	squareWeight = 1 / roundWeight
)

type weightParser struct {
	rest          string
	spans         []span
	round, square []int // for each open bracket, the number of spans before it
}

// next reads one bracket, escape, weight or run of text.
func (p *weightParser) next() {
	switch c := p.rest[0]; {
	case c == '\\':
		n := 1
		if len(p.rest) > 1 && strings.IndexByte(`()[]\`, p.rest[1]) >= 0 {
			n = 2
		}
		p.spans = append(p.spans, span{p.take(n)[1:], 1})
	case c == '(':
		p.take(1)
		p.round = append(p.round, len(p.spans))
	case c == '[':
		p.take(1)
		p.square = append(p.square, len(p.spans))
	case c == ')' && len(p.round) > 0:
		p.take(1)
		p.multiply(pop(&p.round), roundWeight)
	case c == ']' && len(p.square) > 0:
		p.take(1)
		p.multiply(pop(&p.square), squareWeight)
	case c == ':':
		weight, n := weightAt(p.rest)
		if n > 0 && len(p.round) > 0 {
			p.take(n)
			p.multiply(pop(&p.round), weight)
			return
		}
		p.text(p.take(max(n, 1)))
	case c == ')' || c == ']':
		p.text(p.take(1))
	default:
		n := strings.IndexAny(p.rest, `\()[]:`)
		if n < 0 {
			n = len(p.rest)
		}
		p.text(p.take(n))
	}
}

func (p *weightParser) take(n int) string {
	s := p.rest[:n]
	p.rest = p.rest[n:]
	return s
}

func (p *weightParser) multiply(start int, weight float64) {
	for i := range p.spans[start:] {
		p.spans[start+i].weight *= weight
	}
}

func pop(stack *[]int) int {
	last := (*stack)[len(*stack)-1]
	*stack = (*stack)[:len(*stack)-1]
	return last
}

// text adds a run of text, taken apart at each BREAK that stands as a word.
func (p *weightParser) text(s string) {
	for {
		before, after, found := cutBreak(s)
		p.spans = append(p.spans, span{before, 1})
		if !found {
			return
		}
		p.spans = append(p.spans, span{"BREAK", -1})
		s = after
	}
}

// cutBreak splits s around the first BREAK that stands as a word, white space on both sides dropped.
func cutBreak(s string) (before, after string, found bool) {
	const word = "BREAK"
	for from := 0; ; {
		i := strings.Index(s[from:], word)
		if i < 0 {
			return s, "", false
		}
		i += from
		from = i + len(word)
		left, _ := utf8.DecodeLastRuneInString(s[:i])
		right, _ := utf8.DecodeRuneInString(s[from:])
		if (i == 0 || !isPythonWord(left)) && (from == len(s) || !isPythonWord(right)) {
			return strings.TrimRightFunc(s[:i], isPythonSpace), strings.TrimLeftFunc(s[from:], isPythonSpace), true
		}
	}
}

// \w and \s of Python's re, by which the web UIs find a BREAK.
func isPythonWord(r rune) bool  { return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) }
func isPythonSpace(r rune) bool { return isSpace(r) || 0x1c <= r && r <= 0x1f }

// weightAt reads ":1.3)" at the start of s, spaces around the number allowed; n is its length, 0 if it is
// not there. What has the look of a weight but is not a finite number is not one (the web UIs stop with
// an error there).
func weightAt(s string) (weight float64, n int) {
	rest := strings.TrimLeftFunc(s[1:], isPythonSpace)
	digits := strings.TrimLeft(rest, "+-")
	if len(rest)-len(digits) > 1 {
		return 0, 0
	}
	end := strings.TrimLeft(digits, ".0123456789")
	close := strings.TrimLeftFunc(end, isPythonSpace)
	if !strings.HasPrefix(close, ")") {
		return 0, 0
	}
	weight, err := strconv.ParseFloat(rest[:len(rest)-len(end)], 64)
	if err != nil {
		return 0, 0
	}
	return weight, len(s) - len(close) + 1
}

// merged joins neighbours of equal weight.
func merged(spans []span) []span {
	if len(spans) == 0 {
		return []span{{"", 1}}
	}
	out := spans[:1]
	var text strings.Builder // of the last span of out
	text.WriteString(out[0].text)
	for _, s := range spans[1:] {
		last := &out[len(out)-1]
		if s.weight != last.weight {
			last.text = text.String()
			text.Reset()
			out = append(out, s)
		}
		text.WriteString(s.text)
	}
	out[len(out)-1].text = text.String()
	return out
}
