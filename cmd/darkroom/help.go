package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"darkroom/recipe"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// usualWidth is of a text where no terminal says otherwise.
const usualWidth = 80

// terminalWidth is how many columns w has, and whether it is a terminal.
func terminalWidth(w io.Writer) (int, bool) {
	if f, ok := unfiltered(w).(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return max(width, 40), true
		}
	}
	return usualWidth, false
}

// printHelp shows a command: what it does, how it is called, and its flags by what they belong to.
func printHelp(w io.Writer, cmd *cli.Command) error {
	width, _ := terminalWidth(w)
	var b strings.Builder
	b.WriteString(wrap(fmt.Sprintf("darkroom %s: %s", cmd.Name, cmd.Usage), width, "", "   "))
	call := "darkroom " + cmd.Name
	if len(cmd.Flags) > 0 {
		call += " [flags]"
	}
	if cmd.ArgsUsage != "" {
		call += " " + cmd.ArgsUsage
	}
	b.WriteString("\n" + wrap(call, width, "   ", "      "))
	if cmd.Description != "" {
		b.WriteString("\n" + rewrap(cmd.Description, width))
	}
	groups := flagGroups(cmd.Flags)
	left := 0 // of the longest flag that is not unusually long
	for _, g := range groups {
		for _, f := range g.flags {
			if n := utf8.RuneCountInString(flagHead(f)); n <= 26 {
				left = max(left, n)
			}
		}
	}
	for _, g := range groups {
		b.WriteString("\n" + g.title + "\n")
		for _, f := range g.flags {
			b.WriteString(flagHelp(f, left, width))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// flagGroup is the flags under one heading.
type flagGroup struct {
	title string
	flags []cli.Flag
}

// flagGroups puts flags under the headings of settings, in their order, and then under those of their own.
func flagGroups(flags []cli.Flag) []flagGroup {
	var titles []string
	for _, g := range recipe.Groups() {
		titles = append(titles, g.String())
	}
	by := map[string][]cli.Flag{}
	for _, f := range flags {
		title := groupOf(f)
		if !slices.Contains(titles, title) {
			titles = append(titles, title)
		}
		by[title] = append(by[title], f)
	}
	var groups []flagGroup
	for _, title := range titles {
		if len(by[title]) > 0 {
			groups = append(groups, flagGroup{title, by[title]})
		}
	}
	return groups
}

// groupOf is the heading of a flag.
func groupOf(f cli.Flag) string {
	title := ""
	if c, ok := f.(cli.CategorizableFlag); ok {
		title = c.GetCategory()
	}
	if title != "" {
		return title
	}
	switch f.Names()[0] {
	case "device", "parallel", "threads", "low-memory", "model-memory":
		return recipe.ComputeGroup.String()
	case "out", "preview", "quiet", "json", "records", "name", "grid", "no-grid":
		return recipe.OutputGroup.String()
	case "count", "from", "seed", "seeds":
		return recipe.PictureGroup.String()
	case "prompt", "prompts":
		return recipe.PromptGroup.String()
	}
	if strings.HasPrefix(f.Names()[0], "queue") {
		return "Queue"
	}
	return "Other"
}

// flagHead is "--out FILE, -o FILE".
func flagHead(f cli.Flag) string {
	place, _ := placeholder(f)
	var heads []string
	for _, name := range f.Names() {
		dash := "--"
		if len(name) == 1 {
			dash = "-"
		}
		heads = append(heads, strings.TrimSpace(dash+name+" "+place))
	}
	return strings.Join(heads, ", ")
}

// placeholder is what stands for a flag's value, and its help without the marks around that.
func placeholder(f cli.Flag) (place, usage string) {
	doc, ok := f.(cli.DocGenerationFlag)
	if !ok || !doc.TakesValue() {
		if ok {
			usage = doc.GetUsage()
		}
		return "", usage
	}
	usage = doc.GetUsage()
	if before, rest, ok := strings.Cut(usage, "`"); ok {
		if word, after, ok := strings.Cut(rest, "`"); ok {
			return word, before + word + after
		}
	}
	place = "TEXT"
	if s, ok := recipe.Lookup(f.Names()[0]); ok && s.Kind != recipe.TextKind || isNumber(f) {
		place = "N"
	} else if ok && s.Choices != nil {
		place = "NAME"
	}
	return place, usage
}

func isNumber(f cli.Flag) bool {
	switch f.(type) {
	case *cli.IntFlag, *cli.Uint64Flag, *cli.Float64Flag:
		return true
	}
	return false
}

// flagHelp is a flag and what it does, in two columns.
func flagHelp(f cli.Flag, left, width int) string {
	head := "   " + flagHead(f)
	place, usage := placeholder(f)
	if doc, ok := f.(cli.DocGenerationFlag); ok && place != "" && doc.GetDefaultText() != "" {
		usage += " (default: " + doc.GetDefaultText() + ")"
	}
	if s, ok := recipe.Lookup(f.Names()[0]); ok && len(s.Aliases) > 0 && s.Name == f.Names()[0] {
		var others []string
		for _, a := range s.Aliases {
			if len(a) == 1 {
				others = append(others, "-"+a)
			} else {
				others = append(others, "--"+a)
			}
		}
		usage += "; also " + strings.Join(others, ", ")
	}
	indent := strings.Repeat(" ", left+5)
	if pad := left + 5 - utf8.RuneCountInString(head); pad >= 2 {
		return wrap(usage, width, head+strings.Repeat(" ", pad), indent)
	}
	return head + "\n" + wrap(usage, width, indent, indent)
}

// wrap breaks a text between words, so that no line is longer than width if its words are not.
func wrap(text string, width int, first, indent string) string {
	var b strings.Builder
	line, empty := first, true
	for _, w := range strings.Fields(text) {
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > width {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line, empty = indent, true
		}
		if !empty {
			line += " "
		}
		line, empty = line+w, false
	}
	return b.String() + strings.TrimRight(line, " ") + "\n"
}

// breakLine breaks an example the way a shell allows: at a space outside of quotes, with a backslash. A comment at its
// end moves to the line before it.
func breakLine(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line + "\n"
	}
	indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
	if command, comment, ok := strings.Cut(line, " # "); ok {
		return wrap("# "+comment, width, indent, indent+"# ") + breakLine(strings.TrimRight(command, " "), width)
	}
	at, quote := -1, rune(0)
	n := 0
	for i, c := range line {
		n++
		switch {
		case c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && c == ' ' && i > len(indent) && n <= width-1 && line[i+1:] != "":
			at = i
		}
	}
	if at < 0 || strings.HasSuffix(line, "\\") {
		return line + "\n"
	}
	rest := line[at+1:]
	if !strings.HasPrefix(indent, "       ") {
		indent += "    "
	}
	return line[:at] + " \\\n" + breakLine(indent+rest, width)
}

// rewrap wraps paragraphs again, and breaks examples, which are indented, the way a shell allows.
func rewrap(text string, width int) string {
	var b, paragraph strings.Builder
	flush := func() {
		if paragraph.Len() > 0 {
			b.WriteString(wrap(paragraph.String(), width, "", ""))
			paragraph.Reset()
		}
	}
	for _, line := range strings.Split(text, "\n") {
		switch {
		case line == "":
			flush()
			b.WriteString("\n")
		case strings.HasPrefix(line, " "):
			flush()
			b.WriteString(breakLine(line, width))
		default:
			paragraph.WriteString(line + " ")
		}
	}
	flush()
	return b.String()
}
