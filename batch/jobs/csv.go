package jobs

import (
	"encoding/csv"
	"errors"
	"io"
	"strings"
)

// parseCSV reads a header of field names and a job a row (RFC 4180, with # comments). An empty cell leaves its field
// out.
func parseCSV(r *reporter, text string) []node {
	c := csv.NewReader(strings.NewReader(text))
	c.Comment = '#'
	c.FieldsPerRecord = -1 // checked below, with a message that says what to do
	header, err := c.Read()
	if err == io.EOF {
		return nil
	}
	if err != nil {
		reportCSV(r, err)
		return nil
	}
	top, _ := c.FieldPos(0)
	var all []node
	for i := range header {
		header[i] = strings.TrimSpace(header[i])
		if header[i] == "" {
			r.errorf(top, "column %d of the header has no name", i+1)
			return nil
		}
	}
	for !r.full() {
		row, err := c.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			reportCSV(r, err)
			break
		}
		line, _ := c.FieldPos(0)
		if len(row) != len(header) {
			r.errorf(line, "%d cells, but the header has %d: a text with commas or line breaks needs \"quotes\" around it", len(row), len(header))
			continue
		}
		n := node{kind: objectKind, line: line}
		for i, cell := range row {
			if cell != "" {
				at, _ := c.FieldPos(i)
				n.fields = append(n.fields, field{header[i], top, node{kind: cellKind, line: at, text: cell}})
			}
		}
		if len(n.fields) > 0 {
			all = append(all, n)
		}
	}
	return all
}

func reportCSV(r *reporter, err error) {
	var p *csv.ParseError
	if !errors.As(err, &p) {
		r.errorf(0, "%v", err)
		return
	}
	switch {
	case errors.Is(p.Err, csv.ErrQuote):
		r.errorf(p.StartLine, "a quoted cell does not end, or text follows its end: a quote within quotes is written \"\"")
	case errors.Is(p.Err, csv.ErrBareQuote):
		r.errorf(p.Line, "a quote within a cell that is not quoted: put quotes around the cell and write \"\" for the one inside")
	default:
		r.errorf(p.Line, "this is not CSV: %v", p.Err)
	}
}
