package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"unicode"

	"darkroom/atomicfile"
	"darkroom/pipeline"

	"github.com/urfave/cli/v2"
)

// manCommand writes the manual's pages, darkroom.1 and darkroom-COMMAND.1, for packages: darkroom __man FOLDER. They are the help, so that
// they never grow old.
func manCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:   "__man",
		Hidden: true,
		Action: func(c *cli.Context) error {
			dir, err := oneWord(c, "the folder for the pages")
			if err != nil {
				return err
			}
			return writeManual(dir, newApp(e).cli)
		},
	}
}

func writeManual(dir string, app *cli.App) error {
	write := func(name, page string) error {
		return atomicfile.Write(filepath.Join(dir, name+".1"), func(w io.Writer) error { _, err := io.WriteString(w, page); return err })
	}
	var index strings.Builder
	index.WriteString(manHead("darkroom", app.Usage))
	index.WriteString(".SH SYNOPSIS\n.B darkroom\n" + roff("COMMAND [flags] [arguments]") + "\n.SH COMMANDS\n")
	for _, c := range app.Commands {
		if c.Hidden {
			continue
		}
		fmt.Fprintf(&index, ".TP\n.BR darkroom\\-%s (1)\n%s\n", roff(c.Name), roff(c.Usage))
		if err := write("darkroom-"+c.Name, manPage(c)); err != nil {
			return err
		}
	}
	index.WriteString(".SH DESCRIPTION\n" + manText(app.Description))
	return write("darkroom", index.String())
}

func manHead(name, usage string) string {
	return fmt.Sprintf(".TH %s 1 \"\" \"darkroom %s\" \"Darkroom\"\n.SH NAME\n%s \\- %s\n", strings.ToUpper(roff(name)), roff(pipeline.Release), roff(name), roff(usage))
}

// manPage is the page of a command.
func manPage(c *cli.Command) string {
	var b strings.Builder
	b.WriteString(manHead("darkroom-"+c.Name, c.Usage))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B darkroom %s\n%s\n", roff(c.Name), roff(strings.TrimSpace("[flags] "+c.ArgsUsage)))
	if c.Description != "" {
		b.WriteString(".SH DESCRIPTION\n" + manText(c.Description))
	}
	for _, g := range flagGroups(c.Flags) {
		fmt.Fprintf(&b, ".SH %s\n", strings.ToUpper(roff(g.title)))
		for _, f := range g.flags {
			_, usage := placeholder(f)
			if doc, ok := f.(cli.DocGenerationFlag); ok && doc.GetDefaultText() != "" {
				usage += " (default: " + doc.GetDefaultText() + ")"
			}
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(flagHead(f)), roff(usage))
		}
	}
	return b.String()
}

// manText keeps the lines that are indented, which are examples, and has the others filled.
func manText(text string) string {
	var b strings.Builder
	example := false
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		indented := strings.HasPrefix(line, "   ")
		if indented != example {
			b.WriteString(map[bool]string{true: ".RS\n.nf\n", false: ".fi\n.RE\n"}[indented])
			example = indented
		}
		switch {
		case indented:
			b.WriteString(roff(line[3:]) + "\n")
		case line == "":
			b.WriteString(".PP\n")
		default:
			b.WriteString(roff(line) + "\n")
		}
	}
	if example {
		b.WriteString(".fi\n.RE\n")
	}
	return b.String()
}

// roff is a line of text as troff reads it.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n", " ").Replace(text)
	if text != "" && (text[0] == '.' || text[0] == '\'') {
		text = `\&` + text
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, text)
}
