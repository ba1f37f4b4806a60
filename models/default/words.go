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
	for _, phrase := range append(slices.Concat(w.Nouns...), w.Plurals...) {
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
	tag  = regexp.MustCompile(`<[^<>]*>`)                     // <lora:NAME:0.8>
	word = regexp.MustCompile(`[\pL\pN]+(?:['’-][\pL\pN]+)*`) // "t-rex" is one
	// A weight, as in (red:1.3): no word.
	weight = regexp.MustCompile(`:\s*[0-9.]+`)
)

// split are the words of a text, in small letters.
func split(text string) []string { return word.FindAllString(strings.ToLower(text), -1) }

// Unknown says which words of a prompt the model was not trained on, each once, and whether the prompt names anything that it draws.
func Unknown(prompt string) (unknown []string, thing bool) {
	v := known()
	words := split(weight.ReplaceAllString(tag.ReplaceAllString(strings.ReplaceAll(prompt, "BREAK", " "), " "), " "))
	found := make([]bool, len(words))
	for i := range words {
		for n := 1; n <= v.most && i+n <= len(words); n++ {
			if v.things[strings.Join(words[i:i+n], " ")] {
				thing = true
				for k := range n {
					found[i+k] = true
				}
			}
		}
	}
	for i, one := range words {
		if !found[i] && !v.words[one] && !slices.Contains(unknown, one) {
			unknown = append(unknown, one)
		}
	}
	return unknown, thing
}
