package jobs

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// DefaultName names files by what people look for, and by the request's hash, so that no two requests share one.
const DefaultName = "{slug}-{seed}-{hash:10}"

// nameFields are what a name's template may hold: {index}, {index:04}, {hash:8}, …
var nameFields = []string{"index", "seed", "slug", "hash", "job", "model", "scheduler", "steps", "cfg", "width", "height", "prompt", "negative", "date", "init"}

// maxName is the longest file name in bytes, which leaves room for what is written beside it.
const maxName = 200

// nameTemplate is a parsed name.
type nameTemplate []namePart

type namePart struct {
	text  string // plain, if field is ""
	field string
	width int // after the colon: digits of a number, or the most bytes of a text; 0: all
}

// parseName reads a template of file names and refuses what could leave the folder.
func parseName(text string) (nameTemplate, error) {
	var t nameTemplate
	for rest := text; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			t = append(t, namePart{text: rest})
			break
		}
		if i > 0 {
			t = append(t, namePart{text: rest[:i]})
		}
		inside, after, ok := strings.Cut(rest[i+1:], "}")
		if rest[i] == '}' || !ok {
			return nil, fmt.Errorf("name %q: { and } must come in pairs", cut(text))
		}
		p := namePart{}
		var width string
		var colon bool
		p.field, width, colon = strings.Cut(inside, ":")
		if !slices.Contains(nameFields, p.field) {
			return nil, fmt.Errorf("name %q: there is no {%s}%s (there are {%s})", cut(text), cut(p.field), nearest(p.field, nameFields), strings.Join(nameFields, "}, {"))
		}
		if colon {
			n, err := strconv.Atoi(width)
			if err != nil || n < 1 || n > 64 {
				return nil, fmt.Errorf("name %q: {%s}: after the colon goes a width from 1 to 64, as in {index:04}", cut(text), cut(inside))
			}
			p.width = n
		}
		t = append(t, p)
		rest = after
	}
	var plain strings.Builder // with a letter in the place of each field: fields are made safe below
	for _, p := range t {
		if p.field != "" {
			plain.WriteByte('x')
		}
		plain.WriteString(p.text)
	}
	if err := checkName(plain.String()); err != nil {
		return nil, fmt.Errorf("name %q: %w", cut(text), err)
	}
	return t, nil
}

// checkName refuses names that are not plain files below the folder, on any system: they may be written on one
// and read on another.
func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("it is empty")
	case strings.ContainsAny(name, "\\:*?\"<>|"):
		return fmt.Errorf("the characters \\ : * ? \" < > | are not allowed in file names")
	case strings.IndexFunc(name, unicode.IsControl) >= 0:
		return fmt.Errorf("control characters are not allowed in file names")
	case path.IsAbs(name):
		return fmt.Errorf("it is absolute: name a file below the output folder")
	case strings.HasSuffix(name, "/"):
		return fmt.Errorf("it ends with /: name a file")
	case len(name) > 3*maxName:
		return fmt.Errorf("it has %d bytes: at most %d are allowed", len(name), 3*maxName)
	}
	for _, element := range strings.Split(name, "/") {
		switch {
		case element == "..":
			return fmt.Errorf("it leads out of the output folder")
		case element == "" || element == ".":
			return fmt.Errorf("a part of the path is empty or \".\"")
		case strings.HasPrefix(element, "."):
			return fmt.Errorf("%q begins with a dot, as unfinished files do", element)
		case strings.HasSuffix(element, ".") || strings.HasSuffix(element, " "):
			return fmt.Errorf("%q ends with a dot or a space, which Windows removes", element)
		case len(element) > maxName:
			return fmt.Errorf("%q has more than %d bytes", cut(element), maxName)
		case !filepath.IsLocal(element) || reserved(element):
			return fmt.Errorf("%q is a Windows device name", element)
		}
	}
	return nil
}

// reserved reports whether Windows takes a name for a device.
func reserved(name string) bool {
	base, _, _ := strings.Cut(strings.ToUpper(name), ".")
	switch base {
	case "CON", "PRN", "AUX", "NUL":
		return true
	}
	return len(base) == 4 && (base[:3] == "COM" || base[:3] == "LPT") && base[3] >= '0' && base[3] <= '9'
}

// CheckFile reports whether an image may be written under that slash-separated name below an output folder. It is what
// a worker asks about a request that came over the network.
func CheckFile(name string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("file name %q: %w", cut(name), err)
	}
	return nil
}

// of is the name of an image's file, with its extension.
func (t nameTemplate) of(m *Image, o Options) string {
	said := m.Request.Settings
	cfg := "default"
	if m.Request.Has("cfg") {
		cfg = strconv.FormatFloat(said.CFG, 'g', -1, 64)
	}
	if o.Settle != nil && t.asksModel() {
		if all, ok := o.Settle(&m.Request); ok {
			said, cfg = all, strconv.FormatFloat(all.CFG, 'g', -1, 64)
		}
	}
	var b strings.Builder
	for _, p := range t {
		b.WriteString(p.text)
		switch p.field {
		case "":
		case "index":
			fmt.Fprintf(&b, "%0*d", p.width, m.Index+1)
		case "job":
			fmt.Fprintf(&b, "%0*d", p.width, m.Job)
		case "seed":
			fmt.Fprintf(&b, "%0*d", p.width, said.Seed)
		case "steps":
			fmt.Fprintf(&b, "%0*d", p.width, said.Steps)
		case "width":
			fmt.Fprintf(&b, "%0*d", p.width, said.Width)
		case "height":
			fmt.Fprintf(&b, "%0*d", p.width, said.Height)
		case "cfg":
			b.WriteString(cfg)
		case "hash":
			b.WriteString(first(m.Hash, p.width))
		case "slug":
			b.WriteString(first(slug(said.Prompt, 48), p.width))
		case "prompt":
			b.WriteString(first(slug(said.Prompt, 100), p.width))
		case "negative":
			b.WriteString(first(or(slugOrNone(said.Negative, 100), "none"), p.width))
		case "init":
			b.WriteString(first(or(slugOrNone(stem(firstPicture(&m.Request)), 60), "none"), p.width))
		case "date":
			b.WriteString(o.Date.Format(time.DateOnly))
		case "model":
			b.WriteString(first(or(slugOrNone(path.Base(filepath.ToSlash(said.Model)), 40), "default"), p.width))
		case "scheduler":
			b.WriteString(first(or(slugOrNone(said.Scheduler, 40), "default"), p.width))
		}
	}
	return b.String() + m.Request.Extension()
}

// asksModel reports whether the name has what a request may leave to its model.
func (t nameTemplate) asksModel() bool {
	return slices.ContainsFunc(t, func(p namePart) bool {
		return slices.Contains([]string{"steps", "width", "height", "cfg", "scheduler", "negative"}, p.field)
	})
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// first is the first n bytes of s, whole characters; n 0: all.
func first(s string, n int) string {
	if n > 0 && n < len(s) {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}

// slug is a text's words in lower case with dashes: letters and digits alone, at most so many bytes.
func slug(text string, most int) string {
	words := wordsOf(text)
	name := ""
	for _, w := range words {
		if name == "" {
			w = first(w, most)
		} else if len(name)+1+len(w) > most {
			break
		} else {
			name += "-"
		}
		name += w
	}
	if name == "" || reserved(name) {
		name = strings.TrimPrefix(name+"-picture", "-")
	}
	return name
}

// slugOrNone is the same, and "" for a text without words.
func slugOrNone(text string, most int) string {
	if len(wordsOf(text)) == 0 {
		return ""
	}
	return slug(text, most)
}

func wordsOf(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) })
}
