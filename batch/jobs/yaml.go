package jobs

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// parseYAML reads one YAML document. Anchors and tags are refused: a few lines of anchors within each other
// can stand for gigabytes, and defaults do what people use them for.
func parseYAML(r *reporter, text string) (n node, ok bool) {
	defer func() {
		if p := recover(); p != nil { // the parser's own mistake, met on damaged files
			r.errorf(0, "this is not YAML (%v)", p)
			ok = false
		}
	}()
	if len(text) > MaxYAML {
		r.errorf(0, "%d bytes of YAML: at most %d are read; write this many jobs as JSON lines or CSV", len(text), MaxYAML)
		return n, false
	}
	text = withoutDirective(strings.ReplaceAll(text, "\r\n", "\n"))
	tokens := lexer.Tokenize(text)
	if !checkTokens(r, tokens) {
		return n, false
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		line, what := 0, err.Error()
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) {
			what = syntax.Message
			if syntax.Token != nil {
				line = syntax.Token.Position.Line
			}
		}
		r.errorf(line, "this is not YAML: %s%s", what, quoteHint(text))
		return n, false
	}
	var body ast.Node
	for _, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		if body != nil {
			r.errorf(d.Body.GetToken().Position.Line, "a second YAML document: put all jobs under one \"jobs:\"")
			return n, false
		}
		body = d.Body
	}
	if body == nil {
		return node{kind: nullKind, line: 1}, true
	}
	n, err = fromAST(body)
	if err != nil {
		var e *Error
		errors.As(err, &e)
		r.errorf(e.Line, "%s", e.Text)
		return n, false
	}
	return n, true
}

// withoutDirective blanks the line %YAML 1.2 before the document, which the parser takes for one. Other directives are not
// read.
func withoutDirective(text string) string {
	for line := range strings.Lines(text) {
		switch trimmed := strings.TrimSpace(line); {
		case strings.HasPrefix(line, "%YAML "):
			return strings.Replace(text, line, "\n", 1)
		case trimmed != "" && trimmed[0] != '#':
			return text
		}
	}
	return text
}

// unquoted is a prompt that YAML takes for something else.
var unquoted = regexp.MustCompile(`(?m)^[ \t]*(?:-[ \t]+)?(prompt|negative)[ \t]*:[ \t]*[{\[*&!%@` + "`" + `]`)

// quoteHint says what is probably wrong with a text that is not YAML.
func quoteHint(text string) string {
	m := unquoted.FindStringSubmatchIndex(text)
	if m == nil {
		return ""
	}
	return fmt.Sprintf(" (quote the %s in line %d, as it begins with %c)", text[m[2]:m[3]], 1+strings.Count(text[:m[2]], "\n"), text[m[1]-1])
}

// checkTokens bounds the depth before the parser, which calls itself, goes down.
func checkTokens(r *reporter, tokens token.Tokens) bool {
	flow, dashes, dashLine := 0, 0, 0
	var columns []int // of the block entries that are open
	for _, t := range tokens {
		line := t.Position.Line
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow = max(flow-1, 0)
		case token.SequenceEntryType, token.MappingKeyType:
			if line != dashLine {
				dashes, dashLine = 0, line
			}
			dashes++
		case token.MappingValueType:
			column := t.Position.IndentNum
			for len(columns) > 0 && columns[len(columns)-1] >= column {
				columns = columns[:len(columns)-1]
			}
			columns = append(columns, column)
		}
		if flow > maxDepth || dashes > maxDepth || len(columns) > maxDepth {
			r.errorf(line, "more than %d lists and objects within each other", maxDepth)
			return false
		}
	}
	return true
}

func fromAST(a ast.Node) (node, error) {
	line := 0
	if t := a.GetToken(); t != nil {
		line = t.Position.Line
	}
	scalar := func(k kind, text string) (node, error) { return node{kind: k, line: line, text: text}, nil }
	switch v := a.(type) {
	case *ast.NullNode:
		return scalar(nullKind, "")
	case *ast.BoolNode:
		return scalar(boolKind, v.Token.Value)
	case *ast.IntegerNode:
		return scalar(numberKind, v.Token.Value)
	case *ast.FloatNode:
		return scalar(numberKind, v.Token.Value)
	case *ast.InfinityNode:
		return scalar(numberKind, v.Token.Value)
	case *ast.NanNode:
		return scalar(numberKind, v.Token.Value)
	case *ast.StringNode:
		if v.Token.Type == token.StringType && isNumber(v.Value) { // beyond 64 bits, the parser calls it text
			return scalar(numberKind, v.Value)
		}
		return scalar(textKind, v.Value)
	case *ast.LiteralNode: // | and >
		return scalar(textKind, strings.TrimSuffix(v.Value.Value, "\n"))
	case *ast.SequenceNode:
		n := node{kind: listKind, line: line}
		for _, item := range v.Values {
			i, err := fromAST(item)
			if err != nil {
				return n, err
			}
			n.items = append(n.items, i)
		}
		return n, nil
	case *ast.MappingNode:
		return fromPairs(v.Values, line)
	case *ast.MappingValueNode:
		return fromPairs([]*ast.MappingValueNode{v}, line)
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return node{}, &Error{Line: line, Text: "anchors and aliases (&, *, <<) are not read: put what jobs share under \"defaults:\"; a text that begins with & or * needs quotes"}
	case *ast.TagNode:
		return node{}, &Error{Line: line, Text: "tags (!) are not read; a text that begins with ! needs quotes"}
	}
	return node{}, &Error{Line: line, Text: fmt.Sprintf("a %v is not expected here", a.Type())}
}

func fromPairs(pairs []*ast.MappingValueNode, line int) (node, error) {
	n := node{kind: objectKind, line: line}
	for _, p := range pairs {
		key := p.Key.GetToken()
		if len(n.fields) == 0 {
			n.line = key.Position.Line // the parser's own is that of the first colon
		}
		switch p.Key.(type) {
		case *ast.MergeKeyNode:
			return fromAST(p.Key.(ast.Node))
		case *ast.StringNode, *ast.IntegerNode, *ast.BoolNode, *ast.FloatNode, *ast.NullNode:
		default:
			return n, &Error{Line: key.Position.Line, Text: "the name of a field must be plain text"}
		}
		value, err := fromAST(p.Value)
		if err != nil {
			return n, err
		}
		n.fields = append(n.fields, field{key.Value, key.Position.Line, value})
	}
	return n, nil
}

func isNumber(text string) bool {
	_, err := strconv.ParseFloat(text, 64)
	return (err == nil || errors.Is(err, strconv.ErrRange)) && strings.Trim(text, "+-.0123456789eE_") == ""
}
