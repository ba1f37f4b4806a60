package jobs

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"darkroom/recipe"
)

// spec is a field of a job: its type, and where its value goes.
type spec struct {
	name string
	kind recipe.Kind
	set  func(j *draft, v any) // v is of the type that kind says
}

// draft is a job on its way to images.
type draft struct {
	Request
	name     string // the template of its files' names
	count    int
	priority string
	expand   string // each, all or none
	random   bool   // the seed is drawn
}

// drawn is the value of a seed that is drawn: -1 or random.
type drawn struct{}

// specs are the fields of a job: the settings, and how the job becomes images.
func specs() (list []spec) {
	for _, s := range recipe.All() {
		list = append(list, spec{s.Name, s.Kind, func(j *draft, v any) {
			if s.Kind == recipe.SeedKind {
				if _, j.random = v.(drawn); j.random {
					v = uint64(0)
				}
			}
			j.Set(s.Name, v)
		}})
	}
	text := func(name string, at func(*draft) *string) spec {
		return spec{name, recipe.TextKind, func(j *draft, v any) { *at(j) = v.(string) }}
	}
	return append(list,
		spec{"count", recipe.WholeKind, func(j *draft, v any) { j.count = v.(int) }},
		text("name", func(j *draft) *string { return &j.name }),
		text("priority", func(j *draft) *string { return &j.priority }),
		text("expand", func(j *draft) *string { return &j.expand }),
	)
}

// elsewhere are fields of generate that a job cannot have, with what to do instead.
var elsewhere = map[string]string{
	"device":     "which GPU runs a job is decided where it runs: darkroom batch --device, darkroom worker --device",
	"parallel":   "which GPUs run a job is decided where it runs: darkroom batch --device 0,1 --parallel cfg",
	"low-memory": "it is for all jobs: darkroom batch --low-memory, darkroom worker --low-memory",
	"threads":    "the number of threads is decided where the job runs: darkroom batch --threads, darkroom worker --threads",
	"out":        "the folder is given on the command line (-o); a job may have a \"name\"",
	"from":       "a recipe is not read from a job: darkroom inspect --json FILE shows its fields",
	"preview":    "a batch shows no previews",
	"grid":       "darkroom grid puts the pictures of a batch together",
	"wildcards":  "a batch has one folder of wildcards: darkroom batch --wildcards",
	"preset":     "it is for all jobs: darkroom batch --preset; or put its settings under \"defaults:\"",
	"style":      "write its words into the prompt, or into a variable",
	"quiet":      "it is a flag of the command line",
	"json":       "it is a flag of the command line",
	"c2pa-cert":  "a batch signs no pictures: darkroom generate does",
	"c2pa-key":   "a batch signs no pictures: darkroom generate does",
}

// Fields lists the names of a job's fields.
func Fields() []string {
	var names []string
	for _, s := range specs() {
		names = append(names, s.name)
	}
	return append(names, "sweep")
}

// normal is a field's name as generate's flags spell it: guidance_rescale is guidance-rescale, cfg_scale is cfg.
func normal(name string) string {
	if s, ok := recipe.Lookup(name); ok {
		return s.Name
	}
	return strings.ReplaceAll(name, "_", "-")
}

// values are all values that a field takes in turn: one, or those of a list or a range.
func (s spec) values(r *reporter, n node) ([]any, bool) {
	if n.kind == listKind {
		if len(n.items) == 0 {
			r.errorf(n.line, "%s: the list is empty", s.name)
			return nil, false
		}
		if s.name == "sigmas" && n.items[0].kind == numberKind {
			r.errorf(n.line, "sigmas: a list is tried one by one; the noise levels of one picture are one text: \"14.6,6.1,0.03\"")
			return nil, false
		}
		var all []any
		for _, item := range n.items {
			if item.kind == listKind {
				r.errorf(item.line, "%s: a list within a list", s.name)
				return nil, false
			}
			vs, ok := s.values(r, item)
			if !ok {
				return nil, false
			}
			all = append(all, vs...)
			if len(all) > MaxImages {
				r.errorf(n.line, "%s: more than %d values", s.name, MaxImages)
				return nil, false
			}
		}
		return all, true
	}
	if s.kind != recipe.TextKind && s.kind != recipe.SwitchKind && (n.kind == textKind || n.kind == cellKind) && strings.Contains(n.text, "..") {
		all, err := s.parseRange(n.text)
		if err != nil {
			r.errorf(n.line, "%s: %v", s.name, err)
			return nil, false
		}
		return all, true
	}
	v, err := s.value(n)
	if err != nil {
		r.errorf(n.line, "%s: %v", s.name, err)
		return nil, false
	}
	return []any{v}, true
}

// value is a single value.
func (s spec) value(n node) (any, error) {
	switch {
	case n.kind == nullKind:
		return nil, fmt.Errorf("it is empty: give %v or leave the field out", s.kind)
	case n.kind == objectKind && s.kind == recipe.TextKind:
		return nil, fmt.Errorf("it is an object, but text is needed: quote the %s, because it begins with {", s.name)
	case n.kind == objectKind:
		return nil, fmt.Errorf("it is an object, but %v is needed", s.kind)
	case s.kind == recipe.SeedKind && recipe.RandomSeed(n.text):
		return drawn{}, nil
	case s.kind == recipe.TextKind && (n.kind == boolKind || n.kind == numberKind):
		return nil, fmt.Errorf("%s is %v, but text is needed: put quotes around it", cut(n.text), n.kind)
	case s.kind == recipe.TextKind:
		return n.text, nil
	case s.kind == recipe.SwitchKind:
		v, err := strconv.ParseBool(n.text)
		if err != nil || n.kind != boolKind && n.kind != cellKind {
			return nil, fmt.Errorf("%s is %v, but %v is needed", cut(n.text), n.kind, s.kind)
		}
		return v, nil
	case n.kind == textKind:
		return nil, fmt.Errorf("%q is text, but %v is needed, without quotes, or a range such as %s", cut(n.text), s.kind, s.example())
	case n.kind == boolKind:
		return nil, fmt.Errorf("%s is true or false, but %v is needed", n.text, s.kind)
	}
	return s.number(strings.TrimSpace(n.text))
}

func (s spec) example() string {
	if s.kind == recipe.NumberKind {
		return "\"1..8 by 0.5\""
	}
	return "\"1..100\""
}

func (s spec) number(text string) (any, error) {
	wrong := fmt.Errorf("%s is not %v", cut(text), s.kind)
	switch s.kind {
	case recipe.SeedKind:
		v, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, wrong
		}
		return v, nil
	case recipe.WholeKind:
		v, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return nil, wrong
		}
		return int(v), nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return nil, fmt.Errorf("%s is not a finite number", cut(text))
	}
	return v, nil
}

// parseRange reads "1..100" and "1..8 by 0.5": both ends are meant, if the step reaches the last.
func (s spec) parseRange(text string) ([]any, error) {
	ends, step, hasStep := strings.Cut(text, " by ")
	from, to, _ := strings.Cut(ends, "..")
	var parts [3]any
	for i, t := range []string{from, to, step} {
		t = strings.TrimSpace(t)
		if i == 2 && !hasStep {
			t = "1"
		}
		v, err := s.number(t)
		if err != nil {
			return nil, fmt.Errorf("%q is not a range such as %s: %w", cut(text), s.example(), err)
		}
		parts[i] = v
	}
	switch s.kind {
	case recipe.SeedKind:
		return span(text, parts[0].(uint64), parts[1].(uint64), parts[2].(uint64))
	case recipe.WholeKind:
		return span(text, parts[0].(int), parts[1].(int), parts[2].(int))
	}
	return spanFloats(text, parts[0].(float64), parts[1].(float64), parts[2].(float64))
}

func span[T uint64 | int](text string, from, to, step T) ([]any, error) {
	if step <= 0 {
		return nil, fmt.Errorf("range %q: the step must be above 0", cut(text))
	}
	if from > to {
		return nil, fmt.Errorf("range %q: it falls: write the smaller number first", cut(text))
	}
	n := (uint64(to) - uint64(from)) / uint64(step) // exact also where to − from is beyond the type
	if n >= MaxImages {
		return nil, fmt.Errorf("range %q has more than %d values", cut(text), MaxImages)
	}
	all := make([]any, n+1)
	for i := range all {
		all[i] = from + T(i)*step
	}
	return all, nil
}

func spanFloats(text string, from, to, step float64) ([]any, error) {
	if !(step > 0) {
		return nil, fmt.Errorf("range %q: the step must be above 0", cut(text))
	}
	if from > to {
		return nil, fmt.Errorf("range %q: it falls: write the smaller number first", cut(text))
	}
	n := math.Floor((to-from)/step + 1e-9) // 1..2 by 0.1 has 11 values, whatever 0.1 is in binary
	if !(n < MaxImages) {
		return nil, fmt.Errorf("range %q has more than %d values", cut(text), MaxImages)
	}
	all := make([]any, int(n)+1)
	for i := range all {
		all[i] = roundTo(from+float64(i)*step, step)
	}
	return all, nil
}

// roundTo takes off the digits that only adding up made: 0.30000000000000004 with step 0.1 is 0.3.
func roundTo(v, step float64) float64 {
	text := strconv.FormatFloat(step, 'f', -1, 64)
	_, fraction, _ := strings.Cut(text, ".")
	digits := max(len(fraction), 9)
	r, err := strconv.ParseFloat(strconv.FormatFloat(v, 'f', digits, 64), 64)
	if err != nil {
		return v
	}
	return r
}

// specOf finds a field by name; its mistakes are reported.
func specOf(r *reporter, table []spec, f field) (spec, bool) {
	name := normal(f.name)
	if i := slices.IndexFunc(table, func(s spec) bool { return s.name == name }); i >= 0 {
		return table[i], true
	}
	if why, ok := elsewhere[name]; ok {
		r.errorf(f.line, "a job has no field %q: %s", cut(f.name), why)
	} else {
		r.errorf(f.line, "unknown field %q%s", cut(f.name), nearest(name, Fields()))
	}
	return spec{}, false
}
