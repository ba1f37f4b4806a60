package compare

import (
	"fmt"
	"io"
	"strings"
)

// writeMarkdown writes the answer, the table and the notes as a page for documentation.
func (r *Report) writeMarkdown(w io.Writer) error {
	var b strings.Builder
	g := r.Grid
	fmt.Fprintf(&b, "# Schedulers, measured\n\n")
	fmt.Fprintf(&b, "%d settings, %d prompt%s × %d seed%s, on %s, darkroom %s. Made by `darkroom compare`; docs/compare.md says how it is measured.\n\n",
		len(r.Settings), len(g.Prompts), plural(len(g.Prompts)), g.Seeds, plural(g.Seeds), r.Device, r.Version)
	if len(r.Opening) > 0 {
		b.WriteString("|  | best | the fastest that is as good | does it matter? |\n|:--|:--|:--|:--|\n")
		for _, row := range r.Opening {
			b.WriteString("|")
			for i, text := range row.Answer {
				if i == 0 && row.Problem != "" {
					text += ", " + row.Problem
				}
				fmt.Fprintf(&b, " %s |", cell(text))
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	}
	for _, text := range r.Answer {
		fmt.Fprintf(&b, "%s\n\n", cell(text))
	}
	for _, text := range r.Buys {
		fmt.Fprintf(&b, "- %s\n", cell(text))
	}
	b.WriteString("\n| setting | against the best | calls | seconds (quartiles) | processor seconds |")
	line := "|:--|:--|--:|--:|--:|"
	for _, m := range r.Measures {
		if m.Better != 0 {
			fmt.Fprintf(&b, " %s |", m.Title)
			line += "--:|"
		}
	}
	fmt.Fprintf(&b, " front |\n%s:-:|\n", line)
	for _, s := range r.Sorted() {
		front := ""
		if s.Pareto {
			front = "●"
		}
		fmt.Fprintf(&b, "| %s | %s | %g | %.3g (%.3g–%.3g) |", cell(s.Name), s.Said(), s.Calls, s.Seconds.Median, s.Seconds.Q1, s.Seconds.Q3)
		if s.Processor != nil {
			fmt.Fprintf(&b, " %.3g |", *s.Processor)
		} else {
			b.WriteString(" – |")
		}
		for _, m := range r.Measures {
			if m.Better == 0 {
				continue
			}
			v, ok := s.Values[m.Key]
			switch {
			case !ok:
				b.WriteString(" – |")
			case m.Key == r.RankBy && v.Low != nil && v.High != nil:
				fmt.Fprintf(&b, " %.4g (%.3g–%.3g) |", v.Mean, *v.Low, *v.High)
			default:
				fmt.Fprintf(&b, " %.4g |", v.Mean)
			}
		}
		fmt.Fprintf(&b, " %s |\n", front)
	}
	b.WriteString("\nWhat limits this:\n\n")
	for _, text := range r.Notes {
		fmt.Fprintf(&b, "- %s\n", cell(text))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cell is text that cannot end a table's cell or start a tag.
var cell = strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ").Replace
