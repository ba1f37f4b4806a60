package prompt

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// parser reads the grammar
//
//	all       = { prompt | "[" | "]" | "(" | ")" | ":" }
//	prompt    = { round | square | changing | alternating | plain }
//	round     = "(" prompt [ ":" prompt ] ")"
//	square    = "[" prompt "]"
//	changing  = "[" [ prompt ":" ] prompt ":" number "]"
//	alternating = "[" prompt "|" [ prompt ] { "|" [ prompt ] } "]"
//	plain     = any character but []():|\, or a backslash with the character after it
//
// from left to right: a bracket that begins none of these is a character, and only outside of all others.
type parser struct {
	text  string
	steps Steps
	depth int
	tried map[int]tried // what begins with the bracket there
}

// tried is what was found at a place: end is after it, 0 if nothing was.
type tried struct {
	nodes []node
	end   int
}

// maxDepth bounds the brackets within each other; those beyond are characters.
const maxDepth = 200

// all reads the whole text; false: it is none of the grammar's.
func (p *parser) all() (nodes []node, ok bool) {
	for at := 0; at < len(p.text); {
		some, end := p.prompt(at)
		nodes = append(nodes, some...)
		if at = end; at == len(p.text) {
			break
		}
		if strings.IndexByte(`[]():`, p.text[at]) < 0 { // a lone | or backslash
			return nil, false
		}
		nodes = append(nodes, node{text: p.text[at : at+1]})
		at++
	}
	return nodes, true
}

// prompt reads as far as it goes.
func (p *parser) prompt(at int) (nodes []node, end int) {
	for at < len(p.text) {
		if c := p.text[at]; c == '(' || c == '[' {
			some, end := p.bracket(at)
			if end == 0 {
				break
			}
			nodes = append(nodes, some...)
			at = end
			continue
		}
		end := p.plain(at)
		if end == at {
			break
		}
		nodes = append(nodes, node{text: p.text[at:end]})
		at = end
	}
	return nodes, at
}

// plain is the end of the characters that mean nothing else.
func (p *parser) plain(at int) int {
	for at < len(p.text) {
		switch c := p.text[at]; {
		case c == '\\' && at+1 < len(p.text) && p.text[at+1] != '\n':
			at += 2
		case strings.IndexByte(`\[]():|`, c) >= 0:
			return at
		default:
			at++
		}
	}
	return min(at, len(p.text))
}

// bracket reads what begins with a bracket; end is 0 if that begins nothing.
func (p *parser) bracket(at int) (nodes []node, end int) {
	if t, ok := p.tried[at]; ok {
		return t.nodes, t.end
	}
	if p.depth == maxDepth {
		return nil, 0
	}
	p.depth++
	if p.text[at] == '(' {
		nodes, end = p.round(at)
	} else {
		nodes, end = p.square(at)
	}
	p.depth--
	p.tried[at] = tried{nodes, end}
	return nodes, end
}

func (p *parser) round(at int) (nodes []node, end int) {
	nodes = []node{{text: "("}}
	some, end := p.prompt(at + 1)
	nodes = append(nodes, some...)
	if p.is(end, ':') {
		some, next := p.prompt(end + 1)
		nodes = append(append(nodes, node{text: ":"}), some...)
		end = next
	}
	if !p.is(end, ')') {
		return nil, 0
	}
	return append(nodes, node{text: ")"}), end + 1
}

func (p *parser) is(at int, c byte) bool { return at < len(p.text) && p.text[at] == c }

// square reads what stands between square brackets: pieces with colons or with bars between them.
func (p *parser) square(at int) (nodes []node, end int) {
	var pieces [][]node
	var begins []int
	between := byte(0)
	for end = at; ; {
		begins = append(begins, end+1)
		var some []node
		some, end = p.prompt(end + 1)
		pieces = append(pieces, some)
		switch {
		case p.is(end, ']') && between == 0: // emphasis
			return append(append([]node{{text: "["}}, some...), node{text: "]"}), end + 1
		case p.is(end, ']') && between == '|':
			return []node{{alternate: pieces}}, end + 1
		case p.is(end, ']'):
			when, ok := p.when(p.text[begins[len(begins)-1]:end])
			if !ok || len(pieces) > 3 {
				return nil, 0
			}
			n := node{changes: true, when: when, after: pieces[len(pieces)-2]}
			if len(pieces) == 3 {
				n.before = pieces[0]
			}
			return []node{n}, end + 1
		case (p.is(end, ':') || p.is(end, '|')) && (between == 0 || p.text[end] == between):
			between = p.text[end]
		default:
			return nil, 0
		}
	}
}

var number = regexp.MustCompile(`^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*$`)

// when is the step that a number means: with a point a share of the steps, else a step.
func (p *parser) when(text string) (step int, ok bool) {
	m := number.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil || math.IsInf(v, 0) {
		return 0, false
	}
	second := p.steps.Before > 0
	switch share := strings.Contains(m[1], "."); {
	case share && second:
		v = (v - 1) * float64(p.steps.Count)
	case share:
		v *= float64(p.steps.Count)
	case second:
		v -= float64(p.steps.Before)
	}
	return int(math.Trunc(max(min(v, float64(p.steps.Count)), -1))), true
}

func space(r rune) bool    { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }
func isLetter(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }
