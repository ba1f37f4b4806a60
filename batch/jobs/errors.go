package jobs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/xrash/smetrics"
)

// Error is a mistake in a job file. Its text says where, what and what to do.
type Error struct {
	File string
	Line int // from 1; 0 where no line is to blame
	Text string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Text)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text)
}

// Errors are the mistakes of one file, at most maxErrors of them.
type Errors []*Error

// maxErrors is how many mistakes are reported at once: a wrong header makes one in every row.
const maxErrors = 10

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// reporter collects mistakes, each once.
type reporter struct {
	file string
	errs Errors
}

func (r *reporter) errorf(line int, format string, args ...any) {
	e := &Error{r.file, line, fmt.Sprintf(format, args...)}
	if len(r.errs) < maxErrors && !slices.ContainsFunc(r.errs, func(o *Error) bool { return *o == *e }) {
		r.errs = append(r.errs, e)
	}
}

func (r *reporter) full() bool { return len(r.errs) >= maxErrors }

func (r *reporter) err() error {
	if len(r.errs) == 0 {
		return nil
	}
	return r.errs
}

// nearest is "; nearest: x", "" if no name is like the wrong one.
func nearest(wrong string, names []string) string {
	best, at := "", 0
	for _, name := range names {
		d := smetrics.WagnerFischer(wrong, name, 1, 1, 1)
		if best == "" || d < at {
			best, at = name, d
		}
	}
	if best == "" || at > max(2, len(best)/3) {
		return ""
	}
	return "; nearest: " + best
}

// cut shortens text for a message.
func cut(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
