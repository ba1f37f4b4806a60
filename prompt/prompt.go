// Package prompt reads what prompts say of steps and of each other, in the syntax of AUTOMATIC1111's web UI: words that come,
// go and change over the steps, words that alternate, and several prompts joined by AND. What a text encoder
// makes of a text is not known here.
//
//	[from:to:when]  from up to step when, then to       when < 1 or with a point: a share of the steps
//	[to:when]       nothing, then to                     [from::when]  from, then nothing
//	[a|b|c]         a, b, c, a, … from step to step      \[ \: \|      the character itself
//	a AND b :0.7    both, the second with a weight
//
// Brackets nest. What is none of these stays as it is, emphasis too: (a:1.2), [a].
package prompt

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Steps are those that a prompt's numbers mean.
type Steps struct {
	Count int // of the pass that the prompt is for
	// Before are the steps of an earlier pass over the same picture, 0 if there is none: a whole number is counted from its
	// beginning, and a share of the second pass lies between 1 and 2.
	Before int
}

// Timed is a text up to a step. Steps are counted from 0, and Until is the last one with this text, as the web UI has it: so
// [a:b:3] is a in the steps 0 to 3.
type Timed struct {
	Until int
	Text  string
}

// Part is one of several prompts joined by AND.
type Part struct {
	Texts  []Timed // at least one; the last one holds to the end
	Weight float64 // of its direction: 1 as a rule
	// Weighed says that the text names the weight.
	Weighed bool
}

// At is the index of the text that holds in a step: the first that does not end before it.
func At(texts []Timed, step int) int {
	for i, t := range texts {
		if step <= t.Until {
			return i
		}
	}
	return len(texts) - 1
}

// maxSteps bounds how often a text may change.
const maxSteps = 10_000

// Parse reads a prompt. Also without AND a text may end with a weight, as in the web UI, but for one thing: there a prompt that ends with
// a time or a proportion, 10:30 or 16:9, has its second number as a weight, and here it is text.
func Parse(text string, s Steps) (parts []Part) {
	all := and.split(text)
	for _, words := range all {
		p := Part{Weight: 1}
		if rest, w, found := cutWeight(words); !found || len(all) > 1 || !endsWithDigit(rest) {
			words, p.Weight, p.Weighed = rest, w, found
		}
		p.Texts = Schedule(words, s)
		parts = append(parts, p)
	}
	return parts
}

// and finds AND as a word: \bAND\b of Python's re.
var and = splitter{"AND"}

type splitter struct{ word string }

func (s splitter) split(text string) (parts []string) {
	begin := 0
	for at := 0; ; {
		i := strings.Index(text[at:], s.word)
		if i < 0 {
			return append(parts, text[begin:])
		}
		i += at
		at = i + len(s.word)
		before, _ := utf8.DecodeLastRuneInString(text[:i])
		after, _ := utf8.DecodeRuneInString(text[at:])
		if (i == 0 || !wordRune(before)) && (at == len(text) || !wordRune(after)) {
			parts = append(parts, text[begin:i])
			begin = at
		}
	}
}

var weight = regexp.MustCompile(`\s*:\s*([-+]?(?:\d+\.?|\d*\.\d+))\s*$`)

// cutWeight takes ":0.7" off the end of a text.
func cutWeight(text string) (rest string, w float64, found bool) {
	m := weight.FindStringSubmatchIndex(text)
	if m == nil {
		return strings.TrimRightFunc(text, space), 1, false
	}
	w, err := strconv.ParseFloat(text[m[2]:m[3]], 64)
	if err != nil || math.IsInf(w, 0) {
		return text, 1, false
	}
	return text[:m[0]], w, true
}

func endsWithDigit(text string) bool {
	r, _ := utf8.DecodeLastRuneInString(text)
	return unicode.IsDigit(r)
}

// Schedule reads one prompt: its texts, of which the last holds to the end.
func Schedule(text string, s Steps) []Timed {
	s.Count = min(max(s.Count, 1), maxSteps)
	if !strings.ContainsAny(text, "[") {
		return []Timed{{s.Count, text}}
	}
	p := parser{text: text, steps: s, tried: map[int]tried{}}
	nodes, ok := p.all()
	if !ok { // the web UI takes such a text as it is
		return []Timed{{s.Count, text}}
	}
	ends := map[int]bool{s.Count: true}
	collect(nodes, s.Count, ends)
	var steps []int
	for end := range ends {
		steps = append(steps, end)
	}
	slices.Sort(steps)
	var texts []Timed
	for _, end := range steps {
		var out strings.Builder
		write(&out, nodes, end)
		if n := len(texts); n > 0 && texts[n-1].Text == out.String() {
			texts[n-1].Until = end
			continue
		}
		texts = append(texts, Timed{end, out.String()})
	}
	return texts
}

// node is a piece of a prompt: text, what changes, or what alternates.
type node struct {
	text string
	// before and after hold up to and from step when; alternate takes turns. All nil: text.
	before, after []node
	when          int
	changes       bool
	alternate     [][]node
}

// collect finds the steps at which a prompt's text may end.
func collect(nodes []node, steps int, ends map[int]bool) {
	for _, n := range nodes {
		switch {
		case n.changes:
			if n.when >= 1 {
				ends[n.when] = true
			}
			collect(n.before, steps, ends)
			collect(n.after, steps, ends)
		case n.alternate != nil:
			for i := 1; i <= steps; i++ {
				ends[i] = true
			}
			for _, a := range n.alternate {
				collect(a, steps, ends)
			}
		}
	}
}

// write writes what holds in the step that ends so.
func write(out *strings.Builder, nodes []node, end int) {
	for _, n := range nodes {
		switch {
		case n.changes && end <= n.when:
			write(out, n.before, end)
		case n.changes:
			write(out, n.after, end)
		case n.alternate != nil:
			write(out, n.alternate[(end-1)%len(n.alternate)], end)
		default:
			out.WriteString(n.text)
		}
	}
}

func wordRune(r rune) bool { return r == '_' || isLetter(r) }
