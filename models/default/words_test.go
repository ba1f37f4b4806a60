package defaultmodel

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestUnknown(t *testing.T) {
	for prompt, want := range map[string]struct {
		unknown string
		thing   bool
	}{
		"a red apple":                               {"", true},
		"Two Cats, on the GRASS":                    {"", true},
		"a t-rex in the snow":                       {"", true},
		"a (red:1.3) cat <lora:ink:0.8> BREAK":      {"", true},
		"a slice of cake on a dark blue background": {"", true},
		"a red giraffe playing cricket, a giraffe":  {"cricket", true}, // a giraffe is in the list
		"a portrait of a philosopher, 8k":           {"portrait philosopher 8k", false},
		"a portrait of einstein, 8k":                {"portrait 8k", true},
		"a poodle on the lawn":                      {"", true},
		"red":                                       {"", false},
		"pine":                                      {"", true},
		"cream":                                     {"cream", false}, // a part of "ice cream" is not a noun of its own
		"":                                          {"", false},
		"eine Katze 猫":                              {"eine katze 猫", false},
	} {
		unknown, thing := Unknown(prompt)
		if strings.Join(unknown, " ") != want.unknown || thing != want.thing {
			t.Errorf("%q: unknown %q, a thing %v; want %q, %v", prompt, unknown, thing, want.unknown, want.thing)
		}
	}
}

// Unknown words are left out beside known things, with what belongs to them alone; all else stays as it was written.
func TestReadable(t *testing.T) {
	for prompt, want := range map[string]string{
		"a red apple":                             "a red apple",
		"a zealous cat, Contemplating":            "a  cat, ",
		"(zealous:1.2) cat [quantum] ((baroque))": " cat  ",
		"a (zealous red:1.2) cat <lora:odd:0.5>":  "a ( red:1.2) cat <lora:odd:0.5>",
		"quantum ice cream BREAK a İstanbul tree": " ice cream BREAK a  tree",
		"zealous quantum":                         "zealous quantum", // nothing that it draws: a landscape
		"":                                        "",
		"a Poodle and two (poodles:1.2)":          "a dog and two (dogs:1.2)",
		"an oak, a crimson automobile":            "a tree, a red car",
		"a golden retriever riding a stallion":    "a dog on a horse",
		"a golden, retriever":                     "a golden, dog",
		"an ancient stag beside the unicorn":      "a  deer beside the unicorn",
		"a labrador with a unicorn":               "a dog with a unicorn",
		"a great white shark underwater":          "a shark in the sea",
		"five wolves and a lynx in the jungle":    "four wolves and a leopard in the forest",
		"a fountain pen on the table":             "a pen in a room",
		"a robot facing right on the right":       "a robot  on the right",
	} {
		if got := Readable(prompt); got != want {
			t.Errorf("%q is read as %q, want %q", prompt, got, want)
		}
	}
}

// words.json follows the nouns that training reads: their names stand there a line a noun.
func TestWordsAreTheGrammars(t *testing.T) {
	text, err := os.ReadFile("../../train/nouns.py")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, table := range regexp.MustCompile(`(?s)(?:FIRST|COMMON|MORE) = """\n(.*?)"""`).FindAllStringSubmatch(string(text), -1) {
		for _, line := range strings.Split(strings.TrimSpace(table[1]), "\n") {
			line, _, _ = strings.Cut(line, "=")
			name, _, _ := strings.Cut(line, ",")
			names = append(names, strings.TrimSpace(name))
		}
	}
	if len(names) < 400 || !slices.Equal(names, Known().Names()) {
		t.Errorf("words.json has %d nouns, train/nouns.py %d: run python -m train.words", len(Known().Names()), len(names))
	}
}

// Every prompt that samples/ gives to newcomers is of words that the model knows.
func TestSamplePrompts(t *testing.T) {
	for _, file := range []string{"prompts.txt", "compare-prompts.txt"} {
		text, err := os.ReadFile("../../samples/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			if strings.HasPrefix(line, "#") {
				continue
			}
			if unknown, thing := Unknown(line); len(unknown) > 0 || !thing {
				t.Errorf("%s: %q has %q, a thing: %v", file, line, unknown, thing)
			}
		}
	}
}

// Likenesses name what the model draws, and are for phrases that it does not know.
func TestLikenesses(t *testing.T) {
	v, seen := known(), map[string]bool{}
	for phrase, as := range listed {
		if unknown, _ := Unknown(as); len(unknown) > 0 || len(Likened(as)) > 0 { // "" has none
			t.Errorf("%q is drawn for others and is not known itself", as)
		}
		switch {
		case seen[phrase]:
			t.Errorf("%q is there twice", phrase)
		case v.things[phrase] || v.words[phrase]:
			t.Errorf("%q is known, and %q is drawn for it", phrase, as)
		case strings.Join(split(phrase), " ") != strings.ToLower(phrase):
			t.Errorf("%q is not of words that a prompt is split into", phrase)
		}
		seen[phrase] = true
	}
	if len(seen) < 700 {
		t.Errorf("%d likenesses", len(seen))
	}
	if got := Likened("a Poodle and two poodles, a poodle"); !slices.Equal(got, []Likeness{{"poodle", "dog"}, {"poodles", "dogs"}}) {
		t.Errorf("likened: %v", got)
	}
}
