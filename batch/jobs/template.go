package jobs

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// template is a prompt with places to fill in: {a|b} one of these, __file__ a line of a wildcard file, ${name} a
// variable. It is a sequence of parts.
type template []part

// part is plain text, or a choice between templates.
type part struct {
	text    string
	choices []template // nil: plain text
}

// templates parses prompts, and keeps what it parsed.
type templates struct {
	variables map[string]node // texts, or lists of texts
	wildcards fs.FS           // nil: there is no folder
	folder    string          // its name for messages
	parsed    map[string]template
	files     map[string][]template
	open      []string // variables and wildcard files that are being read: a cycle if one comes again
	bytes     int      // of wildcard files so far
	parts     int      // of templates so far
}

// Limits of templates: what a hostile file could otherwise blow up.
const (
	maxNesting       = 16
	maxWildcardFile  = 4 << 20 // bytes of one
	maxWildcardBytes = 32 << 20
	maxExpansions    = 100_000    // of one prompt with expand: all
	maxParts         = 10_000     // of one template, its variables put in
	maxAllParts      = 4_000_000  // of all templates, 40 bytes each
	maxAllWork       = 20_000_000 // parts that all prompts of a file may go through
	maxWork          = 200_000    // parts that filling in one prompt may go through
)

// budget is how many parts may still be gone through. Templates share what they refer to, so that a short file can
// stand for more parts than there is time.
type budget int

func (b *budget) spend() error {
	if *b--; *b < 0 {
		return fmt.Errorf("filling in the template takes more than %d parts", maxWork)
	}
	return nil
}

// charge takes what one prompt has spent from the budget of the whole file.
func (b *budget) charge(spent budget) error {
	if *b -= spent; *b < 0 {
		return fmt.Errorf("filling in the file's templates takes more than %d parts", maxAllWork)
	}
	return nil
}

func (t *templates) parse(text string) (template, error) {
	if p, ok := t.parsed[text]; ok {
		return p, nil
	}
	s := &scan{t: t, rest: text}
	p, err := s.sequence(0)
	if err != nil {
		return nil, err
	}
	if t.parts += len(p); t.parts > maxAllParts {
		return nil, fmt.Errorf("the templates have more than %d parts together", maxAllParts)
	}
	t.parsed[text] = p
	return p, nil
}

// scan walks over a template's text.
type scan struct {
	t    *templates
	rest string
}

// sequence reads up to the end, or within braces up to | or }.
func (s *scan) sequence(depth int) (template, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("more than %d braces within each other", maxNesting)
	}
	var out template
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			out = append(out, part{text: text.String()})
			text.Reset()
		}
	}
	for s.rest != "" {
		if len(out) > maxParts {
			return nil, fmt.Errorf("the template has more than %d parts", maxParts)
		}
		c := s.rest[0]
		switch {
		case c == '\\' && len(s.rest) > 1 && strings.IndexByte(`{|}$_`, s.rest[1]) >= 0:
			text.WriteByte(s.rest[1])
			s.rest = s.rest[2:]
		case c == '{':
			flush()
			p, err := s.choice(depth)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		case depth > 0 && (c == '|' || c == '}'):
			flush()
			return out, nil
		case c == '}':
			return nil, fmt.Errorf("a } without its { (write \\} for the character itself)")
		case strings.HasPrefix(s.rest, "${"):
			flush()
			p, err := s.variable()
			if err != nil {
				return nil, err
			}
			out = append(out, p...)
		case wildcardName(s.rest) != "":
			flush()
			name := wildcardName(s.rest)
			s.rest = s.rest[len(name)+4:]
			p, err := s.t.wildcard(name)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		default:
			text.WriteByte(c)
			s.rest = s.rest[1:]
		}
	}
	if depth > 0 {
		return nil, errors.New("a { without its } (write \\{ for the character itself)")
	}
	flush()
	return out, nil
}

func (s *scan) choice(depth int) (part, error) {
	p := part{choices: []template{}}
	for {
		s.rest = s.rest[1:] // { or |
		t, err := s.sequence(depth + 1)
		if err != nil {
			return p, err
		}
		p.choices = append(p.choices, t)
		if s.rest[0] == '}' { // sequence ends at | or }, or with an error
			s.rest = s.rest[1:]
			return p, nil
		}
	}
}

func (s *scan) variable() (template, error) {
	name, rest, ok := strings.Cut(s.rest[2:], "}")
	if !ok {
		return nil, errors.New("a ${ without its } (write \\$ for the character itself)")
	}
	s.rest = rest
	name = strings.TrimSpace(name)
	v, ok := s.t.variables[name]
	if !ok {
		var names []string
		for n := range s.t.variables {
			names = append(names, n)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("there is no variable %q%s", cut(name), nearest(name, names))
	}
	return s.t.within("${"+name+"}", func() (template, error) {
		if v.kind != listKind {
			return s.t.parse(v.text)
		}
		p := part{choices: []template{}}
		for _, item := range v.items {
			t, err := s.t.parse(item.text)
			if err != nil {
				return nil, err
			}
			p.choices = append(p.choices, t)
		}
		return template{p}, nil
	})
}

// within reads what is inside a variable or a file, unless that is being read already.
func (t *templates) within(name string, read func() (template, error)) (template, error) {
	if slices.Contains(t.open, name) {
		return nil, cycleError(append(slices.Clone(t.open), name))
	}
	if len(t.open) >= maxNesting {
		return nil, fmt.Errorf("more than %d variables and wildcards within each other: %s", maxNesting, cut(strings.Join(t.open, " → ")))
	}
	t.open = append(t.open, name)
	defer func() { t.open = t.open[:len(t.open)-1] }()
	p, err := read()
	return p, wrap(err, "in "+name)
}

// cycleError is a way from a variable or a file back to itself.
type cycleError []string

func (e cycleError) Error() string { return "a cycle: " + strings.Join(e, " → ") }

// wrap says where an error is; a cycle says that itself.
func wrap(err error, where string) error {
	var cycle cycleError
	if err == nil || errors.As(err, &cycle) {
		return err
	}
	return fmt.Errorf("%s: %w", where, err)
}

// wildcardName is the name in "__name__" at the start of text, "" if there is none.
func wildcardName(text string) string {
	if !strings.HasPrefix(text, "__") {
		return ""
	}
	name, _, ok := strings.Cut(text[2:], "__")
	if !ok || name == "" || strings.ContainsAny(name, " \t\n,;:{}|()[]\"'") || len(name) > 200 {
		return ""
	}
	return name
}

// wildcard reads a file of alternatives: one a line, without empty lines and those that begin with #.
func (t *templates) wildcard(name string) (part, error) {
	if strings.HasSuffix(strings.ToLower(name), ".txt") {
		name = name[:len(name)-4]
	}
	mark := "__" + name + "__"
	switch {
	case strings.ContainsAny(name, "\\\x00"), path.IsAbs(name), !fs.ValidPath(name):
		return part{}, fmt.Errorf("%s: a wildcard is a name such as __animal__ or __sub/animal__, inside the folder of wildcards", mark)
	case t.wildcards == nil:
		return part{}, fmt.Errorf("%s: there is no folder of wildcards (%s): make it, or give --wildcards", mark, t.folder)
	}
	p, err := t.within(mark, func() (template, error) {
		choices, err := t.readWildcard(name)
		return template{{choices: choices}}, err
	})
	if err != nil {
		return part{}, err
	}
	return p[0], nil
}

func (t *templates) readWildcard(name string) ([]template, error) {
	if c, ok := t.files[name]; ok {
		return c, nil
	}
	file := name + ".txt"
	info, err := fs.Stat(t.wildcards, file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no %s in %s", file, t.folder)
	case err != nil:
		return nil, fmt.Errorf("%s in %s cannot be read: %w", file, t.folder, pathless(err))
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s in %s is not a plain file", file, t.folder)
	case info.Size() > maxWildcardFile || t.bytes+int(info.Size()) > maxWildcardBytes:
		return nil, fmt.Errorf("%s in %s has %d bytes: at most %d are read of a file, %d of all", file, t.folder, info.Size(), maxWildcardFile, maxWildcardBytes)
	}
	data, err := fs.ReadFile(t.wildcards, file)
	if err != nil {
		return nil, fmt.Errorf("%s in %s cannot be read: %w", file, t.folder, pathless(err))
	}
	t.bytes += len(data)
	text, _ := strings.CutPrefix(string(data), "\ufeff")
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("%s in %s is not UTF-8 text", file, t.folder)
	}
	var choices []template
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		p, err := t.parse(line)
		if err != nil {
			return nil, wrap(err, fmt.Sprintf("line %d", i+1))
		}
		choices = append(choices, p)
	}
	if len(choices) == 0 {
		return nil, fmt.Errorf("%s in %s has no lines", file, t.folder)
	}
	t.files[name] = choices
	return choices, nil
}

func pathless(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// fill makes a text with every choice taken by r.
func (t template) fill(out *strings.Builder, r *rand.Rand, b *budget) error {
	for _, p := range t {
		if err := b.spend(); err != nil {
			return err
		}
		if p.choices == nil {
			out.WriteString(p.text)
		} else if err := p.choices[r.IntN(len(p.choices))].fill(out, r, b); err != nil {
			return err
		}
		if out.Len() > MaxPrompt {
			return fmt.Errorf("the prompt has more than %d bytes when its template is filled in", MaxPrompt)
		}
	}
	return nil
}

// forSeed fills in a template for an image: the choice is a function of the text and of the image's seed alone, so
// that it is the same in every batch and on every machine.
func (t template) forSeed(text string, seed uint64, left *budget) (string, error) {
	h := fnv.New64a()
	h.Write([]byte(text))
	var out strings.Builder
	b := budget(maxWork)
	err := t.fill(&out, rand.New(rand.NewPCG(seed, h.Sum64())), &b)
	return out.String(), errors.Join(err, left.charge(maxWork-b))
}

// all lists every text that a template can become, the last choice changing fastest.
func (t template) all(left *budget) ([]string, error) {
	b := budget(maxWork)
	texts, err := t.every(&b)
	return texts, errors.Join(err, left.charge(maxWork-b))
}

func (t template) every(b *budget) ([]string, error) {
	texts := []string{""}
	for _, p := range t {
		if err := b.spend(); err != nil {
			return nil, err
		}
		alternatives := []string{p.text}
		if p.choices != nil {
			alternatives = nil
			for _, c := range p.choices {
				a, err := c.every(b)
				if err != nil {
					return nil, err
				}
				alternatives = append(alternatives, a...)
				if len(alternatives) > maxExpansions {
					return nil, fmt.Errorf("expand: all makes more than %d prompts of this one", maxExpansions)
				}
			}
		}
		if len(texts)*len(alternatives) > maxExpansions {
			return nil, fmt.Errorf("expand: all makes more than %d prompts of this one", maxExpansions)
		}
		size := 0 // before it is made
		for _, a := range texts {
			size += len(a) * len(alternatives)
		}
		for _, b := range alternatives {
			size += len(b) * len(texts)
		}
		if size > 64<<20 {
			return nil, errors.New("expand: all makes more than 64 MiB of prompts of this one")
		}
		*b -= budget(size / 100) // copying takes time, too
		next := make([]string, 0, len(texts)*len(alternatives))
		for _, a := range texts {
			for _, b := range alternatives {
				next = append(next, a+b)
			}
		}
		texts = next
	}
	return texts, nil
}

// plain reports whether there is nothing to fill in.
func (t template) plain() bool {
	return !slices.ContainsFunc(t, func(p part) bool { return p.choices != nil })
}
