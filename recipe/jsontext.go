package recipe

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// object is a JSON object of another program: numbers as they are written, so that a seed keeps its digits.
type object map[string]any

// parseObject reads a text that is a JSON object as a whole. NaN and Infinity, which Python writes, become null.
func parseObject(text string) (object, bool) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "{") {
		return nil, false
	}
	data := []byte(text)
	if !json.Valid(data) {
		if data = withoutNaN(data); !json.Valid(data) {
			return nil, false
		}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var o object
	if err := dec.Decode(&o); err != nil {
		return nil, false
	}
	return o, true
}

// withoutNaN puts null in the place of NaN and Infinity outside of strings.
func withoutNaN(data []byte) []byte {
	var out []byte
	for i, inString := 0, false; i < len(data); i++ {
		c := data[i]
		switch {
		case inString && c == '\\' && i+1 < len(data):
			out = append(out, c)
			i++
			c = data[i]
		case c == '"':
			inString = !inString
		case !inString && bytes.HasPrefix(data[i:], []byte("NaN")):
			out, i = append(out, "null"...), i+2
			continue
		case !inString && (bytes.HasPrefix(data[i:], []byte("Infinity")) || bytes.HasPrefix(data[i:], []byte("-Infinity"))):
			out, i = append(out, "null"...), i+len("Infinity")-1
			if c == '-' {
				i++
			}
			continue
		}
		out = append(out, c)
	}
	return out
}

// text is a value as the user sees it: "" for null and for anything but a string, number or switch.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}

// shown is any value in one line.
func shown(v any) string {
	if _, isText := v.(string); isText || v == nil {
		return text(v)
	}
	var buf bytes.Buffer
	if err := encode(&buf, v); err != nil {
		return ""
	}
	return buf.String()
}

func (o object) text(key string) string { return text(o[key]) }

func (o object) object(key string) object {
	switch v := o[key].(type) {
	case map[string]any:
		return v
	case string: // JSON in JSON
		inner, _ := parseObject(v)
		return inner
	}
	return nil
}

func (o object) list(key string) []any {
	list, _ := o[key].([]any)
	return list
}

func (o object) has(keys ...string) bool {
	return !slices.ContainsFunc(keys, func(key string) bool { _, ok := o[key]; return !ok })
}

// keys are in the order of the alphabet: the order of the file is lost.
func (o object) keys() []string {
	keys := make([]string, 0, len(o))
	for key := range o {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// fields takes all of an object into Fields.
func (f *Foreign) fields(o object) {
	for _, key := range o.keys() {
		if value := shown(o[key]); value != "" {
			f.Fields = append(f.Fields, Field{key, value})
		}
	}
}

// take takes the settings of an object by their keys there. What is null or not there is left out; a value that cannot be meant
// is unused.
func (f *Foreign) take(o object, names map[string]string) {
	for _, key := range o.keys() {
		setting, ok := names[key]
		if !ok || o[key] == nil {
			continue
		}
		value := text(o[key])
		if setting != "prompt" && setting != "negative" && value == "" {
			continue
		}
		if !f.setting(setting, value) {
			f.unused(key, value)
		}
	}
}

// leave notes what of an object is not used: what has a value that does something.
func (f *Foreign) leave(o object, used map[string]string, silent ...string) {
	for _, key := range o.keys() {
		value := shown(o[key])
		_, known := used[key]
		if known || slices.Contains(silent, key) || slices.Contains([]string{"", "0", "0.0", "false", "[]", "{}", "None", "none"}, value) {
			continue
		}
		f.unused(key, value)
	}
}

// parseJSON reads the JSON of any of the programs that are known by their keys.
func parseJSON(o object) (Foreign, error) {
	if o.has(foreignKey) { // what MarshalJSON wrote, perhaps of another version
		return Foreign{}, ErrNoParameters
	}
	for _, read := range []func(object) (Foreign, bool){
		readSwarm, readInvoke, readOldInvoke, readDrawThings, readNovelAI, readEasyDiffusion, readComfyAPI, readComfyWorkflow, readFooocus,
	} {
		if f, ok := read(o); ok {
			return f, nil
		}
	}
	return Foreign{}, ErrNoParameters
}
