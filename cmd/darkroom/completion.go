package main

import (
	"fmt"
	"strings"

	"darkroom/models/library"
	"darkroom/recipe"

	"github.com/urfave/cli/v2"
)

func completionCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a script that completes commands, flags and names in a shell",
		ArgsUsage: "bash|zsh|fish",
		Description: `Examples:
   source <(darkroom completion bash)          # or in ~/.bashrc
   source <(darkroom completion zsh)           # or in ~/.zshrc
   darkroom completion fish | source           # or > ~/.config/fish/completions/darkroom.fish`,
		Action: func(c *cli.Context) error {
			shell, err := oneWord(c, "the shell's name (bash, zsh or fish)")
			if err != nil {
				return err
			}
			script, ok := completionScripts[shell]
			if !ok {
				return usagef("completion %q: choose bash, zsh or fish", shell)
			}
			_, err = fmt.Fprint(e.stdout, script)
			return err
		},
	}
}

// The scripts ask the program itself, so that they never grow old: darkroom __complete WORDS, the last word being the
// one under the cursor. Where it has no answer, the shell completes file names.
var completionScripts = map[string]string{
	"bash": `_darkroom() {
	local words IFS=$'\n'
	words=$(darkroom __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
	COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _darkroom darkroom
`,
	"zsh": `_darkroom() {
	local -a words
	words=(${(f)"$(darkroom __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
	if (( $#words )); then compadd -- $words; else _files; fi
}
compdef _darkroom darkroom
`,
	"fish": `function __darkroom_complete
	set -l words (commandline -opc) (commandline -ct)
	darkroom __complete $words[2..-1] 2>/dev/null
end
complete -c darkroom -a '(__darkroom_complete)'
`,
}

func completeCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:            "__complete",
		Hidden:          true,
		SkipFlagParsing: true,
		HideHelp:        true,
		Action: func(c *cli.Context) error {
			for _, word := range complete(newApp(e).cli.Commands, c.Args().Slice()) {
				if err := println(e.stdout, word); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// complete lists what the last of words may become.
func complete(commands []*cli.Command, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	if len(words) == 1 {
		var names []string
		for _, c := range commands {
			if !c.Hidden {
				names = append(names, c.Name)
			}
		}
		return withPrefix(names, last)
	}
	var cmd *cli.Command
	for _, c := range commands {
		if c.HasName(words[0]) {
			cmd = c
		}
	}
	if cmd == nil {
		return nil
	}
	if name := strings.TrimLeft(words[len(words)-2], "-"); name != words[len(words)-2] && len(words) > 2 {
		if isSwitch, known := flagKinds(cmd.Flags)[name]; known && !isSwitch {
			return withPrefix(flagValues(name), last)
		}
	}
	if strings.HasPrefix(last, "-") {
		var names []string
		for _, f := range cmd.Flags {
			names = append(names, "--"+f.Names()[0])
		}
		return withPrefix(append(names, "--help"), last)
	}
	if cmd.Name == "completion" {
		return withPrefix([]string{"bash", "fish", "zsh"}, last)
	}
	return nil
}

// flagValues are the names that a flag takes, nil if it takes no names.
func flagValues(flag string) []string {
	if flag == "model" {
		return library.Names()
	}
	if s, ok := recipe.Lookup(flag); ok && s.Choices != nil {
		return s.Choices()
	}
	return nil
}

func withPrefix(words []string, prefix string) []string {
	var out []string
	for _, w := range words {
		if strings.HasPrefix(w, prefix) {
			out = append(out, w)
		}
	}
	return out
}
