package checkpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// entry is one member of a JSON object.
type entry struct {
	key   string
	value json.RawMessage
}

// decodeObject reads a JSON object, in order. Unlike json.Unmarshal into a map it refuses a key that comes twice.
func decodeObject(text []byte) ([]entry, error) {
	if !json.Valid(text) { // Token, below, lets some mistakes pass
		var v any
		return nil, fmt.Errorf("not JSON: %w", json.Unmarshal(text, &v))
	}
	d := json.NewDecoder(bytes.NewReader(text))
	open, err := d.Token()
	if err != nil {
		return nil, err
	}
	if open != json.Delim('{') {
		return nil, fmt.Errorf("is %s, not an object", short(text))
	}
	var all []entry
	seen := map[string]bool{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		e := entry{key: key.(string)} // an object's keys are strings in valid JSON
		if seen[e.key] {
			return nil, fmt.Errorf("%q is there twice", e.key)
		}
		seen[e.key] = true
		if err := d.Decode(&e.value); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}
