package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// parseJSONLines reads an object a line. Empty lines and lines that begin with # or // are left out.
func parseJSONLines(r *reporter, text string) []node {
	var all []node
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || strings.HasPrefix(line, "//") {
			continue
		}
		n, err := parseJSON(line, i+1)
		switch {
		case err != nil:
			r.errorf(i+1, "%v", err)
		case n.kind != objectKind:
			r.errorf(i+1, "a job is an object such as {\"prompt\": \"a red apple\"}, but this is %v", n.kind)
		default:
			all = append(all, n)
		}
		if r.full() {
			break
		}
	}
	return all
}

func parseJSON(line string, at int) (node, error) {
	if len(line) > maxLine {
		return node{}, fmt.Errorf("a line of %d bytes: at most %d are read", len(line), maxLine)
	}
	d := json.NewDecoder(strings.NewReader(line))
	d.UseNumber()
	n, err := fromTokens(d, at, 0)
	if err == nil {
		if _, end := d.Token(); end != io.EOF {
			err = errors.New("something follows the object: write one object per line")
		}
	}
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		err = fmt.Errorf("this is not JSON: %w (column %d)", syntax, syntax.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("this is not JSON: the line ends within an object: each object must be on one line")
	}
	return n, err
}

// fromTokens reads one value. The decoder checks the grammar.
func fromTokens(d *json.Decoder, line, depth int) (node, error) {
	if depth > maxDepth {
		return node{}, fmt.Errorf("more than %d lists and objects within each other", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return node{}, err
	}
	n := node{line: line}
	switch v := t.(type) {
	case nil:
		n.kind = nullKind
	case bool:
		n.kind, n.text = boolKind, fmt.Sprint(v)
	case json.Number:
		n.kind, n.text = numberKind, v.String()
	case string:
		n.kind, n.text = textKind, v
	case json.Delim:
		n.kind = map[json.Delim]kind{'[': listKind, '{': objectKind}[v]
		for d.More() {
			var f field
			if n.kind == objectKind {
				key, err := d.Token()
				if err != nil {
					return n, err
				}
				f.name, f.line = key.(string), line // the decoder gives a string here, or an error
			}
			if f.value, err = fromTokens(d, line, depth+1); err != nil {
				return n, err
			}
			if n.kind == objectKind {
				n.fields = append(n.fields, f)
			} else {
				n.items = append(n.items, f.value)
			}
		}
		if _, err := d.Token(); err != nil { // the closing bracket
			return n, err
		}
	}
	return n, nil
}
