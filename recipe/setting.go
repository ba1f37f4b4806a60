package recipe

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"darkroom/option"
)

// Setting is a row of the table of settings. Flags, job files, sweeps, compare's axes, recipes, the history's command,
// inspect, completion and the JSON schema all use the table, so a setting is written only here and where it is used.
type Setting struct {
	Name    string   // as flags spell it; in JSON, _ stands for -
	Aliases []string // other names that people bring, spelled likewise
	Group   Group
	About   string // a line of help
	Default string // what holds where nothing is given, in words
	Kind    Kind

	Low, High float64         // bounds of a number; both 0: none
	MaxBytes  int             // of a text; 0: any
	Choices   func() []string // the names that a text takes; nil: any text
	Open      bool            // more than Choices is allowed: suffixes, numbers after a name, lists
	// Methods describes the names, for a text of the form NAME[:key=value,…]; nil: it has another form.
	Methods func() []option.Info
	// Split takes a list of values with commas apart, where a value may have commas itself; nil: at each comma.
	Split func(list string) []string

	Repeat     bool   // a flag may be given several times: the texts are joined
	Join       string // what stands between them; "" is a comma
	Zero       bool   // 0 or "" is a value like any other; elsewhere it is the default, and is not written down
	AllowEmpty bool   // "" may be given, and means the default
	Required   bool   // written down always, whether given or not
	Solver     bool   // it decides how a picture is computed, and not which: compare measures against one solution

	// Voids are settings that mean nothing any more once this one is given anew, unless they are given beside it.
	Voids []string

	Field  func(*Settings) any // where the value is: a pointer; nil: in Settings.Extra
	Recipe func(*Recipe) any   // likewise in a recipe: a pointer; nil: in Recipe.Extra, or nowhere (OutputGroup)
}

// Kind is the type of a setting's value.
type Kind int

const (
	TextKind   Kind = iota // string
	WholeKind              // int
	NumberKind             // float64
	SeedKind               // uint64
	SwitchKind             // bool
)

// String says what is needed: "steps: it must be a whole number".
func (k Kind) String() string {
	return [...]string{"text", "a whole number", "a number", "a whole number from 0 to 18446744073709551615", "true or false"}[k]
}

// Group is what a setting belongs to, in the order in which help shows it.
type Group int

const (
	PromptGroup Group = iota
	PictureGroup
	SamplingGroup
	ModelGroup
	EditingGroup
	ComputeGroup
	OutputGroup
)

// Groups lists them.
func Groups() []Group {
	return []Group{PromptGroup, PictureGroup, SamplingGroup, ModelGroup, EditingGroup, ComputeGroup, OutputGroup}
}

func (g Group) String() string {
	return [...]string{"Prompt", "Picture", "Sampling", "Model", "Editing", "Where it computes", "Output"}[g]
}

// JSON is the name in JSON.
func (s *Setting) JSON() string { return strings.ReplaceAll(s.Name, "-", "_") }

// InRecipe reports whether recipes hold the setting: it decides pixels, not the file.
func (s *Setting) InRecipe() bool { return s.Group != OutputGroup }

// Get is the value in from: a string, int, float64, uint64 or bool, as Kind says; nil where a number is left open.
func (s *Setting) Get(from *Settings) any {
	if s.Field == nil {
		return s.or(from.Extra[s.Name])
	}
	return load(s.Field(from))
}

func (s *Setting) put(to *Settings, v any) {
	if s.Field != nil {
		store(s.Field(to), v)
		return
	}
	extra := maps.Clone(to.Extra)
	if extra == nil {
		extra = map[string]any{}
	}
	if extra[s.Name] = v; v == nil {
		delete(extra, s.Name)
	}
	if to.Extra = extra; len(extra) == 0 {
		to.Extra = nil
	}
}

// reset puts the zero value back.
func (s *Setting) reset(to *Settings) {
	if s.Field == nil {
		s.put(to, nil)
		return
	}
	if p, ok := s.Field(to).(**float64); ok {
		*p = nil
		return
	}
	store(s.Field(to), s.zero())
}

// FromRecipe is the value in a recipe, likewise.
func (s *Setting) FromRecipe(r *Recipe) any {
	switch {
	case !s.InRecipe():
		return nil
	case s.Recipe == nil:
		return s.or(r.Extra[s.Name])
	}
	return load(s.Recipe(r))
}

func (s *Setting) intoRecipe(r *Recipe, v any) {
	switch {
	case !s.InRecipe() || v == nil:
	case s.Recipe != nil:
		store(s.Recipe(r), v)
	case v != s.zero() || s.Zero:
		if r.Extra == nil {
			r.Extra = map[string]any{}
		}
		r.Extra[s.Name] = v
	}
}

func (s *Setting) zero() any { return [...]any{"", 0, 0.0, uint64(0), false}[s.Kind] }

func (s *Setting) or(v any) any {
	if v == nil && !s.Zero {
		return s.zero()
	}
	return v
}

// written reports whether a value that was given is worth writing down.
func (s *Setting) written(v any) bool { return v != nil && (s.Zero || v != s.zero()) }

// sigmas is a recipe as the setting sigmas sees it: a recipe has explicit levels in a field of their own.
type sigmas Recipe

func load(p any) any {
	switch p := p.(type) {
	case *string:
		return *p
	case *int:
		return *p
	case *float64:
		return *p
	case *uint64:
		return *p
	case *bool:
		return *p
	case **float64:
		if *p == nil {
			return nil
		}
		return **p
	case *sigmas:
		if len(p.SigmaList) == 0 {
			return p.Sigmas
		}
		texts := make([]string, len(p.SigmaList))
		for i, v := range p.SigmaList {
			texts[i] = formatNumber(v)
		}
		return strings.Join(texts, ",")
	}
	panic(fmt.Sprintf("recipe: a setting's field is a %T", p))
}

func store(p, v any) {
	switch p := p.(type) {
	case *string:
		*p = v.(string)
	case *int:
		*p = v.(int)
	case *float64:
		*p = v.(float64)
	case *uint64:
		*p = v.(uint64)
	case *bool:
		*p = v.(bool)
	case **float64:
		f := v.(float64)
		*p = &f
	case *sigmas:
		if list, ok := ParseLevels(v.(string)); ok {
			p.Sigmas, p.SigmaList = "", list
		} else {
			p.Sigmas, p.SigmaList = v.(string), nil
		}
	default:
		panic(fmt.Sprintf("recipe: a setting's field is a %T", p))
	}
}

// ParseLevels reads "14.6,6.1,0.03"; false for the name of a spacing.
func ParseLevels(s string) ([]float64, bool) {
	var list []float64
	for _, field := range strings.Split(s, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(field), 64)
		if err != nil {
			return nil, false
		}
		list = append(list, v)
	}
	return list, true
}

// Parse reads a value as written on a command line or in a table's cell. The error says what it must be.
func (s *Setting) Parse(text string) (any, error) {
	var v any
	var err error
	switch s.Kind {
	case TextKind:
		return text, nil
	case WholeKind:
		v, err = parseInt(text)
	case NumberKind:
		v, err = strconv.ParseFloat(text, 64)
	case SeedKind:
		v, err = strconv.ParseUint(text, 10, 64)
	case SwitchKind:
		v, err = strconv.ParseBool(text)
	}
	if err != nil {
		return nil, fmt.Errorf("it must be %v", s.Kind)
	}
	return v, nil
}

// RandomSeed reports whether a text asks for a seed to be drawn, as other programs write it.
func RandomSeed(text string) bool { return text == "-1" || strings.EqualFold(text, "random") }

func parseInt(text string) (int, error) {
	v, err := strconv.ParseInt(text, 10, 32)
	return int(v), err
}

// Format is the value as Parse reads it.
func (s *Setting) Format(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case float64:
		return formatNumber(v)
	}
	return fmt.Sprint(v)
}

func formatNumber(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// Check reports what is wrong with a value by itself: its bounds, its length, its name. What depends on other settings or
// on the model is not looked at.
func (s *Setting) Check(v any) error {
	switch v := v.(type) {
	case int:
		if s.bounded() && (float64(v) < s.Low || float64(v) > s.High) {
			return fmt.Errorf("%d: it must be from %s", v, s.bounds())
		}
	case float64:
		if s.bounded() && !(v >= s.Low && v <= s.High) {
			return fmt.Errorf("%v: it must be from %s", v, s.bounds())
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%v: it must be a finite number", v)
		}
	case string:
		return s.checkText(v)
	}
	return nil
}

func (s *Setting) bounded() bool  { return s.Low != 0 || s.High != 0 }
func (s *Setting) bounds() string { return formatPlain(s.Low) + " to " + formatPlain(s.High) }

func formatPlain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func (s *Setting) checkText(v string) error {
	switch {
	case v == "" && !s.Zero && !s.AllowEmpty:
		return errors.New("it is empty: leave the field out for the default")
	case s.MaxBytes > 0 && len(v) > s.MaxBytes:
		return fmt.Errorf("%d bytes: at most %d are allowed", len(v), s.MaxBytes)
	case !utf8.ValidString(v):
		return errors.New("it is not UTF-8 text")
	case strings.ContainsRune(v, 0):
		return errors.New("it has a NUL character")
	case s.Choices != nil && !s.Open && !slices.Contains(s.Choices(), v):
		return &ChoiceError{v, s.Choices()}
	}
	return nil
}

// ChoiceError is a name that is none of those that a setting takes.
type ChoiceError struct {
	Value   string
	Choices []string
}

func (e *ChoiceError) Error() string {
	return fmt.Sprintf("%.60q: choose %s", e.Value, strings.Join(e.Choices, ", "))
}

// OneText reports whether a text is one value, whatever commas it has: a prompt.
func (s *Setting) OneText() bool { return s.Kind == TextKind && s.Zero }

// List takes a text with several values apart.
func (s *Setting) List(text string) []string {
	if s.OneText() {
		return []string{text}
	}
	if s.Split != nil {
		return s.Split(text)
	}
	words := strings.Split(text, ",")
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	return words
}

// splitSigmas keeps levels together, which fall within a list: karras,14.6,6.1,0.03,10,1 is a name and two lists.
func splitSigmas(text string) (sigmas []string) {
	before := math.Inf(-1)
	for _, w := range strings.Split(text, ",") {
		w = strings.TrimSpace(w)
		level, err := strconv.ParseFloat(w, 64)
		switch {
		case err != nil:
			sigmas, before = append(sigmas, w), math.Inf(-1)
			continue
		case level < before:
			sigmas[len(sigmas)-1] += "," + w
		default:
			sigmas = append(sigmas, w)
		}
		before = level
	}
	return sigmas
}

// splitSpecs keeps keys with their method: cfg,apg:eta=0,momentum=-0.5 are two.
func splitSpecs(text string) []string { return option.Split(text) }

// Decode reads a value from JSON.
func (s *Setting) Decode(data json.RawMessage) (v any, err error) {
	switch s.Kind {
	case TextKind:
		v, err = decoded[string](data)
	case WholeKind:
		v, err = decoded[int](data)
	case NumberKind:
		v, err = decoded[float64](data)
	case SeedKind:
		v, err = decoded[uint64](data)
	case SwitchKind:
		v, err = decoded[bool](data)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not %v", s.JSON(), s.Kind)
	}
	return v, nil
}

func decoded[T any](data json.RawMessage) (v T, err error) {
	err = json.Unmarshal(data, &v)
	return v, err
}
