package clip

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Tag is a network that a prompt asks for beside the model, as the web UIs spell it: <lora:NAME>, <lora:NAME:0.8>, and
// <lora:NAME:0.6:0.8> with a weight for the text encoder before the one for the denoiser.
type Tag struct {
	Kind       string  // lora, lyco or hypernet
	Name       string  // of a file, mostly without its ending
	Weight     float64 // of what it changes in the denoiser
	TextWeight float64 // in the text encoder
	Text       string  // as it is written
}

var tag = regexp.MustCompile(`(?i)<(lora|lyco|hypernet):([^<>:]+)((?::[^<>:]*)*)>`)

// CutTags takes the tags out of a weighted prompt: the text encoder must not read them.
func CutTags(text string) (rest string, tags []Tag) {
	if !strings.Contains(text, "<") {
		return text, nil
	}
	rest = tag.ReplaceAllStringFunc(text, func(s string) string {
		m := tag.FindStringSubmatch(s)
		t := Tag{Kind: strings.ToLower(m[1]), Name: strings.TrimSpace(m[2]), Weight: 1, TextWeight: 1, Text: s}
		t.read(strings.Split(m[3], ":")[1:])
		tags = append(tags, t)
		return ""
	})
	return rest, tags
}

// read reads what follows the name: one number for both weights, or two, or "te=0.6" and "unet=0.8". Others, such as
// weights of single blocks, mean nothing here.
func (t *Tag) read(arguments []string) {
	position := 0
	for _, a := range arguments {
		name, value, named := strings.Cut(strings.TrimSpace(a), "=")
		if !named {
			position++
			name, value = fmt.Sprint(position), name
		}
		w, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(w) || math.IsInf(w, 0) {
			continue
		}
		switch strings.ToLower(name) {
		case "1":
			t.Weight, t.TextWeight = w, w
		case "2", "unet":
			t.Weight = w
		case "te":
			t.TextWeight = w
		}
	}
}

// notDone are what other programs' prompts can say and this one does not do: it encodes them as words.
var notDone = []struct {
	form *regexp.Regexp
	what string
}{
	{regexp.MustCompile(`\{[^{}|]*\|[^{}]*\}`), "choices among words"},
	{regexp.MustCompile(`__[\pL\pN][\pL\pN/*-]*(?:_[\pL\pN/*-]+)*__`), "words from a file"},
}

// warnings say what of a text is not done, one sentence each.
func warnings(text string, syntax Syntax) (list []string) {
	if syntax == Plain {
		_, tags := CutTags(text)
		for _, t := range tags {
			list = append(list, fmt.Sprintf("%.80q is encoded as words: in the plain syntax all is text", t.Text))
		}
	}
	// A bracket after a backslash is a character like others.
	text = strings.NewReplacer(`\\`, "  ", `\[`, "  ", `\]`, "  ", `\{`, "  ", `\}`, "  ", `\(`, "  ", `\)`, "  ", `\|`, "  ").Replace(text)
	for _, n := range notDone {
		if found := n.form.FindString(text); found != "" {
			list = append(list, fmt.Sprintf("%.80q is encoded as words: %s are not supported", strings.TrimSpace(found), n.what))
		}
	}
	return list
}
