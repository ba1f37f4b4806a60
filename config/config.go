// Package config reads JSON configurations of models, as Python programs write them. Every key must be understood: a key
// that nothing asked for is an error, because it would change the picture.
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Object is a configuration whose every key must be understood. Getters take what they find and note what is
// wrong; Done returns all of that at once, with the keys that nothing asked for:
//
//	c, err := config.Parse(text, "unet/config.json")
//	...
//	c.Ignore("sample_size", "dropout")                   // of no effect when rendering
//	c.Fixed("center_input_sample", false)                // read, and only this value is supported
//	inChannels := c.Int("in_channels", 4)                // 4 where it is absent or null
//	widths := c.Ints("block_out_channels", 0)            // a list of any length, required
//	heads := c.Ints("attention_head_dim", len(widths), 8) // a list of that length, or one number for all
//	act := c.OneOf("act_fn", "silu", "gelu")             // the first one is the default
//	if err := c.Done(); err != nil {
//
// A getter without a default requires its key. null counts as absent, as in diffusers' constructors.
type Object struct {
	name   string
	values map[string]json.RawMessage
	order  []string // keys, as in the file
	read   map[string]bool
	errs   []error
}

// Parse reads a JSON object. name, such as "unet/config.json", begins each message. The NaN, Infinity and
// -Infinity that Python writes are read as well.
func Parse(text []byte, name string) (*Object, error) {
	return parse(quoteNonFinite(text), name)
}

func parse(text []byte, name string) (*Object, error) {
	members, err := Members(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c := &Object{name: name, values: make(map[string]json.RawMessage, len(members)), read: map[string]bool{}}
	for _, m := range members {
		c.values[m.Key] = m.Value
		c.order = append(c.order, m.Key)
	}
	return c, nil
}

// Name is what messages begin with.
func (c *Object) Name() string { return c.name }

// Has says whether the key is there and not null. It does not count as reading the key.
func (c *Object) Has(key string) bool {
	v, ok := c.values[key]
	return ok && string(v) != "null"
}

// Drop takes keys out, as if the file did not have them.
func (c *Object) Drop(keys ...string) {
	for _, k := range keys {
		delete(c.values, k)
		c.order = slices.DeleteFunc(c.order, func(other string) bool { return other == k })
	}
}

// Keys lists the keys in the file's order.
func (c *Object) Keys() []string { return c.order }

// Object is the object under a key, empty where the key is absent or null. It is read by itself: it needs its own Done.
func (c *Object) Object(key string) *Object {
	c.read[key] = true
	name := c.name + ": " + key
	if c.Has(key) {
		o, err := parse(c.values[key], name)
		if err == nil {
			return o
		}
		c.Fail(key, "an object is needed")
	}
	o, err := parse([]byte("{}"), name)
	if err != nil {
		panic(err)
	}
	return o
}

// Raw is the text of a key's value; nil where the key is absent. It does not count as reading the key.
func (c *Object) Raw(key string) json.RawMessage { return c.values[key] }

// Ignore marks keys as harmless, whatever their values.
func (c *Object) Ignore(keys ...string) {
	for _, k := range keys {
		c.read[k] = true
	}
}

// Fail notes that a key's value is not supported, in the way that the getters do: why says what is.
func (c *Object) Fail(key, why string) {
	value := "absent"
	if v, ok := c.values[key]; ok {
		value = Short(v)
	}
	c.errs = append(c.errs, fmt.Errorf("%s: %s is %s: %s", c.name, key, value, why))
}

// Done returns what was wrong, and every key left unread, unless its value is null or false or it begins with _.
func (c *Object) Done() error {
	errs := c.errs
	for _, k := range c.order {
		v := string(c.values[k])
		if c.read[k] || strings.HasPrefix(k, "_") || v == "null" || v == "false" {
			continue
		}
		errs = append(errs, fmt.Errorf("%s: %s is %s: not supported, the key is unknown here", c.name, k, Short(c.values[k])))
	}
	return errors.Join(errs...)
}

// get decodes the value of a key. False: absent or not of the type, and v is the default, if there is one.
func get[T any](c *Object, key, kind string, decode func(json.RawMessage) (T, bool), def []T) (v T, found bool) {
	c.read[key] = true
	if len(def) > 0 {
		v = def[0]
	}
	if !c.Has(key) {
		if len(def) == 0 {
			c.errs = append(c.errs, fmt.Errorf("%s: %s is missing: %s is needed", c.name, key, kind))
		}
		return v, false
	}
	got, ok := decode(c.values[key])
	if !ok {
		c.Fail(key, kind+" is needed")
		return v, false
	}
	return got, true
}

// Int is a whole number that fits 32 bits.
func (c *Object) Int(key string, def ...int) int {
	v, _ := get(c, key, "a whole number", asInt, def)
	return v
}

// IntIn is a whole number from low to high.
func (c *Object) IntIn(key string, low, high int, def ...int) int {
	v, _ := get(c, key, fmt.Sprintf("a whole number from %d to %d", low, high), func(text json.RawMessage) (int, bool) {
		v, ok := asInt(text)
		return v, ok && v >= low && v <= high
	}, def)
	return v
}

// Float is a number.
func (c *Object) Float(key string, def ...float64) float64 {
	v, _ := get(c, key, "a number", asFloat, def)
	return v
}

// FloatIn is a number from low to high.
func (c *Object) FloatIn(key string, low, high float64, def ...float64) float64 {
	v, _ := get(c, key, fmt.Sprintf("a number from %v to %v", low, high), func(text json.RawMessage) (float64, bool) {
		v, ok := asFloat(text)
		return v, ok && v >= low && v <= high
	}, def)
	return v
}

// Bool is true or false.
func (c *Object) Bool(key string, def ...bool) bool {
	v, _ := get(c, key, "true or false", as[bool], def)
	return v
}

// String is any text.
func (c *Object) String(key string, def ...string) string {
	v, _ := get(c, key, "a text", as[string], def)
	return v
}

// OneOf is a text of which only def and others are supported; absent is def. With def "" only others are supported, and
// "" means that the file leaves the choice to the reader.
func (c *Object) OneOf(key, def string, others ...string) string {
	supported := others
	if def != "" {
		supported = append([]string{def}, others...)
	}
	v, found := get(c, key, "a text", as[string], []string{def})
	if found && !slices.Contains(supported, v) {
		var list []string
		for _, s := range supported {
			list = append(list, strconv.Quote(s))
		}
		c.Fail(key, "not supported, only "+strings.Join(list, ", "))
		return def
	}
	return v
}

// Fixed reads a key of which only one value is supported: a bool, int, float64 or string. Absent and null pass; so a
// key whose absence means something else than want is read with a getter instead.
func (c *Object) Fixed(key string, want any) {
	c.read[key] = true
	if !c.Has(key) {
		return
	}
	same := false
	switch w := want.(type) {
	case bool:
		v, ok := as[bool](c.values[key])
		same = ok && v == w
	case int:
		v, ok := asFloat(c.values[key])
		same = ok && v == float64(w)
	case float64:
		v, ok := asFloat(c.values[key])
		same = ok && v == w
	case string:
		v, ok := as[string](c.values[key])
		same = ok && v == w
	default:
		panic(fmt.Sprintf("config: Fixed(%q, %T)", key, want))
	}
	if !same {
		text, _ := json.Marshal(want)
		c.Fail(key, "not supported, only "+string(text))
	}
}

// Ints is a list of n whole numbers, or one number that stands for n. With n = 0 it is a list of any length, and one
// number is a list of one. The default is repeated in the same way.
func (c *Object) Ints(key string, n int, def ...int) []int {
	return list(c, key, n, "whole numbers", asInt, def)
}

// Floats is as Ints, for numbers.
func (c *Object) Floats(key string, n int, def ...float64) []float64 {
	return list(c, key, n, "numbers", asFloat, def)
}

// Bools is as Ints, for true and false.
func (c *Object) Bools(key string, n int, def ...bool) []bool {
	return list(c, key, n, "true or false", as[bool], def)
}

// Strings is as Ints, for texts.
func (c *Object) Strings(key string, n int, def ...string) []string {
	return list(c, key, n, "texts", as[string], def)
}

// IntTable is a list with a row for each of the lengths: a list of that many whole numbers, or one number that stands
// for all of the row. One number may stand for the whole table; the default does.
func (c *Object) IntTable(key string, lengths []int, def int) [][]int {
	c.read[key] = true
	rows := make([]json.RawMessage, len(lengths))
	given := c.Has(key)
	if given && (c.values[key][0] != '[' || json.Unmarshal(c.values[key], &rows) != nil) {
		for i := range rows {
			rows[i] = c.values[key]
		}
	}
	table := make([][]int, len(lengths))
	ok := len(rows) == len(lengths)
	for i, n := range lengths {
		table[i] = slices.Repeat([]int{def}, n)
		if !given || !ok {
			continue
		}
		row, whole := decodeList(rows[i], asInt)
		switch {
		case whole && rows[i][0] != '[':
			table[i] = slices.Repeat(row, n)
		case whole && len(row) == n:
			table[i] = row
		default:
			ok = false
		}
	}
	if !ok {
		c.Fail(key, fmt.Sprintf("rows of %v whole numbers are needed, or one number for a row", lengths))
	}
	return table
}

// list reads n values, or one to repeat. It always returns n values if n > 0, so that a caller may go on until Done.
func list[T any](c *Object, key string, n int, kind string, decode func(json.RawMessage) (T, bool), def []T) []T {
	what := fmt.Sprintf("%d %s or one for all are needed", n, kind)
	if n == 0 {
		what = "a list of " + kind + " is needed"
	}
	c.read[key] = true
	values := slices.Clone(def)
	if c.Has(key) {
		got, ok := decodeList(c.values[key], decode)
		if ok && (n == 0 || len(got) == n || len(got) == 1 && c.values[key][0] != '[') {
			values = got
		} else {
			c.Fail(key, what)
		}
	} else if len(def) == 0 {
		c.errs = append(c.errs, fmt.Errorf("%s: %s is missing: %s", c.name, key, what))
	}
	if n == 0 {
		return values
	}
	if len(values) == 0 {
		return make([]T, n)
	}
	for len(values) < n {
		values = append(values, values[0])
	}
	return values[:n]
}

func decodeList[T any](text json.RawMessage, decode func(json.RawMessage) (T, bool)) ([]T, bool) {
	if text[0] != '[' {
		v, ok := decode(text)
		return []T{v}, ok
	}
	var raw []json.RawMessage
	if json.Unmarshal(text, &raw) != nil {
		return nil, false
	}
	values := make([]T, len(raw))
	for i, r := range raw {
		v, ok := decode(r)
		if !ok {
			return nil, false
		}
		values[i] = v
	}
	return values, true
}

func as[T bool | string](text json.RawMessage) (T, bool) {
	var v *T // null leaves it nil
	if json.Unmarshal(text, &v) != nil || v == nil {
		return *new(T), false
	}
	return *v, true
}

func asInt(text json.RawMessage) (int, bool) {
	v, ok := asFloat(text)
	return int(v), ok && v == math.Trunc(v) && math.Abs(v) <= math.MaxInt32
}

func asFloat(text json.RawMessage) (float64, bool) {
	switch string(text) {
	case `"NaN"`:
		return math.NaN(), true
	case `"Infinity"`:
		return math.Inf(1), true
	case `"-Infinity"`:
		return math.Inf(-1), true
	}
	var v *float64
	if json.Unmarshal(text, &v) != nil || v == nil {
		return 0, false
	}
	return *v, true
}

// quoteNonFinite turns Python's bare NaN, Infinity and -Infinity, which JSON lacks, into strings.
func quoteNonFinite(text []byte) []byte {
	if !bytes.Contains(text, []byte("Infinity")) && !bytes.Contains(text, []byte("NaN")) {
		return text
	}
	var out []byte
	inString := false
	for i := 0; i < len(text); i++ {
		ch := text[i]
		if inString {
			out = append(out, ch)
			if ch == '\\' && i+1 < len(text) {
				i++
				out = append(out, text[i])
			}
			inString = ch != '"'
			continue
		}
		word := ""
		for _, w := range []string{"-Infinity", "Infinity", "NaN"} {
			if bytes.HasPrefix(text[i:], []byte(w)) {
				word = w
				break
			}
		}
		if word != "" {
			out = append(out, strconv.Quote(word)...)
			i += len(word) - 1
			continue
		}
		out = append(out, ch)
		inString = ch == '"'
	}
	return out
}
