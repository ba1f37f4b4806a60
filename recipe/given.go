package recipe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Given holds the settings that a user gave (on a command line, in a job, a sweep's point, a preset or an HTTP body) and
// knows which ones they are. A setting that was not given has its zero value. Copies are independent.
type Given struct {
	Settings
	set set // the places in the table of what was given; only for zeros: what is not zero was given in any case
}

type set [2]uint64

func (s set) has(i int) bool { return s[i/64]>>(i%64)&1 == 1 }
func (s *set) add(i int)     { s[i/64] |= 1 << (i % 64) }
func (s *set) drop(i int)    { s[i/64] &^= 1 << (i % 64) }

// Of gives all of s, but for what is zero where zero stands for the default.
func Of(s Settings) Given {
	g := Given{Settings: s}
	for i := range rows.all {
		if row := &rows.all[i]; row.Required || row.written(row.Get(&s)) {
			g.set.add(i)
		}
	}
	return g
}

// NewGiven gives values by their settings' names. It panics at a name that is none, or a value of another type.
func NewGiven(values map[string]any) (g Given) {
	for name, v := range values {
		g.Set(name, v)
	}
	return g
}

// Equal reports whether both give the same settings the same values.
func (g Given) Equal(other Given) bool {
	for i := range rows.all {
		if s := &rows.all[i]; g.has(i) != other.has(i) || s.Get(&g.Settings) != s.Get(&other.Settings) {
			return false
		}
	}
	return true
}

// Has reports whether a setting was given, whatever its value.
func (g *Given) Has(name string) bool { return g.has(place(name)) }

func (g *Given) has(i int) bool {
	s := &rows.all[i]
	v := s.Get(&g.Settings)
	return g.set.has(i) || v != nil && v != s.zero()
}

// Len is how many settings were given.
func (g *Given) Len() (n int) {
	for i := range rows.all {
		if g.has(i) {
			n++
		}
	}
	return n
}

// place is where a setting stands in the table. It panics if there is none of that name.
func place(name string) int {
	i, ok := rows.byName[name]
	if !ok {
		panic("recipe: no setting is called " + name)
	}
	return i
}

// Set gives a setting, by its name, a value of its kind.
func (g *Given) Set(name string, v any) {
	i := place(name)
	rows.all[i].put(&g.Settings, v)
	g.set.add(i)
}

// Parse gives a setting the value that text spells. The error does not name the setting.
func (g *Given) Parse(name, text string) error {
	v, err := rows.all[place(name)].Parse(text)
	if err == nil {
		g.Set(name, v)
	}
	return err
}

// Drop removes a setting.
func (g *Given) Drop(name string) {
	i := place(name)
	rows.all[i].reset(&g.Settings)
	g.set.drop(i)
}

// Each calls f with every given setting and its value, in table order.
func (g *Given) Each(f func(s *Setting, v any)) {
	for i := range rows.all {
		if g.has(i) {
			f(&rows.all[i], rows.all[i].Get(&g.Settings))
		}
	}
}

// Apply writes what was given over to. What another setting makes void is set back first: another scheduler's sigmas
// and eta, say, mean nothing to the one that is given.
func (g *Given) Apply(to *Settings) {
	g.Each(func(s *Setting, _ any) {
		for _, name := range s.Voids {
			rows.all[place(name)].reset(to)
		}
	})
	if g.Has("steps") && LevelList(to.Sigmas) { // another number of steps than the list has
		to.Sigmas = ""
	}
	g.Each(func(s *Setting, v any) {
		if v == nil {
			s.reset(to)
			return
		}
		s.put(to, v)
	})
	if g.Has("sigmas") && !g.Has("steps") && LevelList(g.Sigmas) {
		to.Steps = 0 // the list decides
	}
}

// Over puts g on top of what was given before: of a preset, say. What g voids is taken back.
func (g *Given) Over(before Given) Given {
	out := before
	g.Each(func(s *Setting, _ any) {
		for _, name := range s.Voids {
			out.Drop(name)
		}
	})
	if g.Has("steps") && LevelList(out.Sigmas) {
		out.Drop("sigmas")
	}
	if g.Has("sigmas") && !g.Has("steps") && LevelList(g.Sigmas) {
		out.Drop("steps")
	}
	g.Each(func(s *Setting, v any) { out.Set(s.Name, v) })
	return out
}

// Flags are the words of a command line that say the same. Each flag and its value are two words; a text that may begin
// with a dash is one with its flag.
func (g *Given) Flags() []string {
	var words, later []string
	g.Each(func(s *Setting, v any) {
		if !s.written(v) {
			return
		}
		flag := []string{"--" + s.Name, s.Format(v)}
		switch {
		case s.Kind == SwitchKind:
			flag = flag[:1]
		case s.Kind == TextKind && s.Zero:
			flag = []string{"--" + s.Name + "=" + v.(string)}
		}
		if s.Group == ModelGroup || s.Group == ComputeGroup { // first what is drawn, then by what
			later = append(later, flag...)
		} else if s.Group == OutputGroup {
			later = append(later, flag...)
		} else {
			words = append(words, flag...)
		}
	})
	return append(words, later...)
}

// Command is a line for a POSIX shell that makes the picture.
func (g *Given) Command() string { return command(g.Flags()) }

// CommandOf is the same for a person to read: the prompt is the argument, where it cannot be taken for a flag.
func (g Given) CommandOf(prompt string) string {
	if strings.HasPrefix(prompt, "-") {
		g.Set("prompt", prompt)
		return g.Command()
	}
	g.Drop("prompt")
	return command(append([]string{prompt}, g.Flags()...))
}

func command(words []string) string {
	words = append([]string{"darkroom", "generate"}, words...)
	for i, w := range words {
		words[i] = ShellWord(w)
	}
	return strings.Join(words, " ")
}

// ShellWord quotes a word for a POSIX shell where that is needed.
func ShellWord(word string) string {
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+./:,@") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// MarshalJSON writes what was given by name, in the order of the table. The same request always gives the same bytes.
func (g Given) MarshalJSON() ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteByte('{')
	for i := range rows.all {
		s := &rows.all[i]
		v := s.Get(&g.Settings)
		if !s.Required && !(g.has(i) && s.written(v)) {
			continue
		}
		if buf.Len() > 1 {
			buf.WriteByte(',')
		}
		buf.WriteString(`"` + s.JSON() + `":`)
		if err := encode(&buf, v); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	buf.WriteByte('}')
	return buf.Bytes(), nil
}

// UnmarshalJSON reads what MarshalJSON wrote. A name that is not known is left out: a newer program's setting, of which
// the request's hash tells.
func (g *Given) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	*g = Given{}
	for i := range rows.all {
		s := &rows.all[i]
		raw, ok := fields[s.JSON()]
		if !ok || string(raw) == "null" {
			continue
		}
		v, err := s.Decode(raw)
		if err != nil {
			return err
		}
		s.put(&g.Settings, v)
		g.set.add(i)
	}
	return nil
}

// Settings are the recipe's: those that make its picture again. The model, the backend and the type are named as the
// recipe names them.
func (r Recipe) Settings() Settings {
	var to Settings
	for i := range rows.all {
		if v := rows.all[i].FromRecipe(&r); v != nil {
			rows.all[i].put(&to, v)
		}
	}
	if to.Syntax == "" {
		to.Syntax = Weighted
	}
	return to
}

// Set writes settings into the recipe. The model, the backend and the type are left as they are: what computed the
// picture has other names for them than who asked.
func (r *Recipe) Set(from Settings) {
	for i := range rows.all {
		if s := &rows.all[i]; !slices.Contains([]string{"model", "backend", "dtype"}, s.Name) {
			s.intoRecipe(r, s.Get(&from))
		}
	}
	if len(r.SigmaList) > 0 {
		r.Steps = len(r.SigmaList)
	}
}
