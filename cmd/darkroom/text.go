package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// newTable is a plain table: no lines, so that other programs can read it too. On a terminal, what is too wide for it is
// broken within the cells; for other programs, a row is a line.
func newTable(w io.Writer) table.Writer {
	t := plainTable(w)
	if width, ok := terminalWidth(w); ok {
		return &fitted{Writer: t, width: width}
	}
	return t
}

// fitted is a table of at most so many columns.
type fitted struct {
	table.Writer
	width int
	cells []int // the widest of each column
}

func (f *fitted) AppendHeader(row table.Row, config ...table.RowConfig) {
	f.measure(row)
	f.Writer.AppendHeader(row, config...)
}

func (f *fitted) AppendRow(row table.Row, config ...table.RowConfig) {
	f.measure(row)
	f.Writer.AppendRow(row, config...)
}

func (f *fitted) measure(row table.Row) {
	for i, cell := range row {
		if i == len(f.cells) {
			f.cells = append(f.cells, 0)
		}
		for _, line := range strings.Split(fmt.Sprint(cell), "\n") {
			f.cells[i] = max(f.cells[i], text.StringWidthWithoutEscSequences(line))
		}
	}
}

// Render takes from the widest columns what is too much.
func (f *fitted) Render() string {
	const least, gap = 10, 2
	widths := slices.Clone(f.cells)
	for total := func() (n int) {
		for _, w := range widths {
			n += w + gap
		}
		return n - gap
	}; total() > f.width; {
		widest := slices.Index(widths, slices.Max(widths))
		if widths[widest] <= least {
			break
		}
		widths[widest]--
	}
	var columns []table.ColumnConfig
	for i, w := range widths {
		if w < f.cells[i] {
			columns = append(columns, table.ColumnConfig{Number: i + 1, WidthMax: w, WidthMaxEnforcer: text.WrapSoft})
		}
	}
	f.Writer.SetColumnConfigs(columns)
	return f.Writer.Render()
}

func plainTable(w io.Writer) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = 0
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "  "
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	return t
}

// bytesText is "1.50 GiB", "12.3 MiB", "4 KiB".
func bytesText(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

// millions is "860.3 M".
func millions(n int64) string { return fmt.Sprintf("%.1f M", float64(n)/1e6) }

// unopened reports which file could not be opened in words of its own: "apple.pgn: no such file or directory".
func unopened(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return fmt.Errorf("%s: %w", e.Path, e.Err)
	}
	return err
}

// release closes what was only read: there is nothing to lose by an error.
func release(c io.Closer) { c.Close() }
