package defaultmodel

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Words are those that the model was trained on, from the grammar of its captions: words.json, written by train/words.py.
type Words struct {
	Nouns       [][]string `json:"nouns"` // what it draws; the names of each, the usual one first
	Plurals     []string   `json:"plurals"`
	Colours     []string   `json:"colours"` // of objects
	MoreColours []string   `json:"more colours"`
	Backgrounds []string   `json:"backgrounds"`
	Settings    []string   `json:"settings"` // "on the grass"
	Scenery     []string   `json:"scenery"`  // "meadow", with nothing on it
	Places      []string   `json:"places"`   // in the picture: "on the left"
	Counts      []string   `json:"counts"`
	Sizes       []string   `json:"sizes"`
	Styles      []string   `json:"styles"`
	Others      []string   `json:"others"` // which change nothing, or join
}

// Known are the words of the embedded model.
var Known = sync.OnceValue(func() Words {
	var w Words
	text, err := small.ReadFile("words.json")
	if err == nil {
		err = json.Unmarshal(text, &w)
	}
	if err != nil {
		panic("defaultmodel: words.json: " + err.Error()) // it is part of the program
	}
	return w
})

// Names are the usual names of the nouns.
func (w Words) Names() (names []string) {
	for _, n := range w.Nouns {
		names = append(names, n[0])
	}
	return names
}

// vocabulary is what a prompt is looked up in.
type vocabulary struct {
	things map[string]bool   // phrases that are drawn
	words  map[string]bool   // single words of all the other phrases
	alike  map[string]string // other phrases, and the nearest that is drawn
	most   int               // words of the longest of them
}

var known = sync.OnceValue(func() vocabulary {
	w, v := Known(), vocabulary{map[string]bool{}, map[string]bool{}, alike(), 0}
	for _, phrase := range slices.Concat(slices.Concat(w.Nouns...), w.Plurals, w.Scenery) {
		v.things[phrase] = true
		v.most = max(v.most, len(split(phrase)))
	}
	for phrase := range v.alike {
		v.most = max(v.most, len(split(phrase)))
	}
	for _, phrase := range slices.Concat(w.Colours, w.MoreColours, w.Backgrounds, w.Settings, w.Places, w.Counts, w.Sizes, w.Styles, w.Others) {
		for _, word := range split(phrase) {
			v.words[word] = true
		}
	}
	return v
})

var (
	word = regexp.MustCompile(`[\pL\pN]+(?:['’-][\pL\pN]+)*`) // "t-rex" is one
	// What is no word: <lora:NAME:0.8>, a weight as in (red:1.3), BREAK.
	noWord = regexp.MustCompile(`<[^<>]*>|:\s*[0-9.]+|BREAK`)
	// Brackets that nothing is left in.
	hollow = regexp.MustCompile(`[(\[]\s*(?::\s*[0-9.]+)?\s*[)\]]`)
)

// articles are a and an before another word.
var articles = regexp.MustCompile(`\b([aA])n?(\s+)(\pL+)`)

// split are the words of a text, in small letters.
func split(text string) []string { return word.FindAllString(strings.ToLower(text), -1) }

// found is a word of a prompt, or a phrase that something else is drawn for, where it stands, and whether the model knows it.
type found struct {
	word       string
	start, end int
	known      bool
	as         string // what is drawn instead
}

// find looks up the words of a prompt, and says whether it names anything that the model draws.
func find(prompt string) (words []found, thing bool) {
	v := known()
	prompt = noWord.ReplaceAllStringFunc(prompt, func(s string) string { return strings.Repeat(" ", len(s)) })
	places := word.FindAllStringIndex(prompt, -1)
	var small []string
	for _, at := range places {
		small = append(small, strings.ToLower(prompt[at[0]:at[1]]))
	}
	together := func(from, n int) bool { // nothing but spaces between them
		return strings.TrimSpace(word.ReplaceAllString(prompt[places[from][0]:places[from+n-1][1]], "")) == ""
	}
	for i := 0; i < len(small); {
		n, f := v.longest(small[i:], func(n int) bool { return together(i, n) })
		for k := range n { // word by word, so that brackets between them stay
			one := found{small[i+k], places[i+k][0], places[i+k][1], f.known || v.words[small[i+k]], ""}
			words = append(words, one)
		}
		if _, other := v.alike[f.word]; other {
			words = append(words[:len(words)-n], found{f.word, places[i][0], places[i+n-1][1], f.known, f.as})
		}
		thing = thing || v.things[f.word] || v.things[f.as] || slices.ContainsFunc(split(f.as), func(w string) bool { return v.things[w] })
		i += n
	}
	return words, thing
}

// longest finds the longest phrase at the beginning of words that is drawn, or something else for it, and of how many words it is. together
// says that nothing stands between so many.
func (v vocabulary) longest(words []string, together func(n int) bool) (int, found) {
	for n := min(v.most, len(words)); n > 0; n-- {
		phrase := strings.Join(words[:n], " ")
		if v.things[phrase] {
			return n, found{word: phrase, known: true}
		}
		if as, other := v.alike[phrase]; other && together(n) {
			return n, found{word: phrase, known: as != "", as: as}
		}
	}
	return 1, found{word: words[0]}
}

// Unknown says which words of a prompt the model was not trained on, each once, and whether the prompt names anything that it draws.
func Unknown(prompt string) (unknown []string, thing bool) {
	words, thing := find(prompt)
	for _, w := range words {
		if !w.known && !slices.Contains(unknown, w.word) {
			unknown = append(unknown, w.word)
		}
	}
	return unknown, thing
}

// Readable is a prompt as the model reads it: what is drawn in place of others' names, and without the words that it does not know if
// there is anything in it that it draws. They would pull the picture towards a landscape, which is what a prompt of unknown words alone
// means.
func Readable(prompt string) string {
	words, thing := find(prompt)
	var b strings.Builder
	at := 0
	for _, w := range words {
		if w.as != "" || thing && !w.known {
			b.WriteString(prompt[at:w.start] + w.as)
			at = w.end
		}
	}
	if at == 0 {
		return prompt
	}
	b.WriteString(prompt[at:])
	text := b.String()
	for hollow.MatchString(text) {
		text = hollow.ReplaceAllString(text, "")
	}
	return articles.ReplaceAllStringFunc(text, func(s string) string {
		m := articles.FindStringSubmatch(s)
		next := strings.ToLower(m[3])
		if strings.ContainsAny(next[:1], "aeiou") && !strings.HasPrefix(next, "uni") && !strings.HasPrefix(next, "ufo") {
			return m[1] + "n" + m[2] + m[3]
		}
		return m[1] + m[2] + m[3]
	})
}
