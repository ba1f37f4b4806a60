package clip

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCutTags(t *testing.T) {
	for _, c := range []struct {
		text, rest string
		tags       []Tag
	}{
		{"a mill, <lora:old_paint:0.7>night", "a mill, night", []Tag{{"lora", "old_paint", 0.7, 0.7, "<lora:old_paint:0.7>"}}},
		{"<lora:x>", "", []Tag{{"lora", "x", 1, 1, "<lora:x>"}}},
		{"a <lora:x:0.6:0.8> b <lyco:y z-1.5:-1>", "a  b ", []Tag{{"lora", "x", 0.8, 0.6, "<lora:x:0.6:0.8>"}, {"lyco", "y z-1.5", -1, -1, "<lyco:y z-1.5:-1>"}}},
		{"<LORA:x:te=0.5:unet=0.25:dyn=8>", "", []Tag{{"lora", "x", 0.25, 0.5, "<LORA:x:te=0.5:unet=0.25:dyn=8>"}}},
		{"<lora:x:nan> <hypernet:h:1e400>", " ", []Tag{{"lora", "x", 1, 1, "<lora:x:nan>"}, {"hypernet", "h", 1, 1, "<hypernet:h:1e400>"}}},
		{"a < b, c > d, <lora>, <lora:>, <foo:x>, <lora:a<b>", "a < b, c > d, <lora>, <lora:>, <foo:x>, <lora:a<b>", nil},
	} {
		rest, tags := CutTags(c.text)
		if rest != c.rest || !cmp.Equal(tags, c.tags) {
			t.Errorf("%q: rest %q, tags %+v", c.text, rest, tags)
		}
	}
}

// Tags are not words of a weighted prompt, but are words of a plain one.
func TestTagsAreNoWords(t *testing.T) {
	tok := goldenTokenizer(t, "sd1")
	for syntax, same := range map[Syntax]bool{Weighted: true, Plain: false} {
		with, err := tok.Prompt("a mill, <lora:old_paint:0.7>night", syntax, 77)
		if err != nil {
			t.Fatal(err)
		}
		without, err := tok.Prompt("a mill, night", syntax, 77)
		if err != nil {
			t.Fatal(err)
		}
		if cmp.Equal(with.Chunks, without.Chunks) != same {
			t.Errorf("%v: chunks %v, without the tag %v", syntax, with.Chunks, without.Chunks)
		}
		// In the weighted syntax whoever loads the network says whether it is there.
		if all := strings.Join(with.Warnings, "\n"); strings.Contains(all, "<lora:old_paint:0.7>") == same || len(without.Warnings) != 0 {
			t.Errorf("%v: warnings %q, without the tag %q", syntax, with.Warnings, without.Warnings)
		}
		if (len(with.Tags) == 1) != same {
			t.Errorf("%v: tags %v", syntax, with.Tags)
		}
	}
}

func TestPromptWarnings(t *testing.T) {
	for text, want := range map[string]string{
		"a [red:blue:0.5] AND a [fox|wolf]":    "",
		"{red|green} mill":                     "{red|green}",
		"{2$$a|b}, __colour/dark__":            "{2$$a|b}; __colour/dark__",
		"a [grey] (red:1.3) mill, BREAK, sand": "",
		`\[a|b\] \{a|b\} [a\|b] SAND and`:      "",
		"a_b __ c | d: e {x} snake__case":      "",
	} {
		for _, syntax := range []Syntax{Weighted, Plain} {
			list := warnings(text, syntax)
			var named []string
			for _, w := range list {
				named = append(named, strings.Split(w, `"`)[1])
			}
			if got := strings.Join(named, "; "); got != want {
				t.Errorf("%q: warned of %s, want %s", text, got, want)
			}
		}
	}
}
