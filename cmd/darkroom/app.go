package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"

	"darkroom/similar"

	"github.com/urfave/cli/v2"
)

type app struct {
	cli *cli.App
}

// newApp puts the commands together. Nothing is opened or measured here.
func newApp(e *env) app {
	if e.status == nil {
		e.status = &status{}
	}
	return app{&cli.App{
		Name:        "darkroom",
		Usage:       "turns prompts into pictures",
		UsageText:   "darkroom COMMAND [flags] [arguments]",
		Description: appDescription,
		// Repeated flags have values with commas in them.
		DisableSliceFlagSeparator: true,
		Commands: []*cli.Command{
			generateCommand(e),
			varyCommand(e),
			gridCommand(e),
			walkCommand(e),
			animateCommand(e),
			batchCommand(e),
			serveCommand(e),
			workerCommand(e),
			queueCommand(e),
			historyCommand(e),
			inspectCommand(e),
			convertCommand(e),
			verifyCommand(e),
			upscaleCommand(e),
			preprocessCommand(e),
			tokenizeCommand(e),
			schedulersCommand(e),
			guidanceCommand(e),
			modelsCommand(e),
			pullCommand(e),
			devicesCommand(e),
			selftestCommand(e),
			compareCommand(e),
			benchCommand(e),
			versionCommand(e),
			completionCommand(e),
			completeCommand(e),
			manCommand(e),
		},
		HideVersion:     true, // there is a command
		HideHelpCommand: true, // likewise: see run
		Reader:          e.stdin,
		Writer:          e.stdout,
		ErrWriter:       e.stderr,
		ExitErrHandler:  func(*cli.Context, error) {}, // main decides
		OnUsageError:    flagError,
	}}
}

const appDescription = `Examples:
   darkroom generate "a red apple" -o apple.png
   darkroom generate "a red apple" --count 4 --seed 7 -o pictures/
   darkroom generate --from apple.png --steps 40 -o finer.png
   darkroom inspect apple.png

darkroom COMMAND --help says more about a command.`

// run runs a command line without the program's name.
func (a app) run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "help" { // darkroom help COMMAND
		args = append(args[1:], "--help")
	}
	for _, c := range a.cli.Commands {
		c.OnUsageError = flagError
		c.HideHelpCommand = true
	}
	if len(args) == 0 || args[0] == "--help" || args[0] == "-h" {
		return a.cli.RunContext(ctx, []string{"darkroom", "--help"})
	}
	if args[0] == "--version" || args[0] == "-v" {
		args[0] = "version"
	}
	cmd := a.cli.Command(args[0])
	if cmd == nil {
		return a.unknownCommand(args[0])
	}
	if !cmd.SkipFlagParsing {
		arranged, err := arrange(cmd, args[1:])
		if err != nil {
			return err
		}
		if len(arranged) == 1 && arranged[0] == "--help" {
			return printHelp(a.cli.Writer, cmd)
		}
		args = append([]string{args[0]}, arranged...)
	}
	return a.cli.RunContext(ctx, append([]string{"darkroom"}, args...))
}

func (a app) unknownCommand(name string) error {
	if strings.HasPrefix(name, "-") {
		return &usageError{text: fmt.Sprintf("%s stands before the command: write darkroom COMMAND %s …", name, name)}
	}
	var names []string
	for _, c := range a.cli.Commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	like := similar.Hint(name, names)
	if like == "" {
		like = "; to make a picture: darkroom generate \"" + name + "\""
	}
	return &usageError{text: fmt.Sprintf("no command is called %q%s", name, like)}
}

// valueError is how the flag package words a value that is not of the flag's type.
var valueError = regexp.MustCompile(`^(?:invalid value|invalid boolean value) (".*") for (?:flag )?-(\S+): `)

// flagError explains in this program's words what is wrong with a flag's value.
func flagError(c *cli.Context, err error, _ bool) error {
	text := err.Error()
	if m := valueError.FindStringSubmatch(text); m != nil {
		text = fmt.Sprintf("--%s %s: it must be %s", m[2], m[1], wanted(c.Command, m[2]))
	}
	return &usageError{c.Command.Name, text}
}

func wanted(cmd *cli.Command, name string) string {
	for _, f := range cmd.Flags {
		for _, n := range f.Names() {
			if n != name {
				continue
			}
			switch f.(type) {
			case *cli.Uint64Flag:
				return "a whole number from 0 to 18446744073709551615"
			case *cli.IntFlag:
				return "a whole number"
			case *cli.Float64Flag:
				return "a number"
			case *cli.BoolFlag:
				return "true or false"
			}
		}
	}
	return "something else"
}

// noWords refuses arguments for commands that take none.
func noWords(c *cli.Context) error {
	if c.NArg() > 0 {
		return &usageError{c.Command.Name, fmt.Sprintf("%s takes no arguments, but got %q", c.Command.Name, c.Args().First())}
	}
	return nil
}

// oneWord is the command's only argument.
func oneWord(c *cli.Context, what string) (string, error) {
	switch c.NArg() {
	case 0:
		return "", &usageError{c.Command.Name, fmt.Sprintf("%s is missing", what)}
	case 1:
		return c.Args().First(), nil
	}
	return "", &usageError{c.Command.Name, fmt.Sprintf("%s must be one argument, and there are %d (%s): put quotes around it", what, c.NArg(), quoteAll(c.Args().Slice()))}
}

func quoteAll(words []string) string {
	var s strings.Builder
	for i, w := range words {
		if i > 0 {
			s.WriteByte(' ')
		}
		if i == 8 {
			s.WriteString("…")
			break
		}
		fmt.Fprintf(&s, "%.40q", w)
	}
	return s.String()
}

// println writes a line of results. An error (a closed pipe) ends the command.
func println(w io.Writer, args ...any) error {
	_, err := fmt.Fprintln(w, args...)
	return err
}
