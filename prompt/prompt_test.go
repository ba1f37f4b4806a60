package prompt

import (
	"fmt"
	"strings"
	"testing"
)

func show(texts []Timed) string {
	var words []string
	for _, t := range texts {
		words = append(words, fmt.Sprintf("%d %s", t.Until, t.Text))
	}
	return strings.Join(words, " / ")
}

// What the web UI's documentation and its parser make of prompts at ten steps. Texts that stay the same are one here.
func TestSchedule(t *testing.T) {
	for _, c := range [][2]string{
		{"test", "10 test"},
		{"a [b:3]", "3 a  / 10 a b"},
		{"a [b: 3]", "3 a  / 10 a b"},
		{"a [b: 3 ]", "3 a  / 10 a b"},
		{"a [[[b]]:2]", "2 a  / 10 a [[b]]"},
		{"[(a:2):3]", "3  / 10 (a:2)"},
		{"a [b : c : 1] d", "1 a b  d / 10 a  c  d"},
		{"a[b:[c:d:2]:1]e", "1 abe / 2 ace / 10 ade"},
		{"a [unbalanced", "10 a [unbalanced"},
		{"a [b:.5] c", "5 a  c / 10 a b c"},
		{"((a][:b:c [d:3]", "3 ((a][:b:c  / 10 ((a][:b:c d"},
		{"[a|(b:1.1)]", "1 a / 2 (b:1.1) / 3 a / 4 (b:1.1) / 5 a / 6 (b:1.1) / 7 a / 8 (b:1.1) / 9 a / 10 (b:1.1)"},
		{"[fe|]male", "1 female / 2 male / 3 female / 4 male / 5 female / 6 male / 7 female / 8 male / 9 female / 10 male"},
		{"[fe|||]male", "1 female / 4 male / 5 female / 8 male / 9 female / 10 male"},
		{"a [b::4] c", "4 a b c / 10 a  c"},
		{"[a:b:0.25]", "2 a / 10 b"},
		{"[a:b:1.0]", "10 a"},         // a share: all of the steps
		{"[a:b:25]", "10 a"},          // beyond the end
		{"[a:b:0]", "10 b"},           // never
		{"[a:b:-3]", "10 b"},          // likewise
		{"[a:b:+2]", "2 a / 10 b"},    //
		{"[a:b:2e0]", "2 a / 10 b"},   //
		{"[a:b:c:2]", "10 [a:b:c:2]"}, // three texts are none
		{"[a:b|c:2]", "10 [a:b|c:2]"}, // a bar outside of brackets that take it
		{"a | b [c:3]", "10 a | b [c:3]"},
		{`\[a:b:3\]`, `10 \[a:b:3\]`},
		{`[a\:b:c:3]`, `3 a\:b / 10 c`},
		{`[a\|b|c]`, `1 a\|b / 2 c / 3 a\|b / 4 c / 5 a\|b / 6 c / 7 a\|b / 8 c / 9 a\|b / 10 c`},
		{`[a:b:3] \`, `10 [a:b:3] \`}, // a backslash without a character
		{"[:3]", "10 "},
		{"[a:]", "10 [a:]"},
		{"(a [b:c:5] d:1.3)", "5 (a b d:1.3) / 10 (a c d:1.3)"},
		{"[[a:b:2]:[c|d]:4]", "2 a / 4 b / 5 c / 6 d / 7 c / 8 d / 9 c / 10 d"},
		{"(a:b:c) [d:3]", "3 (a:b:c)  / 10 (a:b:c) d"},
		{"a\n[b:3]", "3 a\n / 10 a\nb"},
		{"", "10 "},
	} {
		if got := show(Schedule(c[0], Steps{Count: 10})); got != c[1] {
			t.Errorf("%q: %q, want %q", c[0], got, c[1])
		}
	}
}

// In a second pass whole numbers are counted from the first one's beginning, and its shares lie between 1 and 2.
func TestSecondPass(t *testing.T) {
	for _, c := range [][2]string{
		{"a [b:.5] c", "10 a b c"},
		{"a [b:1.5] c", "5 a  c / 10 a b c"},
		{"a [b:15] c", "5 a  c / 10 a b c"},
		{"a [b:5] c", "10 a b c"},
	} {
		if got := show(Schedule(c[0], Steps{Count: 10, Before: 10})); got != c[1] {
			t.Errorf("%q: %q, want %q", c[0], got, c[1])
		}
	}
}

func TestAnd(t *testing.T) {
	for _, c := range [][2]string{
		{"a cat", "a cat|1"},
		{"a cat AND a dog", "a cat|1; a dog|1"},
		{"a cat:0.5 AND a dog :1.2 ", "a cat|0.5; a dog|1.2"},
		{"a AND b : -1. AND c :+.5", "a|1; b|-1; c|0.5"},
		{"a BRAND AND_b ANDb bAND", "a BRAND AND_b ANDb bAND|1"},
		{"AND", "|1; |1"},
		{"(a:1.3)", "(a:1.3)|1"},
		{"(a:1.3) :0.7", "(a:1.3)|0.7"},
		{"a train at 10:30", "a train at 10:30|1"}, // there, a weight of 30
		{"a cat :30", "a cat|30"},                  // as there, and warned of
		{"a train at 10:30 AND a cat", "a train at 10|30; a cat|1"},
		{"a\nAND\nb:2", "a|1; \nb|2"},
		{"a :1.2.3", "a :1.2.3|1"},
	} {
		var words []string
		for _, p := range Parse(c[0], Steps{Count: 4}) {
			words = append(words, fmt.Sprintf("%s|%v", strings.TrimPrefix(p.Texts[0].Text, " "), p.Weight))
		}
		if got := strings.Join(words, "; "); got != c[1] {
			t.Errorf("%q: %q, want %q", c[0], got, c[1])
		}
	}
}

// A step's text is the first that does not end before it, steps counted from 0.
func TestAt(t *testing.T) {
	p := Parse("[a:b:2]", Steps{Count: 5})[0]
	got := ""
	for step := range 7 {
		got += p.Texts[At(p.Texts, step)].Text
	}
	if got != "aaabbbb" {
		t.Errorf("steps 0 to 6 read %q", got)
	}
}

// FuzzParse: nothing stops the parser, its texts are in order, and a text without brackets is one.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"a [b:c:0.5] AND [d|e|]:1", "((((", "[[[[", "[a:[b:[c:1]:2]:3]", `\[\`, "[|]", "[a|b", "[a:b:1e400]"} {
		f.Add(s, 10, 0)
	}
	f.Add(strings.Repeat("[", 5000)+strings.Repeat("]", 5000), 3, 2)
	f.Fuzz(func(t *testing.T, text string, steps, before int) {
		for _, p := range Parse(text, Steps{Count: min(steps, 200), Before: before}) {
			if len(p.Texts) == 0 {
				t.Fatal("no text")
			}
			for i := 1; i < len(p.Texts); i++ {
				if p.Texts[i].Until <= p.Texts[i-1].Until {
					t.Fatalf("%q: %v", text, p.Texts)
				}
			}
			if !strings.Contains(text, "[") && len(p.Texts) != 1 {
				t.Fatalf("%q: %v", text, p.Texts)
			}
		}
	})
}
