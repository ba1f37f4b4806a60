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
	things map[string]bool // phrases that are drawn
	words  map[string]bool // single words of all the other phrases
	most   int             // words of the longest thing
}

var known = sync.OnceValue(func() vocabulary {
	w, v := Known(), vocabulary{map[string]bool{}, map[string]bool{}, 0}
	for _, phrase := range slices.Concat(slices.Concat(w.Nouns...), w.Plurals, w.Scenery) {
		v.things[phrase] = true
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

// split are the words of a text, in small letters.
func split(text string) []string { return word.FindAllString(strings.ToLower(text), -1) }

// found is a prompt's word, where it stands, and whether the model knows it.
type found struct {
	word       string
	start, end int
	known      bool
}

// find looks up the words of a prompt, and says whether it names anything that the model draws.
func find(prompt string) (words []found, thing bool) {
	v := known()
	prompt = noWord.ReplaceAllStringFunc(prompt, func(s string) string { return strings.Repeat(" ", len(s)) })
	var small []string
	for _, at := range word.FindAllStringIndex(prompt, -1) {
		one := strings.ToLower(prompt[at[0]:at[1]])
		words, small = append(words, found{one, at[0], at[1], v.words[one]}), append(small, one)
	}
	for i := range words {
		for n := 1; n <= v.most && i+n <= len(words); n++ {
			if v.things[strings.Join(small[i:i+n], " ")] {
				thing = true
				for k := range n {
					words[i+k].known = true
				}
			}
		}
	}
	return words, thing
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

// Readable is a prompt as the model reads it: without the words that it does not know if there is anything in it that it draws. They
// would pull the picture towards a landscape, which is what a prompt of unknown words alone means.
func Readable(prompt string) string {
	words, thing := find(prompt)
	if !thing {
		return prompt
	}
	var b strings.Builder
	at := 0
	for _, w := range words {
		if !w.known {
			b.WriteString(prompt[at:w.start])
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
	return text
}
