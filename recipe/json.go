package recipe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// Fields are JSON fields by name, values as they were written.
type Fields map[string]json.RawMessage

// MaxJSON is the largest recipe that is read, in bytes. A prompt is a few kilobytes at most; what is larger is
// no recipe.
const MaxJSON = 1 << 20

// MarshalJSON writes the fields in the order of the struct, then the settings in Extra in the order of the table, then
// the unknown fields by name. The same recipe always gives the same bytes.
func (r Recipe) MarshalJSON() ([]byte, error) {
	type plain Recipe // without methods: no recursion
	var buf bytes.Buffer
	if err := encode(&buf, plain(r)); err != nil {
		return nil, fmt.Errorf("recipe: %w", err)
	}
	add := func(name string, v any) error {
		buf.Truncate(buf.Len() - 1) // the closing brace
		buf.WriteString(",")
		if err := encode(&buf, name); err != nil {
			return err
		}
		buf.WriteByte(':')
		if err := encode(&buf, v); err != nil {
			return fmt.Errorf("recipe: %s: %w", name, err)
		}
		buf.WriteByte('}')
		return nil
	}
	for i := range rows.all {
		if s := &rows.all[i]; r.Extra[s.Name] != nil {
			if err := add(s.JSON(), r.Extra[s.Name]); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Unknown)) {
		if err := add(name, r.Unknown[name]); err != nil {
			return nil, err
		}
	}
	return buf.Bytes(), nil
}

// encode is json.Marshal without its escapes for HTML: a recipe is read by people too.
func encode(buf *bytes.Buffer, v any) error {
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	buf.Truncate(buf.Len() - 1) // Encode ends with a newline
	return nil
}

// UnmarshalJSON is strict: a field of the wrong type, a field given twice or text that is not UTF-8 is an error.
// Field names are matched exactly. Fields that are not known are kept in Unknown; fields that are not there keep the
// value that r had.
func (r *Recipe) UnmarshalJSON(data []byte) error {
	if len(data) > MaxJSON {
		return fmt.Errorf("recipe: %d bytes of JSON, more than the %d that a recipe may have", len(data), MaxJSON)
	}
	if !utf8.Valid(data) {
		return errors.New("recipe: the JSON is not valid UTF-8")
	}
	unknown, err := split(data, reflect.TypeFor[Recipe]())
	if err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	type plain Recipe
	p := plain(*r)
	if err := json.Unmarshal(data, &p); err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	*r = Recipe(p)
	r.Unknown = unknown
	return r.takeExtra()
}

// takeExtra moves those of the unknown fields that the table of settings knows to Extra.
func (r *Recipe) takeExtra() error {
	for i := range rows.all {
		s := &rows.all[i]
		raw, ok := r.Unknown[s.JSON()]
		if !ok || s.Recipe != nil || !s.InRecipe() {
			continue
		}
		v, err := s.Decode(raw)
		if err != nil {
			return fmt.Errorf("recipe: %w", err)
		}
		s.intoRecipe(r, v)
		delete(r.Unknown, s.JSON())
	}
	if len(r.Unknown) == 0 {
		r.Unknown = nil
	}
	return nil
}

// split walks over the fields of a JSON object and returns those that the struct type t does not name.
func split(data []byte, t reflect.Type) (unknown Fields, err error) {
	known := map[string]bool{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		known[name] = name != "-"
	}
	seen := map[string]bool{}
	dec := json.NewDecoder(bytes.NewReader(data))
	if tok, err := dec.Token(); err != nil {
		return nil, err
	} else if tok != json.Delim('{') {
		return nil, errors.New("the JSON is not an object")
	}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name := tok.(string) // in an object, the decoder gives a string or an error here
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("field %.80q: %w", name, err)
		}
		if seen[name] {
			return nil, fmt.Errorf("field %.80q appears twice", name)
		}
		seen[name] = true
		if known[name] {
			continue
		}
		for k := range known {
			// encoding/json matches names without regard to case: "Seed" would silently set the seed.
			if strings.EqualFold(k, name) {
				return nil, fmt.Errorf("field %.80q must be written %q", name, k)
			}
		}
		if unknown == nil {
			unknown = Fields{}
		}
		unknown[name] = value
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return unknown, nil
}
