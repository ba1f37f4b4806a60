package defaultmodel

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
)

//go:embed likenesses.txt
var likenesses string

// listed yields the phrases of likenesses.txt and what is drawn for each, "" for those that are left out.
func listed(yield func(phrase, as string) bool) {
	for line := range strings.Lines(likenesses) {
		as, phrases, ok := strings.Cut(line, ":")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		for phrase := range strings.SplitSeq(phrases, ",") {
			if !yield(strings.TrimSpace(phrase), as) {
				return
			}
		}
	}
}

// alike maps phrases that the model was not trained on to the nearest that it was: "poodle" to "dog", "poodles" to "dogs".
var alike = sync.OnceValue(func() map[string]string {
	out, plurals := map[string]string{}, map[string]string{}
	for phrase, as := range listed {
		out[phrase] = as
		if several := plural(as); slices.Contains(Known().Plurals, several) {
			plurals[plural(phrase)] = several
		}
	}
	for phrase, as := range plurals {
		if out[phrase] == "" {
			out[phrase] = as
		}
	}
	return out
})

// plural is a noun's, by the rules of English and with the exceptions among the nouns here.
func plural(noun string) string {
	for _, end := range [][2]string{{"mouse", "mice"}, {"child", "children"}, {"person", "people"}, {"man", "men"}, {"foot", "feet"}, {"goose", "geese"}, {"leaf", "leaves"},
		{"wolf", "wolves"}, {"calf", "calves"}, {"elf", "elves"}, {"wife", "wives"}, {"knife", "knives"}, {"loaf", "loaves"}} {
		if stem, ok := strings.CutSuffix(noun, end[0]); ok {
			return stem + end[1]
		}
	}
	for _, end := range []string{"ch", "sh", "x", "s"} {
		if strings.HasSuffix(noun, end) {
			return noun + "es"
		}
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok && stem != "" && !strings.Contains("aeiou", stem[len(stem)-1:]) {
		return stem + "ies"
	}
	return noun + "s"
}

// Alike is how many phrases have something else drawn for them, besides their plurals.
func Alike() (n int) {
	for _, as := range listed {
		if as != "" {
			n++
		}
	}
	return n
}

// Likeness is a phrase of a prompt and what the model draws in its place.
type Likeness struct{ Phrase, As string }

// Likened says which phrases of a prompt are drawn as something else, each once.
func Likened(prompt string) (out []Likeness) {
	words, _ := find(prompt)
	for _, w := range words {
		if l := (Likeness{w.word, w.as}); w.as != "" && !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return out
}
