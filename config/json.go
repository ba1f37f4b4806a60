package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Member is one member of a JSON object; Value is its text.
type Member struct {
	Key   string
	Value json.RawMessage
}

// Members reads a JSON object, in order. Unlike json.Unmarshal into a map it refuses a key that comes twice.
func Members(text []byte) ([]Member, error) {
	if !json.Valid(text) {
		var v any
		return nil, fmt.Errorf("not JSON: %w", json.Unmarshal(text, &v))
	}
	return members(text)
}

// members splits an object, given text that is valid JSON. So all that has to be found is where strings, lists and
// objects end: a header of thousands of tensors is split in a fraction of the time that json.Decoder takes.
func members(text []byte) ([]Member, error) {
	i := skipSpace(text, 0)
	if text[i] != '{' {
		return nil, fmt.Errorf("is %s, not an object", Short(text))
	}
	var all []Member
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
			return nil, fmt.Errorf("%q appears twice", key)
		}
		seen[key] = true

		start := skipSpace(text, skipSpace(text, end)+1) // past the colon
		end = valueEnd(text, start)
		all = append(all, Member{key, text[start:end:end]})
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

// Short is JSON text for a message, on one line.
func Short(text []byte) string {
	const most = 60
	var line bytes.Buffer
	if json.Compact(&line, text) == nil {
		text = line.Bytes()
	}
	if len(text) <= most {
		return string(text)
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return string(text[:cut]) + "…"
}
