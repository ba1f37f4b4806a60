package jobs

import (
	"strings"
	"testing"
)

// FuzzParse: whatever the file holds, there is an error or a list of images with safe names; never a crash.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"jobs:\n- {prompt: 'a {b|c} ${v} __animal__', seed: 1..3}\nvariables: {v: [x, y]}\ndefaults: {cfg: 1..2 by 0.5}",
		`{"prompt": "a", "seed": [1, "2..4"], "sweep": "zip"}`,
		"prompt,seed,name\n\"a\n\"\"b\"\"\",1..2,{index:04}/{slug}\n",
		"- &a [*a, !!int 3, <<: x]", "? [a]\n: b", "\ufeff- prompt: a\r\n", "{", "- - - - -", "[[[[[[", "a: b: c", "'", "|\n a", "- !!binary x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, notation := range []string{YAML, JSONLines, CSV, ""} {
			l, err := Parse("f", []byte(text), testWildcards(), Options{Notation: notation, MaxImages: 1000})
			if err != nil {
				continue
			}
			files := map[string]bool{}
			for _, m := range l.Images {
				if err := CheckFile(m.File); err != nil || files[strings.ToLower(m.File)] {
					t.Fatalf("file %q: %v", m.File, err)
				}
				files[strings.ToLower(m.File)] = true
				if err := NewValidator().Check(&m.Request); err != nil {
					t.Fatalf("request %+v: %v", m.Request, err)
				}
			}
		}
	})
}
