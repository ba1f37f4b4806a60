package checkpoint

import (
	"encoding/json"
	"fmt"
	"strings"
)

// entry is one member of a JSON object; value is its text.
type entry struct {
	key   string
	value json.RawMessage
}

// decodeObject reads a JSON object, in order. Unlike json.Unmarshal into a map it refuses a key that comes twice.
func decodeObject(text []byte) ([]entry, error) {
	if !json.Valid(text) {
		var v any
		return nil, fmt.Errorf("not JSON: %w", json.Unmarshal(text, &v))
	}
	return members(text)
}

// members splits an object, given text that is valid JSON. So all that has to be found is where strings, lists and
// objects end: a header of thousands of tensors is split in a fraction of the time that json.Decoder takes.
func members(text []byte) ([]entry, error) {
	i := skipSpace(text, 0)
	if text[i] != '{' {
		return nil, fmt.Errorf("is %s, not an object", short(text))
	}
	var all []entry
	seen := map[string]bool{}
	for i = skipSpace(text, i+1); text[i] != '}'; {
		end := stringEnd(text, i)
		key := string(text[i+1 : end-1])
		if strings.ContainsRune(key, '\\') {
			if err := json.Unmarshal(text[i:end], &key); err != nil {
				return nil, err
			}
		}
		if seen[key] {
			return nil, fmt.Errorf("%q is there twice", key)
		}
		seen[key] = true

		start := skipSpace(text, skipSpace(text, end)+1) // past the colon
		end = valueEnd(text, start)
		all = append(all, entry{key, text[start:end:end]})
		if i = skipSpace(text, end); text[i] == ',' {
			i = skipSpace(text, i+1)
		}
	}
	return all, nil
}

func skipSpace(text []byte, i int) int {
	for text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r' {
		i++
	}
	return i
}

// stringEnd is where the string that begins at i ends.
func stringEnd(text []byte, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// valueEnd is where the value that begins at i ends, in an object.
func valueEnd(text []byte, i int) int {
	for depth := 0; ; {
		switch text[i] {
		case '"':
			i = stringEnd(text, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 { // the object's own end, after a number or a word
				return i
			}
			depth--
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return i
			}
		}
		i++
	}
}
